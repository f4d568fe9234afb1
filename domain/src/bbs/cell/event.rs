//! What happened to a cell. An append-only list. Heartbeats are not events: only their edges are.

use serde::{Deserialize, Serialize};

use super::Registration;
use crate::{event::events, log::CellEpoch, units::Timestamp};

events! {
    "What happened to a cell.";
    /// A machine took the id, or said anew what it offers.
    Registered = "cell.registered", 1;
    /// It was not heard for a whole presence time to live.
    Lost = "cell.lost", 1;
    /// It was heard again.
    Returned = "cell.returned", 1;
    /// Everything is to be moved off it.
    EvacuationStarted = "cell.evacuation_started", 1;
    /// It is used again.
    EvacuationCancelled = "cell.evacuation_cancelled", 1;
    /// Nothing is left on it.
    Evacuated = "cell.evacuated", 1;
    /// What it found when it looked whether it can make containers is not what it found before.
    HealthChanged = "cell.health_changed", 1;
}

/// A machine took the id, or said anew what it offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Higher when the machine is another one.
    pub cell_epoch: CellEpoch,
    /// What it is and offers.
    pub registration: Box<Registration>,
}

/// It was not heard for a whole presence time to live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// When it was last heard.
    pub last_heard_at: Timestamp,
    /// The node that heard it.
    pub heard_by: String,
}

/// It was heard again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {}

/// Everything is to be moved off it, and nothing placed on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuationStarted {
    /// When instances that are still there are stopped.
    pub ends_at: Timestamp,
    /// How many instances of one process guid may be away from RUNNING at a time.
    pub instances_away_max: u32,
    /// How many containers were on it.
    pub containers: u32,
}

/// It is used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvacuationCancelled {}

/// Nothing is left on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evacuated {}

/// What it found when it looked whether it can make containers is not what it found before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthChanged {
    /// Why it cannot, in words of at most 1,024 bytes; absent when it can. Nothing is placed on it
    /// while there is a reason; what runs there runs on.
    pub failure: Option<String>,
}
