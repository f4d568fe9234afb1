//! What a cell says about its containers. A report is a command: it is numbered, kept on the
//! cell's disk until it is acknowledged, and judged like any other.

use serde::{Deserialize, Serialize};

use super::{Evidence, WorkKind, WorkReference};
use crate::{
    bbs::{
        actual_lrp::{self, CrashReport, InstanceReference, NetInfo},
        task::{self, TaskReference, TaskResult},
    },
    command::Command,
    exit::{CLEAN_EXIT, ProcessExit},
    id::CellId,
    log::CellEpoch,
    sealed::Digest,
    units::Milliseconds,
};

/// A report with its number in the cell's registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedReport {
    /// From 1, without gaps.
    pub sequence: u64,
    /// What is said.
    #[serde(flatten)]
    pub report: Report,
}

/// What a cell says about one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which container.
    pub work: WorkReference,
    /// What was seen.
    pub observed: Observed,
}

/// What a cell saw of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// It will not be made here, for this reason.
    Refused(String),
    /// It is being made. LRPs only.
    Claimed,
    /// An LRP is healthy.
    Healthy {
        /// How it is reached.
        net_info: NetInfo,
        /// Whether it may take requests already.
        is_ready: bool,
    },
    /// A healthy LRP may take requests, or may not.
    Readiness(bool),
    /// A task asks whether its process may run. Run only after this was accepted.
    MayStart,
    /// It ended without being asked to.
    Ended(Box<Ended>),
    /// It was stopped as asked, or was never there.
    Gone,
    /// It was stopped as asked, but only by SIGKILL.
    Killed(Box<Killed>),
}

/// How a container ended that did not end in its grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// How long it had had to end by itself.
    pub grace: Milliseconds,
    /// What was seen of it last.
    pub evidence: Evidence,
}

/// How a container's work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why it failed; absent when it succeeded.
    pub failure_reason: Option<String>,
    /// Its main process's end; absent when none ran.
    pub exit: Option<ProcessExit>,
    /// What was seen of it last.
    pub evidence: Evidence,
    /// What a task left to be told; empty when nothing.
    #[serde(default)]
    pub result: String,
}

impl Report {
    /// The command that this report is. `evidence` names the stored record of an ended one.
    ///
    /// `None` when a report makes no sense for its kind of work: a task is not claimed, an LRP
    /// does not ask to start.
    #[must_use]
    pub fn into_command(
        self,
        cell_id: CellId,
        cell_epoch: CellEpoch,
        evidence: Option<Digest>,
    ) -> Option<Command> {
        let WorkReference { kind, instance_guid, placement_epoch } = self.work;
        match kind {
            WorkKind::Lrp(key) => {
                let instance =
                    InstanceReference { key, instance_guid, placement_epoch, cell_id, cell_epoch };
                lrp_command(instance, self.observed, evidence).map(Command::ActualLrp)
            }
            WorkKind::Task(task_guid) => {
                let task = TaskReference {
                    task_guid,
                    instance_guid,
                    placement_epoch,
                    cell_id,
                    cell_epoch,
                };
                task_command(task, self.observed, evidence).map(Command::Task)
            }
        }
    }
}

fn lrp_command(
    instance: InstanceReference,
    observed: Observed,
    evidence: Option<Digest>,
) -> Option<actual_lrp::Command> {
    match observed {
        Observed::Refused(reason) => Some(actual_lrp::Command::Refuse { instance, reason }),
        Observed::Claimed => Some(actual_lrp::Command::Claim { instance }),
        Observed::Healthy { net_info, is_ready } => {
            Some(actual_lrp::Command::Start { instance, net_info, is_ready })
        }
        Observed::Readiness(is_ready) => {
            Some(actual_lrp::Command::SetReadiness { instance, is_ready })
        }
        Observed::MayStart => None,
        Observed::Ended(ended) => {
            let reason = ended.failure_reason.unwrap_or_else(|| CLEAN_EXIT.to_owned());
            let report = CrashReport { reason, exit: ended.exit, evidence };
            Some(actual_lrp::Command::Crash { instance, report })
        }
        Observed::Gone => Some(actual_lrp::Command::Remove { instance }),
        Observed::Killed(killed) => {
            let grace = killed.grace;
            Some(actual_lrp::Command::RemoveKilled { instance, grace, evidence })
        }
    }
}

fn task_command(
    task: TaskReference,
    observed: Observed,
    evidence: Option<Digest>,
) -> Option<task::Command> {
    match observed {
        Observed::Refused(reason) => Some(task::Command::Refuse { task, reason }),
        Observed::Claimed | Observed::Healthy { .. } | Observed::Readiness(_) => None,
        Observed::MayStart => Some(task::Command::Start { task }),
        Observed::Ended(ended) => {
            let Ended { failure_reason, exit, evidence: _, result } = *ended;
            let result = TaskResult { failure_reason, exit, evidence, result };
            Some(task::Command::Complete { task, result })
        }
        Observed::Gone | Observed::Killed(_) => Some(task::Command::Release { task }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::InstanceGuid,
        log::{PlacementEpoch, Position},
        testing::{cell_id, key},
    };

    #[test]
    fn an_end_without_a_failure_is_told_as_one_with_status_0() {
        let work = WorkReference {
            kind: WorkKind::Lrp(key("web", 0)),
            instance_guid: InstanceGuid::new("i-1").unwrap(),
            placement_epoch: PlacementEpoch(Position(1)),
        };
        let ended = Ended {
            failure_reason: None,
            exit: None,
            evidence: Evidence::default(),
            result: String::new(),
        };
        let report = Report { work, observed: Observed::Ended(Box::new(ended)) };

        let command = report.into_command(cell_id("cell-1"), CellEpoch(1), None);

        let Some(Command::ActualLrp(actual_lrp::Command::Crash { report, .. })) = command else {
            panic!("{command:?}");
        };
        assert_eq!(report.reason, "Exited with status 0");
    }
}
