//! What an export says of itself: where it comes from in its first record, what it must have held
//! in its last.

use domain::{
    log::{Incarnation, Position},
    sealed::Digest,
    units::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::event_store::LogId;

/// The first record of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// See [`super::FORMAT_VERSION`].
    pub format_version: u32,
    /// The program that wrote it.
    pub program_version: String,
    /// The log that it is of.
    pub log_id: LogId,
    /// The life of the log that it was taken from.
    pub incarnation: Incarnation,
    /// Its first event's position. An export of an empty log has 1.
    pub first: Position,
    /// Its last event's position; the one before `first` when it holds none.
    pub last: Position,
    /// The link of the batch before its first one; zeros at the log's start.
    pub link_before: Digest,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Header {
    /// How many events it must hold.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.last.0.saturating_add(1).saturating_sub(self.first.0)
    }

    /// The position before its first event.
    #[must_use]
    pub fn before(&self) -> Position {
        Position(self.first.0.saturating_sub(1))
    }
}

/// The last record of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// How many events it holds.
    pub events: u64,
    /// How many batches it holds.
    pub batches: u64,
    /// The link of its last batch; the one before it when it holds none.
    pub link: Digest,
    /// The digest of everything before this record.
    pub sha256: Digest,
}
