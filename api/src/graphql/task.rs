//! A task as clients see it.

use async_graphql::{Enum, Object};
use domain::{
    bbs::{
        placement::Placement,
        task::{self, CallbackOutcome, Ended, State},
    },
    exit::ProcessExit,
    id::{CellId, FreshnessDomainName},
};

use super::{
    crash::{OutOfMemory, exit_status, signal},
    definition::Definition,
    scalars::{PositionText, Time},
};

/// A task's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum TaskState {
    /// It waits for a cell, or a cell was chosen and has not asked to start it yet.
    Pending,
    /// Its process may have run.
    Running,
    /// It ended by itself, failed or was cancelled.
    Completed,
    /// Somebody deals with its end, alone: its callback is being sent, or a client took it on.
    Resolving,
    /// It is deleted, and its container is not gone yet.
    Deleting,
}

impl From<&State> for TaskState {
    fn from(state: &State) -> Self {
        match state {
            State::Pending | State::Placed(_) => Self::Pending,
            State::Running(_) => Self::Running,
            State::Completed(_) => Self::Completed,
            State::Resolving { .. } => Self::Resolving,
            State::Deleting(_) => Self::Deleting,
        }
    }
}

/// Something that runs once, at most.
pub(super) struct Task(pub(super) task::Task);

impl Task {
    fn ended(&self) -> Option<&Ended> {
        self.0.ended()
    }

    fn exit(&self) -> Option<ProcessExit> {
        self.ended().and_then(|ended| ended.exit)
    }

    fn placed(&self) -> Option<&Placement> {
        self.0.placement().or_else(|| self.ended().and_then(|ended| ended.placement.as_ref()))
    }
}

/// Who is told of a task's end, and how far that got. Where to is a secret.
pub(super) struct TaskCallback(task::Callback);

/// Who is told of a task's end, and how far that got; each try is an event of the log. What is not
/// delivered is tried again after 30 seconds, until two minutes after the end. Where to is a secret.
#[Object]
impl TaskCallback {
    /// How often it was called.
    async fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The HTTP status of the answer that ended it; absent while there is none.
    async fn status(&self) -> Option<u16> {
        match &self.0.last {
            Some(CallbackOutcome::Delivered(status)) => Some(*status),
            Some(CallbackOutcome::Failed(_)) | None => None,
        }
    }

    /// Why the last try failed; absent when it did not, and before the first.
    async fn failure(&self) -> Option<&str> {
        match &self.0.last {
            Some(CallbackOutcome::Failed(reason)) => Some(reason),
            Some(CallbackOutcome::Delivered(_)) | None => None,
        }
    }
}

/// Something that runs once, at most. An ended task is shown for two minutes; its history stays
/// in the log.
#[Object]
impl Task {
    /// Its guid.
    async fn task_guid(&self) -> &str {
        self.0.task_guid.as_str()
    }

    /// Who asked.
    async fn domain(&self) -> &str {
        self.0.domain.as_str()
    }

    /// What it is doing.
    async fn state(&self) -> TaskState {
        TaskState::from(&self.0.state)
    }

    /// What runs.
    async fn definition(&self) -> Definition {
        Definition::from(self.0.definition.as_ref())
    }

    /// Any text of the client's.
    async fn annotation(&self) -> &str {
        &self.0.annotation
    }

    /// On which cell it is, or was.
    async fn cell_id(&self) -> Option<&str> {
        self.placed().map(|placement| placement.cell_id.as_str())
    }

    /// Which container.
    async fn instance_guid(&self) -> Option<&str> {
        self.placed().map(|placement| placement.instance_guid.as_str())
    }

    /// When it was asked for.
    async fn created_at(&self) -> Time {
        Time(self.0.created_at)
    }

    /// When it last changed.
    async fn updated_at(&self) -> Time {
        Time(self.0.updated_at)
    }

    /// How often no cell took it.
    async fn rejection_count(&self) -> u32 {
        self.0.rejection_count
    }

    /// Why, the last time.
    async fn rejection_reason(&self) -> Option<&str> {
        self.0.rejection_reason.as_deref()
    }

    /// Whether it failed; absent before its end.
    async fn failed(&self) -> Option<bool> {
        self.ended().map(|ended| ended.failure_reason.is_some())
    }

    /// Why it failed; absent when it succeeded, and before its end.
    async fn failure_reason(&self) -> Option<&str> {
        self.ended().and_then(|ended| ended.failure_reason.as_deref())
    }

    /// What it left to be told, at most 51,200 bytes; absent before its end.
    async fn result(&self) -> Option<&str> {
        self.ended().map(|ended| ended.result.as_str())
    }

    /// When it ended; being resolved or called back for does not change it.
    async fn first_completed_at(&self) -> Option<Time> {
        self.ended().map(|ended| Time(ended.at))
    }

    /// Who is told of its end; absent when nobody is.
    async fn callback(&self) -> Option<TaskCallback> {
        self.0.callback.clone().map(TaskCallback)
    }

    /// The status that its main process left.
    async fn exit_status(&self) -> Option<i32> {
        self.exit().and_then(|exit| exit_status(&exit))
    }

    /// The signal that ended its main process.
    async fn signal(&self) -> Option<i32> {
        self.exit().and_then(|exit| signal(&exit))
    }

    /// The kernel's word, when memory ran out.
    async fn out_of_memory(&self) -> Option<OutOfMemory> {
        self.exit().and_then(|exit| exit.out_of_memory).map(OutOfMemory::from)
    }

    /// Its last event.
    async fn position(&self) -> PositionText {
        PositionText(self.0.last_position)
    }
}

/// Which tasks are asked for. A field that is `None` asks nothing.
pub(super) struct Wanted {
    /// Only of this domain.
    pub(super) domain: Option<FreshnessDomainName>,
    /// Only on this cell.
    pub(super) cell_id: Option<CellId>,
    /// Only in this state.
    pub(super) state: Option<TaskState>,
}

impl Wanted {
    /// Whether a task is asked for.
    pub(super) fn lets_through(&self, task: &task::Task) -> bool {
        let cell_id = task.placement().map(|placement| &placement.cell_id);
        self.domain.as_ref().is_none_or(|domain| *domain == task.domain)
            && (self.cell_id.is_none() || self.cell_id.as_ref() == cell_id)
            && self.state.is_none_or(|state| state == TaskState::from(&task.state))
    }
}
