//! What a durable store keeps beside its log: which log it is, where it begins once events have
//! moved to an archive, its checkpoints, and the tables that `verify` compares with the log.
//!
//! Nothing here is deleted but what an archive was seen to hold.

use super::{
    Error, Head, LogId,
    chain::{Fault, GENESIS},
};
use crate::checkpoint::Checkpoint;
use async_trait::async_trait;
use domain::{
    log::{Incarnation, Position, StreamVersion},
    units::Timestamp,
};

/// Which log, and which life of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// Never changes, also not after a restore.
    pub log_id: LogId,
    /// New after a restore.
    pub incarnation: Incarnation,
}

/// Where the log in a database begins: behind the last event that was moved to an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The last event that was moved; 0 when none was.
    pub position: Position,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The link of its batch.
    pub link: [u8; 32],
    /// The archive that it was moved to; empty when none was.
    pub archive: String,
}

impl Floor {
    /// The floor of a log that is whole.
    #[must_use]
    pub fn none() -> Self {
        let (position, recorded_at) = (Position(0), Timestamp(0));
        Self { position, recorded_at, link: GENESIS, archive: String::new() }
    }
}

/// A stream as the store keeps it beside the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRow {
    /// The stream's text.
    pub stream: String,
    /// Its last event's version.
    pub version: StreamVersion,
    /// The last position of the batch that holds that event.
    pub last_position: Position,
}

/// The durable part of a log that may be shortened at its start.
#[async_trait]
pub trait HotLog: Send + Sync + std::fmt::Debug {
    /// Which log this is.
    async fn identity(&self) -> Result<LogIdentity, Error>;

    /// Where the log begins. Only ever rises.
    async fn floor(&self) -> Result<Floor, Error>;

    /// Deletes the events and batches up to a batch's end and raises the floor, in one
    /// transaction. A floor that is not behind the present one, or not before the last batch,
    /// changes nothing. To be called only when an archive was seen to hold them.
    async fn trim(&self, floor: Floor) -> Result<(), Error>;

    /// Makes an empty log the rest of another one, which begins behind a floor; the streams up to
    /// there follow by [`HotLog::add_streams`]. A log that is not empty stays as it is. Answers
    /// with the head.
    async fn begin_behind(&self, log_id: LogId, floor: Floor) -> Result<Head, Error>;

    /// Adds the versions that streams had where the log begins, all or none; one that is there
    /// stays.
    async fn add_streams(&self, streams: Vec<StreamRow>) -> Result<(), Error>;

    /// Notes that a backup is written into this database, which is refused to everybody until
    /// [`HotLog::end_restore`]: a restore that is broken off leaves no log that a node would start
    /// on. A file need not note it: it gets its name last.
    async fn begin_restore(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Notes that the log here is whole.
    async fn end_restore(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The checkpoints behind a position, in order.
    async fn checkpoints(&self, after: Position, limit: usize) -> Result<Vec<Checkpoint>, Error>;

    /// Keeps a checkpoint; one that is there stays.
    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error>;

    /// The streams behind a text, in its order.
    async fn streams(&self, after: &str, limit: usize) -> Result<Vec<StreamRow>, Error>;

    /// The first place where something stands that no reader of the log sees: a row outside of
    /// the log. A database that can tell that its own pages or indexes are damaged fails by that.
    async fn misfit(&self) -> Result<Option<Fault>, Error>;

    /// Fails when what events are found by does not lead to all of them and nothing else: where a
    /// store keeps that itself. For a log whose events were proven.
    async fn check_lookups(&self) -> Result<(), Error> {
        Ok(())
    }
}
