//! A log of two parts, read as one: the database's, and the archive's before it.
//!
//! The seam may move at any moment, because another node archives: whatever is read from the
//! database is checked against the floor read afterwards. No event is ever passed over.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use domain::{
    event::Event,
    id::CommandId,
    log::{Owner, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};

use super::{Archive, BaseState, prune};
use crate::event_store::{
    AppendError, Batch, BatchId, BatchRow, Error, EventStore, Filter, Head, HotLog, Leaf, LogId,
    NewestOfType, Order, OwnerSubscription, READ_EVENTS_MAX, Row, Subscription, SubscriptionSource,
    Turn, filter_of,
};

/// A log whose older part is in an archive.
#[derive(Debug, Clone)]
pub struct ArchivedStore {
    hot: Arc<dyn EventStore>,
    tables: Arc<dyn HotLog>,
    archive: Arc<Archive>,
}

impl ArchivedStore {
    /// Joins a database's log and its archive.
    #[must_use]
    pub fn new(hot: Arc<dyn EventStore>, tables: Arc<dyn HotLog>, archive: Arc<Archive>) -> Self {
        Self { hot, tables, archive }
    }

    /// The archive.
    #[must_use]
    pub fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// The database's floor; what is up to it is in the archive.
    async fn floor(&self) -> Result<Position, Error> {
        let floor = self.tables.floor().await?.position;
        self.archive.reach(floor).await?;
        Ok(floor)
    }

    /// Refuses what begins before the archive does.
    fn refuse_pruned(&self, after: Position) -> Result<(), Error> {
        let floor = self.archive.manifest().begin().0;
        if after < floor { Err(Error::Pruned { position: after.next(), floor }) } else { Ok(()) }
    }
}

/// Reads a page behind a position from the archive up to the floor, and from the database behind
/// it.
macro_rules! across {
    ($self:ident, $after:ident, $limit:ident, $from_hot:ident, $from_archive:ident, $end:expr) => {{
        let limit = $limit.min(READ_EVENTS_MAX);
        let mut after = $after;
        let mut found = Vec::new();
        loop {
            let rest = limit.saturating_sub(found.len());
            let floor = $self.tables.floor().await?.position;
            if after < floor {
                $self.archive.reach(floor).await?;
                $self.refuse_pruned(after)?;
                let page = $self.archive.$from_archive(after, floor, rest).await?;
                add_page(&mut found, page);
                if found.len() >= limit {
                    return Ok(found);
                }
                after = found.last().map_or(floor, $end).max(floor);
                continue;
            }
            let page = $self.hot.$from_hot(after, rest).await?;
            // What moved meanwhile may be missing in it.
            if $self.tables.floor().await?.position <= after {
                add_page(&mut found, page);
                return Ok(found);
            }
        }
    }};
}

/// Nearly every page lies on one side of the seam, and is not copied.
fn add_page<T>(found: &mut Vec<T>, page: Vec<T>) {
    if found.is_empty() {
        *found = page;
    } else {
        found.extend(page);
    }
}

#[async_trait]
impl EventStore for ArchivedStore {
    async fn head(&self) -> Result<Head, Error> {
        self.hot.head().await
    }

    async fn log_id(&self) -> Result<LogId, Error> {
        self.hot.log_id().await
    }

    async fn newest_of_each_type(&self) -> Result<Vec<NewestOfType>, Error> {
        let mut newest = self.hot.newest_of_each_type().await?;
        self.floor().await?;
        let archived = self.archive.manifest().newest_of_each_type();
        let is_new =
            |entry: &NewestOfType| newest.iter().all(|known| known.type_name != entry.type_name);
        let only_archived: Vec<NewestOfType> = archived.into_iter().filter(is_new).collect();
        newest.extend(only_archived);
        Ok(newest)
    }

    async fn archived(&self) -> Result<Position, Error> {
        Ok(self.tables.floor().await?.position)
    }

    fn pruned(&self) -> Position {
        self.archive.manifest().begin().0
    }

    async fn base(&self) -> Result<Option<BaseState>, Error> {
        let manifest = self.archive.manifest();
        match &manifest.base {
            Some(entry) => Ok(Some(prune::read(&self.archive, entry, &manifest).await?)),
            None => Ok(None),
        }
    }

    async fn stored_bytes(&self) -> Result<Option<u64>, Error> {
        self.hot.stored_bytes().await
    }

    async fn ready(&self) -> Result<Head, Error> {
        self.hot.ready().await
    }

    async fn append(&self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        self.hot.append(batch).await
    }

    async fn turn(&self) -> Result<Box<dyn Turn>, AppendError> {
        let turn = self.hot.turn().await?;
        Ok(Box::new(ArchivedTurn { turn, store: self.clone() }))
    }

