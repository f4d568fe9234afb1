//! The durable log in one SQLite file: WAL, `synchronous=FULL`, one writer, several readers.
//!
//! An append that is answered is on the disk. A file that is not ours, newer than us or damaged
//! is refused at open and left as it is.
//!
//! A batch is one row with all its events (`packed_batch`), so that a commit writes few pages.
//! By what events are found is written behind, many at a time (`lookups`).

mod append;
mod begin;
mod beside;
mod bulk;
#[cfg(any(test, feature = "testing"))]
mod by_hand;
mod convert;
mod database;
mod failure;
mod import;
mod library;
mod lookups;
mod packed_batch;
mod pages;
mod read;
mod reader;
mod rows;
mod statements;
mod tail;
mod trim;
mod wanted;
mod writer;

use std::{collections::HashMap, sync::Arc};

use super::{
    AppendError, Batch, BatchId, BatchRow, Error, EventStore, Filter, Floor, Head, HotLog,
    ImportError, ImportLog, Leaf, LogId, LogIdentity, NewestOfType, Order, OwnerSubscription,
    READ_EVENTS_MAX, Row, StoredBatch, StreamRow, Subscription, Turn,
    chain::Fault,
    subscription::{Feed, Source, filter_of},
    turn::FreeTurn,
};
use async_trait::async_trait;
use domain::{
    event::Event,
    id::CommandId,
    log::{Owner, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use rusqlite::Connection;

use crate::checkpoint::Checkpoint;

pub use bulk::{fill, index_all};
#[cfg(any(test, feature = "testing"))]
pub use by_hand::{change_by_hand, change_event_by_hand, change_events_by_hand};
pub use database::Database;
pub(super) use database::open_error;
pub use lookups::RUN_EVENTS;
use pages::Kept;
pub(crate) use writer::Failure;

/// The log in a [`Database`].
///
/// One store per database and process: its subscriptions hear of its own appends at once, and of
/// another store's only when they read again.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    database: Database,
    feed: Arc<Feed>,
    kept: Kept,
}

impl SqliteStore {
    /// The log in an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, feed: Arc::new(Feed::new()), kept: Kept::default() }
    }
}

#[derive(Debug)]
struct SqliteSource {
    database: Database,
    kept: Kept,
}

impl SqliteSource {
    fn of(database: Database) -> Self {
        Self { database, kept: Kept::default() }
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        all(&self.database, &self.kept, after, limit).await
    }

    async fn page_of(
        &self,
        owner: &Owner,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let (filter, order) = filter_of(owner);
        filtered(&self.database, filter, after, limit, order).await
    }

    async fn end(&self) -> Result<Position, Error> {
        read::head(self.database.readers()).await.map(|head| head.position)
    }
}

async fn all(
    database: &Database,
    kept: &Kept,
    after: Position,
    limit: usize,
) -> Result<Vec<Recorded<Event>>, Error> {
    let kept = kept.clone();
    let look = move |connection: &Connection| pages::all(connection, &kept, after, limit);
    database.look("read the log", look).await
}

