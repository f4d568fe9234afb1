//! The cells that are there, in the order of their scores before anything is placed: once for
//! LRPs, once for tasks. In a group of cells that offer the same and are about equally large, what
//! is to be placed adds about the same to each score, so that the best cell is near the front.
//!
//! What a process already has on a cell is not in the order: it is looked up on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CellNumber, Cells, Settings,
    cells::Load,
    filter::Offer,
    score::{self, Standing},
};
use crate::{
    bbs::placement::Resources,
    id::{CellId, Zone},
    log::CellEpoch,
    units::Mebibytes,
};

/// The cells that are there, in order.
#[derive(Debug, Clone)]
pub(super) struct Order {
    settings: Settings,
    /// By id: the place here is what breaks ties.
    pub(super) cells: Vec<OrderedCell>,
    /// By the cell's number.
    places: Vec<Option<u32>>,
    /// How many cells each zone has.
    pub(super) zones: Vec<u32>,
    pub(super) groups: Vec<Group>,
    /// How many containers are starting on all cells together.
    pub(super) starting: u64,
}

/// A cell with all that placing changes.
#[derive(Debug, Clone)]
pub(super) struct OrderedCell {
    pub(super) cell_id: CellId,
    pub(super) cell_epoch: CellEpoch,
    pub(super) group: u32,
    /// Its place in its zone, from 0.
    rank: u32,
    pub(super) state: State,
}

/// What placing changes of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) standing: Standing,
    pub(super) tasks: u32,
}

impl State {
    /// With one more container on it.
    pub(super) fn with_one_more(mut self, wanted: Resources, queue: Queue) -> Self {
        self.standing.free = self.standing.free.minus(wanted);
        self.standing.starting = self.standing.starting.saturating_add(1);
        self.tasks = self.tasks.saturating_add(u32::from(queue == Queue::Tasks));
        self
    }
}

/// Cells of one zone that offer the same and are about equally large.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) offer: Offer,
    /// By the order of the zones' names.
    pub(super) zone: u32,
    /// The most that any of them can hold, amount by amount.
    pub(super) largest: Resources,
    pub(super) size: u32,
    lrps: BTreeSet<Key>,
    tasks: BTreeSet<Key>,
}

impl Group {
    pub(super) fn queue(&self, queue: Queue) -> &BTreeSet<Key> {
        match queue {
            Queue::Lrps => &self.lrps,
            Queue::Tasks => &self.tasks,
        }
    }
}

/// What is placed weighs differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Lrps,
    Tasks,
}

/// A cell in an order: its score before anything is placed, and what that came from, so that cells
/// in the very same state stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    base: SortedScore,
    pub(super) standing: Standing,
    /// An LRP's: the cell's rank. A task's: how many tasks the cell holds.
    pub(super) extra: u32,
    pub(super) place: u32,
}

impl Key {
    /// The score without what is to be placed, and without what the cell holds of its process.
    pub(super) fn base(&self) -> f64 {
        self.base.score()
    }

    /// Whether the score for anything is the same, but for what the cell holds of its process.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.standing == other.standing && self.extra == other.extra
    }

    /// Past all cells in the same state.
    pub(super) fn past_equals(self) -> Self {
        Self { place: u32::MAX, ..self }
    }
}

/// A score that sorts as `f64::total_cmp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SortedScore(u64);

const SIGN: u64 = 1 << 63;

impl SortedScore {
    fn of(score: f64) -> Self {
        let bits = score.to_bits();
        Self(if bits & SIGN == 0 { bits | SIGN } else { !bits })
    }

    fn score(self) -> f64 {
        f64::from_bits(if self.0 & SIGN == 0 { !self.0 } else { self.0 & !SIGN })
    }
}

impl Order {
    pub(super) fn new(cells: &Cells, settings: &Settings) -> Self {
        let present = cells.present();
        let zone_names: BTreeSet<&Zone> = present.iter().map(|(.., it)| &it.offer.zone).collect();
        let zone_of: BTreeMap<&Zone, u32> = zone_names.into_iter().zip(0..).collect();
        let kinds: BTreeSet<_> =
            present.iter().map(|(.., it)| (&*it.offer, about(it.total))).collect();
        let group_of: BTreeMap<_, u32> = kinds.iter().copied().zip(0..).collect();
        let groups = kinds.into_iter().map(|(offer, _)| Group {
            offer: offer.clone(),
            zone: zone_of.get(&offer.zone).copied().unwrap_or_default(),
            largest: Resources::default(),
            size: 0,
            lrps: BTreeSet::new(),
            tasks: BTreeSet::new(),
        });
        let mut order = Self {
            settings: *settings,
            cells: Vec::with_capacity(present.len()),
            places: Vec::new(),
            zones: vec![0; zone_of.len()],
            groups: groups.collect(),
            starting: 0,
        };
        for (place, (number, known, it)) in (0..).zip(&present) {
            let group = group_of.get(&(&*it.offer, about(it.total))).copied().unwrap_or_default();
            let standing =
                Standing { total: it.total, free: it.free, starting: known.load.starting };
            let state = State { standing, tasks: known.load.tasks };
            let (cell_id, cell_epoch) = (known.cell_id.clone(), it.cell_epoch);
            order.add(*number, place, OrderedCell { cell_id, cell_epoch, group, rank: 0, state });
        }
        order
    }

