//! What a database holds beside its log, as rows that can be carried: wrapped data keys and sealed
//! evidence. Nothing here is ever opened.

mod postgres;
mod sqlite;

use async_trait::async_trait;
use domain::sealed::Digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event_store::Error;

/// A wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRow {
    /// Whose, as text.
    pub owner: String,
    /// Its id, which sealed values name.
    pub key_id: Uuid,
    /// Which master key it is encrypted by.
    pub label: String,
    /// The key encrypted by the master key, in hexadecimal.
    pub wrapped: String,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
}

/// A piece of sealed evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// Of the sealed bytes: the name by which events know it.
    pub digest: Digest,
    /// Whose, as text.
    pub owner: String,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
    /// When it was kept, in seconds since 1970.
    pub created_at: i64,
}

/// A database's keys and evidence, page by page, and the size of its snapshots.
#[async_trait]
pub trait Beside: Send + Sync + std::fmt::Debug {
    /// The keys behind an owner and id, in their order.
    async fn keys_after(&self, after: &(String, Uuid), limit: u32) -> Result<Vec<KeyRow>, Error>;

    /// The evidence behind a digest, in the order of digests.
    async fn blobs_after(&self, after: Option<Digest>, limit: u32) -> Result<Vec<BlobRow>, Error>;

    /// How many bytes the snapshots have.
    async fn snapshot_bytes(&self) -> Result<u64, Error>;

    /// Adds keys, all or none; one that is there stays.
    async fn add_keys(&self, keys: Vec<KeyRow>) -> Result<(), Error>;

    /// Adds evidence, all or none; one that is there stays.
    async fn add_blobs(&self, blobs: Vec<BlobRow>) -> Result<(), Error>;
}

fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Database { operation, source }
}

fn decoded<T, E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    read: Result<T, E>,
) -> Result<T, sqlx::Error> {
    read.map_err(|problem| sqlx::Error::Decode(problem.into()))
}
