//! The past worlds that are kept open: few, and not too large together.
//!
//! What they share is counted for each of them, so they take less memory than they are held to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use domain::log::Position;
use tokio::sync::OnceCell;

use crate::world::World;

/// How many are kept open.
pub(super) const OPEN_WORLDS_MAX: usize = 8;

/// A past world that is open, with its bytes, or being loaded: the first who asks loads it, the
/// others wait.
pub(super) type Slot = Arc<OnceCell<(Arc<World>, usize)>>;

/// The worlds that are open, the oldest first.
#[derive(Debug)]
pub(super) struct OpenWorlds {
    bytes_max: usize,
    open: Mutex<VecDeque<(Position, Slot)>>,
}

impl OpenWorlds {
    /// None yet; together they are to take so many bytes at most. The newest stays in any case.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, open: Mutex::default() }
    }

    /// The slot of a position.
    pub(super) fn slot(&self, position: Position) -> Slot {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = open.iter().find(|(of, _)| *of == position) {
            return Arc::clone(slot);
        }
        // What could not be loaded goes; what somebody loads or waits for stays.
        open.retain(|(_, slot)| slot.initialized() || is_in_use(slot));
        if open.len() >= OPEN_WORLDS_MAX {
            remove_oldest(&mut open);
        }
        let slot = Slot::default();
        open.push_back((position, Arc::clone(&slot)));
        slot
    }

    /// A world that is open already.
    pub(super) fn opened(&self, position: Position) -> Option<Arc<World>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = open.iter().find(|(of, _)| *of == position).map(|(_, slot)| slot)?;
        slot.get().map(|(world, _)| Arc::clone(world))
    }

    /// Closes the oldest ones until the others take no more than they may.
    pub(super) fn trim(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while open.len() > 1
            && open.iter().map(|(_, slot)| bytes(slot)).sum::<usize>() > self.bytes_max
        {
            if !remove_oldest(&mut open) {
                return;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn is_in_use(slot: &Slot) -> bool {
    Arc::strong_count(slot) > 1
}

fn remove_oldest(open: &mut VecDeque<(Position, Slot)>) -> bool {
    let oldest = open.iter().position(|(_, slot)| !is_in_use(slot));
    oldest.is_some_and(|oldest| open.remove(oldest).is_some())
}

/// Views take about as much as what they are of.
fn bytes(slot: &Slot) -> usize {
    slot.get().map_or(0, |(world, bytes)| if world.has_views() { bytes * 2 } else { *bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(worlds: &OpenWorlds, position: u64, bytes: usize) -> Arc<World> {
        let (slot, world) = (worlds.slot(Position(position)), Arc::new(World::empty()));
        slot.set((Arc::clone(&world), bytes)).unwrap();
        world
    }

    fn positions(worlds: &OpenWorlds) -> Vec<u64> {
        worlds.open.lock().unwrap().iter().map(|(position, _)| position.0).collect()
    }

    #[test]
    fn the_oldest_are_closed_when_all_take_more_than_they_may_and_the_newest_stays() {
        let worlds = OpenWorlds::new(100);
        for position in 1..=4 {
            drop(open(&worlds, position, 30));
            worlds.trim();
        }
        assert_eq!(positions(&worlds), [2, 3, 4]);

        let large = open(&worlds, 5, 1000);
        worlds.trim();

        assert_eq!(positions(&worlds), [5]);
        assert!(Arc::ptr_eq(&worlds.opened(Position(5)).unwrap(), &large));
    }

    #[test]
    fn views_count_as_much_as_what_they_are_of() {
        let worlds = OpenWorlds::new(100);
        let with_views = open(&worlds, 1, 40);
        drop(open(&worlds, 2, 40));
        worlds.trim();
        assert_eq!(positions(&worlds), [1, 2]);

        with_views.fill_views();
        worlds.trim();

        assert_eq!(positions(&worlds), [2]);
    }

    #[test]
    fn a_world_that_is_being_loaded_stays() {
        let worlds = OpenWorlds::new(100);
        let loading = worlds.slot(Position(1));
        for position in 2..=20 {
            drop(open(&worlds, position, 60));
            worlds.trim();
        }
        assert_eq!(positions(&worlds), [1, 20]);
        drop(loading);
        worlds.slot(Position(21));
        assert_eq!(positions(&worlds), [20, 21], "what was given up goes");
    }
}
