//! The event store: one append-only log behind one trait, with three implementations here.
//!
//! [`sqlite`] and [`postgres`] are durable, [`memory`] serves the simulator; all pass one suite,
//! `conformance`. Only the
//! command bus calls [`EventStore::append`]. The log is never edited and never silently repaired.

mod batch;
pub mod chain;
mod columns;
mod commit;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod encoding;
mod error;
mod hot_log;
mod import;
pub mod keys;
mod known;
pub mod memory;
mod migrate;
mod migrations;
mod of_owner;
mod packed;
pub mod postgres;
mod read_ahead;
pub mod sqlite;
mod stored;
mod subscription;
mod turn;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use domain::{
    event::Event,
    id::CommandId,
    log::{Actor, Incarnation, Owner, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};

pub use batch::{
    BATCH_BYTES_MAX, Batch, BatchId, EVENTS_PER_BATCH_MAX, Encoded, NewEvent, PAYLOAD_BYTES_MAX,
    Payload, Refusal,
};
pub use encoding::{Row, RowRef};
pub(crate) use encoding::{actor_kind, actor_kind_text};
pub use error::{AppendError, CLOCK_DISTANCE_MAX_MS, Error};
pub use hot_log::{Floor, HotLog, LogIdentity, StreamRow};
pub use import::{ImportError, ImportLog, StoredBatch, readable};
pub use known::{NewestOfType, check_known};
pub use of_owner::OwnerSubscription;
pub use read_ahead::ReadAhead;
pub use subscription::{RING_EVENTS, Subscription};
pub(crate) use subscription::{Source as SubscriptionSource, filter_of};

/// The most events that one read answers with, whatever limit it names.
pub const READ_EVENTS_MAX: usize = 10_000;

/// How long a writer may keep its turn.
pub const TURN_MAX: Duration = Duration::from_secs(5);

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last event's position; 0 in an empty log.
    pub position: Position,
    /// When the last event was recorded; 0 in an empty log.
    pub recorded_at: Timestamp,
    /// Which life of the log this is.
    pub incarnation: Incarnation,
    /// The link of the last batch; zeros in an empty log.
    pub link: [u8; 32],
}

/// Which log: drawn when it is made, kept by a restore, another in every other database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LogId(pub uuid::Uuid);

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which events a filtered read is about. A field that is empty or `None` asks nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this owner's events.
    pub owner: Option<Owner>,
    /// Only events with one of these stored type names.
    pub types: Vec<String>,
    /// Only events caused by this actor.
    pub actor: Option<Actor>,
    /// Nothing behind this position.
    pub until: Option<Position>,
}

/// Which way a filtered read goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the position behind `after` towards the head.
    OldestFirst,
    /// From the position before `after` towards the start; `after` 0 starts at the head.
    NewestFirst,
}

/// A batch boundary as the log stores it, with its link in the hash chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    /// The position of the batch's first event.
    pub first: Position,
    /// How many events it holds.
    pub count: u64,
    /// The time that all its events share.
    pub recorded_at: Timestamp,
    /// Its writer's id for it.
    pub id: BatchId,
    /// The hash over its leaves, its boundary and the link before it.
    pub link: [u8; 32],
}

impl BatchRow {
    /// The position of the batch's last event.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.first.0.saturating_add(self.count).saturating_sub(1))
    }
}

/// The right to append next.
#[async_trait]
pub trait Turn: Send {
    /// Where the log ends as long as the turn lasts.
    fn head(&self) -> Head;

    /// The events behind a position, in order.
    async fn read_all(
        &mut self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error>;

    /// As [`EventStore::append`], and ends the turn.
    async fn append(self: Box<Self>, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError>;
}

/// One append-only log.
///
/// Reads see only committed events. Limits are cut to [`READ_EVENTS_MAX`]. Every read fails with
/// [`Error::Unreadable`] when an event in its way was written by a newer program or altered.
#[async_trait]
pub trait EventStore: Send + Sync + std::fmt::Debug {
    /// Where the log ends now.
    async fn head(&self) -> Result<Head, Error>;

    /// Which log this is: the same for its whole life, also after a restore.
    async fn log_id(&self) -> Result<LogId, Error>;

    /// Where the log ends, if it could be written now as far as is known.
    async fn ready(&self) -> Result<Head, Error> {
        self.head().await
    }

    /// Writes a batch, all or nothing; durable when answered. The store gives positions
    /// (`decided_on` + 1 and so on) and stream versions. Dropping the future does not stop the
    /// append.
    async fn append(&self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError>;

    /// Waits for this writer's turn. Until the turn is used or dropped no other writer appends, so
    /// what is decided on its head is not refused: the second try after
    /// [`AppendError::HeadMoved`]. A turn that is not used for [`TURN_MAX`] is taken back.
    async fn turn(&self) -> Result<Box<dyn Turn>, AppendError>;

    /// The events of a batch, or `None` if it was never written and never will be: the question
    /// after [`AppendError::OutcomeUnknown`]. A batch that is still on its way to the database is
    /// refused there, so an id that was asked for must not be used again.
    async fn find_batch(&self, id: BatchId) -> Result<Option<Vec<Recorded<Event>>>, Error>;

    /// Those of some commands that the log holds, each with the events that it caused.
    async fn find_commands(
        &self,
        ids: &[CommandId],
    ) -> Result<HashMap<CommandId, Vec<Recorded<Event>>>, Error>;

    /// The events that a command caused, or `None` if the log holds none.
    async fn find_command(&self, id: &CommandId) -> Result<Option<Vec<Recorded<Event>>>, Error> {
        let mut found = self.find_commands(std::slice::from_ref(id)).await?;
        Ok(found.remove(id))
    }

    /// The events behind a position, in order.
    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error>;

    /// The events of one stream behind a version, in order.
    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error>;

    /// The events that a filter lets through, from `after` (exclusive) on in the given order.
    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, Error>;

    /// The newest event of each type that the log holds: what [`check_known`] looks at. Cheap,
    /// however long the log is.
    async fn newest_of_each_type(&self) -> Result<Vec<NewestOfType>, Error>;

    /// The last position whose `recorded_at` is not later; 0 when there is none.
    async fn position_at(&self, time: Timestamp) -> Result<Position, Error>;

    /// The stored rows behind a position, undecoded, with the leaf hash kept beside each.
    async fn read_rows(&self, after: Position, limit: usize) -> Result<Vec<(Row, Leaf)>, Error>;

    /// The batches that begin behind a position, in order.
    async fn read_batches(&self, after: Position, limit: usize) -> Result<Vec<BatchRow>, Error>;

    /// The last event that was moved to the archive: the database begins behind it. 0 while it is
    /// whole.
    async fn archived(&self) -> Result<Position, Error> {
        Ok(Position(0))
    }

    /// The last event that was pruned; 0 while the log is whole. What is asked about before it is
    /// refused with [`Error::Pruned`].
    fn pruned(&self) -> Position {
        Position(0)
    }

    /// The state at [`EventStore::pruned`]; `None` while the log is whole.
    async fn base(&self) -> Result<Option<crate::archive::BaseState>, Error> {
        Ok(None)
    }

    /// How many bytes the log takes in its store, with indexes and what lies beside it; `None`
    /// where that is not known.
    async fn stored_bytes(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// Follows the log from behind a position: first what is there, then what comes, each event
    /// exactly once and in order.
    fn subscribe(&self, after: Position) -> Subscription;

    /// As [`EventStore::subscribe`], of one owner's events alone: costs nothing for all others.
    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription;
}

/// The hash of one event row as stored beside it.
pub type Leaf = [u8; 32];
