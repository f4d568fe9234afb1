//! Data keys that are held unwrapped, bounded; dropped when they are forgotten.

use std::{collections::HashMap, sync::Arc};

use domain::log::Owner;
use uuid::Uuid;

use super::cipher::DataKey;

/// How many data keys are held unwrapped; when full, all are dropped and unwrapped again.
const CACHED_KEYS_MAX: usize = 10_000;

/// How often keys were dropped: a key that was read before the last time is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Forgettings(u64);

/// Unwrapped data keys.
#[derive(Debug, Default)]
pub(super) struct Cached {
    by_owner: HashMap<Owner, Arc<DataKey>>,
    by_id: HashMap<Uuid, Arc<DataKey>>,
    forgettings: Forgettings,
}

impl Cached {
    /// The key that an owner's secrets are sealed under; else what to give to
    /// [`Cached::insert`] once it was read.
    pub(super) fn of_owner(&self, owner: &Owner) -> Result<Arc<DataKey>, Forgettings> {
        self.by_owner.get(owner).cloned().ok_or(self.forgettings)
    }

    /// One key; else what to give to [`Cached::insert`].
    pub(super) fn by_id(&self, key_id: Uuid) -> Result<Arc<DataKey>, Forgettings> {
        self.by_id.get(&key_id).cloned().ok_or(self.forgettings)
    }

    /// Keeps a key that was read since, unless keys were forgotten meanwhile: it may be one.
    pub(super) fn insert(
        &mut self,
        key: &Arc<DataKey>,
        newest_of: Option<&Owner>,
        since: Forgettings,
    ) {
        if since != self.forgettings {
            return;
        }
        if self.by_id.len() >= CACHED_KEYS_MAX {
            self.by_id.clear();
            self.by_owner.clear();
        }
        self.by_id.insert(key.id(), Arc::clone(key));
        if let Some(owner) = newest_of {
            self.by_owner.insert(owner.clone(), Arc::clone(key));
        }
    }

    /// Drops forgotten keys.
    pub(super) fn drop_keys(&mut self, key_ids: &[Uuid]) {
        self.forgettings.0 += 1;
        self.by_id.retain(|key_id, _| !key_ids.contains(key_id));
        self.by_owner.retain(|_, key| !key_ids.contains(&key.id()));
    }
}
