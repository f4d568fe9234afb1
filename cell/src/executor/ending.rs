//! How a container's work ended, in Diego's words.
//!
//! Pure: what the garden recorded in, texts and types of the domain out.

use std::net::Ipv4Addr;

use domain::exit::{ExitStatus, OutOfMemory, ProcessExit};
use domain::rep::Evidence;
use domain::units::Milliseconds;

use crate::garden::{self, ExitRecord};

/// What is told while a container runs.
#[derive(Debug)]
pub(crate) enum Happened {
    /// Its checks passed, or it has none and its process runs.
    Healthy {
        /// Its own address.
        address: Ipv4Addr,
        /// Whether it may take requests already.
        is_ready: bool,
    },
    /// It may take requests, or may not; a word that was told before may be told again.
    Readiness(bool),
    /// Its work ended without being asked to.
    Ended(Box<Ending>),
}

/// How a container's work ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Why it failed; absent when it succeeded.
    pub(crate) failure_reason: Option<String>,
    /// Its main process's end; absent when none ran, or when it was still running.
    pub(crate) exit: Option<ProcessExit>,
    /// What was seen of it last.
    pub(crate) evidence: Evidence,
    /// What it left to be told; empty when nothing.
    pub(crate) result: String,
}

/// Why a container is no longer watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Its work ended, and was told.
    Ended,
    /// It was stopped as asked.
    Stopped(Stopped),
    /// It was left running.
    Detached,
}

/// How a container that was stopped as asked ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Within its grace.
    Gracefully,
    /// By SIGKILL, after its grace.
    Killed(Box<Kill>),
}

/// How a container ended that did not end in its grace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kill {
    /// How long it had had.
    pub(crate) grace: Milliseconds,
    /// What was seen of it last.
    pub(crate) evidence: Evidence,
}

/// An exit as the log keeps it.
pub(super) fn process_exit(record: &ExitRecord) -> ProcessExit {
    let status = match record.status {
        garden::ExitStatus::Exited { code } => ExitStatus::Exited(code),
        garden::ExitStatus::Signaled { signal } => ExitStatus::Signalled(signal),
    };
    let out_of_memory = record.out_of_memory.map(|report| OutOfMemory {
        limit_bytes: report.limit_bytes,
        peak_bytes: report.peak_bytes,
        kills: report.kills,
    });
    ProcessExit { status, out_of_memory }
}

/// Whether a process ended well.
pub(super) fn succeeded(record: &ExitRecord) -> bool {
    status_number(record) == 0
}

/// `status 3`, `status 137 (out of memory)`: a signal is told as a shell does.
pub(super) fn status_text(record: &ExitRecord) -> String {
    let number = status_number(record);
    let is_starved = number != 0 && record.out_of_memory.is_some();
    format!("status {number}{}", if is_starved { " (out of memory)" } else { "" })
}

fn status_number(record: &ExitRecord) -> i32 {
    match record.status {
        garden::ExitStatus::Exited { code } => code,
        garden::ExitStatus::Signaled { signal } => signal.saturating_add(128),
    }
}
