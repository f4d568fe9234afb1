//! The rules of a task up to its end. `Started` is the guard of *at most once*: it follows only
//! from a placed task, and nothing leads from it back to pending. Before it nothing was run, so a
//! task whose cell is lost then is placed again; the container that was made for it is never
//! started, also when its cell comes back and asks.

use super::{
    Cancelled, Command, Completed, Desired, Event, Failed, Placed, PlacementFailed, PlacementLost,
    RESULT_BYTES_MAX, RETRIES_MAX, Refused, Released, Started, State, Task, TaskReference,
    TaskResult, resolve,
};
use crate::{
    aggregates::Aggregates,
    auction::Candidates,
    bbs::{
        cell,
        placement::{Destination, Placement},
    },
    decide::Decision,
    exit::cut_reason,
    id::TaskGuid,
    log::{Owner, StreamId},
    rejection::Rejection,
    secrets,
    units::Timestamp,
};

const CELL_DISAPPEARED: &str = "cell disappeared before completion";
const NOT_STARTED_IN_TIME: &str = "not started within time limit";
const NO_RESULT: &str = "failed to fetch result";
const REFUSED_WITHOUT_REASON: &str = "the cell refused it and gave no reason";

/// Judges a command against the task and its cell.
pub(crate) fn decide(
    aggregates: &Aggregates,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    match command {
        Command::Desire { task_guid, domain, definition, annotation, completion_callback_url } => {
            if aggregates.task(task_guid).is_some() {
                let id = task_guid.to_string();
                return Err(Rejection::AlreadyExists { what: "task", id });
            }
            let owner = Owner::Task(task_guid.clone());
            secrets::check_definition(aggregates, &owner, definition)?;
            secrets::check(aggregates, &owner, completion_callback_url.iter())?;
            let desired = Desired {
                domain: domain.clone(),
                definition: definition.clone(),
                annotation: annotation.clone(),
                completion_callback_url: completion_callback_url.clone(),
            };
            Ok(one(task_guid, desired))
        }
        Command::Cancel { task_guid } => cancel(existing(aggregates, task_guid)?),
        Command::Fail { task_guid, reason } => fail(existing(aggregates, task_guid)?, reason),
        Command::Resolve { task_guid } => resolve::resolve(existing(aggregates, task_guid)?),
        Command::NoteCallback { task_guid, resolving, calls } => {
            resolve::note_callback(existing(aggregates, task_guid)?, *resolving, calls)
        }
        Command::Delete { task_guid } => resolve::delete(existing(aggregates, task_guid)?),
        Command::Demote { task_guid } => resolve::demote(existing(aggregates, task_guid)?, now),
        Command::Place { task_guid, instance_guid, cell_id, cell_epoch, candidates } => {
            let cell_epoch = *cell_epoch;
            let to = Destination { instance_guid, cell_id, cell_epoch, candidates };
            place(aggregates, task_guid, to)
        }
        Command::FailPlacement { task_guid, error, candidates } => {
            fail_placement(existing(aggregates, task_guid)?, error, candidates)
        }
        Command::Refuse { task, reason } => refuse(aggregates, task, reason),
        Command::Start { task } => start(aggregates, task),
        Command::Complete { task, result } => complete(aggregates, task, result),
        Command::Release { task } => release(aggregates, task),
        Command::LoseCell { task_guid } => lose_cell(aggregates, task_guid),
        Command::Expire { task_guid } => expire(existing(aggregates, task_guid)?, now),
    }
}

fn cancel(task: &Task) -> Result<Decision, Rejection> {
    match task.state {
        State::Pending | State::Placed(_) | State::Running(_) => {
            Ok(one(&task.task_guid, Cancelled {}))
        }
        State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => {
            Err(wrong_state(task, "Completed", "cancelled"))
        }
    }
}

fn fail(task: &Task, reason: &str) -> Result<Decision, Rejection> {
    if reason.is_empty() {
        let (field, problem) = ("reason", "must not be empty: say why the task failed");
        return Err(Rejection::InvalidRequest { field, diego_field: "failure_reason", problem });
    }
    match task.state {
        State::Pending | State::Placed(_) | State::Running(_) => {
            Ok(one(&task.task_guid, Failed { reason: cut_reason(reason) }))
        }
        State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => {
            Err(wrong_state(task, "Completed", "failed"))
        }
    }
}

