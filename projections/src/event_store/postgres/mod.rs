//! The log in Postgres 15 or newer, written by any number of nodes.
//!
//! One row holds the head, and its lock puts appends in order, so positions are dense and visible
//! in order for every reader. An append that is answered is on the server's disk.

mod append;
mod appender;
mod begin;
mod beside;
mod database;
mod failure;
mod import;
mod lineage;
mod migrate;
mod pages;
mod read;
mod rows;
mod shared;
mod tail;
mod tailer;
mod turn;
mod versions;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use domain::{
    event::Event,
    id::CommandId,
    log::{Owner, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    AppendError, Batch, BatchId, BatchRow, Error, EventStore, Filter, Head, ImportError, ImportLog,
    Leaf, LogId, NewestOfType, Order, OwnerSubscription, Row, StoredBatch, Subscription, Turn,
    subscription::{Source, filter_of},
};
use appender::Appender;
use shared::Shared;

pub use database::{Database, WallClock};

/// The log in a [`Database`]. One store per database and process.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    database: Database,
    appender: Appender,
    shared: Arc<Shared>,
    /// Stops the followers with the last handle.
    _followers: Arc<DropGuard>,
}

impl PostgresStore {
    /// The log in an open database.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let shared = Arc::new(Shared::new(database.lineage().clone()));
        let stop: CancellationToken = database.closing().child_token();
        let follow = tailer::follow(database.clone(), shared.clone(), stop.clone());
        database.keep(crate::worker::spawn("postgres tailer", follow));
        let listen = tailer::listen(database.clone(), shared.clone(), stop.clone());
        database.keep(crate::worker::spawn("postgres listener", listen));
        let appender = Appender::start(&database, shared.clone());
        Self { database, appender, shared, _followers: Arc::new(stop.drop_guard()) }
    }
}

#[derive(Debug)]
struct PostgresSource(Database);

#[async_trait]
impl Source for PostgresSource {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        read::all(&self.0, after, limit).await
    }

    async fn page_of(
        &self,
        owner: &Owner,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let (filter, order) = filter_of(owner);
        read::filtered(&self.0, &filter, after, limit, order).await
    }

    async fn end(&self) -> Result<Position, Error> {
        read::head(&self.0).await.map(|head| head.position)
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn head(&self) -> Result<Head, Error> {
        let committed = self.shared.lineage.known().position;
        let head = read::head(&self.database).await?;
        self.shared.lineage.saw_behind(committed, head);
        self.shared.lineage.intact()?;
        Ok(head)
    }

    async fn log_id(&self) -> Result<LogId, Error> {
        Ok(self.database.log_id())
    }

    async fn ready(&self) -> Result<Head, Error> {
        self.database.check_writable().await?;
        self.head().await
    }

    async fn append(&self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        self.appender.append(batch).await
    }

    async fn turn(&self) -> Result<Box<dyn Turn>, AppendError> {
        let granted = self.appender.turn().await?;
        Ok(Box::new(granted))
    }

    async fn find_batch(&self, id: BatchId) -> Result<Option<Vec<Recorded<Event>>>, Error> {
        self.appender.find(id).await
    }

    async fn find_commands(
        &self,
        ids: &[CommandId],
    ) -> Result<HashMap<CommandId, Vec<Recorded<Event>>>, Error> {
        read::commands(&self.database, ids).await
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        read::all(&self.database, after, limit).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        read::stream(&self.database, stream, after, limit).await
    }

    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        read::filtered(&self.database, filter, after, limit, order).await
    }

    async fn newest_of_each_type(&self) -> Result<Vec<NewestOfType>, Error> {
        beside::newest_of_each_type(&self.database).await
    }

    async fn position_at(&self, time: Timestamp) -> Result<Position, Error> {
        read::position_at(&self.database, time).await
    }

    async fn read_rows(&self, after: Position, limit: usize) -> Result<Vec<(Row, Leaf)>, Error> {
        read::rows(&self.database, after, limit).await
    }

    async fn read_batches(&self, after: Position, limit: usize) -> Result<Vec<BatchRow>, Error> {
        read::batches(&self.database, after, limit).await
    }

    async fn stored_bytes(&self) -> Result<Option<u64>, Error> {
        beside::stored_bytes(&self.database).await.map(Some)
    }

    fn subscribe(&self, after: Position) -> Subscription {
        let source = PostgresSource(self.database.clone());
        self.shared.feed.subscribe(Arc::new(source), after)
    }

    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription {
        let source = PostgresSource(self.database.clone());
        self.shared.feed.subscribe_to(Arc::new(source), owner, after)
    }
}

#[async_trait]
impl ImportLog for PostgresStore {
    async fn import(&self, log_id: LogId, batches: Vec<StoredBatch>) -> Result<Head, ImportError> {
        let head = self
            .database
            .transaction("import into the log", move |connection| {
                Box::pin(import::write(connection, log_id, batches))
            })
            .await;
        let head = head.map_err(ImportError::Failed)??;
        self.database.became(log_id);
        self.shared.lineage.saw(head);
        Ok(head)
    }
}

#[cfg(test)]
mod tests;
