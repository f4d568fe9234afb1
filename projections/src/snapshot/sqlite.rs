//! Snapshots in the log's database: manifests as rows, shards' bytes by digest, each kept once.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use domain::{log::Position, sealed::Digest, units::Timestamp};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Error, Manifest, NewSnapshot, ShardId, SnapshotStore, manifest, thinning};
use crate::{
    event_store::{
        self,
        sqlite::{Database, Failure},
    },
    failpoint::{self, Step},
};

/// Snapshots in an open database.
#[derive(Debug, Clone)]
pub struct SqliteSnapshotStore {
    database: Database,
    /// Whether what an earlier process's unfinished save left behind was dropped.
    is_swept: Arc<AtomicBool>,
}

impl SqliteSnapshotStore {
    /// The snapshots of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, is_swept: Arc::default() }
    }

    async fn write<W>(&self, work: W) -> Result<(), Error>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> Writing<'c> + Send + 'static,
    {
        self.database.transaction(work, |()| {}).await.map_err(|failure| match failure {
            Failure::Refused(refused) => Error::Store(refused),
            Failure::RolledBack(source) => failed(source),
            Failure::Unknown => failed(sqlx::Error::WorkerCrashed),
        })
    }

    /// Drops snapshots until they are few enough.
    async fn thin(&self) -> Result<(), Error> {
        let mut positions = self.positions().await?;
        loop {
            let (bytes, file_bytes) = self.sizes().await.map_err(failed)?;
            if !thinning::is_too_much(positions.len(), bytes, file_bytes.saturating_sub(bytes)) {
                return Ok(());
            }
            let Some(gone) = thinning::first_to_go(&positions) else { return Ok(()) };
            positions.retain(|position| *position != gone);
            self.write(move |connection| Box::pin(drop_snapshot(connection, gone))).await?;
        }
    }

    /// The bytes of all shards, and of the database's pages that are in use.
    async fn sizes(&self) -> Result<(u64, u64), sqlx::Error> {
        let (bytes, file_bytes): (i64, i64) = sqlx::query_as(
            "SELECT coalesce((SELECT sum(length(bytes)) FROM snapshot_blobs), 0), \
             (page_count - freelist_count) * page_size \
             FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        )
        .fetch_one(self.database.readers())
        .await?;
        Ok((u64::try_from(bytes).unwrap_or(0), u64::try_from(file_bytes).unwrap_or(0)))
    }
}

type Writing<'c> = Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send + 'c>>;

/// How many bytes of shards are written at a time.
const TRANSACTION_BYTES: usize = 2 << 20;

#[async_trait]
impl SnapshotStore for SqliteSnapshotStore {
    async fn save(&self, snapshot: NewSnapshot) -> Result<Manifest, Error> {
        let (manifest, ordinal, mut added) = {
            let mut connection = self.database.readers().acquire().await.map_err(failed)?;
            compose(&mut connection, snapshot).await?
        };
        if !self.is_swept.swap(true, Ordering::Relaxed) {
            self.write(|connection| Box::pin(sweep(connection))).await?;
        }
        // Appends wait while one of these transactions is written, so none is long.
        while !added.is_empty() {
            let mut bytes = 0;
            let within = added.iter().take_while(|(_, blob)| {
                bytes += blob.len();
                bytes <= TRANSACTION_BYTES
            });
            let rest = added.split_off(within.count().max(1));
            let chunk = std::mem::replace(&mut added, rest);
            self.write(move |connection| Box::pin(write_blobs(connection, chunk))).await?;
        }
        failpoint::reached(Step::SnapshotWritten);
        let written = manifest.clone();
        self.write(move |connection| Box::pin(write_manifest(connection, written, ordinal)))
            .await?;
        self.thin().await?;
        Ok(manifest)
    }

    async fn newest_at_or_before(
        &self,
        position: Position,
        format_version: u32,
    ) -> Result<Option<Manifest>, Error> {
        let mut connection = self.database.readers().acquire().await.map_err(failed)?;
        let mut before = column(position);
        loop {
            let found = sqlx::query(
                "SELECT position, recorded_at, format_version, checksum FROM snapshot_manifests \
                 WHERE position <= ? AND format_version = ? ORDER BY position DESC LIMIT 1",
            )
            .bind(before)
            .bind(i64::from(format_version))
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
            let Some(row) = found else { return Ok(None) };
            let read = read_manifest(&mut connection, &row).await.map_err(failed)?;
            if read.is_some() {
                return Ok(read);
            }
            before = row.try_get::<i64, _>(0).map_err(failed)?.saturating_sub(1);
        }
    }

    async fn blobs(&self, digests: &[Digest]) -> Result<Vec<Vec<u8>>, Error> {
        let digests: Vec<String> = digests.iter().map(ToString::to_string).collect();
        let digests = serde_json::to_string(&digests)
            .map_err(|failure| failed(sqlx::Error::Encode(failure.into())))?;
        sqlx::query_scalar(
            "SELECT bytes FROM json_each(?) CROSS JOIN snapshot_blobs ON digest = unhex(value)",
        )
        .bind(digests)
        .fetch_all(self.database.readers())
        .await
        .map_err(failed)
    }

