//! The world at any position: the nearest snapshot before it, and a fold of the events between.
//!
//! The present and the past go through the same fold, so they answer the same questions.

pub mod changes;
pub mod fields;
pub mod predicate;
mod snapshotter;
mod stepper;
#[cfg(test)]
mod tests;
pub mod views;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    aggregates::{Aggregate, Aggregates},
    command::ReportNumber,
    event::Event,
    log::{Owner, Position, Recorded, Stamp},
    units::Timestamp,
};
use tokio::sync::{OnceCell, Semaphore};
use tracing::warn;

use crate::{
    event_store::{self, EventStore},
    snapshot::{self, ShardId, SnapshotStore, load_whole_at_or_before},
    world::World,
};

pub use snapshotter::Snapshotter;
pub use stepper::{Step, Stepper};

/// What the bytes of a shard mean: the aggregates of its owners, in postcard. Raised whenever an
/// aggregate's shape changes; older snapshots are passed over then.
const SHARD_FORMAT: u32 = 1;

/// How many past worlds are kept open.
const OPEN_WORLDS_MAX: usize = 8;
/// How many past worlds are loaded at a time; whoever asks for one more waits.
const LOADS_MAX: usize = 4;
const READ_PAGE: usize = 5000;

/// Why the past cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The position has not been written yet.
    #[error("position {position} is ahead of the log's head, {head}")]
    AheadOfHead {
        /// What was asked for.
        position: Position,
        /// Where the log ends.
        head: Position,
    },
    /// The log cannot be read.
    #[error("cannot read the log up to position {position}")]
    Log {
        /// What was asked for.
        position: Position,
        /// What the store said.
        source: event_store::Error,
    },
    /// The snapshots cannot be read.
    #[error("cannot read the snapshots before position {position}")]
    Snapshots {
        /// What was asked for.
        position: Position,
        /// What the store said.
        source: snapshot::Error,
    },
}

/// An instant of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instant {
    /// After the event at a position.
    Position(Position),
    /// After the last event that was not recorded later.
    Time(Timestamp),
}

/// A loaded world, and what differs from the snapshot that it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The world.
    pub world: World,
    /// The snapshot, where there was one.
    pub base: Option<Position>,
    /// The shards that were touched behind it.
    pub dirty: BTreeSet<ShardId>,
}

/// Loads the world at a position that the log has reached.
///
/// # Errors
/// When log or snapshots cannot be read. A snapshot that is damaged or of another format costs
/// only time.
pub async fn load(
    store: &dyn EventStore,
    snapshots: &dyn SnapshotStore,
    position: Position,
) -> Result<Loaded, Error> {
    let floor = store.pruned();
    if position < floor {
        let source = event_store::Error::Pruned { position, floor };
        return Err(Error::Log { position, source });
    }
    let (mut world, mut base) = newest_snapshot(snapshots, position).await?;
    if world.position() < floor
        && let Some(state) = store.base().await.map_err(|source| Error::Log { position, source })?
    {
        world = World::from_aggregates(state.aggregates, state.stamp);
        base = None;
    }
    let mut dirty = BTreeSet::new();
    if base.is_none() {
        dirty.extend(ShardId::all());
    }
    while world.position() < position {
        let page = store
            .read_all(world.position(), READ_PAGE)
            .await
            .map_err(|source| Error::Log { position, source })?;
        if page.is_empty() {
            let head = world.position();
            return Err(Error::AheadOfHead { position, head });
        }
        for recorded in page.iter().take_while(|recorded| recorded.position <= position) {
            dirty.extend(shards_changed_by(recorded));
            world.apply(recorded);
        }
    }
    Ok(Loaded { world, base, dirty })
}

async fn newest_snapshot(
    snapshots: &dyn SnapshotStore,
    position: Position,
) -> Result<(World, Option<Position>), Error> {
    let mut before = position;
    loop {
        let found = load_whole_at_or_before(snapshots, before, SHARD_FORMAT)
            .await
            .map_err(|source| Error::Snapshots { position, source })?;
        let Some((manifest, shards)) = found else { return Ok((World::empty(), None)) };
        match decode(&shards) {
            Ok(aggregates) => {
                let world = World::from_aggregates(aggregates, manifest.stamp());
                return Ok((world, Some(manifest.position)));
            }
            Err(failure) => {
                warn!(position = %manifest.position, error = %failure,
                    "A snapshot cannot be decoded; the one before it is tried.");
                let Some(older) = manifest.position.0.checked_sub(1) else {
                    return Ok((World::empty(), None));
                };
                before = Position(older);
            }
        }
    }
}

/// The newest snapshot that a load up to a position would have begun with, were it not of another
/// format or damaged; `base` is the one that it began with. It cost only time.
///
/// # Errors
/// When the snapshots cannot be read.
pub async fn newest_passed_over(
    snapshots: &dyn SnapshotStore,
    position: Position,
    base: Option<Position>,
) -> Result<Option<Position>, Error> {
    let positions = snapshots.positions().await;
    let positions = positions.map_err(|source| Error::Snapshots { position, source })?;
    let newest = positions.into_iter().filter(|at| *at <= position).max();
    Ok(newest.filter(|newest| Some(*newest) > base))
}

