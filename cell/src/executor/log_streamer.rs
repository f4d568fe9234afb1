//! Turns what a container's processes write into lines, and hands them on.
//!
//! The place in the output is kept on disk behind the lines that were handed on: after an agent's
//! death no line is lost, and at most those of the last second are handed on twice.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::observation::{LINE_BYTES_MAX, LogLine, OutputStream};
use domain::units::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::Order;
use super::feed::{Feed, Kept};
use super::log_limiter::{LogLimiter, LogLimits, Verdict};
use super::place::all_runs;
use super::process_name::ProcessName;
use crate::garden::{self, Garden, OutputChunk, OutputCursor, OutputRecord, ProcessId};
use crate::{clock, durable_file};

const CHUNK_BYTES_MAX: usize = 256 * 1024;
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long to wait when the garden says that there is output, and there is none.
const IDLE_PAUSE: Duration = Duration::from_millis(200);
/// How many chunks the end of a container waits for.
const DRAIN_CHUNKS_MAX: usize = 1000;

/// Where the streamer is in a container's output; kept on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    cursor: OutputCursor,
    open_lines: Vec<OpenLine>,
    pub(super) kept: Kept,
}

/// A line whose end was not seen yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OpenLine {
    process: ProcessId,
    stream: OutputStream,
    at: Timestamp,
    bytes: Vec<u8>,
}

/// Streams the lines of one container.
#[derive(Debug)]
pub(super) struct LogStreamer<'a> {
    garden: &'a dyn Garden,
    order: &'a Order,
    feed: &'a Feed,
    path: PathBuf,
    cursor: OutputCursor,
    open_lines: Vec<OpenLine>,
    sources: BTreeMap<ProcessId, String>,
    suppressed: BTreeSet<ProcessId>,
    limiter: LogLimiter,
    save_at: Option<Instant>,
}

enum Next {
    Read,
    Flush,
    Save,
}

