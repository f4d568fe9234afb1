//! The assignment: the whole list of what a cell should hold, as small references.
//!
//! Each reference is a standing command that stays until the cell's report closes it, so a cell
//! may miss any number of lists.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    id::{ActualLrpKey, InstanceGuid, TaskGuid},
    labels::Labels,
    log::{CellEpoch, Owner, PlacementEpoch, Position},
    sealed::Digest,
};

/// The whole list for one cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The last event that changed this list.
    pub position: Position,
    /// The registration that it is for.
    pub cell_epoch: CellEpoch,
    /// In the order of their guids.
    pub work: Vec<Work>,
}

/// One thing a cell should do about one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Which container.
    #[serde(flatten)]
    pub reference: WorkReference,
    /// What should become of it.
    pub wanted: Wanted,
    /// What it runs, by digest; fetched apart.
    pub definition: Digest,
    /// What may change while it runs; absent when that says nothing, and of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Arc<Labels>>,
}

/// One placement, as cell and control plane both name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkReference {
    /// For what.
    pub kind: WorkKind,
    /// The container's guid.
    pub instance_guid: InstanceGuid,
    /// Which placement.
    pub placement_epoch: PlacementEpoch,
}

/// For what a container is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// One slot of a desired LRP.
    Lrp(ActualLrpKey),
    /// A task.
    Task(TaskGuid),
}

impl WorkKind {
    /// Whose history it belongs to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self {
            Self::Lrp(key) => Owner::Process(key.process_guid.clone()),
            Self::Task(task_guid) => Owner::Task(task_guid.clone()),
        }
    }

    /// The instance's index: a slot's, or 0 for a task.
    #[must_use]
    pub fn index(&self) -> u32 {
        match self {
            Self::Lrp(key) => key.index,
            Self::Task(_) => 0,
        }
    }
}

/// What should become of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It should run.
    Run,
    /// It should be stopped gracefully and removed.
    Stop,
}
