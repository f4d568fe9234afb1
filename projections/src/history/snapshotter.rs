//! Takes snapshots of the present in the background: after so many events, and at the end.

use std::{collections::BTreeSet, sync::Arc};

use domain::log::Position;
use tracing::{info, warn};

use super::{SHARD_FORMAT, encode, stamp_of};
use crate::{
    projector::Now,
    snapshot::{NewSnapshot, ShardId, SnapshotStore},
};

/// A snapshot is taken after this many events: a start or a look at the past folds no more.
const SPACING_EVENTS: u64 = 10_000;

/// Takes snapshots of the present world.
#[derive(Debug)]
pub struct Snapshotter {
    now: Now,
    snapshots: Arc<dyn SnapshotStore>,
    base: Option<Position>,
    dirty: BTreeSet<ShardId>,
}

impl Snapshotter {
    /// Goes on from the snapshot that the world came from.
    #[must_use]
    pub fn new(
        now: Now,
        snapshots: Arc<dyn SnapshotStore>,
        base: Option<Position>,
        dirty: BTreeSet<ShardId>,
    ) -> Self {
        Self { now, snapshots, base, dirty }
    }

    /// Takes a snapshot whenever enough has happened, until the world is followed no longer.
    /// Dropping the future loses nothing.
    pub async fn run(&mut self) {
        let mut moved = self.now.moved();
        loop {
            let due = Position(self.base.unwrap_or_default().0.saturating_add(SPACING_EVENTS));
            if moved.wait_for(|position| *position >= due).await.is_err() {
                return;
            }
            self.save().await;
        }
    }

    /// Takes a snapshot now. A failure is told and costs only time at the next start.
    pub async fn save(&mut self) {
        // Under one lock: what the world holds and which shards it touched belong together.
        let (stamp, encoded) = self.now.read(|world| {
            self.dirty.append(&mut self.now.take_dirty_shards());
            (stamp_of(world), encode(world.aggregates(), &self.dirty))
        });
        if self.base == Some(stamp.position) || stamp.position == Position(0) {
            return;
        }
        let dirty = match encoded {
            Ok(dirty) => dirty,
            Err(failure) => {
                warn!(error = %failure, "A snapshot could not be encoded.");
                return;
            }
        };
        let shards = dirty.len();
        let snapshot = NewSnapshot { stamp, format_version: SHARD_FORMAT, base: self.base, dirty };
        match self.snapshots.save(snapshot).await {
            Ok(_) => {
                info!(position = %stamp.position, shards, "Took a snapshot.");
                self.dirty.clear();
            }
            Err(failure) => {
                warn!(error = %failure, "A snapshot could not be kept; the next one is whole.");
                self.dirty.extend(ShardId::all());
                self.base = None;
                return;
            }
        }
        self.base = Some(stamp.position);
    }
}