impl<'a> LogStreamer<'a> {
    /// Where an earlier agent was, or the beginning.
    pub(super) fn load(path: &Path) -> Saved {
        durable_file::read_json(path)
            .unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error,
                "Cannot read the place in a container's output; beginning at its start.");
                None
            })
            .unwrap_or_default()
    }

    pub(super) fn new(
        garden: &'a dyn Garden,
        order: &'a Order,
        feed: &'a Feed,
        limits: LogLimits,
        (path, saved): (PathBuf, Saved),
    ) -> Self {
        let Saved { cursor, open_lines, kept: _ } = saved;
        let recipe = &order.recipe;
        let source = |number: u32, named: &Option<String>| {
            let source = named.as_ref().unwrap_or(&recipe.log_source).clone();
            (ProcessName::Run(number).id(), source)
        };
        let steps: Vec<_> = (0_u32..).zip(all_runs(recipe)).collect();
        let sources = steps.iter().map(|(number, run)| source(*number, &run.log_source)).collect();
        let suppressed = steps.iter().filter(|(_, run)| run.suppress_log_output);
        let suppressed = suppressed.map(|(number, _)| ProcessName::Run(*number).id()).collect();
        Self {
            garden,
            order,
            feed,
            path,
            cursor,
            open_lines,
            sources,
            suppressed,
            limiter: LogLimiter::new(limits),
            save_at: None,
        }
    }

    pub(super) async fn run(&mut self) -> Infallible {
        loop {
            let save_at = self.save_at;
            let due = async {
                match save_at {
                    Some(instant) => sleep_until(instant).await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                () = self.feed.process_ended.notified() => Next::Flush,
                () = due => Next::Save,
                () = self.garden.output_ready(&self.order.handle, self.cursor) => Next::Read,
            };
            match next {
                Next::Save => self.save(),
                Next::Flush => self.flush_ended(),
                Next::Read => {
                    let is_idle = !self.read().await;
                    self.flush_ended();
                    if is_idle {
                        tokio::select! {
                            () = self.feed.process_ended.notified() => {}
                            () = sleep(IDLE_PAUSE) => {}
                        }
                    }
                }
            }
        }
    }

    /// Reads all that is there now, and hands on what has no line end too.
    pub(super) async fn drain(&mut self) {
        for _ in 0..DRAIN_CHUNKS_MAX {
            if !self.read().await {
                break;
            }
        }
        self.flush_ended();
        for open in std::mem::take(&mut self.open_lines) {
            self.hand_on(open);
        }
        if let Some(dropped) = self.limiter.finish() {
            let source = &self.order.recipe.log_source;
            self.feed.say(self.order, source, OutputStream::Err, dropped.text());
        }
    }

    /// Keeps the place on disk, behind all that was handed on.
    pub(super) fn save(&mut self) {
        self.save_at = None;
        let saved = Saved {
            cursor: self.cursor,
            open_lines: self.open_lines.clone(),
            kept: self.feed.kept(),
        };
        let survives = durable_file::Survives::Agent;
        if let Err(error) = durable_file::write_json(&self.path, &saved, survives) {
            tracing::warn!(handle = %self.order.handle, %error,
                "Cannot keep the place in a container's output.");
        }
    }

    /// Reads one chunk; `false` if there was nothing.
    async fn read(&mut self) -> bool {
        let chunk = self.garden.read_output(&self.order.handle, self.cursor, CHUNK_BYTES_MAX).await;
        match chunk {
            Ok(chunk) => self.take(chunk),
            Err(error) => {
                tracing::debug!(handle = %self.order.handle, %error, "Cannot read output.");
                false
            }
        }
    }

    fn take(&mut self, chunk: OutputChunk) -> bool {
        if chunk.dropped_bytes > 0 {
            let text = format!("{} bytes of output were dropped", chunk.dropped_bytes);
            self.feed.say(self.order, "CELL", OutputStream::Err, text);
        }
        let has_moved = chunk.next != self.cursor;
        for record in &chunk.records {
            match ProcessName::parse(&record.process) {
                Some(
                    ProcessName::Startup(_)
                    | ProcessName::Liveness(_)
                    | ProcessName::UntilReady { .. }
                    | ProcessName::Readiness { .. },
                ) => {
                    let at = clock::timestamp(record.time_ns);
                    self.feed.note_check_output(&record.process, at, &record.bytes);
                }
                Some(ProcessName::Run(_)) if self.suppressed.contains(&record.process) => {}
                // A monitor looks again and again: what it says is no part of the log.
                Some(ProcessName::Monitor { .. }) => {}
                Some(ProcessName::Run(_)) | None => self.split(record),
            }
        }
        self.cursor = chunk.next;
        if has_moved && self.save_at.is_none() {
            self.save_at = Some(Instant::now() + SAVE_EVERY);
        }
        has_moved
    }

    fn split(&mut self, record: &OutputRecord) {
        let stream = match record.stream {
            garden::OutputStream::Stdout => OutputStream::Out,
            garden::OutputStream::Stderr => OutputStream::Err,
        };
        let at = clock::timestamp(record.time_ns);
        let mut open = self.take_open(&record.process, stream).unwrap_or_else(|| OpenLine {
            process: record.process.clone(),
            stream,
            at,
            bytes: Vec::new(),
        });
        for (index, part) in record.bytes.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
            if index > 0 {
                let next = OpenLine { at, bytes: Vec::new(), ..open.clone() };
                self.hand_on(std::mem::replace(&mut open, next));
            }
            open.bytes.extend_from_slice(part);
            while open.bytes.len() > LINE_BYTES_MAX {
                let rest = open.bytes.split_off(cut_at(&open.bytes));
                let next = OpenLine { bytes: rest, ..open.clone() };
                self.hand_on(std::mem::replace(&mut open, next));
            }
        }
        if !open.bytes.is_empty() {
            self.open_lines.push(open);
        }
    }

    fn take_open(&mut self, process: &ProcessId, stream: OutputStream) -> Option<OpenLine> {
        let is_it = |open: &OpenLine| open.process == *process && open.stream == stream;
        let index = self.open_lines.iter().position(is_it)?;
        Some(self.open_lines.swap_remove(index))
    }

    /// Hands on the open lines of processes that ended and whose output was read.
    fn flush_ended(&mut self) {
        for process in self.feed.take_ended(self.cursor) {
            for stream in [OutputStream::Out, OutputStream::Err] {
                if let Some(open) = self.take_open(&process, stream) {
                    self.hand_on(open);
                }
            }
            self.feed.note_flushed(process);
        }
    }

    /// Empty lines are left out, as in Diego.
    fn hand_on(&mut self, line: OpenLine) {
        if line.bytes.is_empty() {
            return;
        }
        self.feed.note_written(line.bytes.len());
        let Self { order, feed, .. } = *self;
        let source = self.sources.get(&line.process).unwrap_or(&order.recipe.log_source);
        let OpenLine { at, stream, bytes, .. } = line;
        let verdict = self.limiter.judge(at, bytes.len());
        let line = || LogLine::of_bytes(at, source, stream, bytes);
        match verdict {
            Verdict::Pass(dropped) => {
                if let Some(dropped) = dropped {
                    feed.say(order, source, OutputStream::Err, dropped.text());
                }
                feed.line(order, line());
            }
            Verdict::Exceeded(text) => {
                feed.keep(line());
                feed.say(order, source, OutputStream::Err, text);
            }
            Verdict::Drop => feed.keep(line()),
            Verdict::Unwanted => {}
        }
    }
}

/// Where to cut a long line: at the limit, or before the character that straddles it.
fn cut_at(bytes: &[u8]) -> usize {
    let is_continued = |index: usize| bytes.get(index).is_some_and(|byte| byte & 0xC0 == 0x80);
    (0..4)
        .map(|back| LINE_BYTES_MAX - back)
        .find(|index| !is_continued(*index))
        .unwrap_or(LINE_BYTES_MAX)
}
