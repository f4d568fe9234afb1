//! What may be asked of a slot: by loops (create, place, unclaim), by the cell that holds its
//! instance (refuse, claim, start, crash, remove) and by a user (retire).

use serde::{Deserialize, Serialize};

use super::{NetInfo, WithdrawalEnd};
use crate::{
    auction::Candidates,
    exit::ProcessExit,
    id::{ActualLrpKey, CellId, InstanceGuid},
    log::{CellEpoch, PlacementEpoch},
    sealed::Digest,
    units::Milliseconds,
};

/// What may be asked of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make the slot of a desired index. The converger's.
    Create {
        /// Which.
        key: ActualLrpKey,
    },
    /// Put a new instance on a cell. The auctioneer's.
    Place {
        /// Which.
        key: ActualLrpKey,
        /// The new container's guid.
        instance_guid: InstanceGuid,
        /// Where.
        cell_id: CellId,
        /// Which registration of the cell was looked at.
        cell_epoch: CellEpoch,
        /// Among which cells it was chosen, and why; none where that was not judged.
        candidates: Option<Box<Candidates>>,
    },
    /// Note why no cell can take it. The auctioneer's.
    FailPlacement {
        /// Which.
        key: ActualLrpKey,
        /// Diego's text.
        error: String,
        /// Why each cell does not take it; none where no cell was looked at.
        candidates: Option<Box<Candidates>>,
    },
    /// The cell will not take it. A cell's report.
    Refuse {
        /// Which instance.
        instance: InstanceReference,
        /// Why not.
        reason: String,
    },
    /// The cell makes its container. A cell's report.
    Claim {
        /// Which instance.
        instance: InstanceReference,
    },
    /// The instance is healthy. A cell's report.
    Start {
        /// Which instance.
        instance: InstanceReference,
        /// How it is reached.
        net_info: NetInfo,
        /// Whether it may take requests.
        is_ready: bool,
    },
    /// A healthy instance may take requests, or may not. A cell's report.
    SetReadiness {
        /// Which instance.
        instance: InstanceReference,
        /// Whether it may.
        is_ready: bool,
    },
    /// The instance ended without being asked to. A cell's report.
    Crash {
        /// Which instance.
        instance: InstanceReference,
        /// How.
        report: CrashReport,
    },
    /// The instance was stopped as asked, or its container is gone. A cell's report.
    Remove {
        /// Which instance.
        instance: InstanceReference,
    },
    /// The instance was stopped as asked, but only by SIGKILL. A cell's report.
    RemoveKilled {
        /// Which instance.
        instance: InstanceReference,
        /// How long it had had to end by itself.
        grace: Milliseconds,
        /// The sealed record of what the cell saw, by digest.
        evidence: Option<Digest>,
    },
    /// Free the slot for a new instance. The converger's.
    Unclaim {
        /// Which.
        key: ActualLrpKey,
        /// Why.
        reason: UnclaimReason,
    },
    /// Move its instance off a cell that is being evacuated. The converger's.
    Evacuate {
        /// Which.
        key: ActualLrpKey,
    },
    /// End what stands beside the ordinary instance and need not any more. The converger's.
    SettleTwins {
        /// Which.
        key: ActualLrpKey,
    },
    /// Let an instance that has lost its routes be stopped. The route withdrawal's.
    EndWithdrawal {
        /// Of which slot.
        key: ActualLrpKey,
        /// Which.
        instance_guid: InstanceGuid,
        /// Why now.
        cause: WithdrawalEnd,
    },
    /// Stop its instance; the slot goes when that is done. A user's or the converger's.
    Retire {
        /// Which.
        key: ActualLrpKey,
    },
}

/// One instance as its cell names it: it counts only while it is the slot's present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReference {
    /// The slot.
    pub key: ActualLrpKey,
    /// The container's guid.
    pub instance_guid: InstanceGuid,
    /// Which placement.
    pub placement_epoch: PlacementEpoch,
    /// The cell that says so.
    pub cell_id: CellId,
    /// Which registration of it.
    pub cell_epoch: CellEpoch,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashReport {
    /// In words.
    pub reason: String,
    /// Its main process's end; absent when none ran.
    pub exit: Option<ProcessExit>,
    /// The sealed record of what the cell saw, by digest.
    pub evidence: Option<Digest>,
}

/// Why a slot is to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnclaimReason {
    /// Its cell is lost, or is another machine by now.
    CellLost,
    /// Its back-off is over.
    BackOffOver,
}

impl Command {
    /// Which slot it concerns.
    #[must_use]
    pub fn key(&self) -> &ActualLrpKey {
        match self {
            Self::Create { key }
            | Self::Place { key, .. }
            | Self::FailPlacement { key, .. }
            | Self::Unclaim { key, .. }
            | Self::Evacuate { key }
            | Self::SettleTwins { key }
            | Self::EndWithdrawal { key, .. }
            | Self::Retire { key } => key,
            Self::Refuse { instance, .. }
            | Self::Claim { instance }
            | Self::Start { instance, .. }
            | Self::SetReadiness { instance, .. }
            | Self::Crash { instance, .. }
            | Self::Remove { instance }
            | Self::RemoveKilled { instance, .. } => &instance.key,
        }
    }
}
