//! What happened to a slot. An append-only list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{InstancePresence, NetInfo, Restart};
use crate::{
    auction::Candidates,
    bbs::placement::Resources,
    event::events,
    exit::ProcessExit,
    id::{CellId, FreshnessDomainName, InstanceGuid},
    log::CellEpoch,
    sealed::Digest,
    units::Milliseconds,
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
    /// The container of a leaving instance is gone.
    Left = "actual_lrp.left", 1;
    /// Its instance's cell is lost: the instance is suspect, and the slot is unclaimed.
    Suspected = "actual_lrp.suspected", 1;
    /// The suspect's cell is back: it is the ordinary instance again.
    SuspectRestored = "actual_lrp.suspect_restored", 1;
    /// The suspect instance is one no more.
    SuspectRemoved = "actual_lrp.suspect_removed", 1;
    /// An instance beside the ordinary one ended without being asked to.
    TwinCrashed = "actual_lrp.twin_crashed", 1;
    /// Its instance runs on until another one does; the slot is unclaimed.
    EvacuationStarted = "actual_lrp.evacuation_started", 1;
    /// The evacuating instance is one no more.
    EvacuationEnded = "actual_lrp.evacuation_ended", 1;
    /// A healthy instance may take requests, or may not.
    ReadinessChanged = "actual_lrp.readiness_changed", 1;
    /// Its instance did not end within its grace and was ended by SIGKILL.
    Killed = "actual_lrp.killed", 1;
    /// An instance's routes go: it is stopped once no router leads to it any more.
    WithdrawalStarted = "actual_lrp.withdrawal_started", 1;
    /// An instance without routes may be stopped.
    WithdrawalEnded = "actual_lrp.withdrawal_ended", 1;
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
    /// Whether it may take requests already: its readiness checks have passed, or it has none.
    pub is_ready: bool,
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
    pub reason: UnclaimedReason,
}

/// Why a slot was freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnclaimedReason {
    /// Its cell is lost, or is another machine by now.
    CellLost,
    /// Its back-off is over.
    BackOffOver,
    /// Its cell is being evacuated, and it is not to run on two cells at once.
    Evacuated,
    /// Its container is gone, while another of its instances still runs.
    Gone,
}

/// Its instance is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {}

/// The slot is gone. What leaves it is still heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {}

/// The container of a leaving instance is gone, or will never be heard of again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
    /// How that is known.
    pub cause: LeavingEnd,
}

/// How it is known that an instance left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeavingEnd {
    /// Its cell says so.
    Gone,
    /// Its cell is lost, or is another machine by now.
    CellLost,
}

/// Its instance's cell is lost. It may still run there, and keeps its routes until a new one runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspected {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
}

/// The suspect's cell is back. Whatever was placed in its stead goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectRestored {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
    /// Which container was placed in its stead; absent when none was.
    pub in_stead: Option<InstanceGuid>,
    /// Whether that one may still be there, and leaves.
    #[serde(default)]
    pub is_leaving: bool,
}

/// The suspect instance is one no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectRemoved {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
    /// Why.
    pub cause: TwinEnd,
    /// Whether its container may still be there, and leaves.
    #[serde(default)]
    pub is_leaving: bool,
}

/// An instance beside the ordinary one ended without being asked to. Nothing follows: another one is
/// placed, or to be placed, in its stead already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinCrashed {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
    /// What it was beside the ordinary one.
    pub presence: InstancePresence,
    /// In words, at most 1024 bytes.
    #[serde(with = "crate::shared_text")]
    pub reason: Arc<str>,
    /// Its main process's end; absent when none ran.
    pub exit: Option<ProcessExit>,
    /// The sealed record of what the cell saw, by digest.
    pub evidence: Option<Digest>,
}

/// Its instance runs on until another one does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuationStarted {
    /// Which container: the ordinary one until now, or the suspect one.
    pub instance_guid: InstanceGuid,
    /// From which cell.
    pub cell_id: CellId,
}

/// The evacuating instance is one no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuationEnded {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
    /// Why.
    pub cause: TwinEnd,
    /// Whether its container may still be there, and leaves.
    #[serde(default)]
    pub is_leaving: bool,
}

/// Why an instance beside the ordinary one is one no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TwinEnd {
    /// The instance that was placed in its stead is healthy.
    Replaced {
        /// That one.
        by: InstanceGuid,
    },
    /// The slot is not desired any more.
    Undesired,
    /// It was stopped, or its container is gone.
    Gone,
    /// Its cell is lost, or is another machine by now.
    CellLost,
    /// Its cell is being evacuated, and it was not healthy yet.
    Evacuated,
    /// The time for evacuating its cell is over.
    TimedOut,
}

/// A healthy instance may take requests, or may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessChanged {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// Whether it may.
    pub is_ready: bool,
}

/// Its instance was to be stopped, did not end within its grace and was ended by SIGKILL. (In Diego
/// only a line of the app's log.) What became of the slot is told by the events beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// Where it ran.
    pub cell_id: CellId,
    /// How long it had had to end by itself.
    pub grace_ms: Milliseconds,
    /// The sealed record of what the cell saw, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
}

/// An instance is to be stopped, and serves until its cell hears so: from this position on no route
/// leads to it, and its cell is told to stop it once every living router has followed, or time ran
/// out. (In Diego a route may outlive its instance.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawalStarted {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// Where it runs.
    pub cell_id: CellId,
}

/// An instance without routes may be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawalEnded {
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// Why now.
    pub cause: WithdrawalEnd,
}

/// Why an instance without routes may be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawalEnd {
    /// Every router that lives has followed.
    Seen {
        /// How many these were.
        routers: u32,
    },
    /// Not all have, and it is not waited for any longer.
    TimedOut {
        /// The nodes whose routers had not, at most [`super::MISSING_ROUTERS_MAX`].
        missing: Vec<String>,
    },
}
