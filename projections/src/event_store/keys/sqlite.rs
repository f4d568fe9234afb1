//! Keys and blobs in the log's SQLite database.
//!
//! A deleted key's bytes are overwritten: in the pages by `secure_delete`, in the write-ahead log
//! by folding it into the database and cutting it off.

use async_trait::async_trait;
use domain::{log::Owner, sealed::Digest, units::Timestamp};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    Error, KeyLabel,
    store::{Forgotten, KeyStore, LabelInUse, StoredKey, grouped},
};
use crate::event_store::{self, sqlite::Database};

/// How long the writer may be kept waiting for readers when traces are erased, in milliseconds.
const ERASE_WAIT: &str = "PRAGMA busy_timeout = 1000";

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
fn stored_key(row: &SqliteRow) -> Result<StoredKey, sqlx::Error> {
    Ok(StoredKey {
        owner: owner(row.try_get(0)?)?,
        key_id: key_id(row.try_get(1)?)?,
        label: decoded(KeyLabel::new(row.try_get(2)?))?,
        wrapped: row.try_get(3)?,
    })
}

/// From here to the end of the transaction deleted bytes are overwritten also where that costs
/// more writing.
async fn overwrite_deleted(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA secure_delete = ON").execute(connection).await.map(drop)
}

/// See `Database`: the usual setting of its connections.
async fn overwrite_cheaply(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA secure_delete = FAST").execute(connection).await.map(drop)
}

const NEWEST_KEY: &str = "SELECT owner, key_id, label, wrapped FROM data_keys WHERE owner = ? \
     ORDER BY created_at DESC, key_id LIMIT 1";

#[async_trait]
impl KeyStore for SqliteKeyStore {
    async fn labels(&self) -> Result<Vec<LabelInUse>, Error> {
        // The other columns are those of the row with the least id.
        let rows = sqlx::query(
            "SELECT owner, min(key_id), label, wrapped, count(*) FROM data_keys GROUP BY label",
        )
        .fetch_all(self.database.readers())
        .await
        .map_err(failed("count the data keys"))?;
        let read = |row: &SqliteRow| {
            let sample = stored_key(row)?;
            let data_keys = decoded(u64::try_from(row.try_get::<i64, _>(4)?))?;
            Ok(LabelInUse { label: sample.label.clone(), data_keys, sample })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed("count the data keys"))
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
        sqlx::query(
            "SELECT owner, key_id, label, wrapped FROM data_keys WHERE owner = ? AND key_id = ?",
        )
        .bind(owner.to_string())
        .bind(key_id.as_bytes().to_vec())
        .fetch_optional(self.database.readers())
        .await
        .and_then(|row| row.as_ref().map(stored_key).transpose())
        .map_err(failed("read a data key by its id"))
    }

    async fn key_ids(&self, owner: &Owner) -> Result<Vec<Uuid>, Error> {
        sqlx::query("SELECT key_id FROM data_keys WHERE owner = ?")
            .bind(owner.to_string())
            .fetch_all(self.database.readers())
            .await
            .and_then(|rows| rows.iter().map(|row| key_id(row.try_get(0)?)).collect())
            .map_err(failed("read an owner's data keys"))
    }

