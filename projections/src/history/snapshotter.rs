//! Takes snapshots of the present in the background: after so many events, and at the end.
//!
//! The world is locked only while its aggregates are copied, which shares them; they are encoded
//! on another thread, and the fold goes on beside it.

use std::sync::Arc;

use domain::{
    aggregates::Aggregates,
    bbs::held_definition::HeldDefinition,
    log::{Owner, Position, Stamp},
};
use tracing::{info, warn};

use super::{
    Dirty,
    definitions::DefinitionPack,
    dirty::{Planned, Standing, Written},
    shards::{Packs, SHARD_FORMAT, ShardError, definitions_in, encode_changes, encode_whole},
    stamp_of,
};
use crate::{
    projector::Now,
    snapshot::{self, NewSnapshot, ShardId, SnapshotStore},
};

/// A snapshot is taken after this many events: a start or a look at the past folds no more.
pub const SPACING_EVENTS: u64 = 40_000;

/// The first pack of definitions is written anew when those beside it are more than one in this
/// many of those in it.
const FIRST_PACK_ANEW_AT_ONE_IN: usize = 4;

/// Takes snapshots of the present world.
#[derive(Debug)]
pub struct Snapshotter {
    now: Now,
    taker: Taker,
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
        Self { now, taker: Taker::new(snapshots, base, dirty) }
    }

    /// Takes a snapshot whenever enough has happened, until the world is followed no longer.
    /// Dropping the future loses nothing.
    pub async fn run(&mut self) {
        let mut moved = self.now.moved();
        loop {
            let due = self.taker.due();
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
        self.taker.take(stamp, aggregates, owners).await;
    }
}

/// Takes one snapshot after another, each of what has changed since the one before.
#[derive(Debug)]
pub(super) struct Taker {
    snapshots: Arc<dyn SnapshotStore>,
    base: Option<Position>,
    dirty: Dirty,
    /// The newest snapshot, taken here or by another node.
    newest: Option<Position>,
}

impl Taker {
    /// Goes on from a snapshot.
    pub(super) fn new(
        snapshots: Arc<dyn SnapshotStore>,
        base: Option<Position>,
        dirty: Dirty,
    ) -> Self {
        Self { snapshots, base, dirty, newest: base }
    }

    /// From which position on the next one is to be taken.
    pub(super) fn due(&self) -> Position {
        Position(self.newest.unwrap_or_default().0.saturating_add(SPACING_EVENTS))
    }

    /// Takes a snapshot of these aggregates. `owners` were changed since this was called last.
    pub(super) async fn take(
        &mut self,
        stamp: Stamp,
        aggregates: Aggregates,
        owners: impl IntoIterator<Item = Owner>,
    ) {
        self.dirty.note(owners);
        if self.newest.is_some_and(|newest| newest >= stamp.position)
            || stamp.position == Position(0)
        {
            return;
        }
        let plan = self.dirty.plan(&aggregates, stamp.position.0 / SPACING_EVENTS);
        let encoded = tokio::task::spawn_blocking(move || encode_all(&aggregates, plan)).await;
        match encoded {
            Ok(Ok(encoded)) => self.write(stamp, encoded).await,
            Ok(Err(failure)) => warn!(error = %failure, "A snapshot could not be encoded."),
            Err(failure) => {
                warn!(error = %failure, "The encoding of a snapshot ended too early.");
            }
        }
    }

