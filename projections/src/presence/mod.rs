//! Which cell was heard when: a table in memory, never in the log.
//!
//! A control plane that has just started, or that did not run for a while, has heard nobody:
//! every cell gets one whole time to live before it can be overdue. Spans are counted in
//! monotonic time, so that a step of the machine's clock loses nobody; time is always the caller's.
//!
//! Several nodes share what they heard through a [`PresenceTable`].

mod routers;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    id::CellId,
    log::{CellEpoch, LeaseEpoch},
    units::{Milliseconds, Timestamp},
};

pub use routers::{Followed, ROUTER_TIME_TO_LIVE, RouterSeen, Routers};
pub use table::{MemoryPresenceTable, PostgresPresenceTable, PresenceTable};

/// When each cell was last heard. Instants are monotonic: the span since any fixed one.
#[derive(Debug, Clone)]
pub struct Presence {
    /// Every cell counts as heard then.
    all_heard: Milliseconds,
    looked: Milliseconds,
    lease_epoch: Option<LeaseEpoch>,
    heard: BTreeMap<CellId, Heard>,
    /// The newest coming of each cell that this node has seen: its registration, and since when
    /// it is there.
    comings: BTreeMap<CellId, (CellEpoch, Timestamp)>,
    /// Heard by this node, and not yet told to the others.
    untold: BTreeSet<CellId>,
    /// When this node last learned whom the others heard.
    learned: Milliseconds,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    monotonic: Milliseconds,
    wall: Timestamp,
}

impl Presence {
    /// A table of a control plane that starts now.
    #[must_use]
    pub fn new(now: Milliseconds) -> Self {
        Self {
            all_heard: now,
            looked: now,
            lease_epoch: None,
            heard: BTreeMap::new(),
            comings: BTreeMap::new(),
            untold: BTreeSet::new(),
            learned: now,
        }
    }

    /// Notes that a cell was heard: in monotonic time, which counts, and in wall time, for people.
    pub fn heard(&mut self, cell_id: &CellId, monotonic: Milliseconds, wall: Timestamp) {
        self.heard.insert(cell_id.clone(), Heard { monotonic, wall });
        self.untold.insert(cell_id.clone());
    }

    /// Notes by which registration and since when a cell is there. What this node had not seen
    /// before was written because some node heard the cell, which may not have told so yet: lost at
    /// once, the cell would return with its next request, and be lost again.
    pub fn note_coming(
        &mut self,
        cell_id: &CellId,
        coming: (CellEpoch, Timestamp),
        monotonic: Milliseconds,
    ) {
        if self.comings.insert(cell_id.clone(), coming) != Some(coming) {
            let wall = self.last_heard(cell_id).unwrap_or(coming.1).max(coming.1);
            self.heard.insert(cell_id.clone(), Heard { monotonic, wall });
        }
    }

    /// Those that this node heard since this was asked last, to be told to the other nodes.
    pub fn take_untold(&mut self) -> BTreeSet<CellId> {
        std::mem::take(&mut self.untold)
    }

    /// Keeps for the next time what could not be told.
    pub fn keep_untold(&mut self, cells: BTreeSet<CellId>) {
        self.untold.extend(cells);
    }

    /// Notes how long before `monotonic` any node heard each cell.
    pub fn learn(
        &mut self,
        ages: &BTreeMap<CellId, Milliseconds>,
        monotonic: Milliseconds,
        wall: Timestamp,
    ) {
        self.learned = monotonic;
        for (cell_id, age) in ages {
            let heard = Heard {
                monotonic: Milliseconds(monotonic.0.saturating_sub(age.0)),
                wall: Timestamp(wall.0.saturating_sub(nanoseconds(*age))),
            };
            let known = self.heard.get(cell_id).map(|known| known.monotonic);
            if known.is_none_or(|known| known < heard.monotonic) {
                self.heard.insert(cell_id.clone(), heard);
            }
        }
    }

    /// Whether it is not known whom the others heard lately: nobody can be called silent then.
    #[must_use]
    pub fn is_deaf(&self, now: Milliseconds, time_to_live: Milliseconds) -> bool {
        now.0.saturating_sub(self.learned.0) > time_to_live.0 / 3
    }

    /// The wall time at which a cell was last heard by this control plane.
    #[must_use]
    pub fn last_heard(&self, cell_id: &CellId) -> Option<Timestamp> {
        self.heard.get(cell_id).map(|heard| heard.wall)
    }

    /// Notes under which lease the watch looks. Under another one than before, this node has not
    /// watched until now: every cell counts as heard now.
    pub fn watch_under(&mut self, lease_epoch: LeaseEpoch, now: Milliseconds) {
        if self.lease_epoch.replace(lease_epoch) != Some(lease_epoch) {
            self.all_heard = now;
        }
    }

