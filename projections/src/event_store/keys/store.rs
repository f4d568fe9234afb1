//! What keeps wrapped data keys and sealed blobs, and its form in memory.
//!
//! No key in clear ever gets here. A deleted key never comes back by itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use domain::{log::Owner, sealed::Digest, units::Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Error, KeyLabel};

/// A data key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Whose key.
    pub owner: Owner,
    /// Its id, which sealed values name.
    pub key_id: Uuid,
    /// Which master key it is encrypted by.
    pub label: KeyLabel,
    /// The nonce and the key encrypted by the master key.
    pub wrapped: Vec<u8>,
}

/// A master key that data keys are wrapped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelInUse {
    /// Its label.
    pub label: KeyLabel,
    /// How many data keys need it.
    pub data_keys: u64,
    /// One of them, to try the master key on.
    pub sample: StoredKey,
}

/// Data keys of an owner that are gone for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Whose.
    pub owner: Owner,
    /// Which.
    pub key_ids: Vec<Uuid>,
    /// When.
    pub forgotten_at: Timestamp,
}

impl Forgotten {
    /// The same without the keys that are known already; nothing when all are.
    #[must_use]
    pub fn without(&self, is_known: impl Fn(Uuid) -> bool) -> Option<Self> {
        let key_ids: Vec<Uuid> =
            self.key_ids.iter().copied().filter(|key_id| !is_known(*key_id)).collect();
        (!key_ids.is_empty()).then(|| Self { key_ids, ..self.clone() })
    }
}

/// Keeps wrapped keys and sealed blobs. A write is durable when answered.
#[async_trait]
pub trait KeyStore: Send + Sync + std::fmt::Debug {
    /// Which master keys wrap data keys, by label.
    async fn labels(&self) -> Result<Vec<LabelInUse>, Error>;

    /// The key that an owner's new secrets are sealed under.
    async fn newest_key(&self, owner: &Owner) -> Result<Option<StoredKey>, Error>;

    /// One key of an owner.
    async fn key(&self, owner: &Owner, key_id: Uuid) -> Result<Option<StoredKey>, Error>;

    /// The ids of all keys of an owner.
    async fn key_ids(&self, owner: &Owner) -> Result<Vec<Uuid>, Error>;

    /// Adds an owner's first key; answers with the one that is there if another was faster.
    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error>;

    /// Some of the keys that are wrapped by another master key than this one.
    async fn keys_not_under(&self, label: &KeyLabel, limit: u32) -> Result<Vec<StoredKey>, Error>;

    /// Puts keys under another master key, each with the label that it was under; one that has
    /// moved or gone since is left alone. Answers how many were put.
    async fn replace_wrappings(&self, keys: Vec<(StoredKey, KeyLabel)>) -> Result<u64, Error>;

    /// Deletes data keys for ever, and notes that they were forgotten. Keys that are gone already
    /// are noted all the same: the list of an earlier life of the log can be applied again.
    async fn forget(&self, forgotten: Vec<Forgotten>) -> Result<(), Error>;

    /// All that was ever forgotten: what a backup keeps outside of itself.
    async fn forgotten(&self) -> Result<Vec<Forgotten>, Error>;

    /// When a key was forgotten; `None` when it was not.
    async fn forgotten_at(&self, key_id: Uuid) -> Result<Option<Timestamp>, Error>;

    /// Overwrites what deleted keys left behind in the store's own files, as far as it can; `false`
    /// when a reader is in the way and it must be tried again.
    async fn erase_traces(&self) -> Result<bool, Error>;

    /// Keeps a sealed blob.
    async fn put_blob(&self, digest: Digest, owner: &Owner, bytes: Vec<u8>) -> Result<(), Error>;

    /// A sealed blob and its owner.
    async fn get_blob(&self, digest: Digest) -> Result<Option<(Owner, Vec<u8>)>, Error>;

    /// Forgets again, after a restore, what was forgotten since the backup.
    async fn reapply_forgotten(&self, forgotten: Vec<Forgotten>) -> Result<(), Error> {
        self.forget(forgotten).await?;
        self.erase_traces().await.map(drop)
    }
}

/// Keys and blobs in memory.
#[derive(Debug, Default)]
pub struct MemoryKeyStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: BTreeMap<Uuid, StoredKey>,
    forgotten: BTreeMap<Uuid, (Owner, Timestamp)>,
    blobs: BTreeMap<Digest, (Owner, Vec<u8>)>,
}

