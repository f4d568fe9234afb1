//! What is not as desired, and why, as clients see it.

use async_graphql::SimpleObject;
use domain::{
    bbs::actual_lrp::Restart,
    convergence::{CrashedSlot, EvacuatingSlot, ExtraSlot, LostWork, Report, UnplacedWork},
    id::ActualLrpKey,
    rep::WorkKind,
};

use super::scalars::{Time, time_text};

/// What differs between desired and actual.
#[derive(SimpleObject)]
pub(super) struct Convergence {
    /// Whether nothing differs.
    is_settled: bool,
    /// Desired and not there.
    missing: Vec<Discrepancy>,
    /// There and not desired.
    extra: Vec<Discrepancy>,
    /// Crashed, and waiting or given up.
    crashed: Vec<Discrepancy>,
    /// Waiting for a cell.
    unplaced: Vec<Discrepancy>,
    /// On a cell that is lost, or another machine by now.
    lost: Vec<Discrepancy>,
    /// On a cell that is being evacuated, or on their way from one.
    evacuating: Vec<Discrepancy>,
}

/// One slot or task that is not as it should be.
#[derive(SimpleObject)]
pub(super) struct Discrepancy {
    /// `<process guid>/<index>`, or the task's guid.
    key: String,
    /// Whose slot; absent for a task.
    process_guid: Option<String>,
    /// Which slot; absent for a task.
    index: Option<u32>,
    /// Which task; absent for a slot.
    task_guid: Option<String>,
    /// Why, in words.
    why: String,
    /// Since when it waits for a cell.
    since: Option<Time>,
    /// When a crashed slot is placed again.
    not_before: Option<Time>,
}

impl Discrepancy {
    fn of_slot(key: &ActualLrpKey, why: String) -> Self {
        Self {
            key: key.to_string(),
            process_guid: Some(key.process_guid.to_string()),
            index: Some(key.index),
            task_guid: None,
            why,
            since: None,
            not_before: None,
        }
    }

    fn of_work(work: &WorkKind, why: String) -> Self {
        match work {
            WorkKind::Lrp(key) => Self::of_slot(key, why),
            WorkKind::Task(task_guid) => Self {
                key: task_guid.to_string(),
                process_guid: None,
                index: None,
                task_guid: Some(task_guid.to_string()),
                why,
                since: None,
                not_before: None,
            },
        }
    }
}

impl From<Report> for Convergence {
    fn from(report: Report) -> Self {
        let Report { missing, extra, crashed, unplaced, lost, evacuating } = report;
        let is_settled = missing.is_empty()
            && extra.is_empty()
            && crashed.is_empty()
            && unplaced.is_empty()
            && lost.is_empty()
            && evacuating.is_empty();
        let missing_slot = |key: &ActualLrpKey| {
            Discrepancy::of_slot(key, "desired and not created yet".to_owned())
        };
        Self {
            is_settled,
            missing: missing.iter().map(missing_slot).collect(),
            extra: extra.iter().map(extra_slot).collect(),
            crashed: crashed.iter().map(crashed_slot).collect(),
            unplaced: unplaced.into_iter().map(unplaced_work).collect(),
            lost: lost.iter().map(lost_work).collect(),
            evacuating: evacuating.iter().map(evacuating_slot).collect(),
        }
    }
}

fn extra_slot(slot: &ExtraSlot) -> Discrepancy {
    let why = if slot.is_fresh {
        "not desired; to be stopped".to_owned()
    } else {
        format!("not desired, but kept: domain {} is not fresh", slot.domain)
    };
    Discrepancy::of_slot(&slot.key, why)
}

fn crashed_slot(slot: &CrashedSlot) -> Discrepancy {
    let reason = slot.reason.as_deref().unwrap_or("crashed");
    let (follows, not_before) = match slot.restart {
        Restart::Immediately => ("restarts at once".to_owned(), None),
        Restart::NotBefore(instant) => {
            (format!("restarts at {}", time_text(instant)), Some(Time(instant)))
        }
        Restart::Never => ("not restarted".to_owned(), None),
    };
    let why = format!("{reason} ({} crashes in a row; {follows})", slot.crash_count);
    Discrepancy { not_before, ..Discrepancy::of_slot(&slot.key, why) }
}

fn unplaced_work(work: UnplacedWork) -> Discrepancy {
    let why = work.reason.unwrap_or_else(|| "waiting for a cell".to_owned());
    Discrepancy { since: Some(Time(work.since)), ..Discrepancy::of_work(&work.work, why) }
}

fn lost_work(work: &LostWork) -> Discrepancy {
    Discrepancy::of_work(&work.work, format!("cell {} is lost", work.cell_id))
}

fn evacuating_slot(slot: &EvacuatingSlot) -> Discrepancy {
    let ends_at = time_text(slot.ends_at);
    let why = if slot.is_moving {
        format!("runs on until its replacement is healthy; stopped at {ends_at}")
    } else {
        format!("moves once the other instances of its process run, or at {ends_at}")
    };
    Discrepancy::of_slot(&slot.key, why)
}
