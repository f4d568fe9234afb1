//! What processes wrote, as a caller reads it back: records after a cursor.
//!
//! A cursor is a position in the endless stream of a container's framed records, so it survives
//! restarts and tells how much was dropped in between. Never make one up: use the ones given.

use serde::{Deserialize, Serialize};

use super::ProcessId;

/// A position in a container's output; the default is its beginning.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct OutputCursor(pub u64);

/// Which of a process's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// What was read from one stream at one moment; cut wherever the pipe was, not at lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRecord {
    /// When it was read from the process, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Who wrote it.
    pub process: ProcessId,
    /// Where to.
    pub stream: OutputStream,
    /// The bytes as written.
    pub bytes: Vec<u8>,
}

/// Some records, and where to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// The records, oldest first; empty when there is nothing more now.
    pub records: Vec<OutputRecord>,
    /// What to read after next time.
    pub next: OutputCursor,
    /// Bytes of framed records that were dropped, for want of room, between the cursor asked
    /// for and the first record given.
    pub dropped_bytes: u64,
}
