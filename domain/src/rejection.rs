//! Why a command is refused, in its sender's terms. Nothing was changed.

use std::fmt;

use crate::{
    id::{CellId, CommandId, InstanceGuid, ProcessGuid, TaskGuid},
    log::{LeaseEpoch, Owner, StreamId},
};

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such thing now.
    #[error("{what} {id} does not exist")]
    NotFound {
        /// Its kind.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// There is one already.
    #[error("{what} {id} exists already")]
    AlreadyExists {
        /// Its kind.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// It is in a state from which this does not follow.
    #[error("{what} {id} is {from} and cannot be {wanted}")]
    InvalidTransition {
        /// Its kind.
        what: &'static str,
        /// Its id.
        id: String,
        /// Its state.
        from: &'static str,
        /// What was asked.
        wanted: SlotTransition,
    },
    /// A task is in a state from which this does not follow.
    #[error("task {task_guid} is {from} and cannot be {wanted}")]
    TaskTransition {
        /// Which.
        task_guid: TaskGuid,
        /// Its state, as Diego names it.
        from: &'static str,
        /// The state that would have followed, as Diego names it.
        to: &'static str,
        /// What was asked.
        wanted: &'static str,
    },
    /// A task that runs, or has ended, cannot wait for a cell again: it would run twice.
    #[error("task {task_guid} is {from} and cannot be rejected: it runs at most once")]
    TaskNotRejectable {
        /// Which.
        task_guid: TaskGuid,
        /// Its state, as Diego names it.
        from: &'static str,
    },
    /// A cell tells of the end of a task that runs on another one.
    #[error("task {task_guid} runs on cell {cell_id}, not on {caller}: stop it there")]
    RunningOnDifferentCell {
        /// Which.
        task_guid: TaskGuid,
        /// Where it runs.
        cell_id: CellId,
        /// Who says that it ended.
        caller: CellId,
    },
    /// A value makes no sense.
    #[error("{field} {problem}")]
    InvalidRequest {
        /// Which.
        field: &'static str,
        /// What Diego calls it.
        diego_field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A cell speaks of an instance that is not, or no longer, the placed one: it stops it.
    #[error("instance {instance_guid} is not the placed one; stop it")]
    PlacementMoved {
        /// The instance.
        instance_guid: InstanceGuid,
    },
    /// Another live machine has the id.
    #[error("cell id {cell_id} is in use by another live machine; choose another id")]
    CellIdInUse {
        /// The id.
        cell_id: CellId,
    },
    /// A cell speaks with the epoch of an earlier registration.
    #[error("cell {cell_id} was registered anew since; register again")]
    CellEpochPassed {
        /// The cell.
        cell_id: CellId,
    },
    /// The cell is not heard.
    #[error("cell {cell_id} is lost")]
    CellLost {
        /// The cell.
        cell_id: CellId,
    },
    /// The cell is being evacuated.
    #[error("cell {cell_id} is being evacuated and takes nothing more")]
    CellEvacuating {
        /// The cell.
        cell_id: CellId,
    },
    /// The cell cannot make containers.
    #[error("cell {cell_id} is not healthy and takes nothing more: {reason}")]
    CellUnhealthy {
        /// The cell.
        cell_id: CellId,
        /// What it found.
        reason: String,
    },
    /// As many instances of a process are away from RUNNING as an evacuation may keep away.
    #[error(
        "other instances of {process_guid} are not running; the evacuation waits for them, and \
         goes on without at its end"
    )]
    EvacuationBudget {
        /// Whose.
        process_guid: ProcessGuid,
    },
    /// The cell has not enough left.
    #[error("cell {cell_id} has not enough {lacking}")]
    NoRoom {
        /// The cell.
        cell_id: CellId,
        /// What is lacking.
        lacking: String,
    },
    /// A loop decided on a view in which this stream had not moved yet: it looks again.
    #[error("{stream} has moved since it was seen")]
    Moved {
        /// The stream.
        stream: StreamId,
    },
    /// A loop whose lease has passed to another node.
    #[error("lease epoch {} has passed", .lease_epoch.0)]
    LeasePassed {
        /// The epoch it acted under.
        lease_epoch: LeaseEpoch,
    },
    /// The command id was used by another command.
    #[error("command id {command_id} was used by another command; draw a new one")]
    CommandIdReused {
        /// The id.
        command_id: CommandId,
    },
    /// Its secrets were sealed while their data key was forgotten.
    #[error("the secrets of {owner} were forgotten while these were sealed; send them again")]
    SecretsForgotten {
        /// Whose.
        owner: Owner,
    },
    /// What it would write does not fit into one event.
    #[error(
        "the {what} takes {bytes} bytes in the log, and {bytes_max} are the most; make it \
         smaller: keep large data outside and fetch it, and mind that a secret takes twice its size"
    )]
    TooLarge {
        /// Its kind.
        what: &'static str,
        /// How much it takes.
        bytes: usize,
        /// How much it may take.
        bytes_max: usize,
    },
}

/// What was asked of an actual LRP in the wrong state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotTransition {
    /// To be put on a cell.
    Placed,
    /// To be told that no cell takes it.
    Failed,
    /// To be refused by its cell.
    Refused,
    /// To be freed for a new instance.
    Unclaimed,
    /// To be moved off a cell under evacuation.
    Evacuated,
    /// To end what stands beside its instance.
    Settled,
}

impl fmt::Display for SlotTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Placed => "placed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unclaimed => "unclaimed",
            Self::Evacuated => "evacuated",
            Self::Settled => "settled",
        })
    }
}

impl Rejection {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NOT_FOUND",
            Self::AlreadyExists { .. } => "ALREADY_EXISTS",
            Self::InvalidTransition { .. } => "INVALID_TRANSITION",
            Self::TaskTransition { .. } | Self::TaskNotRejectable { .. } => "INVALID_TRANSITION",
            Self::RunningOnDifferentCell { .. } => "RUNNING_ON_DIFFERENT_CELL",
            Self::InvalidRequest { .. } => "INVALID_REQUEST",
            Self::PlacementMoved { .. } => "PLACEMENT_MOVED",
            Self::CellIdInUse { .. } => "CELL_ID_IN_USE",
            Self::CellEpochPassed { .. } => "CELL_EPOCH_PASSED",
            Self::CellLost { .. } => "CELL_LOST",
            Self::CellEvacuating { .. } => "CELL_EVACUATING",
            Self::CellUnhealthy { .. } => "CELL_UNHEALTHY",
            Self::EvacuationBudget { .. } => "EVACUATION_BUDGET",
            Self::NoRoom { .. } => "NO_ROOM",
            Self::Moved { .. } => "MOVED",
            Self::LeasePassed { .. } => "LEASE_PASSED",
            Self::CommandIdReused { .. } => "COMMAND_ID_REUSED",
            Self::SecretsForgotten { .. } => "SECRETS_FORGOTTEN",
            Self::TooLarge { .. } => "TOO_LARGE",
        }
    }
}
