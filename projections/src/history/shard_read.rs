//! Reading shards of a snapshot: several together from the store, then compared with their digests
//! and decoded on a thread of their own.

use std::{collections::HashMap, sync::Arc};

use domain::{aggregates::Aggregate, log::Owner, sealed::Digest};

use super::{
    definitions::DefinitionPack,
    shard_cache::{ShardCache, ShardKey},
    shards::{Decoded, Packs, ShardBytes, ShardError},
};
use crate::snapshot::{self, Manifest, ShardId, SnapshotStore};

/// A shard as it was found.
pub(super) struct Found {
    /// Which whole shard.
    pub(super) number: u16,
    /// What is in it; `None` when any of it is damaged.
    pub(super) decoded: Option<Arc<Decoded>>,
}

/// Which bytes a shard consists of.
struct Named {
    number: u16,
    key: ShardKey,
    whole: Option<Digest>,
    changes: Vec<Digest>,
    definitions: Option<Digest>,
    later_definitions: Option<Digest>,
}

impl Named {
    fn of(manifest: &Manifest, shard: ShardId) -> Self {
        let named = |id: ShardId| manifest.shards.get(&id).copied();
        Self {
            number: shard.number(),
            key: shard.family().filter_map(named).collect(),
            whole: named(shard),
            changes: shard.changes().filter_map(named).collect(),
            definitions: named(shard.definitions()),
            later_definitions: named(shard.later_definitions()),
        }
    }

    fn records(&self) -> impl Iterator<Item = Digest> {
        self.whole.into_iter().chain(self.changes.iter().copied())
    }

    fn packs(&self) -> impl Iterator<Item = Digest> + use<> {
        self.definitions.into_iter().chain(self.later_definitions)
    }

    /// The shard's own bytes; `None` when some are missing or other ones than they should be.
    fn assemble(&self, blobs: &Blobs, cache: &ShardCache) -> Option<ShardBytes> {
        let pack = |digest: Option<Digest>| match digest {
            None => Some(None),
            Some(digest) => blobs.pack(digest, cache).map(Some),
        };
        let packs = Packs { first: pack(self.definitions)?, later: pack(self.later_definitions)? };
        let whole = match self.whole {
            None => None,
            Some(digest) => Some(blobs.get(digest)?),
        };
        let changes = self.changes.iter().map(|digest| blobs.get(*digest));
        Some(ShardBytes { whole, changes: changes.collect::<Option<_>>()?, packs })
    }
}

/// Bytes by their digest, which was computed of what was read.
struct Blobs(HashMap<Digest, Arc<Vec<u8>>>);

impl Blobs {
    fn of(read: Vec<Vec<u8>>) -> Self {
        Self(read.into_iter().map(|bytes| (Digest::of(&bytes), Arc::new(bytes))).collect())
    }

    fn get(&self, digest: Digest) -> Option<Arc<Vec<u8>>> {
        self.0.get(&digest).cloned()
    }

    fn pack(&self, digest: Digest, cache: &ShardCache) -> Option<Arc<DefinitionPack>> {
        if let Some(pack) = cache.pack(digest) {
            return Some(pack);
        }
        let pack = Arc::new(DefinitionPack::read(self.0.get(&digest)?).ok()?);
        cache.keep_pack(digest, &pack);
        Some(pack)
    }
}

/// Reads and decodes some whole shards of a snapshot, with what stands beside them.
pub(super) async fn read_shards(
    snapshots: &dyn SnapshotStore,
    cache: &Arc<ShardCache>,
    manifest: &Manifest,
    shards: &[ShardId],
) -> Result<Vec<Found>, snapshot::Error> {
    let named: Vec<Named> = shards.iter().map(|shard| Named::of(manifest, *shard)).collect();
    let (mut found, mut wanted) = (Vec::new(), Vec::new());
    for named in named {
        match cache.shard(&named.key) {
            Some(decoded) => found.push(Found { number: named.number, decoded: Some(decoded) }),
            None => wanted.push(named),
        }
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    let packs = wanted.iter().flat_map(Named::packs).filter(|it| cache.pack(*it).is_none());
    let digests: Vec<Digest> = wanted.iter().flat_map(Named::records).chain(packs).collect();
    let read = snapshots.blobs(&digests).await?;
    let (cache, numbers) = (Arc::clone(cache), wanted.iter().map(|it| it.number).collect());
    let decoded = tokio::task::spawn_blocking(move || decode_all(wanted, read, &cache)).await;
    found.extend(decoded.unwrap_or_else(|_| all_damaged(numbers)));
    Ok(found)
}

/// A thread that panicked has told so; its shards are taken from an older snapshot.
fn all_damaged(numbers: Vec<u16>) -> Vec<Found> {
    numbers.into_iter().map(|number| Found { number, decoded: None }).collect()
}

fn decode_all(wanted: Vec<Named>, read: Vec<Vec<u8>>, cache: &ShardCache) -> Vec<Found> {
    let blobs = Blobs::of(read);
    let decode = |named: Named| {
        let decoded = named.assemble(&blobs, cache).map(|bytes| bytes.decode(named.number));
        let decoded = decoded.and_then(Result::ok).map(Arc::new);
        if let Some(decoded) = &decoded {
            cache.keep_shard(named.key, decoded);
        }
        Found { number: named.number, decoded }
    };
    wanted.into_iter().map(decode).collect()
}

/// What an owner has in a snapshot; `None` when its shard is damaged.
pub(super) async fn members_of(
    snapshots: &dyn SnapshotStore,
    manifest: &Manifest,
    shard: ShardId,
    owner: &Owner,
) -> Result<Option<Vec<Aggregate>>, snapshot::Error> {
    let named = Named::of(manifest, shard);
    let digests: Vec<Digest> = named.records().chain(named.packs()).collect();
    let read = snapshots.blobs(&digests).await?;
    let owner = owner.clone();
    let decode = move || -> Option<Result<Vec<Aggregate>, ShardError>> {
        let bytes = named.assemble(&Blobs::of(read), &ShardCache::new(0))?;
        Some(bytes.decode_owner(&owner))
    };
    let decoded = tokio::task::spawn_blocking(decode).await;
    Ok(decoded.ok().flatten().and_then(Result::ok))
}