    fn add(&mut self, number: CellNumber, place: u32, mut cell: OrderedCell) {
        let Some(group) = self.groups.get_mut(index(cell.group)) else { return };
        let Some(zone) = self.zones.get_mut(index(group.zone)) else { return };
        cell.rank = *zone;
        *zone += 1;
        group.size += 1;
        group.largest = largest(group.largest, cell.state.standing.total);
        group.lrps.insert(cell.key(place, Queue::Lrps, &self.settings));
        group.tasks.insert(cell.key(place, Queue::Tasks, &self.settings));
        self.starting += u64::from(cell.state.standing.starting);
        if self.places.len() <= number.place() {
            self.places.resize(number.place() + 1, None);
        }
        if let Some(known) = self.places.get_mut(number.place()) {
            *known = Some(place);
        }
        self.cells.push(cell);
    }

    /// Whether it is the order under these settings. The in-flight limit is of no account to it.
    pub(super) fn is_of(&self, settings: &Settings) -> bool {
        let weights = |of: &Settings| [of.starting_container_weight, of.bin_pack_first_fit_weight];
        weights(&self.settings) == weights(settings)
    }

    /// Where a cell stands among all, by id; none when it is not there.
    pub(super) fn place(&self, number: CellNumber) -> Option<u32> {
        self.places.get(number.place()).copied().flatten()
    }

    pub(super) fn cell(&self, place: u32) -> Option<&OrderedCell> {
        self.cells.get(index(place))
    }

    pub(super) fn group(&self, group: u32) -> Option<&Group> {
        self.groups.get(index(group))
    }

    /// How a cell stands in an order in some state.
    pub(super) fn key(&self, place: u32, state: State, queue: Queue) -> Option<Key> {
        let cell = self.cell(place)?;
        Some(cell.key_in(state, place, queue, &self.settings))
    }

    /// Says what is left of a cell and on it now.
    pub(super) fn set(&mut self, number: CellNumber, free: Resources, load: Load) {
        let Some(place) = self.place(number) else { return };
        let Some(cell) = self.cells.get_mut(index(place)) else { return };
        let standing = Standing { free, starting: load.starting, ..cell.state.standing };
        let state = State { standing, tasks: load.tasks };
        if state == cell.state {
            return;
        }
        let Some(group) = self.groups.get_mut(index(cell.group)) else { return };
        let before = cell.clone();
        cell.state = state;
        self.starting -= u64::from(before.state.standing.starting);
        self.starting += u64::from(state.standing.starting);
        for (queue, keys) in [(Queue::Lrps, &mut group.lrps), (Queue::Tasks, &mut group.tasks)] {
            keys.remove(&before.key(place, queue, &self.settings));
            keys.insert(cell.key(place, queue, &self.settings));
        }
    }
}

impl OrderedCell {
    fn key(&self, place: u32, queue: Queue, settings: &Settings) -> Key {
        self.key_in(self.state, place, queue, settings)
    }

    fn key_in(&self, state: State, place: u32, queue: Queue, settings: &Settings) -> Key {
        let State { standing, tasks } = state;
        let nothing = Resources::default();
        let (base, extra) = match queue {
            Queue::Lrps => (score::for_lrp(&standing, self.rank, 0, nothing, settings), self.rank),
            Queue::Tasks => (score::for_task(&standing, tasks, nothing, settings), tasks),
        };
        // Without bin packing the rank weighs nothing, and cells of any rank are in one state.
        let is_weightless = queue == Queue::Lrps && settings.bin_pack_first_fit_weight == 0.0;
        let extra = if is_weightless { 0 } else { extra };
        Key { base: SortedScore::of(base), standing, extra, place }
    }
}

/// Sizes that are the same in their four leading bits count as about equal: machines of one type
/// differ by some mebibytes.
fn about(total: Resources) -> [u32; 3] {
    let leading = |amount: u32| {
        let shift = (u32::BITS - amount.leading_zeros()).saturating_sub(4);
        amount >> shift << shift
    };
    [leading(total.memory_mb.0), leading(total.disk_mb.0), leading(total.containers)]
}

fn largest(one: Resources, other: Resources) -> Resources {
    Resources {
        memory_mb: Mebibytes(one.memory_mb.0.max(other.memory_mb.0)),
        disk_mb: Mebibytes(one.disk_mb.0.max(other.disk_mb.0)),
        containers: one.containers.max(other.containers),
    }
}

/// A number as a place in a list.
pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
