//! A map for large indexes that are looked up by key and never walked: by hash, not in order.
//!
//! It prints itself in the order of its keys, so that equal indexes print the same. Never walk
//! one where the order could be seen: rules must come to the same on every machine.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    ops::{Deref, DerefMut},
};

/// An index by hash that prints in order.
#[derive(Clone, PartialEq, Eq)]
pub struct HashIndex<K: Hash + Eq, V>(HashMap<K, V>);

impl<K: Hash + Eq, V> Default for HashIndex<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, V> Deref for HashIndex<K, V> {
    type Target = HashMap<K, V>;
    fn deref(&self) -> &HashMap<K, V> {
        &self.0
    }
}

impl<K: Hash + Eq, V> DerefMut for HashIndex<K, V> {
    fn deref_mut(&mut self) -> &mut HashMap<K, V> {
        &mut self.0
    }
}

impl<K: Hash + Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for HashIndex<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ordered: BTreeMap<&K, &V> = self.0.iter().collect();
        f.debug_map().entries(ordered).finish()
    }
}
