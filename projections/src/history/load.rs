//! Loading the world at a position: the newest snapshot, shard by shard on several threads, and a
//! fold of the events behind it, which are read meanwhile.
//!
//! A shard that is damaged is taken from an older snapshot, or from none, and the events behind
//! that one are folded for it alone: damage costs only time.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use domain::{
    aggregates::{Aggregate, Aggregates, shard_of, shard_of_stream},
    event::Event,
    log::{Owner, Position, Recorded, Stamp},
    units::Timestamp,
};
use futures_util::{StreamExt as _, stream};
use tracing::warn;

use super::{
    Error, READ_PAGE,
    dirty::{Dirty, note_owner},
    shard_cache::ShardCache,
    shard_read::{Found, members_of, read_shards},
    shards::SHARD_FORMAT,
};
use crate::{
    event_store::{self, EventStore, ReadAhead},
    snapshot::{self, Manifest, ShardId, SnapshotStore},
    world::World,
};

/// How many shards are read and decoded together.
const READ_TOGETHER: usize = 16;
/// How many of those are on their way at a time: some are read while others are decoded.
const READS_MAX: usize = 4;
/// How many events are read ahead while shards are decoded.
const AHEAD_MAX: usize = 60_000;

/// A loaded world, and what differs from the snapshot that it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The world.
    pub world: World,
    /// The snapshot, where there was one.
    pub base: Option<Position>,
    /// What is not in that snapshot.
    pub dirty: Dirty,
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
    let (cache, differs) = (Arc::new(ShardCache::new(0)), Some(Differs::default()));
    let based = Based::load(store, snapshots, &cache, position, differs).await?;
    let Based { aggregates, stamp, base, differs, .. } = based;
    let Differs { mut dirty, owners } = differs.unwrap_or_default();
    dirty.note(owners);
    Ok(Loaded { world: World::of(aggregates, stamp), base, dirty })
}

/// As [`load`], with shards that were decoded before, for one who takes no snapshots: only the
/// world.
pub(super) async fn world_at(
    store: &dyn EventStore,
    snapshots: &dyn SnapshotStore,
    cache: &Arc<ShardCache>,
    position: Position,
) -> Result<World, Error> {
    let based = Based::load(store, snapshots, cache, position, None).await?;
    Ok(World::of(based.aggregates, based.stamp))
}

/// The events behind a position, up to another one or as many as are read ahead.
async fn read_ahead(
    store: &dyn EventStore,
    after: Position,
    until: Position,
) -> Result<Vec<Recorded<Event>>, event_store::Error> {
    let mut ahead: Vec<Recorded<Event>> = Vec::new();
    let mut at = after;
    while at < until && ahead.len() < AHEAD_MAX {
        let page = store.read_all(at, page_limit(at, until)).await?;
        let Some(last) = page.last() else { break };
        at = last.position;
        ahead.extend(page);
    }
    Ok(ahead)
}

fn page_limit(at: Position, until: Position) -> usize {
    usize::try_from(until.0.saturating_sub(at.0)).unwrap_or(usize::MAX).min(READ_PAGE)
}

/// Aggregates whose shards may come from different snapshots.
struct Based {
    aggregates: Aggregates,
    stamp: Stamp,
    base: Option<Position>,
    /// Where shards are that are older than `base`.
    older: BTreeMap<u16, Position>,
    /// `None` when nobody asks.
    differs: Option<Differs>,
}

/// What differs from the snapshot that aggregates came from.
#[derive(Default)]
struct Differs {
    dirty: Dirty,
    /// Whom events behind the snapshot have changed.
    owners: HashSet<Owner>,
}

impl Based {
    fn nothing(differs: Option<Differs>) -> Self {
        Self {
            aggregates: Aggregates::default(),
            stamp: Stamp { position: Position(0), recorded_at: Timestamp(0) },
            base: None,
            older: BTreeMap::new(),
            differs,
        }
    }

    async fn load(
        store: &dyn EventStore,
        snapshots: &dyn SnapshotStore,
        cache: &Arc<ShardCache>,
        position: Position,
        differs: Option<Differs>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Snapshots { position, source };
        let log_failed = |source| Error::Log { position, source };
        let floor = store.pruned();
        if position < floor {
            return Err(log_failed(event_store::Error::Pruned { position, floor }));
        }
        let newest = snapshots.newest_at_or_before(position, SHARD_FORMAT).await.map_err(failed)?;
        let (mut based, ahead) = match newest {
            None => (Self::nothing(differs), Vec::new()),
            Some(manifest) => {
                let from = manifest.position;
                let (based, ahead) = tokio::join!(
                    Self::read(snapshots, cache, manifest, differs),
                    read_ahead(store, from, position)
                );
                (based.map_err(failed)?, ahead.map_err(log_failed)?)
            }
        };
        if based.oldest() < floor
            && let Some(state) = store.base().await.map_err(log_failed)?
        {
            let world = World::from_aggregates(state.aggregates, state.stamp);
            let aggregates = world.aggregates().clone();
            let differs = based.differs.map(|_| Differs::default());
            based = Self { aggregates, stamp: state.stamp, ..Self::nothing(differs) };
        }
        based.fold_to(store, position, ahead).await?;
        Ok(based)
    }

