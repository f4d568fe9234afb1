//! Wrapped keys and sealed blobs in a Postgres database.
//!
//! A deleted key's row is gone from the table's file once that was written anew. The server's
//! write-ahead log, its archive and base backups keep what they have, wrapped as it was.

use async_trait::async_trait;
use domain::{log::Owner, sealed::Digest, units::Timestamp};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use tracing::warn;
use uuid::Uuid;

use super::{
    Error, KeyLabel, KeyStore, StoredKey,
    store::{Forgotten, LabelInUse, grouped},
};
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

/// All rows of what was found, read by `read`.
fn all<T>(
    operation: &'static str,
    found: Result<Vec<PgRow>, event_store::Error>,
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, Error> {
    let failed = |source| Error::Store(event_store::Error::Database { operation, source });
    found.map_err(Error::Store)?.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}

/// The first row of what was found, read by `read`.
fn first<T>(
    operation: &'static str,
    found: Result<Vec<PgRow>, event_store::Error>,
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Option<T>, Error> {
    Ok(all(operation, found, read)?.into_iter().next())
}

fn decoded<T, E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    read: Result<T, E>,
) -> Result<T, sqlx::Error> {
    read.map_err(|problem| sqlx::Error::Decode(problem.into()))
}

fn owner(text: &str) -> Result<Owner, sqlx::Error> {
    decoded(text.parse())
}

fn key_id(bytes: &[u8]) -> Result<Uuid, sqlx::Error> {
    decoded(Uuid::from_slice(bytes))
}

/// Columns `owner, key_id, label, wrapped`.
fn stored_key(row: &PgRow) -> Result<StoredKey, sqlx::Error> {
    Ok(StoredKey {
        owner: owner(row.try_get(0)?)?,
        key_id: key_id(row.try_get(1)?)?,
        label: decoded(KeyLabel::new(row.try_get(2)?))?,
        wrapped: row.try_get(3)?,
    })
}

const NEWEST_KEY: &str = "SELECT owner, key_id, label, wrapped FROM data_keys WHERE owner = $1 \
     ORDER BY created_at DESC, key_id LIMIT 1";

#[async_trait]
impl KeyStore for PostgresKeyStore {
    async fn labels(&self) -> Result<Vec<LabelInUse>, Error> {
        let operation = "count the data keys";
        let query = || {
            sqlx::query(
                "SELECT sample.owner, sample.key_id, sample.label, sample.wrapped, counted.n \
                 FROM (SELECT label, count(*) AS n FROM data_keys GROUP BY label) AS counted, \
                 LATERAL (SELECT * FROM data_keys WHERE label = counted.label LIMIT 1) AS sample \
                 ORDER BY counted.label",
            )
        };
        all(operation, self.database.fetch(operation, query).await, |row| {
            let sample = stored_key(row)?;
            let data_keys = decoded(u64::try_from(row.try_get::<i64, _>(4)?))?;
            Ok(LabelInUse { label: sample.label.clone(), data_keys, sample })
        })
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
                "SELECT owner, key_id, label, wrapped FROM data_keys \
                 WHERE owner = $1 AND key_id = $2",
            )
            .bind(owner.to_string())
            .bind(key_id.as_bytes().as_slice())
        };
        first(operation, self.database.fetch(operation, query).await, stored_key)
    }

    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error> {
        let operation = "keep a data key";
        let failed = |source| Error::Store(self.database.failed(operation, source));
        self.database
            .transaction(operation, |connection| Box::pin(add_first_key(connection, key)))
            .await
            .map_err(Error::Store)?
            .map_err(failed)
    }

    async fn key_ids(&self, owner: &Owner) -> Result<Vec<Uuid>, Error> {
        let operation = "read an owner's data keys";
        let query =
            || sqlx::query("SELECT key_id FROM data_keys WHERE owner = $1").bind(owner.to_string());
        let found = self.database.fetch(operation, query).await;
        all(operation, found, |row| key_id(row.try_get(0)?))
    }

    async fn keys_not_under(&self, label: &KeyLabel, limit: u32) -> Result<Vec<StoredKey>, Error> {
        let operation = "read data keys";
        let query = || {
            sqlx::query(
                "SELECT owner, key_id, label, wrapped FROM data_keys \
                 WHERE label < $1 OR label > $1 LIMIT $2",
            )
            .bind(label.as_str().to_owned())
            .bind(i64::from(limit))
        };
        all(operation, self.database.fetch(operation, query).await, stored_key)
    }

    async fn replace_wrappings(&self, keys: Vec<(StoredKey, KeyLabel)>) -> Result<u64, Error> {
        let operation = "rewrap data keys";
        let failed = |source| Error::Store(self.database.failed(operation, source));
        self.database
            .transaction(operation, |connection| Box::pin(replace_wrappings(connection, keys)))
            .await
            .map_err(Error::Store)?
            .map_err(failed)
    }

    async fn forget(&self, forgotten: Vec<Forgotten>) -> Result<(), Error> {
        let operation = "forget data keys";
        let failed = |source| Error::Store(self.database.failed(operation, source));
        self.database
            .transaction(operation, |connection| Box::pin(forget(connection, forgotten)))
            .await
            .map_err(Error::Store)?
            .map_err(failed)
    }

    async fn forgotten(&self) -> Result<Vec<Forgotten>, Error> {
        let operation = "read what was forgotten";
        let query = || sqlx::query("SELECT owner, forgotten_at, key_id FROM forgotten_keys");
        let rows = all(operation, self.database.fetch(operation, query).await, |row| {
            let at = Timestamp(row.try_get(1)?);
            Ok((owner(row.try_get(0)?)?, at, key_id(row.try_get(2)?)?))
        })?;
        Ok(grouped(rows.into_iter()))
    }

    async fn forgotten_at(&self, key_id: Uuid) -> Result<Option<Timestamp>, Error> {
        let operation = "look for a forgotten data key";
        let query = || {
            sqlx::query("SELECT forgotten_at FROM forgotten_keys WHERE key_id = $1")
                .bind(key_id.as_bytes().to_vec())
        };
        let found = self.database.fetch(operation, query).await;
        first(operation, found, |row| row.try_get(0).map(Timestamp))
    }

    async fn erase_traces(&self) -> Result<bool, Error> {
        // Written anew: a plain VACUUM leaves the bytes in the pages' free space.
        let query = || sqlx::query("VACUUM (FULL) data_keys");
        match self.database.fetch_writing("erase the traces of deleted data keys", query).await {
            Ok(_) => Ok(true),
            Err(failure) => {
                warn!(error = %failure, "The table of data keys cannot be written anew yet.");
                Ok(false)
            }
        }
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
        "INSERT INTO data_keys (owner, key_id, label, wrapped, created_at) \
         SELECT $1, $2, $3, $4, extract(epoch FROM clock_timestamp())::bigint \
         WHERE NOT EXISTS (SELECT 1 FROM data_keys WHERE owner = $1)",
    )
    .bind(&owner)
    .bind(key.key_id.as_bytes().as_slice())
    .bind(key.label.as_str().to_owned())
    .bind(key.wrapped)
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query(NEWEST_KEY).bind(owner).fetch_one(connection).await?;
    stored_key(&row)
}