    async fn write(&mut self, stamp: Stamp, encoded: Vec<Encoded>) {
        let mut dirty = Vec::new();
        let mut standing = Vec::new();
        for Encoded { number, shards, standing: stands } in encoded {
            dirty.extend(shards);
            standing.push((number, stands));
        }
        let (shards, bytes) = (dirty.len(), dirty.iter().map(|(_, it)| it.len()).sum::<usize>());
        let snapshot = NewSnapshot { stamp, format_version: SHARD_FORMAT, base: self.base, dirty };
        match self.snapshots.save(snapshot).await {
            Ok(_) => {
                info!(position = %stamp.position, shards, bytes, "Took a snapshot.");
                self.dirty.are_saved(standing);
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

/// What is written of one shard, and what stands of it then.
struct Encoded {
    number: u16,
    /// No bytes: it is empty.
    shards: Vec<(ShardId, Vec<u8>)>,
    standing: Standing,
}

fn encode_all(aggregates: &Aggregates, plan: Vec<Planned>) -> Result<Vec<Encoded>, ShardError> {
    plan.into_iter().map(|planned| encode_one(aggregates, planned)).collect()
}

fn encode_one(aggregates: &Aggregates, planned: Planned) -> Result<Encoded, ShardError> {
    let Planned { number, written, mut standing } = planned;
    let mut shards = Vec::new();
    let Some(shard) = ShardId::new(number) else {
        return Ok(Encoded { number, shards, standing });
    };
    match written {
        Written::Whole => {
            shards.push((shard, encode_whole(aggregates, number)?));
            shards.extend(shard.changes().map(|changes| (changes, Vec::new())));
            (standing.changes, standing.changed_owners) = (0, 0);
            let definitions = definitions_in(aggregates, number, |_| true);
            encode_definitions(shard, &definitions, &mut standing, &mut shards)?;
        }
        Written::Changes(owners) => {
            let next = shard.changes().nth(usize::from(standing.changes));
            let bytes = encode_changes(aggregates, &owners)?;
            shards.extend(next.map(|changes| (changes, bytes)));
            standing.changes += 1;
            standing.changed_owners += owners.len();
            if owners.iter().any(|owner| is_new_definition(aggregates, owner, &standing.packs)) {
                let definitions = definitions_in(aggregates, number, |_| true);
                encode_definitions(shard, &definitions, &mut standing, &mut shards)?;
            }
        }
    }
    Ok(Encoded { number, shards, standing })
}

fn is_new_definition(aggregates: &Aggregates, owner: &Owner, packs: &Packs) -> bool {
    let Owner::Process(process_guid) = owner else { return false };
    let lrp = aggregates.desired_lrp(process_guid);
    lrp.is_some_and(|lrp| !packs.hold(&lrp.definition.digest()))
}

/// Writes definitions that are in no pack yet: beside the first pack, or as a new first one when
/// much of that one is of no use any more.
fn encode_definitions(
    shard: ShardId,
    definitions: &[HeldDefinition],
    standing: &mut Standing,
    shards: &mut Vec<(ShardId, Vec<u8>)>,
) -> Result<(), ShardError> {
    let packs = &standing.packs;
    let (first, later) = (packs.first.as_deref(), packs.later.as_deref());
    let is_in = |pack: Option<&DefinitionPack>, it: &HeldDefinition| {
        pack.is_some_and(|pack| pack.place(&it.digest()).is_some())
    };
    let missing = definitions.iter().filter(|it| !is_in(first, it) && !is_in(later, it)).count();
    let beside = definitions.iter().filter(|it| !is_in(first, it)).count();
    let of_use = definitions.len() - beside;
    let first_is_poor = beside * FIRST_PACK_ANEW_AT_ONE_IN > of_use
        || first.is_some_and(|first| first.len() > of_use * 2);
    if first_is_poor {
        let (bytes, pack) = DefinitionPack::write(definitions)?;
        shards.push((shard.definitions(), bytes));
        shards.push((shard.later_definitions(), Vec::new()));
        standing.packs = Packs { first: Some(Arc::new(pack)), later: None };
    } else if missing > 0 {
        let beside: Vec<HeldDefinition> =
            definitions.iter().filter(|it| !is_in(first, it)).cloned().collect();
        let (bytes, pack) = DefinitionPack::write(&beside)?;
        shards.push((shard.later_definitions(), bytes));
        standing.packs.later = Some(Arc::new(pack));
    }
    Ok(())
}
