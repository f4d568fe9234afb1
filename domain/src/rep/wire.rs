//! The requests and answers between a cell and the control plane, as JSON over HTTP/1.1.
//!
//! | request | path | answer |
//! |---|---|---|
//! | [`RegisterRequest`] | `POST /cell/v1/register` | [`RegisterAnswer`] |
//! | [`HeartbeatRequest`] | `POST /cell/v1/heartbeat` | [`HeartbeatAnswer`] |
//! | - | `GET /cell/v1/assignment?after=<position>&epoch=<cell epoch>` | [`super::Assignment`], held until it changes or 20 s passed |
//! | - | `GET /cell/v1/definitions/<digest>` | `Definition<PlainText>` |
//! | [`ReportsRequest`] | `POST /cell/v1/reports` | [`ReportsAnswer`] |
//! | [`ObservationsRequest`] | `POST /cell/v1/observations` | [`ObservationsAnswer`] |
//!
//! Every request carries `Authorization: Bearer <token of the cell>` and
//! `X-Diario-Cell: <cell id>`. Errors are `{"code", "message"}` with a status of 4xx or 5xx.

use serde::{Deserialize, Serialize};

use super::NumberedReport;
use crate::{
    bbs::cell::Registration,
    log::{CellEpoch, Position},
    observation::Observation,
    units::{Milliseconds, Timestamp},
};

/// The version of this wire. Old and new run side by side within one version's distance: whoever
/// adds to the wire adds what may be absent, for whoever takes something from it to leave it be for
/// one version. What is further away is refused in words.
pub const PROTOCOL_VERSION: u32 = 1;

/// Whether this side and another one understand each other.
#[must_use]
pub fn understands(protocol_version: u32) -> bool {
    protocol_version > 0 && protocol_version.abs_diff(PROTOCOL_VERSION) <= 1
}

/// What an answer of before versions were told is.
fn first_version() -> u32 {
    1
}

/// A cell says what it is and offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// The wire that the cell speaks.
    pub protocol_version: u32,
    /// What it is and offers.
    pub registration: Registration,
}

/// A cell is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterAnswer {
    /// Its registration; part of every report.
    pub cell_epoch: CellEpoch,
    /// The highest report sequence of this registration that was taken.
    pub reports_seen: u64,
    /// How often to be heard: three heartbeats fit into one presence time to live.
    pub heartbeat_interval_ms: Milliseconds,
    /// The head of the log.
    pub head: Position,
    /// The version of the wire that the control plane speaks.
    #[serde(default = "first_version")]
    pub protocol_version: u32,
}

/// A cell is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    /// Its registration.
    pub cell_epoch: CellEpoch,
    /// Its own clock.
    pub cell_time: Timestamp,
    /// What it found when it last looked whether it can make containers; absent before.
    #[serde(default)]
    pub health: Option<Health>,
}

/// Whether a cell can make containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Why it cannot; absent when it can.
    pub failure: Option<String>,
}

/// It was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// The head of the log, which the cell stamps on what it observes from now on.
    pub head: Position,
    /// The control plane's clock.
    pub now: Timestamp,
}

/// Reports in the order of their sequence, at most 100 a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsRequest {
    /// The cell's registration.
    pub cell_epoch: CellEpoch,
    /// What it says.
    pub reports: Vec<NumberedReport>,
}

/// Reports were judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsAnswer {
    /// Every report up to this sequence is judged, and what was accepted is durable.
    pub acknowledged: u64,
    /// Those that were refused; all others were accepted.
    pub refused: Vec<RefusedReport>,
}

/// A report that was refused: the cell stops what it was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReport {
    /// Which.
    pub sequence: u64,
    /// The rejection's code.
    pub code: String,
    /// In words.
    pub message: String,
}

/// Observations in order, at most 1,000 and 1 MiB a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservationsRequest {
    /// The cell's registration.
    pub cell_epoch: CellEpoch,
    /// The sequence of the first of them in this registration, from 1, without gaps.
    pub first_sequence: u64,
    /// What was observed.
    pub observations: Vec<Observation>,
}

/// Observations were stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservationsAnswer {
    /// Every observation up to this sequence is stored.
    pub acknowledged: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_understand_each_other_within_one_of_distance() {
        assert!(understands(PROTOCOL_VERSION) && understands(PROTOCOL_VERSION + 1));
        assert!(!understands(PROTOCOL_VERSION + 2) && !understands(0));
    }
}
