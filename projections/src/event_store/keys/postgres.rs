//! Wrapped keys and sealed blobs in a Postgres database.

use async_trait::async_trait;
use domain::{log::Owner, sealed::Digest};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Error, KeyStore, StoredKey};
use crate::event_store::{self, postgres::Database};

/// Keys and blobs in the log's database.
#[derive(Debug, Clone)]
pub struct PostgresKeyStore {
    database: Database,
}

impl PostgresKeyStore {
    /// The keys of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

/// The first row of what was found, read by `read`.
fn first<T>(
    operation: &'static str,
    found: Result<Vec<PgRow>, event_store::Error>,
    read: impl FnOnce(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Option<T>, Error> {
    let failed = |source| Error::Store(event_store::Error::Database { operation, source });
    found.map_err(Error::Store)?.first().map(read).transpose().map_err(failed)
}

fn stored_key(row: &PgRow) -> Result<StoredKey, sqlx::Error> {
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

const NEWEST_KEY: &str = "SELECT owner, key_id, wrapped FROM data_keys WHERE owner = $1 \
     ORDER BY created_at DESC, key_id LIMIT 1";

#[async_trait]
impl KeyStore for PostgresKeyStore {
    async fn any_key(&self) -> Result<Option<StoredKey>, Error> {
        let operation = "read a data key";
        let query = || sqlx::query("SELECT owner, key_id, wrapped FROM data_keys LIMIT 1");
        first(operation, self.database.fetch(operation, query).await, stored_key)
    }

    async fn newest_key(&self, owner: &Owner) -> Result<Option<StoredKey>, Error> {
        let operation = "read an owner's data key";
        let query = || sqlx::query(NEWEST_KEY).bind(owner.to_string());
        first(operation, self.database.fetch(operation, query).await, stored_key)
    }

    async fn key(&self, owner: &Owner, key_id: Uuid) -> Result<Option<StoredKey>, Error> {
        let operation = "read a data key by its id";
        let query = || {
            sqlx::query(
                "SELECT owner, key_id, wrapped FROM data_keys WHERE owner = $1 AND key_id = $2",
            )
            .bind(owner.to_string())
            .bind(key_id.as_bytes().as_slice())
        };
        first(operation, self.database.fetch(operation, query).await, stored_key)
    }

    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error> {
        let operation = "keep a data key";
        let failed = |source| Error::Store(event_store::Error::Database { operation, source });
        self.database
            .transaction(operation, |connection| Box::pin(add_first_key(connection, key)))
            .await
            .map_err(Error::Store)?
            .map_err(failed)
    }

    async fn put_blob(&self, digest: Digest, owner: &Owner, bytes: Vec<u8>) -> Result<(), Error> {
        let query = || {
            sqlx::query(
                "INSERT INTO blobs (digest, owner, bytes, created_at) \
                 VALUES ($1, $2, $3, extract(epoch FROM clock_timestamp())::bigint) \
                 ON CONFLICT (digest) DO NOTHING",
            )
            .bind(digest.0.as_slice())
            .bind(owner.to_string())
            .bind(bytes.as_slice())
        };
        self.database.fetch_writing("keep a blob", query).await.map(drop).map_err(Error::Store)
    }

    async fn get_blob(&self, digest: Digest) -> Result<Option<(Owner, Vec<u8>)>, Error> {
        let operation = "read a blob";
        let query = || {
            sqlx::query("SELECT owner, bytes FROM blobs WHERE digest = $1")
                .bind(digest.0.as_slice())
        };
        let read = |row: &PgRow| Ok((owner(row.try_get(0)?)?, row.try_get(1)?));
        first(operation, self.database.fetch(operation, query).await, read)
    }
}

async fn add_first_key(
    connection: &mut PgConnection,
    key: StoredKey,
) -> Result<StoredKey, sqlx::Error> {
    let owner = key.owner.to_string();
    // In a statement of its own: the next one sees what another node has added meanwhile.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(&owner)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO data_keys (owner, key_id, wrapped, created_at) \
         SELECT $1, $2, $3, extract(epoch FROM clock_timestamp())::bigint \
         WHERE NOT EXISTS (SELECT 1 FROM data_keys WHERE owner = $1)",
    )
    .bind(&owner)
    .bind(key.key_id.as_bytes().as_slice())
    .bind(key.wrapped)
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query(NEWEST_KEY).bind(owner).fetch_one(connection).await?;
    stored_key(&row)
}
