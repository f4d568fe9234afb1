//! The durable log in one SQLite file: WAL, `synchronous=FULL`, one writer, several readers.
//!
//! An append that is answered is on the disk. A file that is not ours, newer than us or damaged
//! is refused at open and left as it is.

mod append;
mod begin;
mod beside;
mod bulk;
#[cfg(any(test, feature = "testing"))]
mod by_hand;
mod database;
mod failure;
mod import;
mod library;
mod pages;
mod read;
mod rows;
mod statements;
mod tail;
mod trim;
mod types;
mod writer;

use std::sync::Arc;

use super::{
    AppendError, Batch, BatchId, BatchRow, Error, EventStore, Filter, Floor, Head, HotLog,
    ImportError, ImportLog, Leaf, LogId, LogIdentity, NewestOfType, Order, OwnerSubscription, Row,
    StoredBatch, StreamRow, Subscription, Turn,
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

use crate::checkpoint::Checkpoint;

pub use bulk::fill;
#[cfg(any(test, feature = "testing"))]
pub use by_hand::change_by_hand;
pub use database::Database;
pub(super) use database::open_error;
pub(crate) use writer::Failure;

/// The log in a [`Database`].
///
/// One store per database and process: its subscriptions hear of its own appends at once, and of
/// another store's only when they read again.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    database: Database,
    feed: Arc<Feed>,
}

impl SqliteStore {
    /// The log in an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, feed: Arc::new(Feed::new()) }
    }
}

#[derive(Debug)]
struct SqliteSource(Database);

#[async_trait]
impl Source for SqliteSource {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        read::all(self.0.pages(), after, limit).await
    }

    async fn page_of(
        &self,
        owner: &Owner,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let (filter, order) = filter_of(owner);
        read::filtered(self.0.readers(), &filter, after, limit, order).await
    }

    async fn end(&self) -> Result<Position, Error> {
        read::head(self.0.readers()).await.map(|head| head.position)
    }
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
        let found = read::batch(self.database.readers(), id).await?;
        if let Some(events) = &found {
            // Its commit may have been taken for failed: then nobody has heard of it yet.
            self.feed.publish(events);
        }
        Ok(found)
    }

    async fn find_command(&self, id: &CommandId) -> Result<Option<Vec<Recorded<Event>>>, Error> {
        read::command(self.database.readers(), id).await
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        read::all(self.database.pages(), after, limit).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        read::stream(self.database.readers(), stream, after, limit).await
    }

    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        read::filtered(self.database.readers(), filter, after, limit, order).await
    }

    async fn newest_of_each_type(&self) -> Result<Vec<NewestOfType>, Error> {
        types::newest_of_each(self.database.readers()).await
    }

    async fn position_at(&self, time: Timestamp) -> Result<Position, Error> {
        read::position_at(self.database.readers(), time).await
    }

    async fn read_rows(&self, after: Position, limit: usize) -> Result<Vec<(Row, Leaf)>, Error> {
        read::rows(self.database.pages(), after, limit).await
    }

    async fn read_batches(&self, after: Position, limit: usize) -> Result<Vec<BatchRow>, Error> {
        read::batches(self.database.readers(), after, limit).await
    }

    async fn stored_bytes(&self) -> Result<Option<u64>, Error> {
        self.database.file_bytes().map(Some)
    }

    fn subscribe(&self, after: Position) -> Subscription {
        let source = SqliteSource(self.database.clone());
        self.feed.subscribe(Arc::new(source), after)
    }

    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription {
        let source = SqliteSource(self.database.clone());
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
        beside::streams(self.database.readers(), after, limit).await
    }

    async fn misfit(&self) -> Result<Option<Fault>, Error> {
        beside::misfit(self.database.path(), self.database.readers()).await
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
