//! Loading the world at a position: the newest snapshot, shard by shard on several threads, and a
//! fold of the events behind it.
//!
//! A shard that is damaged is taken from an older snapshot, or from none, and the events behind
//! that one are folded for it alone: damage costs only time.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use domain::{
    aggregates::{Aggregates, CLUSTER_SHARD, Part, shard_of, shard_of_stream},
    event::Event,
    log::{Owner, Position, Recorded, Stamp, StreamId},
    units::Timestamp,
};
use tracing::warn;

use super::{
    Error, READ_PAGE,
    shards::{Decoded, SHARD_FORMAT, decode_shard},
};
use crate::{
    event_store::{self, EventStore},
    snapshot::{self, Manifest, ShardId, SnapshotStore},
    world::World,
};

/// How many shards are read before a thread decodes them.
const DECODED_TOGETHER: usize = 16;

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

/// What the next snapshot has to write.
#[derive(Debug, Default)]
pub struct Dirty {
    /// By shard: the owners that have changed since it was written whole.
    pub(super) since_whole: BTreeMap<u16, BTreeSet<Owner>>,
    /// Shards with changes that no snapshot has yet.
    pub(super) unsaved: BTreeSet<u16>,
    /// Shards that are to be written whole.
    pub(super) whole: BTreeSet<u16>,
}

impl Dirty {
    /// Everything: nothing was saved yet.
    #[must_use]
    pub fn all() -> Self {
        let whole = ShardId::all().map(ShardId::number).collect();
        Self { whole, ..Self::default() }
    }

    pub(super) fn note(&mut self, owners: impl IntoIterator<Item = Owner>) {
        for owner in owners {
            let number = shard_of(&owner);
            self.unsaved.insert(number);
            if !self.whole.contains(&number) {
                self.since_whole.entry(number).or_default().insert(owner);
            }
        }
    }
}

/// Notes whom an event changed. The cluster's shard is written with every snapshot.
pub(crate) fn note_owner(dirty: &mut HashSet<Owner>, recorded: &Recorded<Event>) {
    match &recorded.stream {
        StreamId::DesiredLrp(_) | StreamId::ActualLrp(_) | StreamId::Task(_) => {
            dirty.insert(recorded.stream.owner());
        }
        StreamId::Cell(_) | StreamId::FreshnessDomain(_) | StreamId::Secrets(_) => {}
    }
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
    let failed = |source| Error::Snapshots { position, source };
    let log_failed = |source| Error::Log { position, source };
    let floor = store.pruned();
    if position < floor {
        return Err(log_failed(event_store::Error::Pruned { position, floor }));
    }
    let newest = snapshots.newest_at_or_before(position, SHARD_FORMAT).await.map_err(failed)?;
    let mut based = match newest {
        None => Based::nothing(),
        Some(manifest) => Based::read(snapshots, manifest).await.map_err(failed)?,
    };
    if based.oldest() < floor
        && let Some(state) = store.base().await.map_err(log_failed)?
    {
        let world = World::from_aggregates(state.aggregates, state.stamp);
        let aggregates = world.aggregates().clone();
        based = Based { aggregates, stamp: state.stamp, ..Based::nothing() };
    }
    let owners = based.fold_to(store, position).await?;
    let Based { aggregates, stamp, base, mut dirty, .. } = based;
    dirty.note(owners);
    Ok(Loaded { world: World::of(aggregates, stamp), base, dirty })
}

/// Aggregates whose shards may come from different snapshots.
struct Based {
    aggregates: Aggregates,
    stamp: Stamp,
    base: Option<Position>,
    /// Where shards are that are older than `base`.
    older: BTreeMap<u16, Position>,
    dirty: Dirty,
}

type Bytes = (u16, Option<Vec<u8>>, Option<Vec<u8>>);

impl Based {
    fn nothing() -> Self {
        Self {
            aggregates: Aggregates::default(),
            stamp: Stamp { position: Position(0), recorded_at: Timestamp(0) },
            base: None,
            older: BTreeMap::new(),
            dirty: Dirty::all(),
        }
    }

    async fn read(
        snapshots: &dyn SnapshotStore,
        manifest: Manifest,
    ) -> Result<Self, snapshot::Error> {
        let mut based = Self {
            stamp: manifest.stamp(),
            base: Some(manifest.position),
            dirty: Dirty::default(),
            ..Self::nothing()
        };
        let mut decoding = Vec::new();
        let mut damaged = Vec::new();
        let mut read: Vec<Bytes> = Vec::new();
        for shard in ShardId::all() {
            match bytes_of(snapshots, &manifest, shard).await? {
                Some((None, None)) => {}
                Some((whole, changes)) => read.push((shard.number(), whole, changes)),
                None => damaged.push(shard.number()),
            }
            if read.len() >= DECODED_TOGETHER || shard.number() == CLUSTER_SHARD {
                let together = std::mem::take(&mut read);
                decoding.push(tokio::task::spawn_blocking(|| decode_all(together)));
            }
        }
        for thread in decoding {
            for (number, decoded) in thread.await.unwrap_or_default() {
                match decoded {
                    Some((part, changed)) => based.add(number, part, changed),
                    None => damaged.push(number),
                }
            }
        }
        // The cluster's shard is put in stream by stream, so what is in it must be known last.
        for number in damaged {
            based.read_older(snapshots, &manifest, number).await?;
        }
        Ok(based)
    }

