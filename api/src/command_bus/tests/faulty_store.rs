//! A memory store that can be made to fail, in each way in which a real one does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use domain::{
    event::{Event, UnreadableEvent},
    id::CommandId,
    log::{Incarnation, LeaseEpoch, Owner, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use projections::event_store::{
    self, AppendError, Batch, BatchId, BatchRow, EventStore, Filter, Head, Leaf, NewestOfType,
    Order, OwnerSubscription, Refusal, Row, Subscription, Turn,
    memory::{MemoryLog, MemoryStore},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// What becomes of the next append.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    None,
    LostAfterWriting,
    LostBeforeWriting,
    Failed,
    Closed,
    /// From now on the disk fails under every commit.
    DiskFailed,
    LeasePassed,
    /// The log ends earlier than it did.
    CutOff,
    /// From now on every batch with an event of this command.
    Refuses(&'static str),
}

#[derive(Debug)]
pub(super) struct FaultyStore {
    pub(super) inner: MemoryStore,
    pub(super) fault: std::sync::Mutex<Fault>,
    pub(super) appends: AtomicUsize,
    /// Whether the events that it holds are of a newer version.
    pub(super) is_newer: Arc<AtomicBool>,
    /// How many appends met a moved head: without a turn, and within one.
    pub(super) moved: Arc<[AtomicUsize; 2]>,
    /// How many look-ups of batches fail from now on.
    pub(super) lost_finds: AtomicUsize,
    /// How often the head cannot be read from now on.
    pub(super) lost_heads: AtomicUsize,
    /// Held by a turn: nobody else appends.
    pub(super) turn: Arc<Mutex<()>>,
}

struct GuardedTurn {
    store: MemoryStore,
    head: Head,
    moved: Arc<[AtomicUsize; 2]>,
    is_newer: Arc<AtomicBool>,
    _guard: OwnedMutexGuard<()>,
}

fn refuse_newer(is_newer: &AtomicBool, after: Position) -> Read<()> {
    if is_newer.load(Ordering::Relaxed) {
        let type_name = "zeppelin.landed".to_owned();
        let source = UnreadableEvent::UnknownType { type_name };
        return Err(event_store::Error::Unreadable { position: after.next(), source });
    }
    Ok(())
}

#[async_trait]
impl Turn for GuardedTurn {
    fn head(&self) -> Head {
        self.head
    }
    async fn read_all(&mut self, after: Position, limit: usize) -> Read<Vec<Recorded<Event>>> {
        refuse_newer(&self.is_newer, after)?;
        self.store.read_all(after, limit).await
    }
    async fn append(self: Box<Self>, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        let appended = self.store.append(batch).await;
        count_moved(&self.moved[1], &appended);
        appended
    }
}

fn count_moved(count: &AtomicUsize, appended: &Result<Vec<Recorded<Event>>, AppendError>) {
    if matches!(appended, Err(AppendError::HeadMoved { .. })) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A failure that may pass.
const LOST: event_store::Error = event_store::Error::Gap(Position(1));

impl FaultyStore {
    pub(super) fn new() -> Arc<Self> {
        let log = MemoryLog::new(Incarnation(uuid::Uuid::from_u128(1)));
        Arc::new(Self {
            inner: MemoryStore::new(log),
            fault: std::sync::Mutex::new(Fault::None),
            appends: AtomicUsize::new(0),
            is_newer: Arc::default(),
            moved: Default::default(),
            lost_finds: AtomicUsize::new(0),
            lost_heads: AtomicUsize::new(0),
            turn: Arc::default(),
        })
    }

    pub(super) fn fail_next(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

type Read<T> = Result<T, event_store::Error>;

#[async_trait]
impl EventStore for FaultyStore {
    async fn head(&self) -> Read<Head> {
        let left = self.lost_heads.load(Ordering::Relaxed);
        if left > 0 {
            self.lost_heads.store(left - 1, Ordering::Relaxed);
            return Err(LOST);
        }
        self.inner.head().await
    }
    async fn log_id(&self) -> Read<event_store::LogId> {
        self.inner.log_id().await
    }
    async fn append(&self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        self.appends.fetch_add(1, Ordering::Relaxed);
        let fault = {
            let mut fault = self.fault.lock().unwrap();
            let lasts = matches!(*fault, Fault::Refuses(_) | Fault::DiskFailed);
            if lasts { *fault } else { std::mem::replace(&mut *fault, Fault::None) }
        };
        let id = batch.id;
        // A commit takes its time.
        tokio::task::yield_now().await;
        let _guard = self.turn.lock().await;
        match fault {
            Fault::None => {
                let appended = self.inner.append(batch).await;
                count_moved(&self.moved[0], &appended);
                appended
            }
            Fault::LeasePassed if batch.lease.is_some() => {
                Err(AppendError::LeasePassed { lease_epoch: LeaseEpoch(1) })
            }
            Fault::LeasePassed => self.inner.append(batch).await,
            Fault::LostAfterWriting => {
                self.inner.append(batch).await?;
                Err(AppendError::OutcomeUnknown { batch: id })
            }
            Fault::LostBeforeWriting | Fault::DiskFailed => {
                Err(AppendError::OutcomeUnknown { batch: id })
            }
            Fault::CutOff => {
                let mut head = self.inner.head().await.map_err(AppendError::Failed)?;
                head.position = Position(head.position.0 - 1);
                Err(AppendError::HeadMoved { head })
            }
            Fault::Failed => Err(AppendError::Failed(event_store::Error::Gap(Position(1)))),
            Fault::Closed => Err(AppendError::Failed(event_store::Error::Closed)),
            Fault::Refuses(id) => {
                match batch.events.iter().find(|new| new.command_id.to_string() == id) {
                    None => self.inner.append(batch).await,
                    Some(_) => Err(AppendError::Refused(Refusal::Empty)),
                }
            }
        }
    }
    async fn turn(&self) -> Result<Box<dyn Turn>, AppendError> {
        let guard = Arc::clone(&self.turn).lock_owned().await;
        let head = self.inner.head().await.map_err(AppendError::Failed)?;
        let (store, moved) = (self.inner.clone(), Arc::clone(&self.moved));
        let is_newer = Arc::clone(&self.is_newer);
        Ok(Box::new(GuardedTurn { store, head, moved, is_newer, _guard: guard }))
    }
    async fn find_batch(&self, id: BatchId) -> Read<Option<Vec<Recorded<Event>>>> {
        let fault = *self.fault.lock().unwrap();
        if matches!(fault, Fault::Closed) {
            return Err(event_store::Error::Closed);
        }
        if matches!(fault, Fault::DiskFailed) {
            let (database, reason) = ("diario.db".to_owned(), "disk I/O error".to_owned());
            return Err(event_store::Error::DiskFailed { database, reason });
        }
        let left = self.lost_finds.load(Ordering::Relaxed);
        if left > 0 {
            self.lost_finds.store(left - 1, Ordering::Relaxed);
            return Err(LOST);
        }
        self.inner.find_batch(id).await
    }
    async fn find_commands(
        &self,
        ids: &[CommandId],
    ) -> Read<HashMap<CommandId, Vec<Recorded<Event>>>> {
        self.inner.find_commands(ids).await
    }
    async fn read_all(&self, after: Position, limit: usize) -> Read<Vec<Recorded<Event>>> {
        refuse_newer(&self.is_newer, after)?;
        self.inner.read_all(after, limit).await
    }
    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Read<Vec<Recorded<Event>>> {
        self.inner.read_stream(stream, after, limit).await
    }
    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Read<Vec<Recorded<Event>>> {
        self.inner.read_filtered(filter, after, limit, order).await
    }
    async fn newest_of_each_type(&self) -> Read<Vec<NewestOfType>> {
        self.inner.newest_of_each_type().await
    }
    async fn position_at(&self, time: Timestamp) -> Read<Position> {
        self.inner.position_at(time).await
    }
    async fn read_rows(&self, after: Position, limit: usize) -> Read<Vec<(Row, Leaf)>> {
        self.inner.read_rows(after, limit).await
    }
    async fn read_batches(&self, after: Position, limit: usize) -> Read<Vec<BatchRow>> {
        self.inner.read_batches(after, limit).await
    }
    fn subscribe(&self, after: Position) -> Subscription {
        self.inner.subscribe(after)
    }

    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription {
        self.inner.subscribe_to(owner, after)
    }
}
