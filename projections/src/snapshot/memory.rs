//! Snapshots in memory, for the simulator.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use domain::{log::Position, sealed::Digest};

use super::{Error, Manifest, NewSnapshot, SnapshotStore, manifest, thinning};

/// How many are kept: nothing tells here how many bytes the log takes.
const MANIFESTS_MAX: usize = 64;

/// Snapshots that are gone with the process.
#[derive(Debug, Default)]
pub struct MemorySnapshotStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    manifests: BTreeMap<Position, Manifest>,
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl MemorySnapshotStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SnapshotStore for MemorySnapshotStore {
    async fn save(&self, snapshot: NewSnapshot) -> Result<Manifest, Error> {
        let mut kept = self.kept();
        let newest = kept.manifests.keys().next_back().copied();
        let base = snapshot.base.and_then(|base| kept.manifests.get(&base));
        let (manifest, added) = manifest::compose(snapshot, newest, base)?;
        kept.blobs.extend(added);
        kept.manifests.insert(manifest.position, manifest.clone());
        while kept.manifests.len() > MANIFESTS_MAX {
            let positions: Vec<Position> = kept.manifests.keys().copied().collect();
            let Some(gone) = thinning::first_to_go(&positions) else { break };
            kept.manifests.remove(&gone);
        }
        let named: BTreeSet<Digest> =
            kept.manifests.values().flat_map(|it| it.shards.values().copied()).collect();
        kept.blobs.retain(|digest, _| named.contains(digest));
        Ok(manifest)
    }

    async fn newest_at_or_before(
        &self,
        position: Position,
        format_version: u32,
    ) -> Result<Option<Manifest>, Error> {
        let kept = self.kept();
        let mut older = kept.manifests.range(..=position).rev().map(|(_, it)| it);
        Ok(older.find(|it| it.format_version == format_version).cloned())
    }

    async fn blobs(&self, digests: &[Digest]) -> Result<Vec<Vec<u8>>, Error> {
        let kept = self.kept();
        Ok(digests.iter().filter_map(|digest| kept.blobs.get(digest).cloned()).collect())
    }

    async fn positions(&self) -> Result<Vec<Position>, Error> {
        Ok(self.kept().manifests.keys().copied().collect())
    }
}
