//! A task as its events tell it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Calls, Event};
use crate::{
    bbs::{
        definition::Definition,
        placement::{Placement, RETRY_AFTER, Resources},
    },
    exit::ProcessExit,
    id::{FreshnessDomainName, TaskGuid},
    log::{PlacementEpoch, Position, Stamp},
    sealed::{Digest, Sealed},
    units::{Milliseconds, Timestamp},
};

/// Rejections beyond this many fail the task (Diego's `max_task_retries`).
pub const RETRIES_MAX: u32 = 3;
/// A task that was not started for this long fails (Diego's `expire_pending_task_duration`).
pub const EXPIRE_PENDING_AFTER: Milliseconds = Milliseconds::from_seconds(1800);
/// An ended task is shown for this long (Diego's `expire_completed_task_duration`); its history
/// stays in the log.
pub const EXPIRE_COMPLETED_AFTER: Milliseconds = Milliseconds::from_seconds(120);
/// Whoever resolves a task has this long, then the next may (Diego's `kick_task_duration`).
pub const KICK_AFTER: Milliseconds = Milliseconds::from_seconds(30);
/// The longest result that a task may leave, in bytes (Diego's `MAX_RESULT_SIZE`).
pub const RESULT_BYTES_MAX: usize = 51_200;

const TASK_WAS_CANCELLED: &str = "task was cancelled";

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
    /// Who is told of its end, if anybody.
    pub callback: Option<Callback>,
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
    /// It ended by itself, failed or was cancelled.
    Completed(Ended),
    /// Somebody deals with its end, alone.
    Resolving {
        /// How it ended.
        ended: Ended,
        /// By which event.
        by: Position,
        /// Since when.
        since: Timestamp,
    },
    /// It is deleted, and its container is not gone yet. Ours: Diego's clients see nothing.
    Deleting(Placement),
}

/// Who is told of a task's end, and how far that got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// Where to.
    pub url: Sealed,
    /// How many calls there were in all.
    pub attempts: u32,
    /// What the last one came to; absent before the first.
    pub last: Option<CallbackOutcome>,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackOutcome {
    /// It was answered with this HTTP status.
    Delivered(u16),
    /// It was not answered, for this reason, or not with an answer that counts.
    Failed(String),
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
    /// What it left to be told; empty when nothing.
    pub result: String,
    /// When (Diego's `first_completed_at`).
    pub at: Timestamp,
    /// Where it ran; absent when it never did.
    pub placement: Option<Placement>,
    /// Whether its cell still holds its container, which is being stopped.
    pub is_held: bool,
}

impl Callback {
    fn new(url: Sealed) -> Self {
        Self { url, attempts: 0, last: None }
    }
}

impl Ended {
    /// When it is no longer shown, if nobody has dealt with it.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.at.plus(EXPIRE_COMPLETED_AFTER)
    }
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
            State::Placed(placement) | State::Running(placement) | State::Deleting(placement) => {
                Some(placement)
            }
            State::Completed(ended) | State::Resolving { ended, .. } => {
                ended.placement.as_ref().filter(|_| ended.is_held)
            }
            State::Pending => None,
        }
    }

    /// How it ended, when it did.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Completed(ended) | State::Resolving { ended, .. } => Some(ended),
            State::Pending | State::Placed(_) | State::Running(_) | State::Deleting(_) => None,
        }
    }

    /// Whether its client is to be told of its end, and nobody is about it.
    #[must_use]
    pub fn wants_callback(&self) -> bool {
        self.callback.is_some() && matches!(self.state, State::Completed(_))
    }

    /// Whether it waits for a cell and is not in the pause after a rejection.
    #[must_use]
    pub fn may_be_auctioned(&self, now: Timestamp) -> bool {
        let is_pausing = self.pauses_until().is_some_and(|instant| now < instant);
        self.state == State::Pending && !is_pausing
    }

    /// Until when it is not auctioned again after a rejection.
    #[must_use]
    pub fn pauses_until(&self) -> Option<Timestamp> {
        (self.rejection_count > 0).then(|| self.updated_at.plus(RETRY_AFTER))
    }

    /// When it fails because it was not started, or is no longer shown. `None`: never by time alone.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Pending | State::Placed(_) => Some(self.created_at.plus(EXPIRE_PENDING_AFTER)),
            State::Completed(ended) => Some(ended.expires_at()),
            State::Running(_) | State::Resolving { .. } | State::Deleting(_) => None,
        }
    }

    /// The state's name, as Diego writes it.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Pending | State::Placed(_) => "Pending",
            State::Running(_) => "Running",
            State::Completed(_) => "Completed",
            State::Resolving { .. } => "Resolving",
            State::Deleting(_) => "Deleting",
        }
    }

    fn end(&self, failure_reason: Option<String>, at: Timestamp) -> Ended {
        let placement = self.placement().cloned();
        let (exit, evidence, result) = (None, None, String::new());
        let is_held = placement.is_some();
        Ended { failure_reason, exit, evidence, result, at, placement, is_held }
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
            callback: desired.completion_callback_url.clone().map(Callback::new),
            last_position: stamp.position,
        }));
        return;
    }
    let Some(task) = state.as_mut().map(Arc::make_mut) else { return };
    if is_last(task, event) {
        *state = None;
        return;
    }
    task.last_position = stamp.position;
    task.updated_at = stamp.recorded_at;
    note_rejection(task, event);
    note_callback(task, event);
    if let Some(next) = next_state(task, event, stamp) {
        task.state = next;
    }
}

