//! A task as clients see it.

use async_graphql::{Enum, Object};
use domain::{
    bbs::{
        placement::Placement,
        task::{self, Ended, State},
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
    /// It ended by itself or failed.
    Completed,
    /// A user stopped it.
    Cancelled,
}

impl From<&State> for TaskState {
    fn from(state: &State) -> Self {
        match state {
            State::Pending | State::Placed(_) => Self::Pending,
            State::Running(_) => Self::Running,
            State::Completed(_) => Self::Completed,
            State::Cancelled { .. } => Self::Cancelled,
        }
    }
}

/// Something that runs once, at most.
pub(super) struct Task(pub(super) task::Task);

impl Task {
    fn ended(&self) -> Option<&Ended> {
        match &self.0.state {
            State::Completed(ended) => Some(ended),
            State::Pending | State::Placed(_) | State::Running(_) | State::Cancelled { .. } => None,
        }
    }

    fn exit(&self) -> Option<ProcessExit> {
        self.ended().and_then(|ended| ended.exit)
    }

    fn placed(&self) -> Option<&Placement> {
        self.0.placement().or_else(|| self.ended().and_then(|ended| ended.placement.as_ref()))
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