    async fn add_first_key(&self, key: StoredKey) -> Result<StoredKey, Error> {
        self.database
            .write("keep a data key", move |connection| {
                Box::pin(async move {
                    let owner = key.owner.to_string();
                    sqlx::query(
                        "INSERT INTO data_keys (owner, key_id, label, wrapped, created_at) \
                         SELECT ?1, ?2, ?3, ?4, unixepoch() \
                         WHERE NOT EXISTS (SELECT 1 FROM data_keys WHERE owner = ?1)",
                    )
                    .bind(owner.clone())
                    .bind(key.key_id.as_bytes().to_vec())
                    .bind(key.label.as_str())
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

    async fn keys_not_under(&self, label: &KeyLabel, limit: u32) -> Result<Vec<StoredKey>, Error> {
        sqlx::query(
            "SELECT owner, key_id, label, wrapped FROM data_keys \
             WHERE label < ?1 OR label > ?1 LIMIT ?2",
        )
        .bind(label.as_str())
        .bind(limit)
        .fetch_all(self.database.readers())
        .await
        .and_then(|rows| rows.iter().map(stored_key).collect())
        .map_err(failed("read data keys"))
    }

    async fn replace_wrappings(&self, keys: Vec<(StoredKey, KeyLabel)>) -> Result<u64, Error> {
        self.database
            .write("rewrap data keys", move |connection| {
                Box::pin(async move {
                    overwrite_deleted(connection).await?;
                    let mut replaced = 0;
                    for (key, before) in keys {
                        replaced += sqlx::query(
                            "UPDATE data_keys SET label = ?, wrapped = ? \
                             WHERE owner = ? AND key_id = ? AND label = ?",
                        )
                        .bind(key.label.as_str())
                        .bind(key.wrapped)
                        .bind(key.owner.to_string())
                        .bind(key.key_id.as_bytes().to_vec())
                        .bind(before.as_str())
                        .execute(&mut *connection)
                        .await?
                        .rows_affected();
                    }
                    overwrite_cheaply(connection).await?;
                    Ok(replaced)
                })
            })
            .await
            .map_err(Error::Store)
    }

    async fn forget(&self, forgotten: Vec<Forgotten>) -> Result<(), Error> {
        self.database
            .write("forget data keys", move |connection| {
                Box::pin(async move {
                    overwrite_deleted(connection).await?;
                    for Forgotten { owner, key_ids, forgotten_at } in forgotten {
                        for key_id in key_ids {
                            delete_key(connection, &owner, key_id, forgotten_at).await?;
                        }
                    }
                    overwrite_cheaply(connection).await
                })
            })
            .await
            .map_err(Error::Store)
    }

    async fn forgotten(&self) -> Result<Vec<Forgotten>, Error> {
        let read = |row: &SqliteRow| {
            let at = Timestamp(row.try_get(1)?);
            Ok((owner(row.try_get(0)?)?, at, key_id(row.try_get(2)?)?))
        };
        let rows: Vec<_> = sqlx::query("SELECT owner, forgotten_at, key_id FROM forgotten_keys")
            .fetch_all(self.database.readers())
            .await
            .and_then(|rows| rows.iter().map(read).collect())
            .map_err(failed("read what was forgotten"))?;
        Ok(grouped(rows.into_iter()))
    }

    async fn forgotten_at(&self, key_id: Uuid) -> Result<Option<Timestamp>, Error> {
        sqlx::query_scalar("SELECT forgotten_at FROM forgotten_keys WHERE key_id = ?")
            .bind(key_id.as_bytes().to_vec())
            .fetch_optional(self.database.readers())
            .await
            .map(|at| at.map(Timestamp))
            .map_err(failed("look for a forgotten data key"))
    }

    async fn erase_traces(&self) -> Result<bool, Error> {
        let erase = async {
            let mut connection = self.database.readers().acquire().await?;
            let timeout: i64 =
                sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *connection).await?;
            sqlx::query(ERASE_WAIT).execute(&mut *connection).await?;
            let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .fetch_one(&mut *connection)
                .await
                .and_then(|row| row.try_get::<i64, _>(0));
            let restore = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {timeout}"));
            sqlx::query(restore).execute(&mut *connection).await?;
            done
        };
        // The first column says whether a reader or a writer was in the way.
        erase.await.map(|busy| busy == 0).map_err(failed("erase the traces of deleted data keys"))
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

async fn delete_key(
    connection: &mut SqliteConnection,
    owner: &Owner,
    key_id: Uuid,
    forgotten_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let (owner, key_id) = (owner.to_string(), key_id.as_bytes().to_vec());
    sqlx::query("DELETE FROM data_keys WHERE owner = ? AND key_id = ?")
        .bind(owner.clone())
        .bind(key_id.clone())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO forgotten_keys (key_id, owner, forgotten_at) VALUES (?, ?, ?) \
         ON CONFLICT (key_id) DO NOTHING",
    )
    .bind(key_id)
    .bind(owner)
    .bind(forgotten_at.0)
    .execute(connection)
    .await
    .map(drop)
}