async fn replace_wrappings(
    connection: &mut PgConnection,
    keys: Vec<(StoredKey, KeyLabel)>,
) -> Result<u64, sqlx::Error> {
    let mut replaced = 0;
    for (key, before) in keys {
        replaced += sqlx::query(
            "UPDATE data_keys SET label = $1, wrapped = $2 \
             WHERE owner = $3 AND key_id = $4 AND label = $5",
        )
        .bind(String::from(key.label))
        .bind(key.wrapped)
        .bind(key.owner.to_string())
        .bind(key.key_id.as_bytes().to_vec())
        .bind(String::from(before))
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    Ok(replaced)
}

async fn forget(
    connection: &mut PgConnection,
    forgotten: Vec<Forgotten>,
) -> Result<(), sqlx::Error> {
    for Forgotten { owner, key_ids, forgotten_at } in forgotten {
        for key_id in key_ids {
            sqlx::query("DELETE FROM data_keys WHERE owner = $1 AND key_id = $2")
                .bind(owner.to_string())
                .bind(key_id.as_bytes().to_vec())
                .execute(&mut *connection)
                .await?;
            sqlx::query(
                "INSERT INTO forgotten_keys (key_id, owner, forgotten_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (key_id) DO NOTHING",
            )
            .bind(key_id.as_bytes().to_vec())
            .bind(owner.to_string())
            .bind(forgotten_at.0)
            .execute(&mut *connection)
            .await?;
        }
    }
    Ok(())
}
