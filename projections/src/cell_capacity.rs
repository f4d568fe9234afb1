//! What each cell holds, as the auction sees it: instances per process guid, tasks, containers
//! that are starting. Free memory, disk and containers are the aggregates' own reservations.

use domain::{
    aggregates::Aggregates,
    auction::CellState,
    bbs::{
        actual_lrp::{self, ActualLrp},
        task::{self, Task},
    },
    hash_index::HashIndex,
    id::{CellId, ProcessGuid},
    log::StreamId,
};

use crate::view::View;

/// What the cells hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellCapacity {
    cells: HashIndex<CellId, Load>,
    counted: HashIndex<StreamId, (CellId, Share)>,
}

/// What one cell holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Load {
    starting: u32,
    tasks: u32,
    instances: HashIndex<ProcessGuid, u32>,
}

/// What one slot or task adds to its cell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    is_starting: bool,
    process_guid: Option<ProcessGuid>,
}

impl CellCapacity {
    /// The cells that take work, with what is left of each.
    #[must_use]
    pub fn cell_states(&self, aggregates: &Aggregates) -> Vec<CellState> {
        let present = aggregates.cells().filter(|cell| cell.takes_work());
        present
            .map(|cell| {
                let load = self.cells.get(&cell.cell_id).cloned().unwrap_or_default();
                CellState {
                    cell_id: cell.cell_id.clone(),
                    cell_epoch: cell.cell_epoch,
                    zone: cell.registration.zone.clone(),
                    total: cell.registration.capacity,
                    free: aggregates.free_on(cell),
                    starting_container_count: load.starting,
                    instances: load.instances,
                    task_count: load.tasks,
                    preloaded_rootfses: cell.registration.preloaded_rootfses.clone(),
                    placement_tags: cell.registration.placement_tags.clone(),
                    optional_placement_tags: cell.registration.optional_placement_tags.clone(),
                }
            })
            .collect()
    }

    fn discount(&mut self, stream: &StreamId) {
        let Some((cell_id, share)) = self.counted.remove(stream) else { return };
        let Some(load) = self.cells.get_mut(&cell_id) else { return };
        load.starting -= u32::from(share.is_starting);
        match &share.process_guid {
            None => load.tasks -= 1,
            Some(process_guid) => {
                if let Some(count) = load.instances.get_mut(process_guid) {
                    *count -= 1;
                    if *count == 0 {
                        load.instances.remove(process_guid);
                    }
                }
            }
        }
        if *load == Load::default() {
            self.cells.remove(&cell_id);
        }
    }

    fn count(&mut self, stream: StreamId, cell_id: CellId, share: Share) {
        let load = self.cells.get_or_insert_with(cell_id.clone(), Load::default);
        load.starting += u32::from(share.is_starting);
        match &share.process_guid {
            None => load.tasks += 1,
            Some(process_guid) => {
                *load.instances.get_or_insert_with(process_guid.clone(), || 0) += 1;
            }
        }
        self.counted.insert(stream, (cell_id, share));
    }
}

fn share_of(aggregates: &Aggregates, stream: &StreamId) -> Option<(CellId, Share)> {
    match stream {
        StreamId::ActualLrp(key) => share_of_slot(aggregates.slot(key)?),
        StreamId::Task(task_guid) => share_of_task(aggregates.task(task_guid)?),
        StreamId::DesiredLrp(_)
        | StreamId::Cell(_)
        | StreamId::FreshnessDomain(_)
        | StreamId::Secrets(_) => None,
    }
}

fn share_of_slot(slot: &ActualLrp) -> Option<(CellId, Share)> {
    let is_starting = match slot.state {
        actual_lrp::State::Placed(_) | actual_lrp::State::Claimed(_) => true,
        actual_lrp::State::Unclaimed
        | actual_lrp::State::Running(_)
        | actual_lrp::State::Crashed(_) => false,
    };
    let process_guid = Some(slot.key.process_guid.clone());
    Some((slot.placement()?.cell_id.clone(), Share { is_starting, process_guid }))
}

fn share_of_task(task: &Task) -> Option<(CellId, Share)> {
    let is_starting = match task.state {
        task::State::Placed(_) => true,
        task::State::Pending
        | task::State::Running(_)
        | task::State::Completed(_)
        | task::State::Resolving { .. }
        | task::State::Deleting(_) => false,
    };
    Some((task.placement()?.cell_id.clone(), Share { is_starting, process_guid: None }))
}

impl View for CellCapacity {
    const NAME: &'static str = "cell_capacity";

    fn fill(aggregates: &Aggregates) -> Self {
        let counted = HashIndex::with_capacity(aggregates.owners());
        let mut capacity = Self { cells: HashIndex::default(), counted };
        let slots = aggregates.processes_by_chance().flat_map(|(_, process)| process.slots());
        let slots = slots
            .filter_map(|slot| Some((StreamId::ActualLrp(slot.key.clone()), share_of_slot(slot)?)));
        let tasks = aggregates.tasks_by_chance().filter_map(|task| {
            Some((StreamId::Task(task.task_guid.clone()), share_of_task(task)?))
        });
        for (stream, (cell_id, share)) in slots.chain(tasks) {
            capacity.count(stream, cell_id, share);
        }
        capacity
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        let found = share_of(aggregates, stream);
        match (self.counted.get_mut(stream), &found) {
            (None, None) => return,
            (Some((cell_id, known)), Some((found_on, share))) if cell_id == found_on => {
                // What it counts for is the stream's; whether it is starting may have changed.
                if let Some(load) = self.cells.get_mut(cell_id) {
                    load.starting -= u32::from(known.is_starting);
                    load.starting += u32::from(share.is_starting);
                }
                known.is_starting = share.is_starting;
                return;
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        self.discount(stream);
        if let Some((cell_id, share)) = found {
            self.count(stream.clone(), cell_id, share);
        }
    }

    fn content(&self) -> String {
        format!("{self:?}")
    }
}
