//! Which containers were lately each cell's: what it pushes of them may arrive after their end.
//!
//! A memory beside the log, bounded for each cell and gone with the process: what another node
//! knew, or an earlier process, is looked up in the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use domain::{
    bbs::{actual_lrp::ActualLrp, placement::Placement, task::Task},
    id::{CellId, InstanceGuid},
    log::Owner,
    rep::{WorkKind, WorkReference},
};
use projections::world::World;

/// How many containers are remembered of each cell.
const CONTAINERS_MAX: usize = 10_000;

/// The containers that were lately assigned to each cell.
#[derive(Debug, Default)]
pub(super) struct Recent {
    by_cell: HashMap<CellId, Containers>,
}

#[derive(Debug, Default)]
struct Containers {
    owners: HashMap<InstanceGuid, Owner>,
    oldest_first: VecDeque<InstanceGuid>,
}

impl Recent {
    /// Notes what is a cell's now.
    pub(super) fn note<'w>(
        &mut self,
        cell_id: &CellId,
        work: impl IntoIterator<Item = &'w WorkReference>,
    ) {
        let containers = self.by_cell.entry(cell_id.clone()).or_default();
        for reference in work {
            let guid = &reference.instance_guid;
            if containers.owners.insert(guid.clone(), reference.kind.owner()).is_some() {
                continue;
            }
            containers.oldest_first.push_back(guid.clone());
            if containers.oldest_first.len() > CONTAINERS_MAX
                && let Some(oldest) = containers.oldest_first.pop_front()
            {
                containers.owners.remove(&oldest);
            }
        }
    }

    /// Whether a container was lately a cell's, for this owner.
    pub(super) fn knows(&self, cell_id: &CellId, guid: &InstanceGuid, owner: &Owner) -> bool {
        let containers = self.by_cell.get(cell_id);
        containers.and_then(|containers| containers.owners.get(guid)) == Some(owner)
    }
}

pub(super) fn lock(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a piece of work is placed on a cell now.
pub(super) fn is_placed(world: &World, cell_id: &CellId, work: &WorkReference) -> bool {
    let aggregates = world.aggregates();
    let is_it = |placement: &Placement| {
        placement.cell_id == *cell_id
            && placement.instance_guid == work.instance_guid
            && placement.placement_epoch == work.placement_epoch
    };
    match &work.kind {
        WorkKind::Lrp(key) => {
            let mut instances = aggregates.slot(key).into_iter().flat_map(ActualLrp::instances);
            instances.any(|instance| is_it(instance.placement))
        }
        WorkKind::Task(task_guid) => {
            aggregates.task(task_guid).and_then(Task::placement).is_some_and(is_it)
        }
    }
}
