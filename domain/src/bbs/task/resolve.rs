//! What becomes of an ended task: resolved by one sender at a time, called back for, deleted.
//!
//! Resolving is the guard of callbacks: who is refused does not call. A resolver that does not come
//! back is passed over after [`KICK_AFTER`], so that a callback is sent at least once, or its result
//! is dropped for lack of time, and the log says so.

use super::{
    CallbackDelivered, CallbackFailed, CallbackOutcome, Calls, DeleteReason, Deleted, Demoted,
    Event, KICK_AFTER, Resolving, State, Task,
    decide::{one, wrong_state},
};
use crate::{
    decide::Decision,
    exit::cut_reason,
    log::{Position, StreamId},
    rejection::Rejection,
    units::Timestamp,
};

pub(super) fn resolve(task: &Task) -> Result<Decision, Rejection> {
    match task.state {
        State::Completed(_) => Ok(one(&task.task_guid, Resolving {})),
        State::Pending
        | State::Placed(_)
        | State::Running(_)
        | State::Resolving { .. }
        | State::Deleting(_) => Err(wrong_state(task, "Resolving", "resolved")),
    }
}

pub(super) fn note_callback(
    task: &Task,
    resolving: Position,
    calls: &Calls,
) -> Result<Decision, Rejection> {
    match &task.state {
        State::Resolving { by, .. } if *by == resolving => {}
        State::Pending
        | State::Placed(_)
        | State::Running(_)
        | State::Completed(_)
        | State::Resolving { .. }
        | State::Deleting(_) => return Err(wrong_state(task, "Resolving", "called back for")),
    }
    let attempts = calls.attempts;
    match &calls.outcome {
        CallbackOutcome::Delivered(status) => {
            let delivered = CallbackDelivered { attempts, status: *status };
            Ok(then_delete(task, delivered, DeleteReason::CallbackDelivered))
        }
        CallbackOutcome::Failed(reason) => {
            let reason = cut_reason(reason);
            Ok(one(&task.task_guid, CallbackFailed { attempts, reason }))
        }
    }
}

pub(super) fn delete(task: &Task) -> Result<Decision, Rejection> {
    match task.state {
        State::Resolving { .. } => {
            Ok(one(&task.task_guid, Deleted { reason: DeleteReason::Resolved }))
        }
        State::Pending
        | State::Placed(_)
        | State::Running(_)
        | State::Completed(_)
        | State::Deleting(_) => Err(wrong_state(task, "Resolving", "deleted")),
    }
}

pub(super) fn demote(task: &Task, now: Timestamp) -> Result<Decision, Rejection> {
    match &task.state {
        State::Resolving { ended, since, .. } if now >= since.plus(KICK_AFTER) => {
            if now < ended.expires_at() {
                return Ok(one(&task.task_guid, Demoted {}));
            }
            Ok(then_delete(task, Demoted {}, expiry_of(task)))
        }
        State::Pending
        | State::Placed(_)
        | State::Running(_)
        | State::Completed(_)
        | State::Resolving { .. }
        | State::Deleting(_) => Err(wrong_state(task, "Completed", "demoted")),
    }
}

/// Forgets an ended task that nobody has dealt with in time.
pub(super) fn drop_expired(task: &Task) -> Decision {
    one(&task.task_guid, Deleted { reason: expiry_of(task) })
}

fn expiry_of(task: &Task) -> DeleteReason {
    match task.callback {
        Some(_) => DeleteReason::CallbackUndelivered,
        None => DeleteReason::Expired,
    }
}

fn then_delete(task: &Task, first: impl Into<Event>, reason: DeleteReason) -> Decision {
    let mut decision = one(&task.task_guid, first);
    let stream = StreamId::Task(task.task_guid.clone());
    decision.push(stream, Event::from(Deleted { reason }));
    decision
}
