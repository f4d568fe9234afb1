//! What a cell observes of its containers and pushes: log lines and metrics. Not events.
//!
//! What is decided from an observation is an event, and carries the evidence.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::InstanceGuid,
    log::{Owner, Position},
    units::Timestamp,
};

/// The longest line in bytes; longer ones are cut there.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// One thing that was observed of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Whose it is.
    #[serde(with = "owner_text")]
    pub owner: Owner,
    /// Which slot; absent for a task.
    pub index: Option<u32>,
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// The head of the log that the cell knew.
    pub log_position: Position,
    /// The metric tags of the instance then.
    #[serde(default)]
    pub tags: Arc<BTreeMap<String, String>>,
    /// What was observed.
    pub record: ObservationRecord,
}

/// What was observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservationRecord {
    /// A line was written.
    Line(LogLine),
    /// What was used.
    Metrics(MetricsSample),
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// By the cell's clock.
    pub at: Timestamp,
    /// Whose line: `APP`, `HEALTH`, `CELL`...
    pub source: String,
    /// Where it was written.
    pub stream: OutputStream,
    /// Without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What a container used at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsSample {
    /// By the cell's clock.
    pub at: Timestamp,
    /// Memory in bytes, page cache left out where the kernel tells it.
    pub memory_bytes: u64,
    /// Processor time since the start, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Processes and threads.
    pub pids: u64,
}

mod owner_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::log::Owner;

    pub(super) fn serialize<S: Serializer>(owner: &Owner, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(owner)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Owner, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
