//! A map for large indexes that are looked up by key: by hash, not in order.
//!
//! The order of the hashes never gets out: keys are given, and the index is printed, in the order
//! of the keys. Rules must come to the same on every machine.

use std::{collections::BTreeMap, fmt, hash::Hash};

use foldhash::{HashMap, HashMapExt as _};

/// An index by hash that prints in order.
#[derive(Clone, PartialEq, Eq)]
pub struct HashIndex<K: Hash + Eq, V>(HashMap<K, V>);

impl<K: Hash + Eq, V> Default for HashIndex<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, V> HashIndex<K, V> {
    /// An empty index with room for so many keys.
    #[must_use]
    pub fn with_capacity(keys: usize) -> Self {
        Self(HashMap::with_capacity(keys))
    }

    /// What stands under a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// What stands under a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Whether something stands under a key.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Puts a value under a key, and gives the one that stood there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Takes away what stands under a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    /// Whether nothing stands under any key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands under a key, made first where nothing does.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.0.entry(key).or_insert_with(make)
    }
}

impl<K: Hash + Eq, V> HashIndex<K, V> {
    /// All entries, in an order by chance: only to fill what is itself in order.
    pub fn iter_by_chance(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }
}

impl<K: Hash + Ord, V> HashIndex<K, V> {
    /// The keys whose value passes, in their order. Looks at all of them.
    pub fn keys_where(&self, passes: impl Fn(&V) -> bool) -> Vec<&K> {
        let passing = self.0.iter().filter(|(_, value)| passes(value));
        let mut keys: Vec<&K> = passing.map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    /// The values, in the order of their keys. Looks at all of them.
    pub fn values_in_order(&self) -> Vec<&V> {
        let mut entries: Vec<(&K, &V)> = self.0.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.into_iter().map(|(_, value)| value).collect()
    }
}

impl<K: Hash + Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for HashIndex<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ordered: BTreeMap<&K, &V> = self.0.iter().collect();
        f.debug_map().entries(ordered).finish()
    }
}