fn place(
    aggregates: &Aggregates,
    task_guid: &TaskGuid,
    to: Destination<'_>,
) -> Result<Decision, Rejection> {
    let Destination { instance_guid, cell_id, cell_epoch, candidates } = to;
    let task = existing(aggregates, task_guid)?;
    let repeated = task.placement().is_some_and(|p| p.instance_guid == *instance_guid);
    if repeated {
        return Ok(Decision::default());
    }
    if task.state != State::Pending {
        return Err(wrong_state(task, "Pending", "placed"));
    }
    let resources = task.resources();
    cell::check_room(aggregates, cell_id, cell_epoch, resources)?;
    let placed = Placed {
        instance_guid: instance_guid.clone(),
        cell_id: cell_id.clone(),
        cell_epoch,
        definition: task.definition_digest,
        resources,
        candidates: candidates.clone(),
    };
    Ok(one(task_guid, placed))
}

fn fail_placement(
    task: &Task,
    error: &str,
    candidates: &Option<Box<Candidates>>,
) -> Result<Decision, Rejection> {
    if task.state != State::Pending {
        return Err(not_rejectable(task));
    }
    let rejection_count = task.rejection_count.saturating_add(1);
    let error = cut_reason(error);
    let failed =
        PlacementFailed { error: error.clone(), rejection_count, candidates: candidates.clone() };
    let mut decision = one(&task.task_guid, failed);
    fail_when_out_of_retries(task, error, &mut decision);
    Ok(decision)
}

fn refuse(
    aggregates: &Aggregates,
    reference: &TaskReference,
    reason: &str,
) -> Result<Decision, Rejection> {
    let (task, placement) = present(aggregates, reference)?;
    match task.state {
        State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => {
            return Ok(one(&task.task_guid, Released {}));
        }
        State::Running(_) => return Err(not_rejectable(task)),
        State::Pending | State::Placed(_) => {}
    }
    let rejection_count = task.rejection_count.saturating_add(1);
    let reason = if reason.is_empty() { REFUSED_WITHOUT_REASON } else { reason };
    let reason = cut_reason(reason);
    let refused =
        Refused { cell_id: placement.cell_id.clone(), reason: reason.clone(), rejection_count };
    let mut decision = one(&task.task_guid, refused);
    fail_when_out_of_retries(task, reason, &mut decision);
    Ok(decision)
}

/// Diego compares the count before this rejection, so the default allows four in all.
fn fail_when_out_of_retries(task: &Task, reason: String, decision: &mut Decision) {
    if task.rejection_count >= RETRIES_MAX {
        let stream = StreamId::Task(task.task_guid.clone());
        decision.push(stream, Event::from(Failed { reason }));
    }
}

fn start(aggregates: &Aggregates, reference: &TaskReference) -> Result<Decision, Rejection> {
    let (task, placement) = present(aggregates, reference)?;
    match task.state {
        State::Placed(_) => {
            Ok(one(&task.task_guid, Started { instance_guid: placement.instance_guid.clone() }))
        }
        // The cell repeats a report whose answer it lost. Whether it may still run the process is
        // for its own started-record to say.
        State::Running(_) => Ok(Decision::default()),
        State::Pending | State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => {
            Err(wrong_state(task, "Running", "started"))
        }
    }
}

fn complete(
    aggregates: &Aggregates,
    reference: &TaskReference,
    result: &TaskResult,
) -> Result<Decision, Rejection> {
    check_cell(aggregates, reference)?;
    let (task, _) = present(aggregates, reference)?;
    match task.state {
        State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => {
            return Ok(one(&task.task_guid, Released {}));
        }
        State::Pending | State::Placed(_) | State::Running(_) => {}
    }
    let is_too_large = result.result.len() > RESULT_BYTES_MAX;
    let failure_reason = match result.failure_reason.as_deref() {
        // Only what succeeded fails for want of a result.
        None if is_too_large => Some(NO_RESULT.to_owned()),
        reason => reason.map(cut_reason),
    };
    let kept = if failure_reason.is_some() { "" } else { result.result.as_str() };
    let completed = Completed {
        failure_reason,
        exit: result.exit,
        evidence: result.evidence,
        result: kept.to_owned(),
    };
    Ok(one(&task.task_guid, completed))
}

