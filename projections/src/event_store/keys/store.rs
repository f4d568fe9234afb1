//! Where wrapped keys and sealed blobs are kept: in the log's database, or in memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use domain::{log::Owner, sealed::Digest};
use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::Error;
use crate::event_store::{self, sqlite::Database};

/// A data key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Whose key.
    pub owner: Owner,
    /// Its id, which sealed values name.
    pub key_id: Uuid,
    /// The nonce and the key encrypted by the master key.
    pub wrapped: Vec<u8>,
}

/// Keeps wrapped keys and sealed blobs. A write is durable when answered.
#[async_trait]
pub trait KeyStore: Send + Sync + std::fmt::Debug {
    /// Any stored key.
    async fn any_key(&self) -> Result<Option<StoredKey>, Error>;

    /// The key that an owner's new secrets are sealed under.
    async fn newest_key(&self, owner: &Owner) -> Result<Option<StoredKey>, Error>;

    /// One key of an owner.
    async fn key(&self, owner: &Owner, key_id: Uuid) -> Result<Option<StoredKey>, Error>;

    /// Adds an owner's first key; answers with the one that is there if another was faster.
    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error>;

    /// Keeps a sealed blob.
    async fn put_blob(&self, digest: Digest, owner: &Owner, bytes: Vec<u8>) -> Result<(), Error>;

    /// A sealed blob and its owner.
    async fn get_blob(&self, digest: Digest) -> Result<Option<(Owner, Vec<u8>)>, Error>;
}

/// Keys and blobs in memory.
#[derive(Debug, Default)]
pub struct MemoryKeyStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    keys: BTreeMap<Owner, StoredKey>,
    blobs: BTreeMap<Digest, (Owner, Vec<u8>)>,
}

impl MemoryKeyStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn any_key(&self) -> Result<Option<StoredKey>, Error> {
        Ok(self.kept().keys.values().next().cloned())
    }

    async fn newest_key(&self, owner: &Owner) -> Result<Option<StoredKey>, Error> {
        Ok(self.kept().keys.get(owner).cloned())
    }

    async fn key(&self, owner: &Owner, key_id: Uuid) -> Result<Option<StoredKey>, Error> {
        Ok(self.kept().keys.get(owner).filter(|key| key.key_id == key_id).cloned())
    }

    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error> {
        Ok(self.kept().keys.entry(key.owner.clone()).or_insert(key).clone())
    }

    async fn put_blob(&self, digest: Digest, owner: &Owner, bytes: Vec<u8>) -> Result<(), Error> {
        self.kept().blobs.insert(digest, (owner.clone(), bytes));
        Ok(())
    }

    async fn get_blob(&self, digest: Digest) -> Result<Option<(Owner, Vec<u8>)>, Error> {
        Ok(self.kept().blobs.get(&digest).cloned())
    }
}

/// Keys and blobs in the log's database.
#[derive(Debug, Clone)]
pub struct SqliteKeyStore {
    database: Database,
}

impl SqliteKeyStore {
    /// The keys of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Store(event_store::Error::Database { operation, source })
}

fn stored_key(row: &SqliteRow) -> Result<StoredKey, sqlx::Error> {
    let key_id: Vec<u8> = row.try_get(1)?;
    Ok(StoredKey {
        owner: owner(row.try_get(0)?)?,
        key_id: Uuid::from_slice(&key_id).map_err(|failure| sqlx::Error::Decode(failure.into()))?,
        wrapped: row.try_get(2)?,
    })
}

fn owner(text: &str) -> Result<Owner, sqlx::Error> {
    text.parse().map_err(|failure: domain::log::Unparsable| sqlx::Error::Decode(failure.into()))
}

const NEWEST_KEY: &str = "SELECT owner, key_id, wrapped FROM data_keys WHERE owner = ? \
     ORDER BY created_at DESC, key_id LIMIT 1";

#[async_trait]
impl KeyStore for SqliteKeyStore {
    async fn any_key(&self) -> Result<Option<StoredKey>, Error> {
        sqlx::query("SELECT owner, key_id, wrapped FROM data_keys LIMIT 1")
            .fetch_optional(self.database.readers())
            .await
            .and_then(|row| row.as_ref().map(stored_key).transpose())
            .map_err(failed("read a data key"))
    }

    async fn newest_key(&self, owner: &Owner) -> Result<Option<StoredKey>, Error> {
        sqlx::query(NEWEST_KEY)
            .bind(owner.to_string())
            .fetch_optional(self.database.readers())
            .await
            .and_then(|row| row.as_ref().map(stored_key).transpose())
            .map_err(failed("read an owner's data key"))
    }

    async fn key(&self, owner: &Owner, key_id: Uuid) -> Result<Option<StoredKey>, Error> {
        sqlx::query("SELECT owner, key_id, wrapped FROM data_keys WHERE owner = ? AND key_id = ?")
            .bind(owner.to_string())
            .bind(key_id.as_bytes().to_vec())
            .fetch_optional(self.database.readers())
            .await
            .and_then(|row| row.as_ref().map(stored_key).transpose())
            .map_err(failed("read a data key by its id"))
    }

    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error> {
        self.database
            .write("keep a data key", move |connection| {
                Box::pin(async move {
                    let owner = key.owner.to_string();
                    sqlx::query(
                        "INSERT INTO data_keys (owner, key_id, wrapped, created_at) \
                         SELECT ?1, ?2, ?3, unixepoch() \
                         WHERE NOT EXISTS (SELECT 1 FROM data_keys WHERE owner = ?1)",
                    )
                    .bind(owner.clone())
                    .bind(key.key_id.as_bytes().to_vec())
                    .bind(key.wrapped)
                    .execute(&mut *connection)
                    .await?;
                    let row = sqlx::query(NEWEST_KEY).bind(owner).fetch_one(connection).await?;
                    stored_key(&row)
                })
            })
            .await
            .map_err(Error::Store)
    }

    async fn put_blob(&self, digest: Digest, owner: &Owner, bytes: Vec<u8>) -> Result<(), Error> {
        let owner = owner.to_string();
        self.database
            .write("keep a blob", move |connection| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO blobs (digest, owner, bytes, created_at) \
                         VALUES (?, ?, ?, unixepoch()) ON CONFLICT (digest) DO NOTHING",
                    )
                    .bind(digest.0.to_vec())
                    .bind(owner)
                    .bind(bytes)
                    .execute(connection)
                    .await
                    .map(drop)
                })
            })
            .await
            .map_err(Error::Store)
    }

    async fn get_blob(&self, digest: Digest) -> Result<Option<(Owner, Vec<u8>)>, Error> {
        let row = sqlx::query("SELECT owner, bytes FROM blobs WHERE digest = ?")
            .bind(digest.0.to_vec())
            .fetch_optional(self.database.readers())
            .await
            .map_err(failed("read a blob"))?;
        let Some(row) = row else { return Ok(None) };
        let read = |row: &SqliteRow| Ok((owner(row.try_get(0)?)?, row.try_get(1)?));
        read(&row).map(Some).map_err(failed("read a blob"))
    }
}
