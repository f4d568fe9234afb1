//! Decoded shards, by what their bytes are: worlds of the past that lie near each other hold most
//! of them in common, and so do the questions about them.
//!
//! Bounded in bytes; what was used longest ago goes first. A shard that went lives on in the
//! worlds that hold it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use domain::sealed::Digest;

use super::{definitions::DefinitionPack, shards::Decoded};

/// Names a shard: the digests of all that it was read from, in their order.
pub(super) type ShardKey = Vec<Digest>;

/// Decoded shards and packs of definitions.
#[derive(Debug)]
pub(super) struct ShardCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<ShardKey, Entry>,
    /// The entries by when they were used last.
    by_use: BTreeMap<u64, ShardKey>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Clone)]
enum Value {
    Shard(Arc<Decoded>),
    Pack(Arc<DefinitionPack>),
}

impl ShardCache {
    /// An empty one that keeps so many bytes at most.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    /// A shard, where it is kept.
    pub(super) fn shard(&self, key: &ShardKey) -> Option<Arc<Decoded>> {
        match self.get(key)? {
            Value::Shard(shard) => Some(shard),
            Value::Pack(_) => None,
        }
    }

    /// A pack, where it is kept.
    pub(super) fn pack(&self, digest: Digest) -> Option<Arc<DefinitionPack>> {
        match self.get(&vec![digest])? {
            Value::Pack(pack) => Some(pack),
            Value::Shard(_) => None,
        }
    }

    /// Keeps a shard.
    pub(super) fn keep_shard(&self, key: ShardKey, shard: &Arc<Decoded>) {
        self.keep(key, Value::Shard(Arc::clone(shard)), shard.bytes);
    }

    /// Keeps a pack.
    pub(super) fn keep_pack(&self, digest: Digest, pack: &Arc<DefinitionPack>) {
        self.keep(vec![digest], Value::Pack(Arc::clone(pack)), pack.bytes());
    }

    fn get(&self, key: &ShardKey) -> Option<Value> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        let entry = kept.entries.get_mut(key)?;
        kept.uses += 1;
        if let Some(key) = kept.by_use.remove(&entry.used) {
            kept.by_use.insert(kept.uses, key);
        }
        entry.used = kept.uses;
        Some(entry.value.clone())
    }

    fn keep(&self, key: ShardKey, value: Value, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let used = kept.uses;
        kept.bytes += bytes;
        kept.by_use.insert(used, key.clone());
        if let Some(before) = kept.entries.insert(key, Entry { value, bytes, used }) {
            kept.bytes -= before.bytes;
            kept.by_use.remove(&before.used);
        }
        while kept.bytes > self.bytes_max {
            let Some((_, oldest)) = kept.by_use.pop_first() else { break };
            if let Some(gone) = kept.entries.remove(&oldest) {
                kept.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::shards::{Packs, ShardBytes};

    fn shard(bytes: usize) -> Arc<Decoded> {
        let empty = ShardBytes { whole: None, changes: Vec::new(), packs: Packs::default() };
        Arc::new(Decoded { bytes, ..empty.decode(0).unwrap() })
    }

    fn key(number: u8) -> ShardKey {
        vec![Digest::of(&[number]), Digest::of(b"changes")]
    }

    #[test]
    fn what_was_used_longest_ago_gives_way_and_the_bound_holds() {
        let cache = ShardCache::new(100);
        for number in 0..4 {
            cache.keep_shard(key(number), &shard(25));
        }
        assert!(cache.shard(&key(0)).is_some(), "and is used last from here on");

        cache.keep_shard(key(9), &shard(40));
        cache.keep_shard(key(8), &shard(101));

        assert!(cache.kept.lock().unwrap().bytes <= 100);
        let kept: Vec<u8> = (0..10).filter(|it| cache.shard(&key(*it)).is_some()).collect();
        assert_eq!(kept, [0, 3, 9]);
    }

    #[test]
    fn a_shard_that_is_kept_anew_counts_once() {
        let cache = ShardCache::new(100);
        for _ in 0..10 {
            cache.keep_shard(key(1), &shard(30));
        }
        let kept = cache.kept.lock().unwrap();
        assert_eq!((kept.bytes, kept.entries.len(), kept.by_use.len()), (30, 1, 1));
    }
}
