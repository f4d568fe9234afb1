//! The index of what is kept: it survives the agent and the machine.
//!
//! Plain data and what follows from it: what may go, and what goes first.

use std::collections::{BTreeMap, BTreeSet};

use domain::action::Checksum;
use serde::{Deserialize, Serialize};

use crate::garden::Handle;

/// What something is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// As it was loaded.
    File,
    /// Unpacked.
    Folder,
}

/// What a server said by which a later answer can be told from this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

impl Validators {
    pub(super) fn are_some(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// Something that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) validators: Validators,
    /// What it was found to be.
    pub(super) checksum: Option<Checksum>,
    /// The blocks that it takes on the disk.
    pub(super) disk_bytes: u64,
    /// Counts up with each use: the least goes first.
    pub(super) used: u64,
    /// Whether it is what its key gives: something newer may have taken its place while it was held.
    pub(super) is_current: bool,
    /// The containers that have it mounted.
    pub(super) holders: BTreeSet<Handle>,
    /// Who reads it now; nobody does in the next agent's life.
    #[serde(skip)]
    pub(super) readers: u32,
}

impl Entry {
    fn may_go(&self) -> bool {
        self.holders.is_empty() && self.readers == 0
    }
}

/// All that is kept, by its name on the disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) uses: u64,
}

impl Index {
    pub(super) fn disk_bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.disk_bytes).sum()
    }

    /// What must go for so many bytes, in order; `None` if they do not fit beside what is held.
    pub(super) fn to_evict(&self, too_many_bytes: u64) -> Option<Vec<String>> {
        let mut candidates: Vec<(&String, &Entry)> =
            self.entries.iter().filter(|(_, entry)| entry.may_go()).collect();
        candidates.sort_by_key(|(_, entry)| (entry.is_current, entry.used));
        let mut left = too_many_bytes;
        let mut chosen = Vec::new();
        for (name, entry) in candidates {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(entry.disk_bytes);
            chosen.push(name.clone());
        }
        (left == 0).then_some(chosen)
    }

    /// What all that may go takes.
    pub(super) fn evictable_bytes(&self) -> u64 {
        let evictable = self.entries.values().filter(|entry| entry.may_go());
        evictable.map(|entry| entry.disk_bytes).sum()
    }

    /// What will never be asked for again.
    pub(super) fn replaced(&self) -> Vec<String> {
        let replaced = self.entries.iter().filter(|(_, entry)| !entry.is_current && entry.may_go());
        replaced.map(|(name, _)| name.clone()).collect()
    }

    /// What a key gives.
    pub(super) fn current(&mut self, key: &str, kind: Kind) -> Option<(&String, &mut Entry)> {
        self.entries
            .iter_mut()
            .find(|(_, entry)| entry.key == key && entry.kind == kind && entry.is_current)
    }

    /// The next number of a use.
    pub(super) fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(used: u64, disk_bytes: u64, readers: u32, is_current: bool) -> Entry {
        Entry {
            key: used.to_string(),
            kind: Kind::File,
            validators: Validators::default(),
            checksum: None,
            disk_bytes,
            used,
            is_current,
            holders: BTreeSet::new(),
            readers,
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_held_never() {
        let mut index = Index::default();
        index.entries.insert("old-but-read".to_owned(), entry(1, 100, 1, true));
        index.entries.insert("old".to_owned(), entry(2, 100, 0, true));
        index.entries.insert("new".to_owned(), entry(3, 100, 0, true));
        index.entries.insert("replaced".to_owned(), entry(9, 100, 0, false));

        assert_eq!(index.to_evict(0).unwrap(), Vec::<String>::new());
        assert_eq!(index.to_evict(100).unwrap(), ["replaced"]);
        assert_eq!(index.to_evict(101).unwrap(), ["replaced", "old"]);
        assert_eq!(index.to_evict(300).unwrap(), ["replaced", "old", "new"]);
        assert_eq!(index.to_evict(301), None);
    }
}