    /// Notes that the watch looks now. If it did not for longer than a third of the time to live,
    /// the control plane was not running and could hear nobody: every cell counts as heard now.
    pub fn look(&mut self, now: Milliseconds, time_to_live: Milliseconds) {
        if now.0.saturating_sub(self.looked.0) > time_to_live.0 / 3 {
            self.all_heard = now;
        }
        self.looked = now;
    }

    /// Whether a cell has been silent for longer than its time to live.
    #[must_use]
    pub fn is_overdue(
        &self,
        cell_id: &CellId,
        now: Milliseconds,
        time_to_live: Milliseconds,
    ) -> bool {
        let heard = self.heard.get(cell_id).map(|heard| heard.monotonic);
        let last = heard.unwrap_or_default().max(self.all_heard);
        now.0.saturating_sub(last.0) > time_to_live.0
    }
}

fn nanoseconds(span: Milliseconds) -> i64 {
    i64::try_from(span.0).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_TO_LIVE: Milliseconds = Milliseconds::from_seconds(15);

    fn at(seconds: u64) -> Milliseconds {
        Milliseconds::from_seconds(seconds)
    }

    /// A watch that looks every second from one instant to another, and whom it finds overdue last.
    fn overdue(presence: &mut Presence, seconds: std::ops::RangeInclusive<u64>) -> [bool; 2] {
        let mut overdue = [false; 2];
        for second in seconds {
            presence.look(at(second), TIME_TO_LIVE);
            overdue = cells().map(|cell| presence.is_overdue(&cell, at(second), TIME_TO_LIVE));
        }
        overdue
    }

    fn cells() -> [CellId; 2] {
        [CellId::new("a").unwrap(), CellId::new("b").unwrap()]
    }

    #[test]
    fn a_cell_is_overdue_only_after_a_whole_time_to_live_of_silence() {
        let mut presence = Presence::new(at(100));
        assert_eq!(overdue(&mut presence, 101..=115), [false, false]);
        assert_eq!(overdue(&mut presence, 116..=116), [true, true]);

        // A step of the wall clock, back or forth, is only shown.
        presence.heard(&cells()[0], at(116), Timestamp(i64::MAX));
        presence.heard(&cells()[0], at(117), Timestamp(7));
        assert_eq!(presence.last_heard(&cells()[0]), Some(Timestamp(7)));
        assert_eq!(overdue(&mut presence, 117..=132), [false, true]);
        assert_eq!(overdue(&mut presence, 133..=133), [true, true]);
    }

    #[test]
    fn under_a_new_lease_every_cell_gets_a_whole_time_to_live() {
        let mut presence = Presence::new(at(0));
        presence.watch_under(LeaseEpoch(1), at(1));
        assert_eq!(overdue(&mut presence, 1..=16), [false, false]);
        presence.watch_under(LeaseEpoch(3), at(17));
        assert_eq!(overdue(&mut presence, 17..=32), [false, false]);
        presence.watch_under(LeaseEpoch(3), at(33));
        assert_eq!(overdue(&mut presence, 33..=33), [true, true]);
    }

    #[test]
    fn a_cell_that_another_node_heard_is_not_overdue() {
        let mut presence = Presence::new(at(0));
        let [one, other] = cells();
        presence.heard(&one, at(10), Timestamp(0));
        assert_eq!(
            presence.take_untold().into_iter().collect::<Vec<_>>(),
            std::slice::from_ref(&one)
        );
        assert!(presence.take_untold().is_empty());
        let ages = [(one, at(8)), (other, at(1))].into();

        assert_eq!(overdue(&mut presence, 1..=13), [false, false]);
        presence.learn(&ages, at(14), Timestamp(14_000_000_000));

        assert_eq!(presence.last_heard(&cells()[1]), Some(Timestamp(13_000_000_000)));
        assert_eq!(overdue(&mut presence, 14..=26), [true, false]);
        assert_eq!([19, 20].map(|now| presence.is_deaf(at(now), TIME_TO_LIVE)), [false, true]);
    }

    #[test]
    fn a_cell_that_another_node_let_return_is_not_lost_before_that_node_has_told_it() {
        let mut presence = Presence::new(at(0));
        let [one, _] = cells();
        assert_eq!(overdue(&mut presence, 1..=20), [true, true]);

        let coming = (CellEpoch(1), Timestamp(7));
        presence.note_coming(&one, coming, at(20));
        assert_eq!(overdue(&mut presence, 21..=35), [false, true]);

        // Seen again, it says nothing new.
        presence.note_coming(&one, coming, at(35));
        assert_eq!(overdue(&mut presence, 36..=36), [true, true]);
    }

    #[test]
    fn after_a_pause_of_the_control_plane_every_cell_gets_a_whole_time_to_live() {
        let mut presence = Presence::new(at(0));
        assert_eq!(overdue(&mut presence, 1..=10), [false, false]);

        assert_eq!(overdue(&mut presence, 100..=115), [false, false]);
        assert_eq!(overdue(&mut presence, 116..=116), [true, true]);
    }
}
