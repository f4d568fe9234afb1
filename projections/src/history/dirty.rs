//! What the next snapshot has to write: whom events have changed, and what stands in the newest one.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use domain::{
    aggregates::{Aggregates, CLUSTER_SHARD, shard_of},
    event::Event,
    log::{Owner, Recorded, StreamId},
};

use super::shards::{Decoded, Packs};
use crate::snapshot::{CHANGES_MAX, ShardId};

/// A shard is written whole again once changes of one in this many of its owners stand beside it.
const WHOLE_AT_ONE_IN: usize = 2;

/// What the next snapshot has to write.
#[derive(Debug, Default)]
pub struct Dirty {
    /// By shard: the owners that have changed since the newest snapshot.
    unsaved: BTreeMap<u16, BTreeSet<Owner>>,
    /// What stands in the newest snapshot of each shard. One that is not here is written whole.
    written: BTreeMap<u16, Standing>,
}

/// What stands in a snapshot of one shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// How many shards of changes stand beside the whole one.
    pub(super) changes: u16,
    /// Of how many owners those are.
    pub(super) changed_owners: usize,
    /// Its definitions.
    pub(super) packs: Packs,
}

/// How a shard is written.
#[derive(Debug, Clone)]
pub(super) enum Written {
    /// Whole, and no changes beside it.
    Whole,
    /// What these owners have, as the newest of the changes beside it.
    Changes(BTreeSet<Owner>),
}

/// What is written of one shard, beside what.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) number: u16,
    pub(super) written: Written,
    pub(super) standing: Standing,
}

impl Dirty {
    /// Everything: nothing was saved yet.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Notes owners that have changed since the newest snapshot.
    pub(super) fn note(&mut self, owners: impl IntoIterator<Item = Owner>) {
        for owner in owners {
            self.unsaved.entry(shard_of(&owner)).or_default().insert(owner);
        }
    }

    /// Notes that a shard stands in the newest snapshot.
    pub(super) fn is_written(&mut self, number: u16, decoded: &Decoded) {
        let Decoded { part: _, packs, changes, changed_owners, bytes: _ } = decoded;
        let (changes, changed_owners, packs) = (*changes, *changed_owners, packs.clone());
        self.written.insert(number, Standing { changes, changed_owners, packs });
    }

    /// Notes that a snapshot was taken, and what stands in it of what was written.
    pub(super) fn are_saved(&mut self, saved: impl IntoIterator<Item = (u16, Standing)>) {
        self.unsaved.clear();
        self.written.extend(saved);
    }

    /// The shards that are to be written whole.
    #[cfg(test)]
    pub(super) fn whole(&self) -> impl Iterator<Item = u16> {
        let all = ShardId::all().map(ShardId::number);
        all.filter(|number| !self.written.contains_key(number))
    }

    /// What is to be written. At every turn some shards are written whole again, each in its own
    /// turn, so that no snapshot is much larger than another.
    pub(super) fn plan(&self, aggregates: &Aggregates, turn: u64) -> Vec<Planned> {
        let shards = ShardId::all().map(ShardId::number);
        let planned = shards.filter_map(|number| {
            let standing = self.written.get(&number);
            let is_turn = u64::from(number % CHANGES_MAX) == turn % u64::from(CHANGES_MAX);
            let written = match (standing, self.unsaved.get(&number)) {
                // Cells and what else is the cluster's change with nearly every report.
                _ if number == CLUSTER_SHARD => Written::Whole,
                (None, _) => Written::Whole,
                (Some(_), None) => return None,
                (Some(standing), Some(owners)) => {
                    let changed = standing.changed_owners + owners.len();
                    let are_many = changed * WHOLE_AT_ONE_IN >= aggregates.owners_in(number);
                    let is_full = standing.changes >= CHANGES_MAX;
                    if are_many || is_full || (is_turn && standing.changes > 0) {
                        Written::Whole
                    } else {
                        Written::Changes(owners.clone())
                    }
                }
            };
            Some(Planned { number, written, standing: standing.cloned().unwrap_or_default() })
        });
        planned.collect()
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
