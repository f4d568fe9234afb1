//! What each cell offers, holds and has left, as the auction sees it. Kept up stream by stream, so
//! that an auction looks at few cells and copies none.
//!
//! Beside it lies what each slot and task counted for, so that it can be discounted again. Free
//! memory, disk and containers are the aggregates' own reservations.

use std::collections::BTreeMap;

use domain::{
    aggregates::Aggregates,
    auction::{CellNumber, Cells, Change, PresentCell},
    bbs::{
        actual_lrp::{self, ActualLrp, InstancePresence},
        cell::Cell,
        task::{self, Task},
    },
    hash_index::HashIndex,
    id::{ActualLrpKey, CellId, TaskGuid},
    log::StreamId,
};

use crate::view::View;

/// What the cells offer, hold and have left.
#[derive(Debug, Clone, Default)]
pub struct CellCapacity {
    cells: Cells,
    slots: HashIndex<ActualLrpKey, Share>,
    tasks: HashIndex<TaskGuid, Share>,
    /// Where a slot has something beside its ordinary instance: few have.
    twins: HashIndex<ActualLrpKey, Vec<CellNumber>>,
}

/// What one slot or task adds to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    on: CellNumber,
    is_starting: bool,
}

/// Where a slot or task is, and whether it is starting there.
type Place<'a> = (&'a CellId, bool);

impl CellCapacity {
    /// The cells as the auction sees them.
    #[must_use]
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    fn touch_cell(&mut self, aggregates: &Aggregates, cell_id: &CellId) {
        let number = self.cells.number(cell_id);
        let present = aggregates.cell(cell_id).filter(|cell| cell.takes_work());
        self.cells.put(number, present.map(|cell| offered(aggregates, cell)));
    }

    fn touch_slot(&mut self, aggregates: &Aggregates, key: &ActualLrpKey) {
        let found = aggregates.slot(key).and_then(place_of_slot);
        let before = self.slots.get(key).copied();
        let now = self.share(found);
        if before.map(|share| share.on) != now.map(|share| share.on) {
            for (share, change) in [(before, Change::OneLess), (now, Change::OneMore)] {
                if let Some(share) = share {
                    self.cells.count_instance(share.on, &key.process_guid, change);
                }
            }
        }
        match now {
            Some(share) => self.slots.insert(key.clone(), share),
            None => self.slots.remove(key),
        };
        self.touch_twins(aggregates, key);
        self.settle(aggregates, before, now);
    }

    /// What stands beside the ordinary instance counts as one more of its process there.
    fn touch_twins(&mut self, aggregates: &Aggregates, key: &ActualLrpKey) {
        let twins = aggregates.slot(key).map(twins_of).unwrap_or_default();
        let now: Vec<CellNumber> = twins.into_iter().map(|id| self.cells.number(id)).collect();
        let before = self.twins.remove(key).unwrap_or_default();
        for (numbers, change) in [(&before, Change::OneLess), (&now, Change::OneMore)] {
            for number in numbers {
                if before != now {
                    self.cells.count_instance(*number, &key.process_guid, change);
                }
                self.refresh_free(aggregates, *number);
            }
        }
        if !now.is_empty() {
            self.twins.insert(key.clone(), now);
        }
    }

    fn touch_task(&mut self, aggregates: &Aggregates, task_guid: &TaskGuid) {
        let found = aggregates.task(task_guid).and_then(place_of_task);
        let before = self.tasks.get(task_guid).copied();
        let now = self.share(found);
        if before.map(|share| share.on) != now.map(|share| share.on) {
            for (share, change) in [(before, Change::OneLess), (now, Change::OneMore)] {
                if let Some(share) = share {
                    self.cells.count_task(share.on, change);
                }
            }
        }
        match now {
            Some(share) => self.tasks.insert(task_guid.clone(), share),
            None => self.tasks.remove(task_guid),
        };
        self.settle(aggregates, before, now);
    }

    fn share(&mut self, place: Option<Place<'_>>) -> Option<Share> {
        place.map(|(cell_id, is_starting)| Share { on: self.cells.number(cell_id), is_starting })
    }

