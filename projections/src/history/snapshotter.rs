//! Takes snapshots of the present in the background: after so many events, and at the end.
//!
//! The world is locked only while its aggregates are copied, which shares them; they are encoded
//! on another thread, and the fold goes on beside it.

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    aggregates::{Aggregates, CLUSTER_SHARD},
    log::{Owner, Position, Stamp},
};
use tracing::{info, warn};

use super::{
    Dirty,
    shards::{SHARD_FORMAT, ShardError, encode_changes, encode_whole},
    stamp_of,
};
use crate::{
    projector::Now,
    snapshot::{self, NewSnapshot, ShardId, SnapshotStore},
};

/// A snapshot is taken after this many events: a start or a look at the past folds no more.
pub const SPACING_EVENTS: u64 = 40_000;

/// A shard is written whole again when one in this many of its owners has changed.
const WHOLE_AT_ONE_IN: usize = 4;

/// Takes snapshots of the present world.
#[derive(Debug)]
pub struct Snapshotter {
    now: Now,
    snapshots: Arc<dyn SnapshotStore>,
    base: Option<Position>,
    dirty: Dirty,
    /// The newest snapshot, taken here or by another node.
    newest: Option<Position>,
}

impl Snapshotter {
    /// Goes on from the snapshot that the world came from.
    #[must_use]
    pub fn new(
        now: Now,
        snapshots: Arc<dyn SnapshotStore>,
        base: Option<Position>,
        dirty: Dirty,
    ) -> Self {
        Self { now, snapshots, base, dirty, newest: base }
    }

    /// Takes a snapshot whenever enough has happened, until the world is followed no longer.
    /// Dropping the future loses nothing.
    pub async fn run(&mut self) {
        let mut moved = self.now.moved();
        loop {
            let due = Position(self.newest.unwrap_or_default().0.saturating_add(SPACING_EVENTS));
            if moved.wait_for(|position| *position >= due).await.is_err() {
                return;
            }
            self.save().await;
        }
    }

    /// Takes a snapshot now. A failure is told and costs only time at the next start.
    pub async fn save(&mut self) {
        // Under one lock: what the world holds and whom it has changed belong together.
        let (stamp, aggregates, owners) = self.now.read(|world| {
            (stamp_of(world), world.aggregates().clone(), self.now.take_dirty_owners())
        });
        self.dirty.note(owners);
        if self.newest.is_some_and(|newest| newest >= stamp.position)
            || stamp.position == Position(0)
        {
            return;
        }
        let plan = plan(&self.dirty, &aggregates);
        let encoding =
            plan.iter().map(|(number, written)| (*number, written.clone())).collect::<Vec<_>>();
        let encoded = tokio::task::spawn_blocking(move || encode(&aggregates, encoding)).await;
        let dirty = match encoded {
            Ok(Ok(dirty)) => dirty,
            Ok(Err(failure)) => {
                warn!(error = %failure, "A snapshot could not be encoded.");
                return;
            }
            Err(failure) => {
                warn!(error = %failure, "The encoding of a snapshot ended too early.");
                return;
            }
        };
        self.write(stamp, plan, dirty).await;
    }

    async fn write(&mut self, stamp: Stamp, plan: Vec<Planned>, dirty: Vec<(ShardId, Vec<u8>)>) {
        let (shards, bytes) = (dirty.len(), dirty.iter().map(|(_, it)| it.len()).sum::<usize>());
        let snapshot = NewSnapshot { stamp, format_version: SHARD_FORMAT, base: self.base, dirty };
        match self.snapshots.save(snapshot).await {
            Ok(_) => {
                info!(position = %stamp.position, shards, bytes, "Took a snapshot.");
                self.dirty.unsaved.clear();
                for (number, written) in plan {
                    if matches!(written, Written::Whole) {
                        self.dirty.whole.remove(&number);
                        self.dirty.since_whole.remove(&number);
                    }
                }
                self.base = Some(stamp.position);
                self.newest = self.base;
            }
            Err(snapshot::Error::NotNewer { newest }) => {
                // Another node took it; what is not in ours stays noted.
                self.newest = Some(newest);
            }
            Err(failure) => {
                warn!(error = %failure, "A snapshot could not be kept; the next one is whole.");
                self.dirty = Dirty::all();
                self.base = None;
                self.newest = Some(stamp.position);
            }
        }
    }
}

type Planned = (u16, Written);

/// How a shard is written.
#[derive(Debug, Clone)]
enum Written {
    /// Whole, and nothing beside it.
    Whole,
    /// What these owners have, beside what was written whole before.
    Changes(BTreeSet<Owner>),
}

/// What is written of each shard that has changed, and of the cluster's, which always has.
fn plan(dirty: &Dirty, aggregates: &Aggregates) -> Vec<Planned> {
    let mut plan: Vec<Planned> = dirty.whole.iter().map(|it| (*it, Written::Whole)).collect();
    for number in dirty.unsaved.difference(&dirty.whole) {
        let changed = dirty.since_whole.get(number);
        let count = changed.map_or(0, BTreeSet::len);
        let written = match changed {
            Some(owners) if count * WHOLE_AT_ONE_IN < aggregates.owners_in(*number) => {
                Written::Changes(owners.clone())
            }
            Some(_) | None => Written::Whole,
        };
        plan.push((*number, written));
    }
    if !dirty.whole.contains(&CLUSTER_SHARD) {
        plan.push((CLUSTER_SHARD, Written::Whole));
    }
    plan
}

fn encode(
    aggregates: &Aggregates,
    plan: Vec<Planned>,
) -> Result<Vec<(ShardId, Vec<u8>)>, ShardError> {
    let mut shards = Vec::new();
    for (number, written) in plan {
        let Some(shard) = ShardId::new(number) else { continue };
        match written {
            Written::Whole => {
                shards.push((shard, encode_whole(aggregates, number)?));
                // No bytes: nothing has changed since.
                shards.push((shard.changes(), Vec::new()));
            }
            Written::Changes(owners) => {
                shards.push((shard.changes(), encode_changes(aggregates, &owners)?));
            }
        }
    }
    Ok(shards)
}
