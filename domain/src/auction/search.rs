//! The best cells for one thing, found from the front of the orders: a walk ends as soon as no cell
//! further back can be better than what was found.
//!
//! What decides is each cell's score in Diego's arithmetic. The order only bounds it from below, so
//! rounding in the bound may cost a look at one cell more, and never changes the winner.

use std::{collections::BTreeSet, ops::Bound};

use super::{
    Settings,
    candidates::{BEST, Lacking},
    order::{Key, Queue},
    score::{self, LOCALITY_WEIGHT},
    siblings::Siblings,
};
use crate::bbs::placement::Resources;

/// How far the bound may be off by rounding, as a part of it: some thousand times what `f64` is.
const ROUNDING: f64 = 1e-12;

/// What is looked for, and what was found.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) wanted: Resources,
    pub(super) queue: Queue,
    pub(super) siblings: Option<&'a Siblings>,
    pub(super) settings: &'a Settings,
    best: [Option<Found>; BEST],
    /// What every cell lacks that was looked at.
    pub(super) lacking_everywhere: Lacking,
    /// How many cells lack what, by what they lack.
    pub(super) lacking: [u32; 8],
}

/// A cell that would do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) score: f64,
    pub(super) place: u32,
}

impl Found {
    fn is_before(&self, other: &Self) -> bool {
        self.score.total_cmp(&other.score).then(self.place.cmp(&other.place)).is_lt()
    }
}

/// The cells of one group in order, but for some.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) keys: &'a BTreeSet<Key>,
    /// Places of cells that stand elsewhere by now: these few are looked at one by one.
    pub(super) moved: &'a [u32],
    pub(super) largest: Resources,
    pub(super) zone: u32,
    /// Whether the cells with the fewest instances of the process were looked at.
    pub(super) has_seen_fewest: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        wanted: Resources,
        queue: Queue,
        siblings: Option<&'a Siblings>,
        settings: &'a Settings,
    ) -> Self {
        Self {
            wanted,
            queue,
            siblings,
            settings,
            best: [None; BEST],
            lacking_everywhere: Lacking::ALL,
            lacking: [0; 8],
        }
    }

    /// The best cell.
    pub(super) fn winner(&self) -> Option<Found> {
        self.best.first().copied().flatten()
    }

    /// The best cells, best first.
    pub(super) fn best(&self) -> impl Iterator<Item = Found> {
        self.best.iter().copied().flatten()
    }

    /// Looks at one cell; says whether it would do.
    pub(super) fn consider(&mut self, key: &Key) -> bool {
        let lacking = Lacking::of(key.standing.free, self.wanted);
        self.lacking_everywhere = self.lacking_everywhere.and(lacking);
        if !lacking.is_nothing() {
            if let Some(count) = self.lacking.get_mut(lacking.number()) {
                *count += 1;
            }
            return false;
        }
        self.keep(Found { score: self.score(key), place: key.place });
        true
    }

    /// A cell's score, where it has room.
    pub(super) fn score(&self, key: &Key) -> f64 {
        match self.queue {
            Queue::Lrps => {
                let instances = self.siblings.map_or(0, |siblings| siblings.on(key.place));
                let Key { standing, extra, .. } = key;
                score::for_lrp(standing, *extra, instances, self.wanted, self.settings)
            }
            Queue::Tasks => score::for_task(&key.standing, key.extra, self.wanted, self.settings),
        }
    }

    /// Looks at the cells of a group for as long as one might be among the best.
    pub(super) fn walk(&mut self, walk: Walk<'_>) {
        let told = self.siblings.map_or(0, |siblings| siblings.fewest_on_a_cell(walk.zone));
        // Where the few cells with the fewest instances were looked at, all others have more.
        let fewest = if walk.has_seen_fewest { told.saturating_add(1) } else { told };
        let added = score::added(self.wanted, walk.largest) + LOCALITY_WEIGHT * f64::from(fewest);
        let mut keys = walk.keys.range(..);
        let mut last: Option<(Key, usize)> = None;
        while let Some(key) = keys.next() {
            let bound = key.base() + added;
            if self.is_hopeless(bound - bound.abs() * ROUNDING) {
                return;
            }
            if walk.moved.contains(&key.place) {
                continue;
            }
            let instances = self.siblings.map_or(0, |siblings| siblings.on(key.place));
            if instances < fewest {
                continue;
            }
            let alike = last.filter(|(like, _)| key.is_like(like)).map_or(0, |(_, alike)| alike);
            let does = self.consider(key);
            let alike = alike + usize::from(does && instances == fewest);
            last = Some((*key, alike));
            // Of cells in one state those with the lowest ids win: no further one can.
            if alike == BEST {
                keys = walk.keys.range((Bound::Excluded(key.past_equals()), Bound::Unbounded));
            }
        }
    }

    fn is_hopeless(&self, bound: f64) -> bool {
        self.best.last().copied().flatten().is_some_and(|worst| bound > worst.score)
    }

    fn keep(&mut self, mut found: Found) {
        for kept in &mut self.best {
            match kept {
                None => {
                    *kept = Some(found);
                    return;
                }
                Some(kept) if found.is_before(kept) => std::mem::swap(kept, &mut found),
                Some(_) => {}
            }
        }
    }
}
