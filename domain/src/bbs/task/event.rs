//! What happened to a task. An append-only list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    auction::Candidates,
    bbs::{definition::Definition, placement::Resources},
    event::events,
    exit::ProcessExit,
    id::{CellId, FreshnessDomainName, InstanceGuid},
    log::CellEpoch,
    sealed::{Digest, Sealed},
};

events! {
    "What happened to a task.";
    /// It is to run, once.
    Desired = "task.desired", 1;
    /// It was put on a cell.
    Placed = "task.placed", 1;
    /// No cell could take it, once more.
    PlacementFailed = "task.placement_failed", 1;
    /// The cell would not take it; it is pending again.
    Refused = "task.refused", 1;
    /// Its process may run from now on, and never again.
    Started = "task.started", 1;
    /// It ended.
    Completed = "task.completed", 1;
    /// A user stopped it.
    Cancelled = "task.cancelled", 1;
    /// The container of an ended task is gone.
    Released = "task.released", 1;
    /// It is no longer shown.
    Deleted = "task.deleted", 1;
    /// It counts as failed without a word of its cell's.
    Failed = "task.failed", 1;
    /// Somebody deals with its end, alone.
    Resolving = "task.resolving", 1;
    /// Its client was told of its end.
    CallbackDelivered = "task.callback_delivered", 1;
    /// Its client could not be told of its end, for now.
    CallbackFailed = "task.callback_failed", 1;
    /// Whoever dealt with its end is gone: the next may.
    Demoted = "task.demoted", 1;
    /// Its cell was lost before it was started; it is pending again.
    PlacementLost = "task.placement_lost", 1;
}

/// It is to run, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Who asks.
    pub domain: FreshnessDomainName,
    /// What runs.
    pub definition: Arc<Definition>,
    /// Any text of the client's.
    pub annotation: String,
    /// Who is told of its end, if anybody.
    pub completion_callback_url: Option<Sealed>,
}

/// It was put on a cell. Its position is the placement epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The container's guid.
    pub instance_guid: InstanceGuid,
    /// Where.
    pub cell_id: CellId,
    /// Which registration of the cell.
    pub cell_epoch: CellEpoch,
    /// What is to run, by digest.
    pub definition: Digest,
    /// What is reserved.
    pub resources: Resources,
    /// Among which cells it was chosen, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Box<Candidates>>,
}

/// No cell could take it, once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementFailed {
    /// Diego's text.
    pub error: String,
    /// How often by now.
    pub rejection_count: u32,
    /// Why each cell does not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Box<Candidates>>,
}

/// The cell would not take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which cell.
    pub cell_id: CellId,
    /// Why not.
    pub reason: String,
    /// How often by now.
    pub rejection_count: u32,
}

/// Its process may run from now on, and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Which container.
    pub instance_guid: InstanceGuid,
}

/// It ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// Why it failed; absent when it succeeded.
    pub failure_reason: Option<String>,
    /// Its main process's end; absent when none ran.
    pub exit: Option<ProcessExit>,
    /// The sealed record of what the cell saw, by digest.
    pub evidence: Option<Digest>,
    /// What it left to be told; empty when nothing.
    pub result: String,
}

/// A user stopped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {}

/// It counts as failed without a word of its cell's; a container of it is being stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Why.
    pub reason: String,
}

/// The container of an ended task is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {}

/// Somebody deals with its end, alone. Its position says which time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolving {}

/// Its client was told of its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackDelivered {
    /// How many calls it took.
    pub attempts: u32,
    /// The HTTP status that the last one was answered with.
    pub status: u16,
}

/// Its client could not be told of its end, for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackFailed {
    /// How many calls there were.
    pub attempts: u32,
    /// What the last one came to.
    pub reason: String,
}

/// Whoever dealt with its end is gone: the next may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demoted {}

/// Its cell was lost, or was another machine by then, before it was started. It is pending again:
/// whoever asks later whether it may run that container is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementLost {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// Which cell.
    pub cell_id: CellId,
}

/// It is no longer shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Why.
    pub reason: DeleteReason,
}

/// Why a task is no longer shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteReason {
    /// Its client was told of its end.
    CallbackDelivered,
    /// Its client has dealt with its end.
    Resolved,
    /// It ended long ago, and nobody was to be told.
    Expired,
    /// It ended long ago, and its client could not be told: the result is dropped.
    CallbackUndelivered,
}
