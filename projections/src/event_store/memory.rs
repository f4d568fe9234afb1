//! The log in memory: a plain synchronous core for the simulator, and its wrapping as a store.
//!
//! Same rows, versions, hashes and refusals as the durable stores; nothing survives the process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use domain::{
    event::Event,
    id::CommandId,
    log::{Incarnation, Owner, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};

use super::{
    AppendError, Batch, BatchId, BatchRow, Error, EventStore, Filter, Head, ImportError, ImportLog,
    Leaf, LogId, NewestOfType, Order, OwnerSubscription, READ_EVENTS_MAX, Row, StoredBatch,
    Subscription, Turn,
    chain::GENESIS,
    commit::{self, Commit},
    import,
    subscription::{Feed, Source, filter_of},
    turn::FreeTurn,
};

/// A log without IO and without async.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    log_id: LogId,
    head: Head,
    events: Vec<Arc<Recorded<Event>>>,
    rows: Vec<(Row, Leaf)>,
    streams: BTreeMap<StreamId, Vec<usize>>,
    commands: BTreeMap<CommandId, Vec<usize>>,
    batches: Vec<BatchRow>,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        let head =
            Head { position: Position(0), recorded_at: Timestamp(0), incarnation, link: GENESIS };
        Self {
            log_id: LogId(incarnation.0),
            head,
            events: Vec::new(),
            rows: Vec::new(),
            streams: BTreeMap::new(),
            commands: BTreeMap::new(),
            batches: Vec::new(),
        }
    }

    /// Where the log ends.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// Writes a batch, all or nothing.
    ///
    /// # Errors
    /// [`AppendError::HeadMoved`], [`AppendError::Refused`], or a defect of the encoding.
    pub fn append(&mut self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        commit::check(&self.head, &batch)?;
        let mut versions = BTreeMap::new();
        for event in &batch.events {
            if let Some(events) = self.streams.get(&event.stream) {
                let version = u64::try_from(events.len()).unwrap_or(u64::MAX);
                versions.insert(event.stream.clone(), StreamVersion(version));
            }
        }
        let commit = commit::place(&self.head, versions, batch)?;
        Ok(self.apply(commit))
    }

    fn apply(&mut self, commit: Commit) -> Vec<Recorded<Event>> {
        for event in &commit.events {
            let index = self.events.len();
            self.streams.entry(event.stream.clone()).or_default().push(index);
            self.commands.entry(event.command_id.clone()).or_default().push(index);
            self.events.push(Arc::new(event.clone()));
        }
        self.rows.extend(commit.rows);
        self.batches.push(commit.batch);
        self.head = commit.head;
        commit.events
    }

    /// Takes batches as another log wrote them; see [`ImportLog::import`].
    ///
    /// # Errors
    /// [`ImportError`]; nothing was written.
    pub fn import(
        &mut self,
        log_id: LogId,
        batches: Vec<StoredBatch>,
    ) -> Result<Head, ImportError> {
        import::check_log(&self.head, self.log_id, log_id)?;
        let mut versions = BTreeMap::new();
        for stream in import::streams(&batches)? {
            if let Some(events) = self.streams.get(&stream) {
                let version = u64::try_from(events.len()).unwrap_or(u64::MAX);
                versions.insert(stream, StreamVersion(version));
            }
        }
        for commit in import::place(self.head, versions, batches)? {
            self.apply(commit);
        }
        self.log_id = log_id;
        Ok(self.head)
    }

    /// The events behind a position, in order, at most `limit`.
    pub fn read_all(
        &self,
        after: Position,
        limit: usize,
    ) -> impl Iterator<Item = &Arc<Recorded<Event>>> {
        self.events.iter().skip(index_behind(after)).take(limit)
    }

    /// The events of a batch, or `None` if it was never written.
    #[must_use]
    pub fn find_batch(&self, id: BatchId) -> Option<Vec<Recorded<Event>>> {
        let batch = self.batches.iter().find(|batch| batch.id == id)?;
        let count = usize::try_from(batch.count).unwrap_or(usize::MAX);
        let before = Position(batch.first.0.saturating_sub(1));
        Some(self.read_all(before, count).map(|event| event.as_ref().clone()).collect())
    }

    /// The events that a command caused, or `None` if there are none.
    #[must_use]
    pub fn find_command(&self, id: &CommandId) -> Option<Vec<Recorded<Event>>> {
        self.commands.get(id).map(|indexes| self.clones(indexes))
    }

    /// The events of a stream behind a version, at most `limit`.
    #[must_use]
    pub fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Vec<Recorded<Event>> {
        let indexes = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let skipped = usize::try_from(after.0).unwrap_or(usize::MAX).min(indexes.len());
        let rest = indexes.get(skipped..).unwrap_or_default();
        self.clones(rest.get(..limit.min(rest.len())).unwrap_or_default())
    }

    /// The events that a filter lets through; see [`EventStore::read_filtered`].
    #[must_use]
    pub fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Vec<Recorded<Event>> {
        let passes = |event: &&Arc<Recorded<Event>>| lets_through(filter, event);
        let clone = |event: &Arc<Recorded<Event>>| event.as_ref().clone();
        match order {
            Order::OldestFirst => {
                self.read_all(after, usize::MAX).filter(passes).take(limit).map(clone).collect()
            }
            Order::NewestFirst => self
                .events
                .iter()
                .rev()
                .filter(|event| after == Position(0) || event.position < after)
                .filter(passes)
                .take(limit)
                .map(clone)
                .collect(),
        }
    }

    /// The last position whose `recorded_at` is not later; 0 when there is none.
    #[must_use]
    pub fn position_at(&self, time: Timestamp) -> Position {
        let count = self.events.partition_point(|event| event.recorded_at <= time);
        Position(u64::try_from(count).unwrap_or(u64::MAX))
    }

    fn clones(&self, indexes: &[usize]) -> Vec<Recorded<Event>> {
        indexes
            .iter()
            .filter_map(|index| self.events.get(*index))
            .map(|event| event.as_ref().clone())
            .collect()
    }
}