impl Kept {
    fn of(&self, owner: &Owner) -> impl Iterator<Item = &StoredKey> {
        self.keys.values().filter(move |key| key.owner == *owner)
    }
}

impl MemoryKeyStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn labels(&self) -> Result<Vec<LabelInUse>, Error> {
        let mut labels: BTreeMap<KeyLabel, LabelInUse> = BTreeMap::new();
        for key in self.kept().keys.values() {
            let first = LabelInUse { label: key.label.clone(), data_keys: 0, sample: key.clone() };
            labels.entry(key.label.clone()).or_insert(first).data_keys += 1;
        }
        Ok(labels.into_values().collect())
    }

    async fn newest_key(&self, owner: &Owner) -> Result<Option<StoredKey>, Error> {
        // There is one at a time.
        Ok(self.kept().of(owner).next().cloned())
    }

    async fn key(&self, owner: &Owner, key_id: Uuid) -> Result<Option<StoredKey>, Error> {
        Ok(self.kept().keys.get(&key_id).filter(|key| key.owner == *owner).cloned())
    }

    async fn key_ids(&self, owner: &Owner) -> Result<Vec<Uuid>, Error> {
        Ok(self.kept().of(owner).map(|key| key.key_id).collect())
    }

    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error> {
        let mut kept = self.kept();
        if let Some(there) = kept.of(&key.owner).next() {
            return Ok(there.clone());
        }
        kept.keys.insert(key.key_id, key.clone());
        Ok(key)
    }

    async fn keys_not_under(&self, label: &KeyLabel, limit: u32) -> Result<Vec<StoredKey>, Error> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let kept = self.kept();
        Ok(kept.keys.values().filter(|key| key.label != *label).take(limit).cloned().collect())
    }

    async fn replace_wrappings(&self, keys: Vec<(StoredKey, KeyLabel)>) -> Result<u64, Error> {
        let mut kept = self.kept();
        let mut replaced = 0;
        for (key, before) in keys {
            if let Some(there) = kept.keys.get_mut(&key.key_id).filter(|it| it.label == before) {
                *there = key;
                replaced += 1;
            }
        }
        Ok(replaced)
    }

    async fn forget(&self, forgotten: Vec<Forgotten>) -> Result<(), Error> {
        let mut kept = self.kept();
        for Forgotten { owner, key_ids, forgotten_at } in forgotten {
            for key_id in key_ids {
                kept.keys.remove(&key_id);
                kept.forgotten.entry(key_id).or_insert_with(|| (owner.clone(), forgotten_at));
            }
        }
        Ok(())
    }

    async fn forgotten(&self) -> Result<Vec<Forgotten>, Error> {
        let kept = self.kept();
        let rows = kept.forgotten.iter();
        Ok(grouped(rows.map(|(key_id, (owner, at))| (owner.clone(), *at, *key_id))))
    }

    async fn forgotten_at(&self, key_id: Uuid) -> Result<Option<Timestamp>, Error> {
        Ok(self.kept().forgotten.get(&key_id).map(|(_, at)| *at))
    }

    async fn erase_traces(&self) -> Result<bool, Error> {
        Ok(true)
    }

    async fn put_blob(&self, digest: Digest, owner: &Owner, bytes: Vec<u8>) -> Result<(), Error> {
        self.kept().blobs.insert(digest, (owner.clone(), bytes));
        Ok(())
    }

    async fn get_blob(&self, digest: Digest) -> Result<Option<(Owner, Vec<u8>)>, Error> {
        Ok(self.kept().blobs.get(&digest).cloned())
    }
}

/// Rows of one key each, put together by owner and time.
pub(crate) fn grouped(rows: impl Iterator<Item = (Owner, Timestamp, Uuid)>) -> Vec<Forgotten> {
    let mut groups: BTreeMap<(Timestamp, Owner), Vec<Uuid>> = BTreeMap::new();
    for (owner, at, key_id) in rows {
        groups.entry((at, owner)).or_default().push(key_id);
    }
    let groups = groups.into_iter();
    groups
        .map(|((forgotten_at, owner), key_ids)| Forgotten { owner, key_ids, forgotten_at })
        .collect()
}
