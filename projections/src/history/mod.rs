//! The world at any position: the nearest snapshot before it, and a fold of the events between.
//!
//! The present and the past go through the same fold, so they answer the same questions.

pub mod changes;
mod definitions;
mod dirty;
pub mod fields;
mod growth;
mod load;
mod open_worlds;
mod playback;
pub mod predicate;
mod shard_cache;
mod shard_read;
mod shards;
mod snapshotter;
mod stepper;
#[cfg(test)]
mod tests;
pub mod views;

use std::sync::Arc;

use domain::{
    aggregates::Aggregate,
    log::{Owner, Position, Stamp},
    units::Timestamp,
};
use tokio::sync::Semaphore;

use crate::{
    event_store::{self, EventStore, Filter, Order},
    snapshot::{self, SnapshotStore},
    world::World,
};

pub use dirty::Dirty;
pub(crate) use dirty::note_owner;
pub use growth::take_as_it_grew;
use load::world_at;
pub use load::{Loaded, load};
use open_worlds::OpenWorlds;
pub use playback::Playback;
use shard_cache::ShardCache;
pub use shards::{SHARD_FORMAT, ShardError, decode, encode};
pub use snapshotter::{SPACING_EVENTS, Snapshotter};
pub use stepper::{Step, Stepper};

/// How many bytes of past worlds are kept open, about.
const OPEN_BYTES_MAX: usize = 1 << 30;
/// How many bytes of decoded shards are kept for the next questions, about.
const CACHE_BYTES_MAX: usize = 512 << 20;
/// How many past worlds are loaded at a time; whoever asks for one more waits.
const LOADS_MAX: usize = 2;
const READ_PAGE: usize = 500;

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

/// Opens past worlds, and keeps the last few open.
#[derive(Debug)]
pub struct History {
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    open: OpenWorlds,
    cache: Arc<ShardCache>,
    loads: Semaphore,
}

impl History {
    /// A history over a log and its snapshots.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, snapshots: Arc<dyn SnapshotStore>) -> Self {
        let open = OpenWorlds::new(OPEN_BYTES_MAX);
        let cache = Arc::new(ShardCache::new(CACHE_BYTES_MAX));
        Self { store, snapshots, open, cache, loads: Semaphore::new(LOADS_MAX) }
    }

    /// The position that an instant stands for.
    ///
    /// # Errors
    /// When it is ahead of the head, or the log cannot be read.
    pub async fn position_of(&self, instant: Instant) -> Result<Position, Error> {
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
        let slot = self.open.slot(position);
        let opened = slot.get_or_try_init(|| async {
            // Never closed, so there is always a permit to wait for.
            let _permit = self.loads.acquire().await.ok();
            let (store, snapshots) = (self.store.as_ref(), self.snapshots.as_ref());
            let world = world_at(store, snapshots, &self.cache, position).await?;
            let bytes = world.aggregates().bytes();
            Ok::<_, Error>((Arc::new(world), bytes))
        });
        let world = opened.await.map(|(world, _)| Arc::clone(world))?;
        drop(slot);
        self.open.trim();
        Ok(world)
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

    /// What one owner had at an instant, as a world that holds nothing else: one shard of the
    /// nearest snapshot and the owner's own events. For a cell or a freshness domain, whose
    /// records other events change too, the whole world is folded.
    ///
    /// # Errors
    /// As [`History::at`].
    pub async fn owner_at(&self, owner: &Owner, instant: Instant) -> Result<Arc<World>, Error> {
        self.owners_at(std::slice::from_ref(owner), instant).await
    }

    /// What several owners had at an instant, as [`History::owner_at`].
    ///
    /// # Errors
    /// As [`History::at`].
    pub async fn owners_at(&self, owners: &[Owner], instant: Instant) -> Result<Arc<World>, Error> {
        let position = self.position_of(instant).await?;
        let is_own = |owner: &Owner| matches!(owner, Owner::Process(_) | Owner::Task(_));
        if !owners.iter().all(is_own) {
            return self.at(Instant::Position(position)).await;
        }
        if let Some(world) = self.open.opened(position) {
            return Ok(world);
        }
        let mut members = Vec::new();
        for owner in owners {
            members.extend(self.members_at(owner, position).await?);
        }
        let recorded_at = self.recorded_at(position).await?;
        Ok(Arc::new(World::from_aggregates(members, Stamp { position, recorded_at })))
    }

    async fn members_at(&self, owner: &Owner, position: Position) -> Result<Vec<Aggregate>, Error> {
        let log_error = |source| Error::Log { position, source };
        let found = load::owner_at(self.snapshots.as_ref(), position, owner).await;
        let found = found.map_err(|source| Error::Snapshots { position, source })?;
        let (mut after, members) = found.unwrap_or_default();
        if after < self.store.pruned() {
            // What was pruned is known only from the base state, which is whole.
            let whole = self.at(Instant::Position(position)).await?;
            return Ok(whole.aggregates().of_owner(owner));
        }
        let start = Stamp { position: after, recorded_at: Timestamp(0) };
        let mut world = World::from_aggregates(members, start);
        let filter =
            Filter { owner: Some(owner.clone()), until: Some(position), ..Filter::default() };
        loop {
            let page = self.store.read_filtered(&filter, after, READ_PAGE, Order::OldestFirst);
            let page = page.await.map_err(log_error)?;
            world.apply_all(&page);
            match page.last() {
                Some(last) if page.len() >= READ_PAGE => after = last.position,
                Some(_) | None => return Ok(world.aggregates().of_owner(owner)),
            }
        }
    }

    /// When the event at a position was recorded.
    async fn recorded_at(&self, position: Position) -> Result<Timestamp, Error> {
        let Some(before) = position.0.checked_sub(1) else { return Ok(Timestamp(0)) };
        let found = self.store.read_all(Position(before), 1).await;
        let found = found.map_err(|source| Error::Log { position, source })?;
        Ok(found.first().map_or(Timestamp(0), |recorded| recorded.recorded_at))
    }

    /// Goes on from the world at an instant, event by event.
    ///
    /// # Errors
    /// As [`History::at`].
    pub async fn playback(&self, from: Instant) -> Result<Playback, Error> {
        let world = self.at(from).await?;
        Ok(Playback::new(Arc::clone(&self.store), world.without_views()))
    }
}

/// Where and when a world is.
fn stamp_of(world: &World) -> Stamp {
    Stamp { position: world.position(), recorded_at: world.recorded_at() }
}