fn index_behind(after: Position) -> usize {
    usize::try_from(after.0).unwrap_or(usize::MAX)
}

fn lets_through(filter: &Filter, event: &Recorded<Event>) -> bool {
    filter.owner.as_ref().is_none_or(|owner| *owner == event.stream.owner())
        && (filter.types.is_empty()
            || filter.types.iter().any(|name| name == event.event.type_name()))
        && filter.actor.as_ref().is_none_or(|actor| *actor == event.actor)
        && filter.until.is_none_or(|until| event.position <= until)
}

/// A [`MemoryLog`] as a store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    log: Arc<Mutex<MemoryLog>>,
    feed: Arc<Feed>,
    #[cfg(any(test, feature = "testing"))]
    loss: Arc<Mutex<Option<Loss>>>,
}

/// What becomes of an append whose answer is lost.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing was written.
    BeforeCommit,
    /// All was written.
    AfterCommit,
}

impl MemoryStore {
    /// A store over a log.
    #[must_use]
    pub fn new(log: MemoryLog) -> Self {
        Self {
            log: Arc::new(Mutex::new(log)),
            feed: Arc::new(Feed::new()),
            #[cfg(any(test, feature = "testing"))]
            loss: Arc::default(),
        }
    }

    /// Lets the next append answer [`AppendError::OutcomeUnknown`].
    #[cfg(any(test, feature = "testing"))]
    pub fn lose_next_answer(&self, loss: Loss) {
        *self.loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(loss);
    }

    fn log(&self) -> MutexGuard<'_, MemoryLog> {
        locked(&self.log)
    }
}

// A panic inside `append` comes before anything is changed, so the log behind a poisoned lock is
// whole.
fn locked(log: &Mutex<MemoryLog>) -> MutexGuard<'_, MemoryLog> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct MemorySource(Arc<Mutex<MemoryLog>>);

