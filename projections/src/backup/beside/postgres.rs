//! Keys and evidence in a Postgres database.

use async_trait::async_trait;
use domain::sealed::Digest;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Beside, BlobRow, KeyRow, decoded, failed};
use crate::event_store::{Error, postgres::Database};

fn key_row(row: &PgRow) -> Result<KeyRow, sqlx::Error> {
    let wrapped: Vec<u8> = row.try_get(3)?;
    Ok(KeyRow {
        owner: row.try_get(0)?,
        key_id: decoded(Uuid::from_slice(row.try_get(1)?))?,
        label: row.try_get(2)?,
        wrapped: hex::encode(wrapped),
        created_at: row.try_get(4)?,
    })
}

fn blob_row(row: &PgRow) -> Result<BlobRow, sqlx::Error> {
    let digest: Vec<u8> = row.try_get(0)?;
    Ok(BlobRow {
        digest: Digest(decoded(<[u8; 32]>::try_from(digest.as_slice()))?),
        owner: row.try_get(1)?,
        bytes: row.try_get(2)?,
        created_at: row.try_get(3)?,
    })
}

async fn insert_key(connection: &mut PgConnection, key: KeyRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO data_keys (owner, key_id, label, wrapped, created_at) \
         VALUES ($1, $2, $3, $4, $5) \
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

async fn insert_blob(connection: &mut PgConnection, blob: BlobRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO blobs (digest, owner, bytes, created_at) VALUES ($1, $2, $3, $4) \
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
        let after = after.clone();
        let query = || {
            sqlx::query(
                "SELECT owner, key_id, label, wrapped, created_at FROM data_keys \
                 WHERE (owner, key_id) > ($1, $2) ORDER BY owner, key_id LIMIT $3",
            )
            .bind(after.0.clone())
            .bind(after.1.as_bytes().to_vec())
            .bind(i64::from(limit))
        };
        let found = self.fetch("read the data keys", query).await?;
        found.iter().map(key_row).collect::<Result<_, _>>().map_err(failed("read the data keys"))
    }

    async fn blobs_after(&self, after: Option<Digest>, limit: u32) -> Result<Vec<BlobRow>, Error> {
        let query = || {
            sqlx::query(
                "SELECT digest, owner, bytes, created_at FROM blobs \
                 WHERE digest > $1 ORDER BY digest LIMIT $2",
            )
            .bind(after.map(|digest| digest.0.to_vec()).unwrap_or_default())
            .bind(i64::from(limit))
        };
        let found = self.fetch("read the evidence", query).await?;
        found.iter().map(blob_row).collect::<Result<_, _>>().map_err(failed("read the evidence"))
    }

    async fn snapshot_bytes(&self) -> Result<u64, Error> {
        let query =
            || sqlx::query("SELECT coalesce(sum(length(bytes)), 0)::bigint FROM snapshot_blobs");
        let found = self.fetch("count the snapshots' bytes", query).await?;
        let bytes = found.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0));
        let bytes = bytes.map_err(failed("count the snapshots' bytes"))?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    async fn add_keys(&self, keys: Vec<KeyRow>) -> Result<(), Error> {
        self.transaction("add data keys", move |connection| {
            Box::pin(async move {
                for key in keys {
                    insert_key(connection, key).await?;
                }
                Ok(())
            })
        })
        .await?
        .map_err(failed("add data keys"))
    }

    async fn add_blobs(&self, blobs: Vec<BlobRow>) -> Result<(), Error> {
        self.transaction("add evidence", move |connection| {
            Box::pin(async move {
                for blob in blobs {
                    insert_blob(connection, blob).await?;
                }
                Ok(())
            })
        })
        .await?
        .map_err(failed("add evidence"))
    }
}