    fn add(&mut self, number: u16, part: Part, changed: BTreeSet<Owner>) {
        self.aggregates.add(number, part);
        if !changed.is_empty() {
            self.dirty.since_whole.insert(number, changed);
        }
    }

    /// Takes a damaged shard from the newest snapshot in which it is whole.
    async fn read_older(
        &mut self,
        snapshots: &dyn SnapshotStore,
        damaged: &Manifest,
        number: u16,
    ) -> Result<(), snapshot::Error> {
        warn!(position = %damaged.position, shard = number,
            "A shard of a snapshot is damaged; an older one is taken, and more events are folded.");
        self.dirty.whole.insert(number);
        self.dirty.unsaved.insert(number);
        let found = older_shard(snapshots, damaged.position, number).await?;
        let since = found.as_ref().map_or(Position(0), |(manifest, _)| manifest.position);
        self.older.insert(number, since);
        if let Some((_, decoded)) = found {
            self.aggregates.add(number, decoded.into_part());
        }
        Ok(())
    }

    /// Behind which position events are to be folded for one shard at least.
    fn oldest(&self) -> Position {
        let base = self.stamp.position;
        self.older.values().copied().min().map_or(base, |older| older.min(base))
    }

    /// Folds the log up to a position, and says whom it changed behind the newest snapshot.
    async fn fold_to(
        &mut self,
        store: &dyn EventStore,
        position: Position,
    ) -> Result<HashSet<Owner>, Error> {
        let base = self.stamp.position;
        let mut at = self.oldest();
        let mut owners = HashSet::new();
        while at < position {
            let limit = usize::try_from(position.0 - at.0).unwrap_or(usize::MAX).min(READ_PAGE);
            let page = store.read_all(at, limit).await;
            let page = page.map_err(|source| Error::Log { position, source })?;
            let Some(last) = page.last() else {
                return Err(Error::AheadOfHead { position, head: at });
            };
            at = last.position;
            for recorded in &page {
                self.fold(recorded, base, &mut owners);
            }
            if at > base {
                self.stamp = last.stamp();
            }
        }
        Ok(owners)
    }

    fn fold(&mut self, recorded: &Recorded<Event>, base: Position, owners: &mut HashSet<Owner>) {
        if recorded.position > base {
            note_owner(owners, recorded);
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

type WholeAndChanges = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A shard's bytes and those of the changes beside it; `None` when either is damaged.
async fn bytes_of(
    snapshots: &dyn SnapshotStore,
    manifest: &Manifest,
    shard: ShardId,
) -> Result<Option<WholeAndChanges>, snapshot::Error> {
    let mut read = [None, None];
    for (bytes, shard) in read.iter_mut().zip([shard, shard.changes()]) {
        *bytes = match snapshots.load_shard(manifest, shard).await {
            Ok(bytes) => bytes,
            Err(snapshot::Error::ShardDamaged { .. }) => return Ok(None),
            Err(failure) => return Err(failure),
        };
    }
    let [whole, changes] = read;
    Ok(Some((whole, changes)))
}

/// A shard's number, and what was in it: the owners are those that its changes are about.
type DecodedShard = (u16, Option<(Part, BTreeSet<Owner>)>);

fn decode_all(read: Vec<Bytes>) -> Vec<DecodedShard> {
    let decoded = read.into_iter().map(|(number, whole, changes)| {
        let decoded = decode_shard(whole.as_deref(), changes.as_deref()).map(|mut decoded| {
            let changed = std::mem::take(&mut decoded.changed);
            (decoded.into_part(), changed)
        });
        (number, decoded.ok())
    });
    decoded.collect()
}

/// A shard in the newest snapshot before a position in which it is whole.
async fn older_shard(
    snapshots: &dyn SnapshotStore,
    before: Position,
    number: u16,
) -> Result<Option<(Manifest, Decoded)>, snapshot::Error> {
    let Some(older) = before.0.checked_sub(1) else { return Ok(None) };
    shard_at(snapshots, Position(older), number).await
}

/// A shard in the newest snapshot at or before a position in which it is whole.
pub(super) async fn shard_at(
    snapshots: &dyn SnapshotStore,
    position: Position,
    number: u16,
) -> Result<Option<(Manifest, Decoded)>, snapshot::Error> {
    let Some(shard) = ShardId::new(number) else { return Ok(None) };
    let mut before = Some(position);
    while let Some(position) = before {
        let found = snapshots.newest_at_or_before(position, SHARD_FORMAT).await?;
        let Some(manifest) = found else { return Ok(None) };
        if let Some((whole, changes)) = bytes_of(snapshots, &manifest, shard).await?
            && let Ok(decoded) = decode_shard(whole.as_deref(), changes.as_deref())
        {
            return Ok(Some((manifest, decoded)));
        }
        warn!(position = %manifest.position, shard = number, "A shard of a snapshot is damaged.");
        before = manifest.position.0.checked_sub(1).map(Position);
    }
    Ok(None)
}