    async fn find_batch(&self, id: BatchId) -> Result<Option<Vec<Recorded<Event>>>, Error> {
        if let Some(events) = self.hot.find_batch(id).await? {
            return Ok(Some(events));
        }
        let events = self.archive.batch(id, self.floor().await?).await?;
        Ok(Some(events).filter(|events| !events.is_empty()))
    }

    async fn find_commands(
        &self,
        ids: &[CommandId],
    ) -> Result<HashMap<CommandId, Vec<Recorded<Event>>>, Error> {
        let mut found = self.hot.find_commands(ids).await?;
        let floor = self.floor().await?;
        for id in ids {
            if !found.contains_key(id) {
                let events = self.archive.command(id, floor).await?;
                found.extend((!events.is_empty()).then(|| (id.clone(), events)));
            }
        }
        Ok(found)
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        across!(self, after, limit, read_all, read_all, |event| event.position)
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let limit = limit.min(READ_EVENTS_MAX);
        loop {
            let before = self.floor().await?;
            let mut events = Vec::new();
            let hot = self.hot.read_stream(stream, after, limit).await?;
            let next = StreamVersion(after.0.saturating_add(1));
            let is_whole = hot.first().is_some_and(|event| event.version == next);
            if !is_whole && before > Position(0) {
                events = self.archive.stream(stream, after, before, limit).await?;
            }
            if !is_whole && self.tables.floor().await?.position != before {
                continue;
            }
            events.extend(hot);
            events.truncate(limit);
            let begin = self.archive.manifest().begin().0;
            if begin > Position(0) && events.first().is_some_and(|event| event.version > next) {
                return Err(Error::Pruned { position: Position(1), floor: begin });
            }
            return Ok(events);
        }
    }

    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let limit = limit.min(READ_EVENTS_MAX);
        loop {
            let floor = self.floor().await?;
            let archived = |limit| self.archive.filtered(filter, after, floor, limit, order);
            let events = match order {
                Order::OldestFirst if after < floor => {
                    self.refuse_pruned(after)?;
                    let mut events = archived(limit).await?;
                    if events.len() < limit {
                        let rest = limit - events.len();
                        events.extend(self.hot.read_filtered(filter, floor, rest, order).await?);
                    }
                    events
                }
                Order::OldestFirst => self.hot.read_filtered(filter, after, limit, order).await?,
                Order::NewestFirst => {
                    let mut events = self.hot.read_filtered(filter, after, limit, order).await?;
                    if events.len() < limit && floor > Position(0) {
                        events.extend(archived(limit - events.len()).await?);
                    }
                    events
                }
            };
            // Rows that moved between the two reads would have been passed over, or seen twice.
            if self.tables.floor().await?.position == floor {
                return Ok(events);
            }
        }
    }

    async fn position_at(&self, time: Timestamp) -> Result<Position, Error> {
        let position = self.hot.position_at(time).await?;
        if position > Position(0) {
            return Ok(position);
        }
        let floor = self.floor().await?;
        if floor == Position(0) {
            return Ok(position);
        }
        let found = self.archive.position_at(time, floor).await?;
        let begin = self.archive.manifest().begin().0;
        match found {
            Some(position) => Ok(position),
            None if begin == Position(0) => Ok(begin),
            None => Err(Error::Pruned { position: Position(0), floor: begin }),
        }
    }

    async fn read_rows(&self, after: Position, limit: usize) -> Result<Vec<(Row, Leaf)>, Error> {
        across!(self, after, limit, read_rows, rows, |(row, _)| row.position)
    }

    async fn read_batches(&self, after: Position, limit: usize) -> Result<Vec<BatchRow>, Error> {
        across!(self, after, limit, read_batches, batches, BatchRow::last)
    }

    fn subscribe(&self, after: Position) -> Subscription {
        self.hot.subscribe(after).reading_from(Arc::new(self.clone()))
    }

    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription {
        self.hot.subscribe_to(owner, after).reading_from(Arc::new(self.clone()))
    }
}

#[async_trait]
impl SubscriptionSource for ArchivedStore {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        self.read_all(after, limit).await
    }

    async fn page_of(
        &self,
        owner: &Owner,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let (filter, order) = filter_of(owner);
        self.read_filtered(&filter, after, limit, order).await
    }

    async fn end(&self) -> Result<Position, Error> {
        Ok(self.head().await?.position)
    }
}

/// A turn that reads the archive when its reader is so far behind.
struct ArchivedTurn {
    turn: Box<dyn Turn>,
    store: ArchivedStore,
}

#[async_trait]
impl Turn for ArchivedTurn {
    fn head(&self) -> Head {
        self.turn.head()
    }

    async fn read_all(
        &mut self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let page = self.turn.read_all(after, limit).await?;
        let is_next = page.first().is_some_and(|event| event.position == after.next());
        if is_next || after >= self.turn.head().position {
            return Ok(page);
        }
        self.store.read_all(after, limit).await
    }

    async fn append(self: Box<Self>, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        self.turn.append(batch).await
    }
}
