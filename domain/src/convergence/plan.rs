//! The discrepancies at an instant, turned into commands.
//!
//! Creating what is missing never waits for freshness; stopping what is extra always does.
//! Nothing here is remembered: a command that is refused or lost is planned again.

use super::{Discrepancies, SlotDiscrepancy, TaskDiscrepancy, TwinDiscrepancy};
use crate::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{self, Restart, UnclaimReason},
        cell,
        placement::Resources,
        task,
    },
    command::Command,
    id::{ActualLrpKey, CellId, ProcessGuid, TaskGuid},
    units::Timestamp,
};

/// What must be asked now: of slots by key, of what stands beside their ordinary instances, of
/// tasks by guid, of cells. `aggregates` are those that were touched last.
#[must_use]
pub fn plan(
    discrepancies: &Discrepancies,
    aggregates: &Aggregates,
    now: Timestamp,
) -> Vec<Command> {
    commands(discrepancies, aggregates, now).collect()
}

/// The same one by one: whoever takes only some does not pay for all.
pub fn commands(
    discrepancies: &Discrepancies,
    aggregates: &Aggregates,
    now: Timestamp,
) -> impl Iterator<Item = Command> {
    let mut budget = Budget { aggregates, of: None };
    let of_slots = discrepancies.slots().filter_map(move |(key, discrepancy)| {
        of_slot(discrepancies, &mut budget, key, discrepancy, now).map(Command::ActualLrp)
    });
    let of_twins = discrepancies.twins().filter_map(move |(key, discrepancy)| {
        of_twins(key, discrepancy, now).map(Command::ActualLrp)
    });
    let of_tasks = discrepancies.tasks().filter_map(move |(task_guid, discrepancy)| {
        of_task(task_guid, discrepancy, now).map(Command::Task)
    });
    let is_empty = move |cell_id: &&CellId| aggregates.reserved_on(cell_id) == Resources::default();
    let of_cells = discrepancies.evacuating().filter(is_empty);
    let of_cells = of_cells.map(|id| cell::Command::EndEvacuation { cell_id: id.clone() }.into());
    of_slots.chain(of_twins).chain(of_tasks).chain(of_cells)
}

/// When a plan must be made again though no event came. Always later than `now`: what is due at
/// `now` is in the plan made at `now`.
#[must_use]
pub fn next_due(discrepancies: &Discrepancies, now: Timestamp) -> Option<Timestamp> {
    discrepancies.first_due_after(now)
}

/// How many instances of the process that was asked about last are away from RUNNING, with those
/// that this plan moves. Slots come by process guid, so one is enough.
struct Budget<'a> {
    aggregates: &'a Aggregates,
    of: Option<(ProcessGuid, u32)>,
}

impl Budget<'_> {
    /// Takes one, if it is not spent.
    fn take(&mut self, process_guid: &ProcessGuid, away_max: u32) -> bool {
        if self.of.as_ref().is_none_or(|(of, _)| of != process_guid) {
            let away = actual_lrp::away(self.aggregates, process_guid);
            self.of = Some((process_guid.clone(), away));
        }
        let Some((_, away)) = self.of.as_mut().filter(|(_, away)| *away < away_max) else {
            return false;
        };
        *away += 1;
        true
    }
}

fn of_slot(
    discrepancies: &Discrepancies,
    budget: &mut Budget<'_>,
    key: &ActualLrpKey,
    discrepancy: &SlotDiscrepancy,
    now: Timestamp,
) -> Option<actual_lrp::Command> {
    match discrepancy {
        SlotDiscrepancy::OnLostCell => {
            let reason = UnclaimReason::CellLost;
            Some(actual_lrp::Command::Unclaim { key: key.clone(), reason })
        }
        SlotDiscrepancy::OnEvacuatingCell { evacuation, is_healthy } => {
            let may_go = !is_healthy
                || now >= evacuation.forced_at()
                || budget.take(&key.process_guid, evacuation.instances_away_max);
            may_go.then(|| actual_lrp::Command::Evacuate { key: key.clone() })
        }
        SlotDiscrepancy::Missing => Some(actual_lrp::Command::Create { key: key.clone() }),
        SlotDiscrepancy::Extra { domain } => discrepancies
            .is_fresh(domain, now)
            .then(|| actual_lrp::Command::Retire { key: key.clone() }),
        SlotDiscrepancy::Crashed(Restart::NotBefore(instant)) => (now >= *instant).then(|| {
            let reason = UnclaimReason::BackOffOver;
            actual_lrp::Command::Unclaim { key: key.clone(), reason }
        }),
        SlotDiscrepancy::Crashed(Restart::Immediately | Restart::Never)
        | SlotDiscrepancy::Unplaced => None,
    }
}

fn of_twins(
    key: &ActualLrpKey,
    discrepancy: TwinDiscrepancy,
    now: Timestamp,
) -> Option<actual_lrp::Command> {
    let is_due = match discrepancy {
        TwinDiscrepancy::Unsettled => true,
        TwinDiscrepancy::Evacuating { ends_at } => now >= ends_at,
    };
    is_due.then(|| actual_lrp::Command::SettleTwins { key: key.clone() })
}

fn of_task(
    task_guid: &TaskGuid,
    discrepancy: &TaskDiscrepancy,
    now: Timestamp,
) -> Option<task::Command> {
    let task_guid = task_guid.clone();
    match discrepancy {
        TaskDiscrepancy::OnLostCell => Some(task::Command::LoseCell { task_guid }),
        TaskDiscrepancy::Unplaced { expires_at }
        | TaskDiscrepancy::Unstarted { expires_at }
        | TaskDiscrepancy::Ended { expires_at } => {
            (now >= *expires_at).then_some(task::Command::Expire { task_guid })
        }
        TaskDiscrepancy::Resolving { demoted_at } => {
            (now >= *demoted_at).then_some(task::Command::Demote { task_guid })
        }
    }
}
