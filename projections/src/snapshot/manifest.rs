//! What a snapshot consists of: which bytes stand for which shard.

use std::{collections::BTreeMap, fmt};

use domain::{
    log::{Owner, Position, Stamp},
    sealed::Digest,
    units::Timestamp,
};

use super::{Error, NewSnapshot, SHARD_BYTES_MAX};

/// How many shards there are. Stored snapshots rest on it: another number is another format.
pub const SHARDS: u8 = 64;

/// One of [`SHARDS`] parts of the owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u8);

impl ShardId {
    /// The shard of an owner: the same in every version and on every machine.
    #[must_use]
    pub fn of(owner: &Owner) -> Self {
        let [first, ..] = Digest::of(owner.to_string().as_bytes()).0;
        Self(first % SHARDS)
    }

    /// All shards in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// The shard with a number below [`SHARDS`].
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number < SHARDS).then_some(Self(number))
    }

    /// Its number, from 0.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The last event folded into it.
    pub position: Position,
    /// When that event was recorded.
    pub recorded_at: Timestamp,
    /// What the shards' bytes mean.
    pub format_version: u32,
    /// The digest of each shard's bytes; a shard that is not here is empty.
    pub shards: BTreeMap<ShardId, Digest>,
}

impl Manifest {
    /// The last event folded into it.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { position: self.position, recorded_at: self.recorded_at }
    }
}

/// The bytes that a snapshot adds, by their digest.
pub(super) type AddedBytes = Vec<(Digest, Vec<u8>)>;

/// The manifest of a new snapshot, and the bytes it adds. `base` is the one that it names.
pub(super) fn compose(
    snapshot: NewSnapshot,
    newest: Option<Position>,
    base: Option<&Manifest>,
) -> Result<(Manifest, AddedBytes), Error> {
    if let Some(newest) = newest.filter(|newest| *newest >= snapshot.stamp.position) {
        return Err(Error::NotNewer { newest });
    }
    let mut shards = match (snapshot.base, base) {
        (None, _) => BTreeMap::new(),
        (Some(_), Some(base)) if base.format_version == snapshot.format_version => {
            base.shards.clone()
        }
        (Some(base), _) => return Err(Error::BaseMissing { base }),
    };
    let mut added = Vec::new();
    for (shard, bytes) in snapshot.dirty {
        if bytes.len() > SHARD_BYTES_MAX {
            return Err(Error::ShardTooLarge { shard, bytes: bytes.len() });
        }
        if bytes.is_empty() {
            shards.remove(&shard);
            continue;
        }
        let digest = Digest::of(&bytes);
        shards.insert(shard, digest);
        added.push((digest, bytes));
    }
    let Stamp { position, recorded_at } = snapshot.stamp;
    let format_version = snapshot.format_version;
    Ok((Manifest { position, recorded_at, format_version, shards }, added))
}
