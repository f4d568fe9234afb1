//! The discrepancies in words for people: what is not as desired, and why.

use super::{Discrepancies, SlotDiscrepancy, TaskDiscrepancy, TwinDiscrepancy};
use crate::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{ActualLrp, Restart},
        placement::Placement,
        task::Task,
    },
    id::{ActualLrpKey, CellId, FreshnessDomainName},
    rep::WorkKind,
    units::Timestamp,
};

/// What is not as desired at one instant; ended tasks that are still shown are settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Desired and not there.
    pub missing: Vec<ActualLrpKey>,
    /// There and not desired.
    pub extra: Vec<ExtraSlot>,
    /// Crashed, and waiting or given up.
    pub crashed: Vec<CrashedSlot>,
    /// Waiting for a cell.
    pub unplaced: Vec<UnplacedWork>,
    /// On a cell that is lost, or another machine by now.
    pub lost: Vec<LostWork>,
    /// On a cell that is being evacuated, or on their way from one: LRPs only, tasks run to their
    /// end there.
    pub evacuating: Vec<EvacuatingSlot>,
}

/// A slot with an instance on a cell that is being evacuated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvacuatingSlot {
    /// Which.
    pub key: ActualLrpKey,
    /// Whether its replacement is under way; else it waits for others of its process to run.
    pub is_moving: bool,
    /// When it is moved, or stopped, all the same.
    pub ends_at: Timestamp,
}

/// A slot that is there and not desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraSlot {
    /// Which.
    pub key: ActualLrpKey,
    /// Who must vouch before it may be stopped.
    pub domain: FreshnessDomainName,
    /// Whether it does: without that, the slot stays.
    pub is_fresh: bool,
}

/// A slot whose instance ended and is not to be placed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashedSlot {
    /// Which.
    pub key: ActualLrpKey,
    /// Crashes in a row.
    pub crash_count: u32,
    /// The newest crash in words.
    pub reason: Option<String>,
    /// When it will be placed again.
    pub restart: Restart,
}

/// A slot or a task that waits for a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnplacedWork {
    /// Which.
    pub work: WorkKind,
    /// Since when.
    pub since: Timestamp,
    /// Why no cell took it; absent before the first try.
    pub reason: Option<String>,
}

/// A slot or a task on a cell that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostWork {
    /// Which.
    pub work: WorkKind,
    /// Which cell.
    pub cell_id: CellId,
}

impl Discrepancies {
    /// What is not as desired at `now`, and why. `aggregates` are those that were touched last.
    #[must_use]
    pub fn report(&self, aggregates: &Aggregates, now: Timestamp) -> Report {
        let mut report = Report::default();
        for (key, discrepancy) in self.slots() {
            self.report_slot(&mut report, key, discrepancy, aggregates.slot(key), now);
        }
        for (key, discrepancy) in self.twins() {
            let TwinDiscrepancy::Evacuating { ends_at } = discrepancy else { continue };
            report.evacuating.push(EvacuatingSlot { key: key.clone(), is_moving: true, ends_at });
        }
        for (task_guid, discrepancy) in self.tasks() {
            let Some(task) = aggregates.task(task_guid) else { continue };
            report_task(&mut report, discrepancy, task);
        }
        report
    }

    fn report_slot(
        &self,
        report: &mut Report,
        key: &ActualLrpKey,
        discrepancy: &SlotDiscrepancy,
        slot: Option<&ActualLrp>,
        now: Timestamp,
    ) {
        let key = key.clone();
        match (discrepancy, slot) {
            (SlotDiscrepancy::Missing, _) => report.missing.push(key),
            (SlotDiscrepancy::OnEvacuatingCell { evacuation, .. }, _) => {
                let ends_at = evacuation.forced_at();
                report.evacuating.push(EvacuatingSlot { key, is_moving: false, ends_at });
            }
            (SlotDiscrepancy::Extra { domain }, _) => {
                let is_fresh = self.is_fresh(domain, now);
                report.extra.push(ExtraSlot { key, domain: domain.clone(), is_fresh });
            }
            (SlotDiscrepancy::Crashed(restart), Some(slot)) => report.crashed.push(CrashedSlot {
                key,
                crash_count: slot.crash_count,
                reason: slot.last_crash.as_ref().map(|crash| crash.reason.to_string()),
                restart: *restart,
            }),
            (SlotDiscrepancy::Unplaced, Some(slot)) => report.unplaced.push(UnplacedWork {
                work: WorkKind::Lrp(key),
                since: slot.since,
                reason: slot.placement_error.clone(),
            }),
            (SlotDiscrepancy::OnLostCell, Some(slot)) => {
                report.lost.extend(lost(WorkKind::Lrp(key), slot.placement()));
            }
            (
                SlotDiscrepancy::Crashed(_)
                | SlotDiscrepancy::Unplaced
                | SlotDiscrepancy::OnLostCell,
                None,
            ) => {}
        }
    }
}

fn report_task(report: &mut Report, discrepancy: &TaskDiscrepancy, task: &Task) {
    let work = WorkKind::Task(task.task_guid.clone());
    match discrepancy {
        TaskDiscrepancy::OnLostCell => report.lost.extend(lost(work, task.placement())),
        TaskDiscrepancy::Unplaced { .. } => report.unplaced.push(UnplacedWork {
            work,
            since: task.created_at,
            reason: task.rejection_reason.clone(),
        }),
        TaskDiscrepancy::Unstarted { .. }
        | TaskDiscrepancy::Resolving { .. }
        | TaskDiscrepancy::Ended { .. } => {}
    }
}

fn lost(work: WorkKind, placement: Option<&Placement>) -> Option<LostWork> {
    placement.map(|placement| LostWork { work, cell_id: placement.cell_id.clone() })
}
