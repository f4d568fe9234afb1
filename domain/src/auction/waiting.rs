//! What waits for a cell, in the order of the auction. A view keeps it up change by change, so that
//! a round looks at what it decides and not at all that waits.
//!
//! What waits stands in lanes: in one lane all ask for the same and show the same. When the first of
//! a lane has no room none of them has, and when that is what they show there is nothing to say of
//! any of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, btree_set},
    fmt,
    sync::Arc,
};

use super::{Demand, Failure, PlacementError};
use crate::{
    exit::cut_reason,
    rep::WorkKind,
    units::{Mebibytes, Timestamp},
};

/// What waits for a cell.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// In which lane something stands; in none while nobody knows what it needs.
    works: BTreeMap<WorkKind, Option<Arc<Lane>>>,
    lanes: BTreeMap<Arc<Lane>, BTreeSet<Turn>>,
}

/// What those in one lane have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    /// Before this instant they are not auctioned.
    pub not_before: Option<Timestamp>,
    /// What each of them needs.
    pub demand: Arc<Demand>,
    /// What each of them shows.
    pub shown: Shown,
}

/// What something shows of why it has no cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// A slot shows what was said last, if anything was. Said again, it would be judged for nothing.
    Slot(Option<String>),
    /// A task that is rejected pauses instead.
    Task,
}

/// How early something is placed: first instances, then tasks, then the others by index; the biggest
/// memory first in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    group: u8,
    index: u32,
    memory_mb: Reverse<Mebibytes>,
}

impl Rank {
    pub(super) fn of(work: &WorkKind, demand: &Demand) -> Self {
        let (group, index) = match work {
            WorkKind::Lrp(key) if key.index == 0 => (0, 0),
            WorkKind::Task(_) => (1, 0),
            WorkKind::Lrp(key) => (2, key.index),
        };
        Self { group, index, memory_mb: Reverse(demand.resources.memory_mb) }
    }
}

/// When it is something's turn: of those of one rank, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    rank: Rank,
    work: WorkKind,
}

impl Turn {
    fn of(work: &WorkKind, demand: &Demand) -> Self {
        Self { rank: Rank::of(work, demand), work: work.clone() }
    }
}

impl Lane {
    /// Whether there is something to say of a failure in this lane.
    pub(super) fn is_news(&self, error: &PlacementError) -> bool {
        match &self.shown {
            // What is said is kept as long as a reason may be.
            Shown::Slot(said) => {
                said.as_ref().is_none_or(|said| *said != cut_reason(&error.to_string()))
            }
            Shown::Task => Failure::is_a_rejection(error),
        }
    }
}

impl Waiting {
    /// Says that something waits, and in which lane; in none while it is not known what it needs.
    /// Whether it did not wait before.
    pub fn put(&mut self, work: &WorkKind, lane: Option<Lane>) -> bool {
        let has_waited = self.remove(work);
        let lane = lane.map(|lane| {
            let lane = self
                .lanes
                .get_key_value(&lane)
                .map_or_else(|| Arc::new(lane), |(known, _)| Arc::clone(known));
            let turn = Turn::of(work, &lane.demand);
            self.lanes.entry(Arc::clone(&lane)).or_default().insert(turn);
            lane
        });
        self.works.insert(work.clone(), lane);
        !has_waited
    }

    /// Says that something does not wait any more; whether it did.
    pub fn remove(&mut self, work: &WorkKind) -> bool {
        let Some(lane) = self.works.remove(work) else { return false };
        if let Some(lane) = lane
            && let Some(turns) = self.lanes.get_mut(&lane)
        {
            turns.remove(&Turn::of(work, &lane.demand));
            if turns.is_empty() {
                self.lanes.remove(&lane);
            }
        }
        true
    }

    /// All that waits, slots first, each by its name.
    pub fn works(&self) -> impl Iterator<Item = &WorkKind> {
        self.works.keys()
    }

    /// What waits of a range of names.
    pub fn works_from_to(
        &self,
        first: WorkKind,
        last: WorkKind,
    ) -> impl Iterator<Item = &WorkKind> {
        self.works.range(first..=last).map(|(work, _)| work)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// What may be auctioned at an instant, in order, each by each.
    pub(super) fn queue(&self, now: Timestamp) -> Queue<'_> {
        let mut queue = Queue::default();
        for (lane, turns) in self.lanes.iter().take_while(|(lane, _)| lane.not_before <= Some(now))
        {
            queue.add(lane, turns.iter());
        }
        queue
    }
}

/// Equal contents print the same.
impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let laneless = self.works.iter().filter(|(_, lane)| lane.is_none()).map(|(work, _)| work);
        let laneless: Vec<&WorkKind> = laneless.collect();
        f.debug_struct("Waiting").field("lanes", &self.lanes).field("laneless", &laneless).finish()
    }
}

/// The lanes as one queue: it is the turn of the first of all their firsts.
#[derive(Default)]
pub(super) struct Queue<'a> {
    lanes: Vec<(&'a Lane, btree_set::Iter<'a, Turn>)>,
    firsts: BinaryHeap<Reverse<(&'a Turn, usize)>>,
}

/// Something whose turn it is.
pub(super) struct First<'a> {
    pub(super) work: &'a WorkKind,
    pub(super) lane: &'a Lane,
    number: usize,
}

impl<'a> Queue<'a> {
    fn add(&mut self, lane: &'a Lane, turns: btree_set::Iter<'a, Turn>) {
        self.lanes.push((lane, turns));
        self.advance(self.lanes.len() - 1);
    }

    fn advance(&mut self, number: usize) {
        let next = self.lanes.get_mut(number).and_then(|(_, turns)| turns.next());
        self.firsts.extend(next.map(|turn| Reverse((turn, number))));
    }

    /// Whose turn it is. Unless [`Queue::go_on`] is told of it, its lane has none any more.
    pub(super) fn first(&mut self) -> Option<First<'a>> {
        let Reverse((turn, number)) = self.firsts.pop()?;
        let (lane, _) = self.lanes.get(number)?;
        Some(First { work: &turn.work, lane, number })
    }

    /// Goes on to the next in the lane of the one whose turn it was.
    pub(super) fn go_on(&mut self, first: &First<'a>) {
        self.advance(first.number);
    }
}
