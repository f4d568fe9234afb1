//! What can go wrong with the observation store.

use std::{io, path::PathBuf};

use super::PUSH_RECORDS_MAX;

/// Why observations could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder cannot be made or listed.
    #[error("cannot use the observation folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A segment cannot be read, written or removed.
    #[error("cannot {operation} the observation segment {path}")]
    Segment {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A push holds too many records.
    #[error("a push may hold at most {PUSH_RECORDS_MAX} records, but holds {0}")]
    PushTooLarge(usize),
    /// A record cannot be encoded or is larger than a frame may be.
    #[error("an observation cannot be stored")]
    Unstorable,
    /// The work was stopped, because it panicked or the process is ending.
    #[error("the observation store was stopped")]
    Stopped,
}
