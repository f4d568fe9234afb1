//! Reading the newest snapshot that is whole: a damaged one is passed over with a warning.

use domain::log::Position;

use super::{Error, Manifest, ShardId, SnapshotStore};

/// The newest snapshot at or before a position with all its shards.
///
/// # Errors
/// [`Error::Store`] only; damage is passed over.
pub async fn load_whole_at_or_before(
    store: &dyn SnapshotStore,
    position: Position,
    format_version: u32,
) -> Result<Option<(Manifest, Vec<(ShardId, Vec<u8>)>)>, Error> {
    let mut before = position;
    while let Some(manifest) = store.newest_at_or_before(before, format_version).await? {
        let mut shards = Vec::with_capacity(manifest.shards.len());
        let mut damage = None;
        for shard in manifest.shards.keys() {
            match store.load_shard(&manifest, *shard).await {
                Ok(Some(bytes)) => shards.push((*shard, bytes)),
                Ok(None) => {}
                Err(failure @ Error::ShardDamaged { .. }) => {
                    damage = Some(failure);
                    break;
                }
                Err(failure) => return Err(failure),
            }
        }
        let Some(damage) = damage else { return Ok(Some((manifest, shards))) };
        tracing::warn!(%damage, "A snapshot is damaged; the one before it is tried.");
        let Some(older) = older(&manifest) else { return Ok(None) };
        before = older;
    }
    Ok(None)
}

/// One shard of the newest snapshot at or before a position in which that shard is whole.
///
/// # Errors
/// [`Error::Store`] only; damage is passed over.
pub async fn load_shard_at_or_before(
    store: &dyn SnapshotStore,
    position: Position,
    format_version: u32,
    shard: ShardId,
) -> Result<Option<(Manifest, Option<Vec<u8>>)>, Error> {
    let mut before = position;
    while let Some(manifest) = store.newest_at_or_before(before, format_version).await? {
        match store.load_shard(&manifest, shard).await {
            Ok(bytes) => return Ok(Some((manifest, bytes))),
            Err(damage @ Error::ShardDamaged { .. }) => {
                tracing::warn!(%damage, "A snapshot is damaged; the one before it is tried.");
            }
            Err(failure) => return Err(failure),
        }
        let Some(older) = older(&manifest) else { return Ok(None) };
        before = older;
    }
    Ok(None)
}

fn older(manifest: &Manifest) -> Option<Position> {
    manifest.position.0.checked_sub(1).map(Position)
}
