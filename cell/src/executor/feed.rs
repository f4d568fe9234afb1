//! What is kept of a container's output and use while it runs: the last lines and samples for
//! evidence, and what its checks said.
//!
//! Shared by the streamer and the sampler, which fill it, and the steps, which look. Never waits
//! for ever: evidence that is late is evidence left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::observation::{LogLine, MetricsSample, OutputStream};
use domain::rep::Evidence;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::Order;
use crate::clock;
use crate::garden::{OutputCursor, ProcessId};

/// How many lines evidence holds.
const LINES_MAX: usize = 20;
/// How many bytes of a line evidence holds: a report must stay small.
const LINE_BYTES_MAX: usize = 4096;
/// How many one-second samples are kept.
pub(super) const SAMPLES_MAX: usize = 60;
/// How many bytes of a check's output are kept.
const CHECK_OUTPUT_BYTES_MAX: usize = 4096;
/// How long the end of a process waits for its output to be read.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// What is kept of a container.
#[derive(Debug)]
pub(super) struct Feed {
    kept: Mutex<Kept>,
    samples: Mutex<VecDeque<MetricsSample>>,
    ended: Mutex<Vec<(ProcessId, OutputCursor)>>,
    flushed: watch::Sender<BTreeSet<ProcessId>>,
    /// Told when a process ended, so that the streamer looks.
    pub(super) process_ended: Notify,
}

/// What outlives the agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    lines: VecDeque<LogLine>,
    check_outputs: BTreeMap<ProcessId, String>,
}

impl Feed {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            kept: Mutex::new(kept),
            samples: Mutex::default(),
            ended: Mutex::default(),
            flushed: watch::Sender::default(),
            process_ended: Notify::new(),
        }
    }

    /// Hands a line on and keeps it for evidence.
    pub(super) fn line(&self, order: &Order, line: LogLine) {
        order.sink.line(&line);
        let mut kept = lock(&self.kept);
        if kept.lines.len() == LINES_MAX {
            kept.lines.pop_front();
        }
        let text = cut(line.text, LINE_BYTES_MAX);
        kept.lines.push_back(LogLine { text, ..line });
    }

    /// Hands a line of the executor's own on.
    pub(super) fn say(&self, order: &Order, source: &str, stream: OutputStream, text: String) {
        self.line(order, LogLine { at: clock::now(), source: source.to_owned(), stream, text });
    }

    pub(super) fn note_check_output(&self, process: &ProcessId, bytes: &[u8]) {
        let mut kept = lock(&self.kept);
        let output = kept.check_outputs.entry(process.clone()).or_default();
        output.push_str(&String::from_utf8_lossy(bytes));
        if output.len() > CHECK_OUTPUT_BYTES_MAX {
            *output = cut(std::mem::take(output), CHECK_OUTPUT_BYTES_MAX);
        }
    }

    /// Forgets what a check said that is over.
    pub(super) fn forget_check_output(&self, process: &ProcessId) {
        lock(&self.kept).check_outputs.remove(process);
    }

    /// What a check said, without white space around it.
    pub(super) fn check_output(&self, process: &ProcessId) -> String {
        let kept = lock(&self.kept);
        kept.check_outputs.get(process).map_or_else(String::new, |text| text.trim().to_owned())
    }

    pub(super) fn note_sample(&self, sample: MetricsSample) {
        let mut samples = lock(&self.samples);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The last `count` samples, oldest first.
    pub(super) fn last_samples(&self, count: usize) -> Vec<MetricsSample> {
        let samples = lock(&self.samples);
        samples.iter().skip(samples.len().saturating_sub(count)).copied().collect()
    }

    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            log_lines: lock(&self.kept).lines.iter().cloned().collect(),
            metrics: self.last_samples(SAMPLES_MAX),
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

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    text
}
