//! What happened to a slot. An append-only list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{NetInfo, Restart, UnclaimReason};
use crate::{
    auction::Candidates,
    bbs::placement::Resources,
    event::events,
    exit::ProcessExit,
    id::{CellId, FreshnessDomainName, InstanceGuid},
    log::CellEpoch,
    sealed::Digest,
};

events! {
    "What happened to a slot.";
    /// The slot exists and is unclaimed.
    Created = "actual_lrp.created", 1;
    /// A new instance was put on a cell.
    Placed = "actual_lrp.placed", 1;
    /// No cell can take it.
    PlacementFailed = "actual_lrp.placement_failed", 1;
    /// The cell would not take it; the slot is unclaimed again.
    Refused = "actual_lrp.refused", 1;
    /// The cell makes its container.
    Claimed = "actual_lrp.claimed", 1;
    /// The instance is healthy.
    Started = "actual_lrp.started", 1;
    /// The instance ended without being asked to.
    Crashed = "actual_lrp.crashed", 1;
    /// The slot was freed for a new instance.
    Unclaimed = "actual_lrp.unclaimed", 1;
    /// Its instance is to be stopped.
    Retired = "actual_lrp.retired", 1;
    /// The slot is gone.
    Removed = "actual_lrp.removed", 1;
}

/// The slot exists and is unclaimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Who vouches for it.
    pub domain: FreshnessDomainName,
}

/// A new instance was put on a cell. Its position is the placement epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The new container's guid.
    pub instance_guid: InstanceGuid,
    /// Where.
    pub cell_id: CellId,
    /// Which registration of the cell.
    pub cell_epoch: CellEpoch,
    /// What is to run, by digest.
    pub definition: Digest,
    /// What is reserved.
    pub resources: Resources,
    /// Among which cells it was chosen, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Box<Candidates>>,
}

/// No cell can take it. Told first, and when the text changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementFailed {
    /// Diego's text.
    pub error: String,
    /// Why each cell does not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Box<Candidates>>,
}

/// The cell would not take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// Which cell.
    pub cell_id: CellId,
    /// Why not.
    pub reason: String,
}

/// The cell makes its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Which container.
    pub instance_guid: InstanceGuid,
}

/// The instance is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// How it is reached.
    pub net_info: NetInfo,
}

/// The instance ended without being asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashed {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
    /// In words, at most 1024 bytes.
    #[serde(with = "crate::shared_text")]
    pub reason: Arc<str>,
    /// Its main process's end; absent when none ran.
    pub exit: Option<ProcessExit>,
    /// The how-manyth crash in a row.
    pub crash_count: u32,
    /// What follows.
    pub restart: Restart,
    /// The sealed record of what the cell saw, by digest.
    pub evidence: Option<Digest>,
}

/// The slot was freed for a new instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclaimed {
    /// Why.
    pub reason: UnclaimReason,
}

/// Its instance is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {}

/// The slot is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {}
