//! What each cell holds, as the auction sees it: instances per process guid, tasks, containers
//! that are starting. Free memory, disk and containers are the aggregates' own reservations.

use std::collections::BTreeMap;

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
    cells: BTreeMap<CellId, Load>,
    counted: HashIndex<StreamId, (CellId, Share)>,
}

/// What one cell holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Load {
    starting: u32,
    tasks: u32,
    instances: BTreeMap<ProcessGuid, u32>,
}

/// What one slot or task adds to its cell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    is_starting: bool,
    process_guid: Option<ProcessGuid>,
}

impl CellCapacity {
    /// The cells that are there, with what is left of each.
    #[must_use]
    pub fn cell_states(&self, aggregates: &Aggregates) -> Vec<CellState> {
        let present = aggregates.cells().filter(|cell| cell.is_present());
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

    fn count(&mut self, stream: &StreamId, cell_id: CellId, share: Share) {
        let load = self.cells.entry(cell_id.clone()).or_default();
        load.starting += u32::from(share.is_starting);
        match &share.process_guid {
            None => load.tasks += 1,
            Some(process_guid) => *load.instances.entry(process_guid.clone()).or_default() += 1,
        }
        self.counted.insert(stream.clone(), (cell_id, share));
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
        | task::State::Cancelled { .. } => false,
    };
    Some((task.placement()?.cell_id.clone(), Share { is_starting, process_guid: None }))
}

/// What is collected of one cell while a view is filled, unordered.
#[derive(Default)]
struct Filling {
    starting: u32,
    tasks: u32,
    instances: Vec<ProcessGuid>,
}

impl Filling {
    fn add(&mut self, share: &Share) {
        self.starting += u32::from(share.is_starting);
        match &share.process_guid {
            None => self.tasks += 1,
            Some(process_guid) => self.instances.push(process_guid.clone()),
        }
    }

    fn into_load(mut self) -> Load {
        self.instances.sort_unstable();
        let mut counts: Vec<(ProcessGuid, u32)> = Vec::with_capacity(self.instances.len());
        for process_guid in self.instances {
            match counts.last_mut() {
                Some((last, count)) if *last == process_guid => *count += 1,
                Some(_) | None => counts.push((process_guid, 1)),
            }
        }
        let instances = counts.into_iter().collect();
        Load { starting: self.starting, tasks: self.tasks, instances }
    }
}

impl View for CellCapacity {
    const NAME: &'static str = "cell_capacity";

    fn fill(aggregates: &Aggregates) -> Self {
        let mut filling: BTreeMap<CellId, Filling> = BTreeMap::new();
        let mut counted = HashIndex::with_capacity(aggregates.owners());
        let slots = aggregates.processes_by_chance().flat_map(|(_, process)| process.slots());
        let slots = slots
            .filter_map(|slot| Some((StreamId::ActualLrp(slot.key.clone()), share_of_slot(slot)?)));
        let tasks = aggregates.tasks_by_chance().filter_map(|task| {
            Some((StreamId::Task(task.task_guid.clone()), share_of_task(task)?))
        });
        for (stream, (cell_id, share)) in slots.chain(tasks) {
            match filling.get_mut(&cell_id) {
                Some(cell) => cell.add(&share),
                None => filling.entry(cell_id.clone()).or_default().add(&share),
            }
            counted.insert(stream, (cell_id, share));
        }
        let cells = filling.into_iter().map(|(id, cell)| (id, cell.into_load())).collect();
        Self { cells, counted }
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        let found = share_of(aggregates, stream);
        if self.counted.get(stream) == found.as_ref() {
            return;
        }
        self.discount(stream);
        if let Some((cell_id, share)) = found {
            self.count(stream, cell_id, share);
        }
    }

    fn content(&self) -> String {
        format!("{self:?}")
    }
}
