//! What a snapshot consists of: which bytes stand for which shard.

use std::{collections::BTreeMap, fmt};

use domain::{
    aggregates::{CLUSTER_SHARD, shard_of},
    log::{Owner, Position, Stamp},
    sealed::Digest,
    units::Timestamp,
};
use tracing::warn;

use super::{Error, NewSnapshot, SHARD_BYTES_MAX};

/// How many shards there are: the whole ones of the aggregates, and beside each of them those of
/// what has changed in it since, and those of its definitions. Stored snapshots rest on it: another
/// number is another format.
pub const SHARDS: u16 = WHOLE * (1 + CHANGES_MAX + 2);

/// How many shards of changes there may be beside a whole one.
pub const CHANGES_MAX: u16 = 6;

const WHOLE: u16 = CLUSTER_SHARD + 1;

/// One of [`SHARDS`] parts of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard of an owner: the same in every version and on every machine.
    #[must_use]
    pub fn of(owner: &Owner) -> Self {
        Self(shard_of(owner))
    }

    /// All whole shards in order, the cluster's last.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..WHOLE).map(Self)
    }

    /// The shards beside a whole one of what has changed since, the oldest changes first.
    pub fn changes(self) -> impl Iterator<Item = Self> + use<> {
        (1..=CHANGES_MAX).map(move |nth| self.beside(nth))
    }

    /// The shard beside a whole one of its definitions.
    #[must_use]
    pub fn definitions(self) -> Self {
        self.beside(1 + CHANGES_MAX)
    }

    /// The shard beside that of definitions of those that came later.
    #[must_use]
    pub fn later_definitions(self) -> Self {
        self.beside(2 + CHANGES_MAX)
    }

    /// A whole shard and all that stands beside it.
    pub fn family(self) -> impl Iterator<Item = Self> + use<> {
        (0..SHARDS / WHOLE).map(move |nth| self.beside(nth))
    }

    fn beside(self, nth: u16) -> Self {
        Self(self.0 % WHOLE + nth * WHOLE)
    }

    /// The shard with a number below [`SHARDS`].
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < SHARDS).then_some(Self(number))
    }

    /// Its number, from 0.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The number of the whole shard that it is, or stands beside.
    #[must_use]
    pub fn whole_number(self) -> u16 {
        self.0 % WHOLE
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

    /// The SHA-256 of all that it says. A shard's bytes are proven by their digest; that it is
    /// this snapshot's, and that none is missing, by this.
    #[must_use]
    pub fn checksum(&self) -> Digest {
        let mut said = Vec::new();
        said.extend_from_slice(&self.position.0.to_be_bytes());
        said.extend_from_slice(&self.recorded_at.0.to_be_bytes());
        said.extend_from_slice(&self.format_version.to_be_bytes());
        for (shard, digest) in &self.shards {
            said.extend_from_slice(&shard.number().to_be_bytes());
            said.extend_from_slice(&digest.0);
        }
        Digest::of(&said)
    }

    /// Itself, if its checksum is the one that was written with it.
    pub(super) fn if_whole(self, checksum: Option<&[u8]>) -> Option<Self> {
        if checksum == Some(&self.checksum().0) {
            return Some(self);
        }
        warn!(position = %self.position, "The manifest of a snapshot is damaged; it is passed over.");
        None
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