    async fn positions(&self) -> Result<Vec<Position>, Error> {
        let positions: Vec<i64> =
            sqlx::query_scalar("SELECT position FROM snapshot_manifests ORDER BY position")
                .fetch_all(self.database.readers())
                .await
                .map_err(failed)?;
        Ok(positions.into_iter().map(position).collect())
    }
}

fn failed(source: sqlx::Error) -> Error {
    Error::Store(event_store::Error::Database { operation: "use a snapshot", source })
}

fn column(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

fn position(column: i64) -> Position {
    Position(u64::try_from(column).unwrap_or(0))
}

async fn compose(
    connection: &mut SqliteConnection,
    snapshot: NewSnapshot,
) -> Result<(Manifest, i64, manifest::AddedBytes), Error> {
    let newest: Option<(i64, i64)> = sqlx::query_as(
        "SELECT position, ordinal FROM snapshot_manifests ORDER BY position DESC LIMIT 1",
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let base = match snapshot.base {
        None => None,
        Some(base) => manifest_at(connection, base).await.map_err(failed)?,
    };
    let newest_position = newest.map(|(newest, _)| position(newest));
    let (manifest, added) = manifest::compose(snapshot, newest_position, base.as_ref())?;
    let ordinal = newest.map_or(1, |(_, ordinal)| ordinal.saturating_add(1));
    Ok((manifest, ordinal, added))
}

async fn manifest_at(
    connection: &mut SqliteConnection,
    position: Position,
) -> Result<Option<Manifest>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT position, recorded_at, format_version, checksum FROM snapshot_manifests \
         WHERE position = ?",
    )
    .bind(column(position))
    .fetch_optional(&mut *connection)
    .await?;
    match found {
        None => Ok(None),
        Some(row) => read_manifest(connection, &row).await,
    }
}

/// `None` when it is damaged.
async fn read_manifest(
    connection: &mut SqliteConnection,
    row: &SqliteRow,
) -> Result<Option<Manifest>, sqlx::Error> {
    let at: i64 = row.try_get(0)?;
    let format_version: i64 = row.try_get(2)?;
    let named: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT shard, digest FROM snapshot_shards WHERE position = ?")
            .bind(at)
            .fetch_all(connection)
            .await?;
    let mut shards = BTreeMap::new();
    for (number, digest) in named {
        // A digest of another length matches no bytes, so the shard counts as damaged.
        let digest = Digest(digest.try_into().unwrap_or([0; 32]));
        if let Some(shard) = u16::try_from(number).ok().and_then(ShardId::new) {
            shards.insert(shard, digest);
        }
    }
    let manifest = Manifest {
        position: position(at),
        recorded_at: Timestamp(row.try_get(1)?),
        format_version: u32::try_from(format_version).unwrap_or(u32::MAX),
        shards,
    };
    Ok(manifest.if_whole(row.try_get(3)?))
}

async fn sweep(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM snapshot_blobs WHERE NOT EXISTS \
         (SELECT 1 FROM snapshot_shards WHERE snapshot_shards.digest = snapshot_blobs.digest)",
    )
    .execute(connection)
    .await
    .map(drop)
}

async fn write_blobs(
    connection: &mut SqliteConnection,
    added: manifest::AddedBytes,
) -> Result<(), sqlx::Error> {
    for (digest, bytes) in added {
        // The same bytes may be there damaged: new ones replace them.
        sqlx::query("INSERT OR REPLACE INTO snapshot_blobs (digest, bytes) VALUES (?, ?)")
            .bind(digest.0.to_vec())
            .bind(bytes)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn write_manifest(
    connection: &mut SqliteConnection,
    manifest: Manifest,
    ordinal: i64,
) -> Result<(), sqlx::Error> {
    let shards: Vec<(u16, String)> = manifest
        .shards
        .iter()
        .map(|(shard, digest)| (shard.number(), digest.to_string()))
        .collect();
    let shards =
        serde_json::to_string(&shards).map_err(|failure| sqlx::Error::Encode(failure.into()))?;
    sqlx::query(
        "INSERT INTO snapshot_shards (position, shard, digest) \
         SELECT ?, value ->> 0, unhex(value ->> 1) FROM json_each(?)",
    )
    .bind(column(manifest.position))
    .bind(shards)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO snapshot_manifests (position, ordinal, recorded_at, format_version, checksum) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(column(manifest.position))
    .bind(ordinal)
    .bind(manifest.recorded_at.0)
    .bind(i64::from(manifest.format_version))
    .bind(manifest.checksum().0.to_vec())
    .execute(connection)
    .await
    .map(drop)
}

/// Drops a snapshot, and of its bytes those that no other one names.
async fn drop_snapshot(
    connection: &mut SqliteConnection,
    position: Position,
) -> Result<(), sqlx::Error> {
    for statement in [
        "DELETE FROM snapshot_blobs WHERE digest IN \
         (SELECT digest FROM snapshot_shards AS gone WHERE position = ?1 AND NOT EXISTS \
         (SELECT 1 FROM snapshot_shards AS kept \
          WHERE kept.digest = gone.digest AND kept.position <> ?1))",
        "DELETE FROM snapshot_shards WHERE position = ?1",
        "DELETE FROM snapshot_manifests WHERE position = ?1",
    ] {
        sqlx::query(statement).bind(column(position)).execute(&mut *connection).await?;
    }
    Ok(())
}