    /// Counts what is starting, and says what is left of the cells concerned.
    fn settle(&mut self, aggregates: &Aggregates, before: Option<Share>, now: Option<Share>) {
        for (share, change) in [(before, Change::OneLess), (now, Change::OneMore)] {
            let Some(Share { on, is_starting }) = share else { continue };
            if is_starting && before != now {
                self.cells.count_starting(on, change);
            }
            self.refresh_free(aggregates, on);
        }
    }

    fn refresh_free(&mut self, aggregates: &Aggregates, on: CellNumber) {
        if let Some(cell) = self.cells.cell_id(on).and_then(|id| aggregates.cell(id)) {
            self.cells.set_free(on, aggregates.free_on(cell));
        }
    }
}

fn twins_of(slot: &ActualLrp) -> Vec<&CellId> {
    let twins = slot.instances().filter(|it| it.presence != InstancePresence::Ordinary);
    twins.map(|twin| &twin.placement.cell_id).collect()
}

fn offered(aggregates: &Aggregates, cell: &Cell) -> PresentCell {
    PresentCell::of(cell.cell_epoch, &cell.registration, aggregates.free_on(cell))
}

fn place_of_slot(slot: &ActualLrp) -> Option<Place<'_>> {
    let is_starting = match slot.state {
        actual_lrp::State::Placed(_) | actual_lrp::State::Claimed(_) => true,
        actual_lrp::State::Unclaimed
        | actual_lrp::State::Running(_)
        | actual_lrp::State::Crashed(_)
        | actual_lrp::State::Removed => false,
    };
    Some((&slot.placement()?.cell_id, is_starting))
}

fn place_of_task(task: &Task) -> Option<Place<'_>> {
    let is_starting = match task.state {
        task::State::Placed(_) => true,
        task::State::Pending
        | task::State::Running(_)
        | task::State::Completed(_)
        | task::State::Resolving { .. }
        | task::State::Deleting(_) => false,
    };
    Some((&task.placement()?.cell_id, is_starting))
}

impl View for CellCapacity {
    const NAME: &'static str = "cell_capacity";

    fn fill(aggregates: &Aggregates) -> Self {
        let slots = HashIndex::with_capacity(aggregates.owners());
        let mut capacity = Self { slots, ..Self::default() };
        for cell in aggregates.cells() {
            capacity.touch_cell(aggregates, &cell.cell_id);
        }
        for slot in aggregates.processes_by_chance().flat_map(|(_, process)| process.slots()) {
            capacity.touch_slot(aggregates, &slot.key);
        }
        for task in aggregates.tasks_by_chance() {
            capacity.touch_task(aggregates, &task.task_guid);
        }
        capacity
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        match stream {
            StreamId::ActualLrp(key) => self.touch_slot(aggregates, key),
            StreamId::Task(task_guid) => self.touch_task(aggregates, task_guid),
            StreamId::Cell(cell_id) => self.touch_cell(aggregates, cell_id),
            StreamId::DesiredLrp(_) | StreamId::FreshnessDomain(_) | StreamId::Secrets(_) => {}
        }
    }

    fn content(&self) -> String {
        let named = |share: &Share| (self.cells.cell_id(share.on).cloned(), share.is_starting);
        let slots: BTreeMap<_, _> =
            self.slots.iter_by_chance().map(|(key, share)| (key, named(share))).collect();
        let tasks: BTreeMap<_, _> =
            self.tasks.iter_by_chance().map(|(guid, share)| (guid, named(share))).collect();
        let cells = |numbers: &Vec<CellNumber>| -> Vec<Option<CellId>> {
            numbers.iter().map(|number| self.cells.cell_id(*number).cloned()).collect()
        };
        let twins: BTreeMap<_, _> =
            self.twins.iter_by_chance().map(|(key, numbers)| (key, cells(numbers))).collect();
        format!("{:?} {slots:?} {tasks:?} {twins:?}", self.cells)
    }
}
