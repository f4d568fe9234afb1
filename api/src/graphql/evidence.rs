//! The sealed record behind a crash as clients see it.

use async_graphql::SimpleObject;
use domain::{
    observation::LogLine,
    rep::{self, Peaks, Probe, SeenProcess},
};

use super::{
    metrics::{self, Metrics},
    observations::OutputStream,
    scalars::{BigInt, Time},
};

/// What a cell saw of a container before it ended.
#[derive(SimpleObject)]
pub(super) struct Evidence {
    /// The last log lines, oldest first; those over a rate limit too.
    log_lines: Vec<EvidenceLine>,
    /// The last samples, oldest first: one a second of the last minute, one every 15 s before.
    metrics: Vec<Metrics>,
    /// What its health checks said last.
    probes: Vec<EvidenceProbe>,
    /// What its cgroups counted over its whole life.
    peaks: Option<EvidencePeaks>,
    /// The processes that were still in it.
    processes: Vec<EvidenceProcess>,
}

/// One line of output.
#[derive(SimpleObject)]
pub(super) struct EvidenceLine {
    /// By the cell's clock.
    at: Time,
    /// Whose line: `APP`, `HEALTH`, `CELL` and so on.
    source: String,
    /// Where it was written.
    stream: OutputStream,
    /// Without its line end; bytes that are not UTF-8 are replaced.
    text: String,
    /// The bytes as they were written, in hex, where they are not UTF-8.
    raw: Option<String>,
}

/// What a health check said last.
#[derive(SimpleObject)]
pub(super) struct EvidenceProbe {
    /// Which check.
    name: String,
    /// When it said so, by the cell's clock.
    at: Time,
    /// Its output.
    output: String,
}

/// What a container's cgroups counted over its whole life.
#[derive(SimpleObject)]
pub(super) struct EvidencePeaks {
    /// The most memory in bytes, file cache included.
    memory_bytes: BigInt,
    /// How often memory was asked for beyond the limit.
    memory_refused: BigInt,
    /// How many processes the kernel killed for want of memory.
    memory_kills: BigInt,
    /// How often a process was not made because there were too many.
    pids_refused: BigInt,
    /// How long processes were held back by a limit of processor time, in nanoseconds.
    cpu_throttled_nanoseconds: BigInt,
}

/// A process that was still there.
#[derive(SimpleObject)]
pub(super) struct EvidenceProcess {
    /// Its number on the host.
    pid: i32,
    /// Its parent's.
    parent_pid: i32,
    /// What it does, as `ps` tells it.
    state: String,
    /// Memory in bytes.
    memory_bytes: BigInt,
    /// What runs, with its arguments.
    command: String,
}

impl Evidence {
    pub(super) fn of(evidence: rep::Evidence) -> Self {
        let rep::Evidence { log_lines, metrics, probes, peaks, processes } = evidence;
        Self {
            log_lines: log_lines.into_iter().map(EvidenceLine::from).collect(),
            metrics: metrics::in_order(metrics),
            probes: probes.into_iter().map(EvidenceProbe::from).collect(),
            peaks: peaks.map(EvidencePeaks::from),
            processes: processes.into_iter().map(EvidenceProcess::from).collect(),
        }
    }
}

impl From<LogLine> for EvidenceLine {
    fn from(line: LogLine) -> Self {
        let LogLine { at, source, stream, text, raw } = line;
        Self { at: Time(at), source, stream: stream.into(), text, raw: raw.map(hex::encode) }
    }
}

impl From<Probe> for EvidenceProbe {
    fn from(probe: Probe) -> Self {
        let Probe { name, at, output } = probe;
        Self { name, at: Time(at), output }
    }
}

impl From<Peaks> for EvidencePeaks {
    fn from(peaks: Peaks) -> Self {
        Self {
            memory_bytes: BigInt(peaks.memory_bytes),
            memory_refused: BigInt(peaks.memory_refused),
            memory_kills: BigInt(peaks.memory_kills),
            pids_refused: BigInt(peaks.pids_refused),
            cpu_throttled_nanoseconds: BigInt(peaks.cpu_throttled_nanoseconds),
        }
    }
}

impl From<SeenProcess> for EvidenceProcess {
    fn from(process: SeenProcess) -> Self {
        let SeenProcess { pid, parent_pid, state, memory_bytes, command } = process;
        Self { pid, parent_pid, state, memory_bytes: BigInt(memory_bytes), command }
    }
}
