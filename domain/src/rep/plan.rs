//! What a cell must do next: its assignment against the containers it holds. Pure.
//!
//! An ended container stays in the cell's book until the assignment drops it: the list may be
//! older than the report that closes it, and nothing may be started twice because of that.

use std::collections::BTreeMap;

use super::{Wanted, Work, WorkReference};
use crate::id::InstanceGuid;

/// A container in the cell's book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub reference: WorkReference,
    /// What it is doing.
    pub phase: Phase,
}

/// What a container in the cell's book is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is being made, or runs.
    Alive,
    /// It is being stopped.
    Stopping,
    /// It is no more; its report is made, and perhaps not yet acknowledged.
    Ended,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Make the container and run its work.
    Start(Work),
    /// Stop it gracefully, remove it, and report it gone.
    Stop(WorkReference),
    /// Report gone what was never there.
    ReportGone(WorkReference),
    /// Strike an ended container from the book.
    Forget(WorkReference),
}

/// Compares the assignment with the cell's book. Stops come first, so that they free room.
#[must_use]
pub fn plan(assignment: &[Work], held: &[Held]) -> Vec<Operation> {
    let assigned: BTreeMap<&InstanceGuid, &Work> =
        assignment.iter().map(|work| (&work.reference.instance_guid, work)).collect();
    let book: BTreeMap<&InstanceGuid, &Held> =
        held.iter().map(|held| (&held.reference.instance_guid, held)).collect();
    let against_assignment = held.iter().filter_map(|held| {
        let wanted = assigned.get(&held.reference.instance_guid).map(|work| work.wanted);
        operation_for_held(held, wanted)
    });
    let unheld = assignment
        .iter()
        .filter(|work| !book.contains_key(&work.reference.instance_guid))
        .map(|work| match work.wanted {
            Wanted::Run => Operation::Start(work.clone()),
            Wanted::Stop => Operation::ReportGone(work.reference.clone()),
        });
    against_assignment.chain(unheld).collect()
}

fn operation_for_held(held: &Held, wanted: Option<Wanted>) -> Option<Operation> {
    match (held.phase, wanted) {
        (Phase::Alive, Some(Wanted::Stop) | None) => Some(Operation::Stop(held.reference.clone())),
        (Phase::Ended, None) => Some(Operation::Forget(held.reference.clone())),
        (Phase::Alive | Phase::Ended, Some(Wanted::Run))
        | (Phase::Ended, Some(Wanted::Stop))
        | (Phase::Stopping, Some(Wanted::Run | Wanted::Stop) | None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::TaskGuid,
        log::{PlacementEpoch, Position},
        rep::WorkKind,
        sealed::Digest,
    };

    fn reference(guid: &str) -> WorkReference {
        WorkReference {
            kind: WorkKind::Task(TaskGuid::new("t").unwrap()),
            instance_guid: InstanceGuid::new(guid).unwrap(),
            placement_epoch: PlacementEpoch(Position(1)),
        }
    }

    fn work(guid: &str, wanted: Wanted) -> Work {
        Work { reference: reference(guid), wanted, definition: Digest::of(b"d"), labels: None }
    }

    fn held(guid: &str, phase: Phase) -> Held {
        Held { reference: reference(guid), phase }
    }

    #[test]
    fn what_ended_is_not_started_again_while_the_list_is_old() {
        let operations = plan(&[work("a", Wanted::Run)], &[held("a", Phase::Ended)]);

        assert_eq!(operations, []);
    }

    #[test]
    fn stops_come_before_starts() {
        let operations = plan(
            &[work("new", Wanted::Run), work("old", Wanted::Stop)],
            &[held("old", Phase::Alive), held("unknown", Phase::Alive)],
        );

        assert_eq!(
            operations,
            [
                Operation::Stop(reference("old")),
                Operation::Stop(reference("unknown")),
                Operation::Start(work("new", Wanted::Run)),
            ]
        );
    }

    #[test]
    fn a_stop_of_what_is_not_held_is_closed_by_a_report() {
        assert_eq!(plan(&[work("a", Wanted::Stop)], &[]), [Operation::ReportGone(reference("a"))]);
        assert_eq!(plan(&[], &[held("a", Phase::Ended)]), [Operation::Forget(reference("a"))]);
    }
}
