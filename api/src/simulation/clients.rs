//! Who waits for the ends of tasks: which calls there were, and what the log says of them.

use std::collections::BTreeMap;

use domain::{
    bbs::task::{CallbackOutcome, DeleteReason, EXPIRE_COMPLETED_AFTER, Event},
    id::TaskGuid,
    log::{Position, Recorded, StreamId},
    units::Timestamp,
};

use super::{
    callbacks::{ATTEMPTS_MAX, Called},
    node::NodeIndex,
    witness::{Violation, ensure},
};

/// The calls of one caller for one resolving.
#[derive(Debug)]
struct Run {
    caller: (NodeIndex, u64),
    attempts: u32,
    /// What its last call came to.
    last: Called,
}

const TOLD: &str = "who was told is not called again";

/// All clients of tasks.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The resolving of each task, as long as nobody else may deal with its end.
    resolving: BTreeMap<TaskGuid, Position>,
    ended: BTreeMap<TaskGuid, Timestamp>,
    runs: BTreeMap<Position, Run>,
    /// By which resolving the log says that a client was told.
    told: BTreeMap<TaskGuid, Position>,
}

impl Clients {
    /// A client is called.
    pub(super) fn call(
        &mut self,
        caller: (NodeIndex, u64),
        task_guid: &TaskGuid,
        resolving: Position,
        attempts: u32,
        called: &Called,
    ) -> Result<(), Violation> {
        let is_told = self.told.get(task_guid) == Some(&resolving);
        ensure(!is_told, TOLD, || format!("{task_guid} of {resolving}"))?;
        let run = self.runs.entry(resolving).or_insert_with(|| Run {
            caller,
            attempts: 0,
            last: Called::Passing,
        });
        let is_next = run.caller == caller && run.attempts + 1 == attempts;
        let may_call = is_next && attempts <= ATTEMPTS_MAX && matches!(run.last, Called::Passing);
        ensure(may_call, "one caller, three calls in a row at most, none after an answer", || {
            format!("{task_guid} of {resolving}: call {attempts} of {caller:?} after {run:?}")
        })?;
        run.attempts = attempts;
        run.last = called.clone();
        Ok(())
    }

    /// An event of a task was committed.
    pub(super) fn see(
        &mut self,
        recorded: &Recorded<domain::event::Event>,
        event: &Event,
    ) -> Result<(), Violation> {
        let StreamId::Task(task_guid) = &recorded.stream else { return Ok(()) };
        match event {
            Event::Desired(_) => {
                self.ended.remove(task_guid);
                self.resolving.remove(task_guid);
                self.told.remove(task_guid);
                Ok(())
            }
            Event::Completed(_) | Event::Cancelled(_) | Event::Failed(_) => {
                self.ended.insert(task_guid.clone(), recorded.recorded_at);
                Ok(())
            }
            Event::Resolving(_) => {
                let before = self.resolving.insert(task_guid.clone(), recorded.position);
                ensure(before.is_none(), "one deals with a task's end at a time", || {
                    format!("{task_guid} since {before:?}")
                })
            }
            Event::Demoted(_) => {
                self.resolving.remove(task_guid);
                // The next one would call again.
                ensure(!self.told.contains_key(task_guid), TOLD, || task_guid.to_string())
            }
            Event::CallbackDelivered(told) => {
                let outcome = CallbackOutcome::Delivered(told.status);
                let resolving = self.check_calls(task_guid, told.attempts, Some(&outcome))?;
                self.told.insert(task_guid.clone(), resolving);
                Ok(())
            }
            Event::CallbackFailed(failed) => {
                self.check_calls(task_guid, failed.attempts, None).map(drop)
            }
            Event::Deleted(deleted) => {
                self.resolving.remove(task_guid);
                let ended = self.ended.remove(task_guid);
                let is_dropped = deleted.reason == DeleteReason::CallbackUndelivered;
                let kept = ended.map(|ended| recorded.recorded_at.since(ended));
                let is_due = kept.is_some_and(|kept| kept >= EXPIRE_COMPLETED_AFTER);
                ensure(!is_dropped || is_due, "nobody is given up before the time is over", || {
                    format!("{task_guid} after {kept:?}")
                })
            }
            Event::Placed(_)
            | Event::PlacementFailed(_)
            | Event::Refused(_)
            | Event::Started(_)
            | Event::Released(_)
            | Event::PlacementLost(_) => Ok(()),
        }
    }

    /// What the log says of calls is what they came to. By which resolving they were made.
    fn check_calls(
        &self,
        task_guid: &TaskGuid,
        attempts: u32,
        delivered: Option<&CallbackOutcome>,
    ) -> Result<Position, Violation> {
        let resolving = self.resolving.get(task_guid).copied();
        let run = resolving.and_then(|resolving| self.runs.get(&resolving));
        let is_so = run.is_some_and(|run| {
            let heard = match &run.last {
                Called::Final(outcome @ CallbackOutcome::Delivered(_)) => Some(outcome),
                Called::Final(CallbackOutcome::Failed(_)) | Called::Passing => None,
            };
            run.attempts == attempts && heard == delivered
        });
        ensure(is_so, "what is told of calls is what they came to", || {
            format!("{task_guid}: {attempts} calls, {delivered:?} against {run:?}")
        })?;
        Ok(resolving.unwrap_or_default())
    }
}