async fn filtered(
    database: &Database,
    filter: Filter,
    after: Position,
    limit: usize,
    order: Order,
) -> Result<Vec<Recorded<Event>>, Error> {
    let lookups = database.lookups().clone();
    let look = move |connection: &Connection| {
        read::filtered(connection, &lookups, &filter, after, limit, order)
    };
    database.look("read the filtered log", look).await
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn head(&self) -> Result<Head, Error> {
        read::head(self.database.readers()).await
    }

    async fn log_id(&self) -> Result<LogId, Error> {
        read::log_id(self.database.readers()).await
    }

    async fn append(&self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        append::append(&self.database, self.feed.clone(), batch).await
    }

    async fn turn(&self) -> Result<Box<dyn Turn>, AppendError> {
        FreeTurn::of(self).await
    }

    async fn find_batch(&self, id: BatchId) -> Result<Option<Vec<Recorded<Event>>>, Error> {
        self.database.check_disk()?;
        let lookups = self.database.lookups().clone();
        let look = move |connection: &Connection| read::batch(connection, &lookups, id);
        let found = self.database.look("look a batch up", look).await?;
        if let Some(events) = &found {
            // Its commit may have been taken for failed: then nobody has heard of it yet.
            self.feed.publish(events);
        }
        Ok(found)
    }

    async fn find_commands(
        &self,
        ids: &[CommandId],
    ) -> Result<HashMap<CommandId, Vec<Recorded<Event>>>, Error> {
        let (lookups, asked) = (self.database.lookups().clone(), ids.to_vec());
        let look = move |connection: &Connection| read::commands(connection, &lookups, &asked);
        let found = self.database.look("look commands up", look).await?;
        let known = ids.iter().cloned().zip(found).filter(|(_, events)| !events.is_empty());
        Ok(known.collect())
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        all(&self.database, &self.kept, after, limit).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let (lookups, stream) = (self.database.lookups().clone(), stream.clone());
        let look = move |connection: &Connection| {
            read::stream(connection, &lookups, &stream, after, limit)
        };
        self.database.look("read a stream", look).await
    }

    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        filtered(&self.database, filter.clone(), after, limit, order).await
    }

    async fn newest_of_each_type(&self) -> Result<Vec<NewestOfType>, Error> {
        let lookups = self.database.lookups().clone();
        let look = move |connection: &Connection| lookups.newest_types(connection);
        self.database.look("list the types of events", look).await
    }

    async fn position_at(&self, time: Timestamp) -> Result<Position, Error> {
        let look = move |connection: &Connection| read::position_at(connection, time);
        self.database.look("find the position of a time", look).await
    }

    async fn read_rows(&self, after: Position, limit: usize) -> Result<Vec<(Row, Leaf)>, Error> {
        let look = move |connection: &Connection| pages::rows(connection, after, limit);
        self.database.look("read the log's rows", look).await
    }

    async fn read_batches(&self, after: Position, limit: usize) -> Result<Vec<BatchRow>, Error> {
        let look = move |connection: &Connection| read::batches(connection, after, limit);
        self.database.look("read the log's batches", look).await
    }

    async fn stored_bytes(&self) -> Result<Option<u64>, Error> {
        self.database.file_bytes().map(Some)
    }

    fn subscribe(&self, after: Position) -> Subscription {
        let source = SqliteSource::of(self.database.clone());
        self.feed.subscribe(Arc::new(source), after)
    }

    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription {
        let source = SqliteSource::of(self.database.clone());
        self.feed.subscribe_to(Arc::new(source), owner, after)
    }
}

#[async_trait]
impl HotLog for SqliteStore {
    async fn identity(&self) -> Result<LogIdentity, Error> {
        beside::identity(self.database.readers()).await
    }

    async fn floor(&self) -> Result<Floor, Error> {
        trim::floor(self.database.readers()).await
    }

    async fn trim(&self, floor: Floor) -> Result<(), Error> {
        trim::trim(&self.database, floor).await
    }

    async fn begin_behind(&self, log_id: LogId, floor: Floor) -> Result<Head, Error> {
        begin::behind(&self.database, log_id, floor).await?;
        self.head().await
    }

    async fn add_streams(&self, streams: Vec<StreamRow>) -> Result<(), Error> {
        begin::add_streams(&self.database, streams).await
    }

    async fn checkpoints(&self, after: Position, limit: usize) -> Result<Vec<Checkpoint>, Error> {
        beside::checkpoints(self.database.readers(), after, limit).await
    }

    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        beside::save_checkpoint(&self.database, checkpoint.clone()).await
    }

    async fn streams(&self, after: &str, limit: usize) -> Result<Vec<StreamRow>, Error> {
        let (lookups, after) = (self.database.lookups().clone(), after.to_owned());
        let limit = limit.min(READ_EVENTS_MAX);
        let look = move |connection: &Connection| lookups.streams(connection, &after, limit);
        self.database.look("read the streams", look).await
    }

    async fn misfit(&self) -> Result<Option<Fault>, Error> {
        beside::misfit(self.database.path(), self.database.readers()).await
    }

    async fn check_lookups(&self) -> Result<(), Error> {
        self.database.look("check what events are found by", lookups::check).await
    }
}

#[async_trait]
impl ImportLog for SqliteStore {
    async fn import(&self, log_id: LogId, batches: Vec<StoredBatch>) -> Result<Head, ImportError> {
        import::import(&self.database, log_id, batches).await
    }
}

#[cfg(test)]
mod tests;
