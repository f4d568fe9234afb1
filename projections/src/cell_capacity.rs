//! What each cell holds, as the auction sees it: instances per process guid, tasks, containers
//! that are starting. Free memory, disk and containers are the aggregates' own reservations.

use std::collections::BTreeMap;

use domain::{
    aggregates::Aggregates,
    auction::CellState,
    bbs::{actual_lrp, task},
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
        StreamId::ActualLrp(key) => {
            let slot = aggregates.slot(key)?;
            let is_starting = match slot.state {
                actual_lrp::State::Placed(_) | actual_lrp::State::Claimed(_) => true,
                actual_lrp::State::Unclaimed
                | actual_lrp::State::Running(_)
                | actual_lrp::State::Crashed(_) => false,
            };
            let share = Share { is_starting, process_guid: Some(key.process_guid.clone()) };
            Some((slot.placement()?.cell_id.clone(), share))
        }
        StreamId::Task(task_guid) => {
            let task = aggregates.task(task_guid)?;
            let is_starting = match task.state {
                task::State::Placed(_) => true,
                task::State::Pending
                | task::State::Running(_)
                | task::State::Completed(_)
                | task::State::Cancelled { .. } => false,
            };
            Some((task.placement()?.cell_id.clone(), Share { is_starting, process_guid: None }))
        }
        StreamId::DesiredLrp(_)
        | StreamId::Cell(_)
        | StreamId::FreshnessDomain(_)
        | StreamId::Secrets(_) => None,
    }
}

impl View for CellCapacity {
    const NAME: &'static str = "cell_capacity";

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
