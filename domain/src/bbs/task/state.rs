//! A task as its events tell it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::{
    bbs::{
        definition::Definition,
        placement::{Placement, RETRY_AFTER, Resources},
    },
    exit::ProcessExit,
    id::{FreshnessDomainName, TaskGuid},
    log::{PlacementEpoch, Position, Stamp},
    sealed::Digest,
    units::{Milliseconds, Timestamp},
};

/// Rejections beyond this many fail the task (Diego's `max_task_retries`).
pub const RETRIES_MAX: u32 = 3;
/// A pending task that found no cell for this long fails (Diego's `expire_pending_task_duration`).
pub const EXPIRE_PENDING_AFTER: Milliseconds = Milliseconds::from_seconds(1800);
/// An ended task is shown for this long (Diego's `expire_completed_task_duration`); its history
/// stays in the log.
pub const EXPIRE_COMPLETED_AFTER: Milliseconds = Milliseconds::from_seconds(120);

/// A task that is pending, placed, running, or ended lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its guid.
    pub task_guid: TaskGuid,
    /// Who asked.
    pub domain: FreshnessDomainName,
    /// What runs.
    pub definition: Arc<Definition>,
    /// The digest of `definition`.
    pub definition_digest: Digest,
    /// Any text of the client's.
    pub annotation: String,
    /// What it is doing.
    pub state: State,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How often no cell took it.
    pub rejection_count: u32,
    /// Why, the last time.
    pub rejection_reason: Option<String>,
    /// Its last event.
    pub last_position: Position,
}

/// What a task is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits for a cell.
    Pending,
    /// A cell was chosen, and has not asked to start it yet. Diego's clients see Pending.
    Placed(Placement),
    /// Its process may have run.
    Running(Placement),
    /// It ended by itself or failed.
    Completed(Ended),
    /// A user stopped it.
    Cancelled {
        /// Where its container still is, until the cell says that it is gone.
        held: Option<Placement>,
    },
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why it failed; absent when it succeeded.
    pub failure_reason: Option<String>,
    /// Its main process's end; absent when none ran.
    pub exit: Option<ProcessExit>,
    /// The sealed record of what the cell saw, by digest.
    pub evidence: Option<Digest>,
    /// Where it ran; absent when it never did.
    pub placement: Option<Placement>,
}

impl Task {
    /// What it reserves.
    #[must_use]
    pub fn resources(&self) -> Resources {
        let Definition { memory_mb, disk_mb, .. } = *self.definition;
        Resources { memory_mb, disk_mb, containers: 1 }
    }

    /// Where its container is, while a cell holds one.
    #[must_use]
    pub fn placement(&self) -> Option<&Placement> {
        match &self.state {
            State::Placed(placement) | State::Running(placement) => Some(placement),
            State::Cancelled { held } => held.as_ref(),
            State::Pending | State::Completed(_) => None,
        }
    }

    /// Whether it waits for a cell and is not in the pause after a rejection.
    #[must_use]
    pub fn may_be_auctioned(&self, now: Timestamp) -> bool {
        let is_pausing = self.rejection_count > 0 && now < self.updated_at.plus(RETRY_AFTER);
        self.state == State::Pending && !is_pausing
    }

    /// When it fails for want of a cell, or is no longer shown. `None`: never by time alone.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Pending => Some(self.created_at.plus(EXPIRE_PENDING_AFTER)),
            State::Completed(_) | State::Cancelled { held: None } => {
                Some(self.updated_at.plus(EXPIRE_COMPLETED_AFTER))
            }
            State::Placed(_) | State::Running(_) | State::Cancelled { held: Some(_) } => None,
        }
    }

    /// The state's name.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Pending | State::Placed(_) => "PENDING",
            State::Running(_) => "RUNNING",
            State::Completed(_) => "COMPLETED",
            State::Cancelled { .. } => "CANCELLED",
        }
    }
}

/// Folds one event. Total: history is never refused.
pub(crate) fn evolve(
    state: &mut Option<Arc<Task>>,
    task_guid: &TaskGuid,
    event: &Event,
    stamp: Stamp,
) {
    if let Event::Desired(desired) = event {
        *state = Some(Arc::new(Task {
            task_guid: task_guid.clone(),
            domain: desired.domain.clone(),
            definition: Arc::clone(&desired.definition),
            definition_digest: desired.definition.digest(),
            annotation: desired.annotation.clone(),
            state: State::Pending,
            created_at: stamp.recorded_at,
            updated_at: stamp.recorded_at,
            rejection_count: 0,
            rejection_reason: None,
            last_position: stamp.position,
        }));
        return;
    }
    if matches!(event, Event::Deleted(_)) {
        *state = None;
        return;
    }
    let Some(task) = state.as_mut().map(Arc::make_mut) else { return };
    task.last_position = stamp.position;
    task.updated_at = stamp.recorded_at;
    note_rejection(task, event);
    if let Some(next) = next_state(task, event, stamp) {
        task.state = next;
    }
}

fn note_rejection(task: &mut Task, event: &Event) {
    let (reason, count) = match event {
        Event::PlacementFailed(failed) => (&failed.error, failed.rejection_count),
        Event::Refused(refused) => (&refused.reason, refused.rejection_count),
        Event::Desired(_)
        | Event::Placed(_)
        | Event::Started(_)
        | Event::Completed(_)
        | Event::Cancelled(_)
        | Event::Released(_)
        | Event::Deleted(_) => return,
    };
    task.rejection_reason = Some(reason.clone());
    task.rejection_count = count;
}

fn next_state(task: &Task, event: &Event, stamp: Stamp) -> Option<State> {
    match event {
        Event::Placed(placed) => Some(State::Placed(Placement {
            instance_guid: placed.instance_guid.clone(),
            cell_id: placed.cell_id.clone(),
            cell_epoch: placed.cell_epoch,
            placement_epoch: PlacementEpoch(stamp.position),
            definition: placed.definition,
            resources: placed.resources,
        })),
        Event::PlacementFailed(_) | Event::Refused(_) => Some(State::Pending),
        Event::Started(_) => task.placement().cloned().map(State::Running),
        Event::Completed(completed) => Some(State::Completed(Ended {
            failure_reason: completed.failure_reason.clone(),
            exit: completed.exit,
            evidence: completed.evidence,
            placement: task.placement().cloned(),
        })),
        Event::Cancelled(_) => Some(State::Cancelled { held: task.placement().cloned() }),
        Event::Released(_) => Some(State::Cancelled { held: None }),
        Event::Desired(_) | Event::Deleted(_) => None,
    }
}
