//! What may be asked of a task: by a user (run, cancel, fail, resolve, delete), by loops (place,
//! fail to place, call back, demote, expire) and by the cell that holds it (refuse, start, complete,
//! release).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::CallbackOutcome;
use crate::{
    auction::Candidates,
    bbs::definition::Definition,
    exit::ProcessExit,
    id::{CellId, FreshnessDomainName, InstanceGuid, TaskGuid},
    log::{CellEpoch, PlacementEpoch, Position},
    sealed::{Digest, Sealed},
};

/// What may be asked of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run it, once. A user's; values come checked from [`super::Spec`].
    Desire {
        /// Under which guid.
        task_guid: TaskGuid,
        /// Who asks.
        domain: FreshnessDomainName,
        /// What runs.
        definition: Arc<Definition>,
        /// Any text of the client's.
        annotation: String,
        /// Who is told of its end, if anybody. Sealed: it may hold credentials.
        completion_callback_url: Option<Sealed>,
    },
    /// Stop it, or never start it. A user's.
    Cancel {
        /// Which.
        task_guid: TaskGuid,
    },
    /// Take it for failed, for a reason of the client's (Diego's deprecated FailTask). A user's.
    Fail {
        /// Which.
        task_guid: TaskGuid,
        /// Why.
        reason: String,
    },
    /// Its end is being dealt with, by this sender alone: only the first one is accepted. A user's
    /// who asks for results, or the callback loop's before it calls.
    Resolve {
        /// Which.
        task_guid: TaskGuid,
    },
    /// What became of the calls that followed one resolving. The callback loop's.
    NoteCallback {
        /// Which.
        task_guid: TaskGuid,
        /// The event by which it was resolving.
        resolving: Position,
        /// How often it was called, and what came of it.
        calls: Calls,
    },
    /// Its end was dealt with: forget it. A user's, after resolving it.
    Delete {
        /// Which.
        task_guid: TaskGuid,
    },
    /// It has been resolving for too long: whoever did is gone. The converger's.
    Demote {
        /// Which.
        task_guid: TaskGuid,
    },
    /// Put it on a cell. The auctioneer's.
    Place {
        /// Which.
        task_guid: TaskGuid,
        /// The container's guid.
        instance_guid: InstanceGuid,
        /// Where.
        cell_id: CellId,
        /// Which registration of the cell was looked at.
        cell_epoch: CellEpoch,
        /// Among which cells it was chosen, and why; none where that was not judged.
        candidates: Option<Box<Candidates>>,
    },
    /// Note that no cell can take it. The auctioneer's.
    FailPlacement {
        /// Which.
        task_guid: TaskGuid,
        /// Diego's text.
        error: String,
        /// Why each cell does not take it; none where no cell was looked at.
        candidates: Option<Box<Candidates>>,
    },
    /// The cell will not take it. A cell's report.
    Refuse {
        /// Which.
        task: TaskReference,
        /// Why not.
        reason: String,
    },
    /// May its process be run now? A cell's report; run only after it was accepted.
    Start {
        /// Which.
        task: TaskReference,
    },
    /// It ended. A cell's report.
    Complete {
        /// Which.
        task: TaskReference,
        /// How.
        result: TaskResult,
    },
    /// The container of a cancelled task is gone. A cell's report.
    Release {
        /// Which.
        task: TaskReference,
    },
    /// Its cell is lost, or is another machine by now. The converger's.
    LoseCell {
        /// Which.
        task_guid: TaskGuid,
    },
    /// It was pending too long, or ended long enough ago to be forgotten. The converger's.
    Expire {
        /// Which.
        task_guid: TaskGuid,
    },
}

/// One placement of a task as its cell names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReference {
    /// The task.
    pub task_guid: TaskGuid,
    /// The container's guid.
    pub instance_guid: InstanceGuid,
    /// Which placement.
    pub placement_epoch: PlacementEpoch,
    /// The cell that says so.
    pub cell_id: CellId,
    /// Which registration of it.
    pub cell_epoch: CellEpoch,
}

/// A run of calls of a task's callback URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// How many, from 1.
    pub attempts: u32,
    /// What the last one came to.
    pub outcome: CallbackOutcome,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Why it failed; absent when it succeeded.
    pub failure_reason: Option<String>,
    /// Its main process's end; absent when none ran.
    pub exit: Option<ProcessExit>,
    /// The sealed record of what the cell saw, by digest.
    pub evidence: Option<Digest>,
    /// What it left to be told, at most [`super::RESULT_BYTES_MAX`]; empty when nothing.
    pub result: String,
}

impl Command {
    /// Which task it concerns.
    #[must_use]
    pub fn task_guid(&self) -> &TaskGuid {
        match self {
            Self::Desire { task_guid, .. }
            | Self::Cancel { task_guid }
            | Self::Fail { task_guid, .. }
            | Self::Resolve { task_guid }
            | Self::NoteCallback { task_guid, .. }
            | Self::Delete { task_guid }
            | Self::Demote { task_guid }
            | Self::Place { task_guid, .. }
            | Self::FailPlacement { task_guid, .. }
            | Self::LoseCell { task_guid }
            | Self::Expire { task_guid } => task_guid,
            Self::Refuse { task, .. }
            | Self::Start { task }
            | Self::Complete { task, .. }
            | Self::Release { task } => &task.task_guid,
        }
    }
}
