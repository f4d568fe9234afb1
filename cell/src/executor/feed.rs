//! What is kept of a container's output and use while it runs: the last lines and samples for
//! evidence, and what its checks said.
//!
//! Shared by the streamer and the sampler, which fill it, and the steps, which look. Never waits
//! for ever: evidence that is late is evidence left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::observation::{LogLine, MetricsSample, OutputStream};
use domain::rep::{Evidence, Probe};
use domain::units::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::Order;
use crate::clock;
use crate::garden::{OutputCursor, ProcessId};

/// How many lines evidence holds.
const LINES_MAX: usize = 200;
/// How many bytes of a line evidence holds.
const LINE_BYTES_MAX: usize = 4096;
/// How many bytes of lines evidence holds: a report must stay small.
const LINES_BYTES_MAX: usize = 256 * 1024;
/// How many one-second samples are kept: those of the last minute.
const SECONDS_MAX: usize = 60;
/// How many of the samples taken every 15 s are kept: those of the last hour.
const SPARSE_MAX: usize = 240;
/// How many bytes of a check's output are kept: the last.
const CHECK_OUTPUT_BYTES_MAX: usize = 4096;
/// How long the end of a process waits for its output to be read.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// What is kept of a container.
#[derive(Debug)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
    seconds: Mutex<VecDeque<MetricsSample>>,
    written_bytes: AtomicU64,
    ended: Mutex<Vec<(ProcessId, OutputCursor)>>,
    flushed: watch::Sender<BTreeSet<ProcessId>>,
    /// Told when a process ended, so that the streamer looks.
    pub(super) process_ended: Notify,
}

/// What outlives the agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    lines: VecDeque<LogLine>,
    /// Samples taken every 15 s.
    #[serde(default)]
    sparse: VecDeque<MetricsSample>,
    #[serde(default)]
    probes: BTreeMap<ProcessId, ProbeOutput>,
}

/// What a check said last.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ProbeOutput {
    at: Timestamp,
    output: String,
}

impl Feed {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            kept: Mutex::new(kept),
            seconds: Mutex::default(),
            written_bytes: AtomicU64::new(0),
            ended: Mutex::default(),
            flushed: watch::Sender::default(),
            process_ended: Notify::new(),
        }
    }

    /// Hands a line on and keeps it for evidence.
    pub(super) fn line(&self, order: &Order, line: LogLine) {
        order.sink.line(&line);
        self.keep(line);
    }

    /// Keeps a line for evidence only.
    pub(super) fn keep(&self, line: LogLine) {
        let text = cut(line.text, LINE_BYTES_MAX);
        let mut raw = line.raw;
        if let Some(raw) = &mut raw {
            raw.truncate(LINE_BYTES_MAX);
        }
        let mut kept = lock(&self.kept);
        if kept.lines.len() == LINES_MAX {
            kept.lines.pop_front();
        }
        kept.lines.push_back(LogLine { text, raw, ..line });
    }

    /// Hands a line of the executor's own on.
    pub(super) fn say(&self, order: &Order, source: &str, stream: OutputStream, text: String) {
        self.line(order, LogLine::new(clock::now(), source, stream, text));
    }

    /// Notes how much a process wrote, be it handed on or not.
    pub(super) fn note_written(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn note_check_output(&self, process: &ProcessId, at: Timestamp, bytes: &[u8]) {
        let mut kept = lock(&self.kept);
        let output = String::new();
        let probe = kept.probes.entry(process.clone()).or_insert(ProbeOutput { at, output });
        probe.at = at;
        probe.output.push_str(&String::from_utf8_lossy(bytes));
        if probe.output.len() > CHECK_OUTPUT_BYTES_MAX {
            let from = probe.output.len() - CHECK_OUTPUT_BYTES_MAX;
            let from = probe.output.ceil_char_boundary(from);
            probe.output = probe.output.split_off(from);
        }
    }

    /// Forgets what a check said that is over.
    pub(super) fn forget_check_output(&self, process: &ProcessId) {
        lock(&self.kept).probes.remove(process);
    }

    /// What a check said, without white space around it.
    pub(super) fn check_output(&self, process: &ProcessId) -> String {
        let kept = lock(&self.kept);
        kept.probes.get(process).map_or_else(String::new, |probe| probe.output.trim().to_owned())
    }

    /// Keeps the sample of a second.
    pub(super) fn note_sample(&self, sample: MetricsSample) {
        push_bounded(&mut lock(&self.seconds), sample, SECONDS_MAX);
    }

    /// Keeps the sample of a quarter of a minute for longer.
    pub(super) fn note_sparse_sample(&self, sample: MetricsSample) {
        push_bounded(&mut lock(&self.kept).sparse, sample, SPARSE_MAX);
    }

    pub(super) fn last_sample(&self) -> Option<MetricsSample> {
        lock(&self.seconds).back().copied()
    }

    /// What is kept as evidence; what the container itself tells at its end is left out.
    pub(super) fn evidence(&self) -> Evidence {
        let seconds: Vec<MetricsSample> = lock(&self.seconds).iter().copied().collect();
        let kept = lock(&self.kept);
        let begins = seconds.first().map_or(Timestamp(i64::MAX), |first| first.at);
        let before = kept.sparse.iter().copied().filter(|sample| sample.at < begins);
        let probes = kept.probes.iter().map(|(process, probe)| Probe {
            name: process.to_string(),
            at: probe.at,
            output: probe.output.trim().to_owned(),
        });
        Evidence {
            log_lines: newest(&kept.lines, LINES_BYTES_MAX),
            metrics: before.chain(seconds).collect(),
            probes: probes.collect(),
            peaks: None,
            processes: Vec::new(),
        }
    }

    pub(super) fn kept(&self) -> Kept {
        lock(&self.kept).clone()
    }

    /// Waits until all that an ended process wrote was handed on, its last line too.
    pub(super) async fn until_flushed(&self, process: &ProcessId, output_end: OutputCursor) {
        lock(&self.ended).push((process.clone(), output_end));
        self.process_ended.notify_one();
        let mut flushed = self.flushed.subscribe();
        let waited =
            tokio::time::timeout(FLUSH_WAIT, flushed.wait_for(|done| done.contains(process)));
        if waited.await.is_err() {
            tracing::warn!(%process, "The last output of a process is late.");
        }
    }

    /// Takes out the processes that ended and whose output lies before a cursor.
    pub(super) fn take_ended(&self, read_to: OutputCursor) -> Vec<ProcessId> {
        let mut ended = lock(&self.ended);
        let (done, waiting) = ended.drain(..).partition(|(_, end)| *end <= read_to);
        *ended = waiting;
        let done: Vec<(ProcessId, OutputCursor)> = done;
        done.into_iter().map(|(process, _)| process).collect()
    }

    pub(super) fn note_flushed(&self, process: ProcessId) {
        self.flushed.send_modify(|flushed| {
            flushed.insert(process);
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder can panic half-way: what is there is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, count_max: usize) {
    if queue.len() >= count_max {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// The newest lines that are not more than so many bytes together, oldest first.
fn newest(lines: &VecDeque<LogLine>, bytes_max: usize) -> Vec<LogLine> {
    let mut bytes = 0;
    let fitting = lines.iter().rev().take_while(|line| {
        // Bytes in hex take twice their number, and their text its own.
        bytes += line.text.len() + line.raw.as_ref().map_or(0, |raw| 2 * raw.len());
        bytes <= bytes_max
    });
    let mut newest: Vec<LogLine> = fitting.cloned().collect();
    newest.reverse();
    newest
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    text
}
