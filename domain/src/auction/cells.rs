//! The cells as the auction sees them, kept up change by change: what each offers and has left, and
//! how many instances of each process it holds. A view keeps one; an auction borrows it.
//!
//! Loads of cells that are not there are kept too: they count again when the cell is back.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use super::{Settings, filter::Offer, order::Order};
use crate::{
    bbs::{cell::Registration, placement::Resources},
    hash_index::HashIndex,
    id::{CellId, ProcessGuid},
    log::CellEpoch,
};

/// Which cell, for as long as these [`Cells`] live. Says nothing of its order among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellNumber(u32);

/// The cells as the auction sees them.
#[derive(Clone, Default)]
pub struct Cells {
    numbers: HashIndex<CellId, CellNumber>,
    /// By number.
    cells: Vec<KnownCell>,
    /// How many instances of a process are on which cells, by number of the cell.
    instances: HashIndex<ProcessGuid, Vec<(CellNumber, u32)>>,
    /// Of the cells that are there. Made when an auction first asks, and made anew after cells came
    /// or went; until then kept up.
    order: OnceLock<Order>,
}

/// A cell that is there or holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownCell {
    pub(super) cell_id: CellId,
    /// None while it is not there.
    pub(super) present: Option<PresentCell>,
    pub(super) load: Load,
}

/// What a cell that is there offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentCell {
    /// Which registration of it.
    pub cell_epoch: CellEpoch,
    /// What it takes, and where it is.
    pub offer: Arc<Offer>,
    /// All that it can hold.
    pub total: Resources,
    /// What is left of it.
    pub free: Resources,
}

impl PresentCell {
    /// A cell as it registered, with what is left of it.
    #[must_use]
    pub fn of(cell_epoch: CellEpoch, registration: &Registration, free: Resources) -> Self {
        let offer = Arc::new(Offer::of(registration));
        Self { cell_epoch, offer, total: registration.capacity, free }
    }
}

/// What is on a cell, whosever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    /// How many of its containers are placed and neither running nor gone yet.
    pub(super) starting: u32,
    /// How many tasks it holds.
    pub(super) tasks: u32,
}

impl Cells {
    /// The number of a cell, by id.
    pub fn number(&mut self, cell_id: &CellId) -> CellNumber {
        if let Some(number) = self.numbers.get(cell_id) {
            return *number;
        }
        let number = CellNumber(u32::try_from(self.cells.len()).unwrap_or(u32::MAX));
        let cell_id = cell_id.clone();
        self.numbers.insert(cell_id.clone(), number);
        self.cells.push(KnownCell { cell_id, present: None, load: Load::default() });
        number
    }

    /// The id of a cell, by number.
    #[must_use]
    pub fn cell_id(&self, number: CellNumber) -> Option<&CellId> {
        self.get(number).map(|cell| &cell.cell_id)
    }

    /// Says what a cell is and offers now; none when it is not there.
    pub fn put(&mut self, number: CellNumber, present: Option<PresentCell>) {
        let Some(cell) = self.cells.get_mut(place(number)) else { return };
        if cell.present != present {
            cell.present = present;
            self.order.take();
        }
    }

    /// Says what is left of a cell now.
    pub fn set_free(&mut self, number: CellNumber, free: Resources) {
        self.change(number, |cell| {
            if let Some(present) = &mut cell.present {
                present.free = free;
            }
        });
    }

    /// Counts one more starting container on a cell, or one less.
    pub fn count_starting(&mut self, number: CellNumber, change: Change) {
        self.change(number, |cell| cell.load.starting = change.of(cell.load.starting));
    }

    /// Counts one more task on a cell, or one less.
    pub fn count_task(&mut self, number: CellNumber, change: Change) {
        self.change(number, |cell| cell.load.tasks = change.of(cell.load.tasks));
    }

    /// Counts one more instance of a process on a cell, or one less.
    pub fn count_instance(
        &mut self,
        number: CellNumber,
        process_guid: &ProcessGuid,
        change: Change,
    ) {
        if self.instances.get(process_guid).is_none() {
            self.instances.insert(process_guid.clone(), Vec::new());
        }
        let Some(held) = self.instances.get_mut(process_guid) else { return };
        match held.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(at) => {
                let left = held.get_mut(at).map_or(0, |(_, count)| {
                    *count = change.of(*count);
                    *count
                });
                if left == 0 {
                    held.remove(at);
                }
            }
            Err(at) if change == Change::OneMore => held.insert(at, (number, 1)),
            Err(_) => {}
        }
        if held.is_empty() {
            self.instances.remove(process_guid);
        }
    }

    fn change(&mut self, number: CellNumber, change: impl FnOnce(&mut KnownCell)) {
        let Some(cell) = self.cells.get_mut(place(number)) else { return };
        change(cell);
        if let (Some(order), Some(present)) = (self.order.get_mut(), &cell.present) {
            order.set(number, present.free, cell.load);
        }
    }

    pub(super) fn get(&self, number: CellNumber) -> Option<&KnownCell> {
        self.cells.get(place(number))
    }

    /// The cells that are there, with their numbers, by id.
    pub(super) fn present(&self) -> Vec<(CellNumber, &KnownCell, &PresentCell)> {
        let mut present: Vec<_> = (0..)
            .map(CellNumber)
            .zip(&self.cells)
            .filter_map(|(number, cell)| Some((number, cell, cell.present.as_ref()?)))
            .collect();
        present.sort_unstable_by_key(|(_, cell, _)| &cell.cell_id);
        present
    }

    /// On which cells how many instances of a process are.
    pub(super) fn instances_of(&self, process_guid: &ProcessGuid) -> &[(CellNumber, u32)] {
        self.instances.get(process_guid).map_or(&[], Vec::as_slice)
    }

    /// The cells in the order of these settings. Kept for the first settings that are asked for;
    /// for others it is made each time, since a node has one settings for its life.
    pub(super) fn order(&self, settings: &Settings) -> Cow<'_, Order> {
        let order = self.order.get_or_init(|| Order::new(self, settings));
        if order.is_of(settings) {
            return Cow::Borrowed(order);
        }
        Cow::Owned(Order::new(self, settings))
    }
}

/// Equal contents print the same, whatever the way to them.
impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_something =
            |cell: &&KnownCell| cell.present.is_some() || cell.load != Load::default();
        let cells: BTreeMap<&CellId, (&Option<PresentCell>, &Load)> = self
            .cells
            .iter()
            .filter(is_something)
            .map(|cell| (&cell.cell_id, (&cell.present, &cell.load)))
            .collect();
        let by_cell = |held: &Vec<(CellNumber, u32)>| -> BTreeMap<Option<CellId>, u32> {
            held.iter().map(|(number, count)| (self.cell_id(*number).cloned(), *count)).collect()
        };
        let instances: BTreeMap<_, _> =
            self.instances.iter_by_chance().map(|(guid, held)| (guid, by_cell(held))).collect();
        f.debug_struct("Cells").field("cells", &cells).field("instances", &instances).finish()
    }
}

/// One more or one less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// One more.
    OneMore,
    /// One less.
    OneLess,
}

impl Change {
    fn of(self, count: u32) -> u32 {
        match self {
            Self::OneMore => count.saturating_add(1),
            Self::OneLess => count.saturating_sub(1),
        }
    }
}

fn place(number: CellNumber) -> usize {
    usize::try_from(number.0).unwrap_or(usize::MAX)
}

impl CellNumber {
    /// Its place in a list of all numbers.
    pub(super) fn place(self) -> usize {
        place(self)
    }
}