    async fn read(
        snapshots: &dyn SnapshotStore,
        cache: &Arc<ShardCache>,
        manifest: Manifest,
        differs: Option<Differs>,
    ) -> Result<Self, snapshot::Error> {
        let (stamp, base) = (manifest.stamp(), Some(manifest.position));
        let mut based = Self { stamp, base, ..Self::nothing(differs) };
        let shards: Vec<ShardId> = ShardId::all().collect();
        let together = shards.chunks(READ_TOGETHER);
        let reads = together.map(|together| read_shards(snapshots, cache, &manifest, together));
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffer_unordered(READS_MAX);
        let mut damaged = Vec::new();
        while let Some(read) = reads.next().await {
            for Found { number, decoded } in read? {
                match decoded {
                    Some(decoded) => {
                        based.aggregates.add(number, &decoded.part);
                        if let Some(differs) = &mut based.differs {
                            differs.dirty.is_written(number, &decoded);
                        }
                    }
                    None => damaged.push(number),
                }
            }
        }
        for number in damaged {
            based.read_older(snapshots, cache, &manifest, number).await?;
        }
        Ok(based)
    }

    /// Takes a damaged shard from the newest snapshot in which it is whole. It is to be written
    /// whole: nothing says that it is written at all.
    async fn read_older(
        &mut self,
        snapshots: &dyn SnapshotStore,
        cache: &Arc<ShardCache>,
        damaged: &Manifest,
        number: u16,
    ) -> Result<(), snapshot::Error> {
        warn!(position = %damaged.position, shard = number,
            "A shard of a snapshot is damaged; an older one is taken, and more events are folded.");
        let mut before = damaged.position.0.checked_sub(1).map(Position);
        self.older.insert(number, Position(0));
        let Some(shard) = ShardId::new(number) else { return Ok(()) };
        while let Some(position) = before {
            let found = snapshots.newest_at_or_before(position, SHARD_FORMAT).await?;
            let Some(manifest) = found else { return Ok(()) };
            let read = read_shards(snapshots, cache, &manifest, &[shard]).await?;
            if let Some(decoded) = read.into_iter().find_map(|found| found.decoded) {
                self.aggregates.add(number, &decoded.part);
                self.older.insert(number, manifest.position);
                return Ok(());
            }
            warn!(position = %manifest.position, shard = number,
                "A shard of a snapshot is damaged.");
            before = manifest.position.0.checked_sub(1).map(Position);
        }
        Ok(())
    }

    /// Behind which position events are to be folded for one shard at least.
    fn oldest(&self) -> Position {
        let base = self.stamp.position;
        self.older.values().copied().min().map_or(base, |older| older.min(base))
    }

    /// Folds the log up to a position. `ahead` are the first events behind the newest snapshot, as
    /// far as they were read already.
    async fn fold_to(
        &mut self,
        store: &dyn EventStore,
        position: Position,
        ahead: Vec<Recorded<Event>>,
    ) -> Result<(), Error> {
        let failed = |source| Error::Log { position, source };
        let (oldest, base) = (self.oldest(), self.stamp.position);
        // Up to what was read ahead, which must not be folded twice.
        let mut at = self.fold_pages(store, oldest, base).await.map_err(failed)?;
        if ahead.first().is_some_and(|first| first.position == at.next()) {
            at = self.fold_page(&ahead).unwrap_or(at);
        }
        drop(ahead);
        at = self.fold_pages(store, at, position).await.map_err(failed)?;
        if at < position { Err(Error::AheadOfHead { position, head: at }) } else { Ok(()) }
    }

    /// Folds the log from behind one position up to another, and says how far it goes.
    async fn fold_pages(
        &mut self,
        store: &dyn EventStore,
        after: Position,
        until: Position,
    ) -> Result<Position, event_store::Error> {
        let mut log = ReadAhead::new(store, after, until, READ_PAGE);
        let mut at = after;
        while let Some(last) = self.fold_page(&log.page().await?) {
            at = last;
        }
        Ok(at)
    }

    /// Folds some events, and says where the last of them is.
    fn fold_page(&mut self, page: &[Recorded<Event>]) -> Option<Position> {
        let last = page.last()?.stamp();
        for recorded in page {
            self.fold(recorded);
        }
        if last.position > self.stamp.position {
            self.stamp = last;
        }
        Some(last.position)
    }

    fn fold(&mut self, recorded: &Recorded<Event>) {
        if recorded.position > self.stamp.position {
            // Without a snapshot before it, the next one is written whole, whoever has changed.
            if let (Some(_), Some(differs)) = (self.base, &mut self.differs) {
                note_owner(&mut differs.owners, recorded);
            }
            self.aggregates.apply(recorded);
            return;
        }
        let since = self.older.get(&shard_of_stream(&recorded.stream));
        if since.is_some_and(|since| recorded.position > *since) {
            self.aggregates.apply(recorded);
        } else {
            self.aggregates.note_report(recorded);
        }
    }
}

/// What an owner had in the newest snapshot at or before a position in which its shard is whole,
/// and where that one is.
pub(super) async fn owner_at(
    snapshots: &dyn SnapshotStore,
    position: Position,
    owner: &Owner,
) -> Result<Option<(Position, Vec<Aggregate>)>, snapshot::Error> {
    let number = shard_of(owner);
    let Some(shard) = ShardId::new(number) else { return Ok(None) };
    let mut before = Some(position);
    while let Some(position) = before {
        let found = snapshots.newest_at_or_before(position, SHARD_FORMAT).await?;
        let Some(manifest) = found else { return Ok(None) };
        if let Some(members) = members_of(snapshots, &manifest, shard, owner).await? {
            return Ok(Some((manifest.position, members)));
        }
        warn!(position = %manifest.position, shard = number, "A shard of a snapshot is damaged.");
        before = manifest.position.0.checked_sub(1).map(Position);
    }
    Ok(None)
}