/// A cell that tells of the end of what runs on another one.
fn check_cell(aggregates: &Aggregates, reference: &TaskReference) -> Result<(), Rejection> {
    let Some(task) = aggregates.task(&reference.task_guid) else { return Ok(()) };
    let State::Running(placement) = &task.state else { return Ok(()) };
    if placement.cell_id == reference.cell_id {
        return Ok(());
    }
    Err(Rejection::RunningOnDifferentCell {
        task_guid: task.task_guid.clone(),
        cell_id: placement.cell_id.clone(),
        caller: reference.cell_id.clone(),
    })
}

fn release(aggregates: &Aggregates, reference: &TaskReference) -> Result<Decision, Rejection> {
    let (task, _) = present(aggregates, reference)?;
    match task.state {
        State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => {
            Ok(one(&task.task_guid, Released {}))
        }
        State::Pending | State::Placed(_) | State::Running(_) => {
            Err(wrong_state(task, "Completed", "released"))
        }
    }
}

fn lose_cell(aggregates: &Aggregates, task_guid: &TaskGuid) -> Result<Decision, Rejection> {
    let task = existing(aggregates, task_guid)?;
    let lost = task.placement().filter(|placement| aggregates.is_lost(placement));
    let placement = lost.ok_or_else(|| wrong_state(task, "Completed", "failed for a lost cell"))?;
    match task.state {
        State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => {
            Ok(one(task_guid, Released {}))
        }
        State::Placed(_) => {
            let Placement { instance_guid, cell_id, .. } = placement.clone();
            Ok(one(task_guid, PlacementLost { instance_guid, cell_id }))
        }
        State::Pending | State::Running(_) => {
            // There is no container left that could be waited for.
            let failure_reason = Some(CELL_DISAPPEARED.to_owned());
            let (exit, evidence, result) = (None, None, String::new());
            Ok(one(task_guid, Completed { failure_reason, exit, evidence, result }))
        }
    }
}

fn expire(task: &Task, now: Timestamp) -> Result<Decision, Rejection> {
    if task.expires_at().is_none_or(|instant| now < instant) {
        return Err(wrong_state(task, "Completed", "expired"));
    }
    match task.state {
        State::Pending | State::Placed(_) => {
            Ok(one(&task.task_guid, Failed { reason: NOT_STARTED_IN_TIME.to_owned() }))
        }
        State::Completed(_) | State::Resolving { .. } | State::Running(_) | State::Deleting(_) => {
            Ok(resolve::drop_expired(task))
        }
    }
}

fn existing<'a>(aggregates: &'a Aggregates, task_guid: &TaskGuid) -> Result<&'a Task, Rejection> {
    aggregates
        .task(task_guid)
        .ok_or_else(|| Rejection::NotFound { what: "task", id: task_guid.to_string() })
}

/// The task and its placement, when the report is about just that placement.
fn present<'a>(
    aggregates: &'a Aggregates,
    reference: &TaskReference,
) -> Result<(&'a Task, &'a Placement), Rejection> {
    let moved = || Rejection::PlacementMoved { instance_guid: reference.instance_guid.clone() };
    let task = aggregates.task(&reference.task_guid).ok_or_else(moved)?;
    let placement = task.placement().ok_or_else(moved)?;
    let is_present = placement.instance_guid == reference.instance_guid
        && placement.placement_epoch == reference.placement_epoch
        && placement.cell_id == reference.cell_id
        && placement.cell_epoch == reference.cell_epoch;
    if is_present { Ok((task, placement)) } else { Err(moved()) }
}

/// `to` is the state that Diego's text names, `wanted` what was asked in our words.
pub(super) fn wrong_state(task: &Task, to: &'static str, wanted: &'static str) -> Rejection {
    Rejection::TaskTransition {
        task_guid: task.task_guid.clone(),
        from: task.state_name(),
        to,
        wanted,
    }
}

fn not_rejectable(task: &Task) -> Rejection {
    Rejection::TaskNotRejectable { task_guid: task.task_guid.clone(), from: task.state_name() }
}

pub(super) fn one(task_guid: &TaskGuid, event: impl Into<Event>) -> Decision {
    let mut decision = Decision::default();
    decision.push(StreamId::Task(task_guid.clone()), event.into());
    decision
}
