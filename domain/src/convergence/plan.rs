//! The discrepancies at an instant, turned into commands.
//!
//! Creating what is missing never waits for freshness; stopping what is extra always does.
//! Nothing here is remembered: a command that is refused or lost is planned again.

use super::{Discrepancies, SlotDiscrepancy, TaskDiscrepancy};
use crate::{
    bbs::{
        actual_lrp::{self, Restart, UnclaimReason},
        task,
    },
    command::Command,
    id::{ActualLrpKey, TaskGuid},
    units::Timestamp,
};

/// What must be asked now: of slots by key, then of tasks by guid.
#[must_use]
pub fn plan(discrepancies: &Discrepancies, now: Timestamp) -> Vec<Command> {
    let of_slots = discrepancies.slots().filter_map(|(key, discrepancy)| {
        of_slot(discrepancies, key, discrepancy, now).map(Command::ActualLrp)
    });
    let of_tasks = discrepancies.tasks().filter_map(|(task_guid, discrepancy)| {
        of_task(task_guid, discrepancy, now).map(Command::Task)
    });
    of_slots.chain(of_tasks).collect()
}

/// When a plan must be made again though no event came. Always later than `now`: what is due at
/// `now` is in the plan made at `now`.
#[must_use]
pub fn next_due(discrepancies: &Discrepancies, now: Timestamp) -> Option<Timestamp> {
    discrepancies.first_due_after(now)
}

fn of_slot(
    discrepancies: &Discrepancies,
    key: &ActualLrpKey,
    discrepancy: &SlotDiscrepancy,
    now: Timestamp,
) -> Option<actual_lrp::Command> {
    let key = key.clone();
    match discrepancy {
        SlotDiscrepancy::OnLostCell => {
            Some(actual_lrp::Command::Unclaim { key, reason: UnclaimReason::CellLost })
        }
        SlotDiscrepancy::Missing => Some(actual_lrp::Command::Create { key }),
        SlotDiscrepancy::Extra { domain } => {
            discrepancies.is_fresh(domain, now).then_some(actual_lrp::Command::Retire { key })
        }
        SlotDiscrepancy::Crashed(Restart::NotBefore(instant)) => (now >= *instant)
            .then_some(actual_lrp::Command::Unclaim { key, reason: UnclaimReason::BackOffOver }),
        SlotDiscrepancy::Crashed(Restart::Immediately | Restart::Never)
        | SlotDiscrepancy::Unplaced => None,
    }
}

fn of_task(
    task_guid: &TaskGuid,
    discrepancy: &TaskDiscrepancy,
    now: Timestamp,
) -> Option<task::Command> {
    let task_guid = task_guid.clone();
    match discrepancy {
        TaskDiscrepancy::OnLostCell => Some(task::Command::LoseCell { task_guid }),
        TaskDiscrepancy::Unplaced { expires_at } | TaskDiscrepancy::Ended { expires_at } => {
            (now >= *expires_at).then_some(task::Command::Expire { task_guid })
        }
    }
}