/// The aggregates in some shards' bytes.
///
/// # Errors
/// When the bytes are not what [`encode`] writes.
pub fn decode(shards: &[(ShardId, Vec<u8>)]) -> Result<Vec<Aggregate>, postcard::Error> {
    let mut aggregates = Vec::new();
    for (_, bytes) in shards {
        aggregates.extend(postcard::from_bytes::<Vec<Aggregate>>(bytes)?);
    }
    Ok(aggregates)
}

/// The bytes of some shards: whole, in the order of the aggregates.
///
/// # Errors
/// Only when an aggregate's own types cannot be written, which is a defect.
pub fn encode(
    aggregates: &Aggregates,
    shards: &BTreeSet<ShardId>,
) -> Result<Vec<(ShardId, Vec<u8>)>, postcard::Error> {
    let mut by_shard: BTreeMap<ShardId, Vec<Aggregate>> =
        shards.iter().map(|shard| (*shard, Vec::new())).collect();
    for aggregate in aggregates.all() {
        if let Some(members) = by_shard.get_mut(&ShardId::of(&aggregate.stream().owner())) {
            members.push(aggregate);
        }
    }
    by_shard
        .into_iter()
        .map(|(shard, members)| {
            let bytes =
                if members.is_empty() { Vec::new() } else { postcard::to_stdvec(&members)? };
            Ok((shard, bytes))
        })
        .collect()
}

/// A past world that is open or being loaded: the first who asks loads it, the others wait.
type Slot = Arc<OnceCell<Arc<World>>>;

/// Opens past worlds, and keeps the last few open.
#[derive(Debug)]
pub struct History {
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    open: Mutex<VecDeque<(Position, Slot)>>,
    loads: Semaphore,
}

impl History {
    /// A history over a log and its snapshots.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, snapshots: Arc<dyn SnapshotStore>) -> Self {
        let loads = Semaphore::new(LOADS_MAX);
        Self { store, snapshots, open: Mutex::new(VecDeque::new()), loads }
    }

    /// The position that an instant stands for.
    async fn position_of(&self, instant: Instant) -> Result<Position, Error> {
        let log_error = |source| Error::Log { position: Position(0), source };
        match instant {
            Instant::Time(time) => self.store.position_at(time).await.map_err(log_error),
            Instant::Position(position) => {
                let head = self.store.head().await.map_err(log_error)?.position;
                if position > head {
                    return Err(Error::AheadOfHead { position, head });
                }
                Ok(position)
            }
        }
    }

    /// The world at an instant.
    ///
    /// # Errors
    /// When the instant is ahead of the head, or log or snapshots cannot be read.
    pub async fn at(&self, instant: Instant) -> Result<Arc<World>, Error> {
        let position = self.position_of(instant).await?;
        let slot = self.slot(position);
        let world = slot.get_or_try_init(|| async {
            // Never closed, so there is always a permit to wait for.
            let _permit = self.loads.acquire().await.ok();
            let loaded = load(self.store.as_ref(), self.snapshots.as_ref(), position).await?;
            Ok(Arc::new(loaded.world))
        });
        world.await.map(Arc::clone)
    }

    /// The newest snapshot at or before a position; `None` when there is none.
    ///
    /// # Errors
    /// When the snapshots cannot be read.
    pub async fn newest_snapshot(
        &self,
        position: Position,
    ) -> Result<Option<Stamp>, snapshot::Error> {
        let found = self.snapshots.newest_at_or_before(position, SHARD_FORMAT).await?;
        Ok(found.map(|manifest| manifest.stamp()))
    }

    fn slot(&self, position: Position) -> Slot {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = open.iter().find(|(of, _)| *of == position) {
            return Arc::clone(slot);
        }
        // What could not be loaded goes; what somebody loads or waits for stays.
        let is_in_use = |slot: &Slot| Arc::strong_count(slot) > 1;
        open.retain(|(_, slot)| slot.initialized() || is_in_use(slot));
        if open.len() >= OPEN_WORLDS_MAX
            && let Some(oldest) = open.iter().position(|(_, slot)| !is_in_use(slot))
        {
            open.remove(oldest);
        }
        let slot = Slot::default();
        open.push_back((position, Arc::clone(&slot)));
        slot
    }
}

/// The shards whose aggregates an event changes: its owner's, and for a report also its cell's,
/// whose count of reports moves with it.
pub(crate) fn shards_changed_by(recorded: &Recorded<Event>) -> impl Iterator<Item = ShardId> {
    let reporter = ReportNumber::of(&recorded.command_id).map(|(cell_id, _)| Owner::Cell(cell_id));
    [Some(recorded.stream.owner()), reporter].into_iter().flatten().map(|owner| ShardId::of(&owner))
}

/// Where and when a world is.
fn stamp_of(world: &World) -> Stamp {
    Stamp { position: world.position(), recorded_at: world.recorded_at() }
}
