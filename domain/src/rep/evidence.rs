//! What a cell saw of a container before its end: the record behind a crash.
//!
//! Stored sealed, and named by digest in the event. Everything in it is bounded by the cell that
//! makes it; what is not known is left out, never made up.

use serde::{Deserialize, Serialize};

use crate::{
    observation::{LogLine, MetricsSample},
    units::Timestamp,
};

/// What a cell saw of a container before it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The last log lines, oldest first; those over a rate limit too.
    pub log_lines: Vec<LogLine>,
    /// The last samples, oldest first: one a second of the last minute, one every 15 s before.
    pub metrics: Vec<MetricsSample>,
    /// What its health checks said last, in the order of their names.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// The most that it ever used, and how often it was kept from using more.
    #[serde(default)]
    pub peaks: Option<Peaks>,
    /// The processes that were still in it.
    #[serde(default)]
    pub processes: Vec<SeenProcess>,
}

/// What a health check said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Which check: `startup-healthcheck-0`, `liveness-healthcheck-0`...
    pub name: String,
    /// When it said so, by the cell's clock.
    pub at: Timestamp,
    /// Its output, cut to its last 4,096 bytes.
    pub output: String,
}

/// What a container's cgroups count over its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peaks {
    /// The most memory in bytes, file cache included.
    pub memory_bytes: u64,
    /// How often memory was asked for beyond the limit.
    pub memory_refused: u64,
    /// How many processes the kernel killed for want of memory.
    pub memory_kills: u64,
    /// How often a process was not made because there were too many.
    pub pids_refused: u64,
    /// How long processes were held back by a limit of processor time, in nanoseconds.
    pub cpu_throttled_nanoseconds: u64,
}

/// A process that was still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenProcess {
    /// Its number on the host.
    pub pid: i32,
    /// Its parent's.
    pub parent_pid: i32,
    /// What it does, as `ps` tells it: `R`, `S`, `D`, `Z`...
    pub state: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// What runs, with its arguments, at most 256 bytes.
    pub command: String,
}