#[async_trait]
impl Source for MemorySource {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        Ok(locked(&self.0).read_all(after, limit).map(|event| event.as_ref().clone()).collect())
    }

    async fn page_of(
        &self,
        owner: &Owner,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let (filter, order) = filter_of(owner);
        Ok(locked(&self.0).read_filtered(&filter, after, limit, order))
    }

    async fn end(&self) -> Result<Position, Error> {
        Ok(locked(&self.0).head().position)
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn head(&self) -> Result<Head, Error> {
        Ok(self.log().head())
    }

    async fn log_id(&self) -> Result<LogId, Error> {
        Ok(self.log().log_id)
    }

    async fn append(&self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        #[cfg(any(test, feature = "testing"))]
        let (loss, id) =
            (self.loss.lock().unwrap_or_else(PoisonError::into_inner).take(), batch.id);
        #[cfg(any(test, feature = "testing"))]
        if loss == Some(Loss::BeforeCommit) {
            return Err(AppendError::OutcomeUnknown { batch: id });
        }
        // Published under the lock: readers must see batches in the order of their commit.
        let mut log = self.log();
        let events = log.append(batch)?;
        #[cfg(any(test, feature = "testing"))]
        if loss == Some(Loss::AfterCommit) {
            return Err(AppendError::OutcomeUnknown { batch: id });
        }
        self.feed.publish(&events);
        Ok(events)
    }

    async fn turn(&self) -> Result<Box<dyn Turn>, AppendError> {
        FreeTurn::of(self).await
    }

    async fn find_batch(&self, id: BatchId) -> Result<Option<Vec<Recorded<Event>>>, Error> {
        let log = self.log();
        let found = log.find_batch(id);
        if let Some(events) = &found {
            // Its answer may have been lost: then nobody has heard of it yet.
            self.feed.publish(events);
        }
        Ok(found)
    }

    async fn find_commands(
        &self,
        ids: &[CommandId],
    ) -> Result<HashMap<CommandId, Vec<Recorded<Event>>>, Error> {
        let log = self.log();
        let found = ids.iter().filter_map(|id| Some((id.clone(), log.find_command(id)?)));
        Ok(found.collect())
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<Recorded<Event>>, Error> {
        let limit = limit.min(READ_EVENTS_MAX);
        Ok(self.log().read_all(after, limit).map(|event| event.as_ref().clone()).collect())
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        Ok(self.log().read_stream(stream, after, limit.min(READ_EVENTS_MAX)))
    }

    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        Ok(self.log().read_filtered(filter, after, limit.min(READ_EVENTS_MAX), order))
    }

    async fn newest_of_each_type(&self) -> Result<Vec<NewestOfType>, Error> {
        let log = self.log();
        let mut newest: BTreeMap<&str, &Row> = BTreeMap::new();
        newest.extend(log.rows.iter().map(|(row, _)| (row.type_name.as_str(), row)));
        let told = newest.into_values().map(|row| NewestOfType {
            type_name: row.type_name.clone(),
            schema_version: row.schema_version,
            position: row.position,
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|newest| newest.position);
        Ok(told)
    }

    async fn position_at(&self, time: Timestamp) -> Result<Position, Error> {
        Ok(self.log().position_at(time))
    }

    async fn read_rows(&self, after: Position, limit: usize) -> Result<Vec<(Row, Leaf)>, Error> {
        let log = self.log();
        let rows = log.rows.iter().skip(index_behind(after)).take(limit.min(READ_EVENTS_MAX));
        Ok(rows.cloned().collect())
    }

    async fn read_batches(&self, after: Position, limit: usize) -> Result<Vec<BatchRow>, Error> {
        let log = self.log();
        let behind = log.batches.partition_point(|batch| batch.first <= after);
        Ok(log.batches.iter().skip(behind).take(limit.min(READ_EVENTS_MAX)).cloned().collect())
    }

    fn subscribe(&self, after: Position) -> Subscription {
        self.feed.subscribe(Arc::new(MemorySource(self.log.clone())), after)
    }

    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription {
        self.feed.subscribe_to(Arc::new(MemorySource(self.log.clone())), owner, after)
    }
}

#[async_trait]
impl ImportLog for MemoryStore {
    async fn import(&self, log_id: LogId, batches: Vec<StoredBatch>) -> Result<Head, ImportError> {
        self.log().import(log_id, batches)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::conformance::samples::{INCARNATION, START, batch, upserted},
        *,
    };

    #[tokio::test]
    async fn after_a_lost_answer_the_batch_is_found_or_it_is_not() {
        for (loss, expected) in [(Loss::BeforeCommit, 0), (Loss::AfterCommit, 1)] {
            let store = MemoryStore::new(MemoryLog::new(INCARNATION));
            let lost = batch(7, START, 1, vec![upserted("a")]);
            let id = lost.id;
            store.lose_next_answer(loss);

            let answer = store.append(lost).await;

            assert!(matches!(answer, Err(AppendError::OutcomeUnknown { batch }) if batch == id));
            let found = store.find_batch(id).await.unwrap().unwrap_or_default();
            assert_eq!(found.len(), expected);
        }
    }

    #[tokio::test]
    async fn a_batch_whose_answer_was_lost_is_followed_once_it_is_found() {
        let store = MemoryStore::new(MemoryLog::new(INCARNATION));
        store.append(batch(1, START, 1, vec![upserted("a")])).await.unwrap();
        let mut live = store.subscribe(START);
        live.next().await.unwrap();
        // Now it has caught up, and only what is published moves it on.
        tokio::select! {
            biased;
            early = live.next() => panic!("nothing more was written, but there is {early:?}"),
            () = std::future::ready(()) => {}
        }
        let lost = batch(2, Position(1), 1, vec![upserted("b"), upserted("c")]);
        let id = lost.id;
        store.lose_next_answer(Loss::AfterCommit);
        store.append(lost).await.unwrap_err();

        for _ in 0..2 {
            store.find_batch(id).await.unwrap().unwrap();
        }

        let seen = tokio::time::timeout(std::time::Duration::from_secs(20), live.next_batch(9));
        let seen = seen.await.expect("it is woken").unwrap();
        let positions: Vec<u64> = seen.iter().map(|event| event.position.0).collect();
        assert_eq!(positions, [2, 3], "each once");
    }
}
