//! Snapshots: folded state in shards by owner, so that neither a start nor a look at the past
//! folds the whole log, and a question about one app decodes one shard. Beside each whole shard
//! stands what has changed in it since, so that a snapshot writes little more than what is new.
//!
//! Bytes only: what is in a shard is the caller's business, under its own format version. A
//! snapshot is disposable; one that is damaged or of another format is passed over, never used.

mod manifest;
mod memory;
mod postgres;
mod sqlite;
mod thinning;

use async_trait::async_trait;
use domain::{
    log::{Position, Stamp},
    sealed::Digest,
};

pub use manifest::{CHANGES_MAX, Manifest, SHARDS, ShardId};
pub use memory::MemorySnapshotStore;
pub use postgres::PostgresSnapshotStore;
pub use sqlite::SqliteSnapshotStore;

/// The most bytes of one shard.
pub const SHARD_BYTES_MAX: usize = 256 << 20;

/// A snapshot on its way into the store.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// The last event folded into it.
    pub stamp: Stamp,
    /// What the shards' bytes mean.
    pub format_version: u32,
    /// The snapshot that the other shards are taken from; `None` when there are no others.
    pub base: Option<Position>,
    /// The shards that differ from the base, whole. No bytes means that the shard is empty.
    pub dirty: Vec<(ShardId, Vec<u8>)>,
}

/// Why a snapshot could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The snapshot that the new one rests on is not there, or has another format.
    #[error("the snapshot at position {base} that a new one rests on is not there")]
    BaseMissing {
        /// Where it should be.
        base: Position,
    },
    /// A newer snapshot, or one at the same position, is there already.
    #[error("a snapshot at position {newest} is there already")]
    NotNewer {
        /// The newest one's position.
        newest: Position,
    },
    /// A shard is larger than [`SHARD_BYTES_MAX`].
    #[error("shard {shard} has {bytes} bytes, more than {SHARD_BYTES_MAX}")]
    ShardTooLarge {
        /// Which.
        shard: ShardId,
        /// Its size.
        bytes: usize,
    },
    /// A shard's bytes are missing or altered.
    #[error("shard {shard} of the snapshot at position {position} is missing or altered")]
    ShardDamaged {
        /// The snapshot.
        position: Position,
        /// Which shard.
        shard: ShardId,
    },
    /// The database failed.
    #[error("cannot use the snapshot store")]
    Store(#[source] crate::event_store::Error),
}

/// Keeps snapshots.
#[async_trait]
pub trait SnapshotStore: Send + Sync + std::fmt::Debug {
    /// Keeps a snapshot, thins the older ones and drops bytes that none names. All or nothing.
    async fn save(&self, snapshot: NewSnapshot) -> Result<Manifest, Error>;

    /// The newest snapshot of a format at or before a position.
    async fn newest_at_or_before(
        &self,
        position: Position,
        format_version: u32,
    ) -> Result<Option<Manifest>, Error>;

    /// The bytes that are kept under these digests, in any order; what is missing is left out.
    /// Whoever uses them compares them with their digests first.
    async fn blobs(&self, digests: &[Digest]) -> Result<Vec<Vec<u8>>, Error>;

    /// The bytes of one shard, compared with their digest; `None` when the shard is empty.
    async fn load_shard(
        &self,
        manifest: &Manifest,
        shard: ShardId,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(digest) = manifest.shards.get(&shard) else { return Ok(None) };
        let found = self.blobs(&[*digest]).await?.into_iter();
        let position = manifest.position;
        found
            .map(Some)
            .find(|bytes| bytes.as_ref().is_some_and(|bytes| Digest::of(bytes) == *digest))
            .ok_or(Error::ShardDamaged { position, shard })
    }

    /// The positions of all snapshots, oldest first.
    async fn positions(&self) -> Result<Vec<Position>, Error>;
}

#[cfg(test)]
mod tests;
