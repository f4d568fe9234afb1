//! Keys and evidence in a SQLite file.

use async_trait::async_trait;
use domain::sealed::Digest;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{Beside, BlobRow, KeyRow, decoded, failed};
use crate::event_store::{Error, sqlite::Database};

fn key_row(row: &SqliteRow) -> Result<KeyRow, sqlx::Error> {
    let wrapped: Vec<u8> = row.try_get(3)?;
    Ok(KeyRow {
        owner: row.try_get(0)?,
        key_id: decoded(Uuid::from_slice(row.try_get(1)?))?,
        label: row.try_get(2)?,
        wrapped: hex::encode(wrapped),
        created_at: row.try_get(4)?,
    })
}

fn blob_row(row: &SqliteRow) -> Result<BlobRow, sqlx::Error> {
    let digest: Vec<u8> = row.try_get(0)?;
    Ok(BlobRow {
        digest: Digest(decoded(<[u8; 32]>::try_from(digest.as_slice()))?),
        owner: row.try_get(1)?,
        bytes: row.try_get(2)?,
        created_at: row.try_get(3)?,
    })
}

async fn insert_key(connection: &mut SqliteConnection, key: KeyRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO data_keys (owner, key_id, label, wrapped, created_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(key.owner)
    .bind(key.key_id.as_bytes().to_vec())
    .bind(key.label)
    .bind(decoded(hex::decode(key.wrapped))?)
    .bind(key.created_at)
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_blob(connection: &mut SqliteConnection, blob: BlobRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO blobs (digest, owner, bytes, created_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(blob.digest.0.to_vec())
    .bind(blob.owner)
    .bind(blob.bytes)
    .bind(blob.created_at)
    .execute(connection)
    .await
    .map(drop)
}

#[async_trait]
impl Beside for Database {
    async fn keys_after(&self, after: &(String, Uuid), limit: u32) -> Result<Vec<KeyRow>, Error> {
        sqlx::query(
            "SELECT owner, key_id, label, wrapped, created_at FROM data_keys \
             WHERE (owner, key_id) > (?, ?) ORDER BY owner, key_id LIMIT ?",
        )
        .bind(after.0.clone())
        .bind(after.1.as_bytes().to_vec())
        .bind(limit)
        .fetch_all(self.readers())
        .await
        .and_then(|rows| rows.iter().map(key_row).collect())
        .map_err(failed("read the data keys"))
    }

    async fn blobs_after(&self, after: Option<Digest>, limit: u32) -> Result<Vec<BlobRow>, Error> {
        sqlx::query(
            "SELECT digest, owner, bytes, created_at FROM blobs \
             WHERE digest > ? ORDER BY digest LIMIT ?",
        )
        .bind(after.map(|digest| digest.0.to_vec()).unwrap_or_default())
        .bind(limit)
        .fetch_all(self.readers())
        .await
        .and_then(|rows| rows.iter().map(blob_row).collect())
        .map_err(failed("read the evidence"))
    }

    async fn snapshot_bytes(&self) -> Result<u64, Error> {
        let bytes: i64 =
            sqlx::query_scalar("SELECT coalesce(sum(length(bytes)), 0) FROM snapshot_blobs")
                .fetch_one(self.readers())
                .await
                .map_err(failed("count the snapshots' bytes"))?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    async fn add_keys(&self, keys: Vec<KeyRow>) -> Result<(), Error> {
        self.write("add data keys", move |connection| {
            Box::pin(async move {
                for key in keys {
                    insert_key(connection, key).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn add_blobs(&self, blobs: Vec<BlobRow>) -> Result<(), Error> {
        self.write("add evidence", move |connection| {
            Box::pin(async move {
                for blob in blobs {
                    insert_blob(connection, blob).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