/// Whether an event is the last one of a task: a deleted one stays while a cell has its container.
fn is_last(task: &Task, event: &Event) -> bool {
    match event {
        Event::Deleted(_) => task.placement().is_none(),
        Event::Released(_) => matches!(task.state, State::Deleting(_)),
        Event::Desired(_)
        | Event::Placed(_)
        | Event::PlacementFailed(_)
        | Event::Refused(_)
        | Event::Started(_)
        | Event::Completed(_)
        | Event::Cancelled(_)
        | Event::Failed(_)
        | Event::Resolving(_)
        | Event::CallbackDelivered(_)
        | Event::CallbackFailed(_)
        | Event::Demoted(_)
        | Event::PlacementLost(_) => false,
    }
}

fn note_callback(task: &mut Task, event: &Event) {
    let calls = match event {
        Event::CallbackDelivered(delivered) => Calls {
            attempts: delivered.attempts,
            outcome: CallbackOutcome::Delivered(delivered.status),
        },
        Event::CallbackFailed(failed) => Calls {
            attempts: failed.attempts,
            outcome: CallbackOutcome::Failed(failed.reason.clone()),
        },
        Event::Desired(_)
        | Event::Placed(_)
        | Event::PlacementFailed(_)
        | Event::Refused(_)
        | Event::Started(_)
        | Event::Completed(_)
        | Event::Cancelled(_)
        | Event::Failed(_)
        | Event::Released(_)
        | Event::Resolving(_)
        | Event::Demoted(_)
        | Event::PlacementLost(_)
        | Event::Deleted(_) => return,
    };
    if let Some(callback) = &mut task.callback {
        callback.attempts = callback.attempts.saturating_add(calls.attempts);
        callback.last = Some(calls.outcome);
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
        | Event::Failed(_)
        | Event::Released(_)
        | Event::Resolving(_)
        | Event::CallbackDelivered(_)
        | Event::CallbackFailed(_)
        | Event::Demoted(_)
        | Event::PlacementLost(_)
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
        Event::PlacementFailed(_) | Event::Refused(_) | Event::PlacementLost(_) => {
            Some(State::Pending)
        }
        Event::Started(_) => task.placement().cloned().map(State::Running),
        Event::Completed(completed) => Some(State::Completed(Ended {
            exit: completed.exit,
            evidence: completed.evidence,
            result: completed.result.clone(),
            is_held: false,
            ..task.end(completed.failure_reason.clone(), stamp.recorded_at)
        })),
        Event::Cancelled(_) => {
            let reason = Some(TASK_WAS_CANCELLED.to_owned());
            Some(State::Completed(task.end(reason, stamp.recorded_at)))
        }
        Event::Failed(failed) => {
            Some(State::Completed(task.end(Some(failed.reason.clone()), stamp.recorded_at)))
        }
        Event::Released(_) => released(&task.state),
        Event::Resolving(_) => {
            let ended = task.ended()?.clone();
            Some(State::Resolving { ended, by: stamp.position, since: stamp.recorded_at })
        }
        Event::Demoted(_) => task.ended().cloned().map(State::Completed),
        Event::Deleted(_) => task.placement().cloned().map(State::Deleting),
        Event::Desired(_) | Event::CallbackDelivered(_) | Event::CallbackFailed(_) => None,
    }
}

/// The state of an ended task once its container is gone.
fn released(state: &State) -> Option<State> {
    let gone = |ended: &Ended| Ended { is_held: false, ..ended.clone() };
    match state {
        State::Completed(ended) => Some(State::Completed(gone(ended))),
        State::Resolving { ended, by, since } => {
            Some(State::Resolving { ended: gone(ended), by: *by, since: *since })
        }
        State::Pending | State::Placed(_) | State::Running(_) | State::Deleting(_) => None,
    }
}
