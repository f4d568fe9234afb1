//! Snapshots in the log's database: manifests as rows, shards' bytes by digest, each kept once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::{log::Position, sealed::Digest, units::Timestamp};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Error, Manifest, NewSnapshot, ShardId, SnapshotStore, manifest, thinning};
use crate::event_store::{
    self,
    sqlite::{Database, Failure},
};

/// Snapshots in an open database.
#[derive(Debug, Clone)]
pub struct SqliteSnapshotStore {
    database: Database,
}

impl SqliteSnapshotStore {
    /// The snapshots of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl SnapshotStore for SqliteSnapshotStore {
    async fn save(&self, snapshot: NewSnapshot) -> Result<Manifest, Error> {
        self.database
            .transaction(move |connection| Box::pin(save(connection, snapshot)), |_| {})
            .await
            .map_err(|failure| match failure {
                Failure::NotBegun(source) => failed(source),
                Failure::RolledBack(failure) => failure,
                Failure::Unknown => failed(sqlx::Error::WorkerCrashed),
                Failure::Closed => Error::Store(event_store::Error::Closed),
            })
    }

    async fn newest_at_or_before(
        &self,
        position: Position,
        format_version: u32,
    ) -> Result<Option<Manifest>, Error> {
        let mut connection = self.database.readers().acquire().await.map_err(failed)?;
        let found = sqlx::query(
            "SELECT position, recorded_at, format_version FROM snapshot_manifests \
             WHERE position <= ? AND format_version = ? ORDER BY position DESC LIMIT 1",
        )
        .bind(column(position))
        .bind(i64::from(format_version))
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
        match found {
            None => Ok(None),
            Some(row) => read_manifest(&mut connection, &row).await.map(Some).map_err(failed),
        }
    }

    async fn load_shard(
        &self,
        manifest: &Manifest,
        shard: ShardId,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(digest) = manifest.shards.get(&shard) else { return Ok(None) };
        let bytes: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT bytes FROM snapshot_blobs WHERE digest = ?")
                .bind(digest.0.to_vec())
                .fetch_optional(self.database.readers())
                .await
                .map_err(failed)?;
        let position = manifest.position;
        bytes
            .filter(|bytes| Digest::of(bytes) == *digest)
            .map(Some)
            .ok_or(Error::ShardDamaged { position, shard })
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

async fn save(connection: &mut SqliteConnection, snapshot: NewSnapshot) -> Result<Manifest, Error> {
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
    write(connection, &manifest, ordinal, added).await.map_err(failed)?;
    thin(connection, ordinal).await.map_err(failed)?;
    Ok(manifest)
}

async fn manifest_at(
    connection: &mut SqliteConnection,
    position: Position,
) -> Result<Option<Manifest>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT position, recorded_at, format_version FROM snapshot_manifests WHERE position = ?",
    )
    .bind(column(position))
    .fetch_optional(&mut *connection)
    .await?;
    match found {
        None => Ok(None),
        Some(row) => read_manifest(connection, &row).await.map(Some),
    }
}

async fn read_manifest(
    connection: &mut SqliteConnection,
    row: &SqliteRow,
) -> Result<Manifest, sqlx::Error> {
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
        if let Some(shard) = u8::try_from(number).ok().and_then(ShardId::new) {
            shards.insert(shard, digest);
        }
    }
    Ok(Manifest {
        position: position(at),
        recorded_at: Timestamp(row.try_get(1)?),
        format_version: u32::try_from(format_version).unwrap_or(u32::MAX),
        shards,
    })
}

async fn write(
    connection: &mut SqliteConnection,
    manifest: &Manifest,
    ordinal: i64,
    added: Vec<(Digest, Vec<u8>)>,
) -> Result<(), sqlx::Error> {
    for (digest, bytes) in added {
        // The same bytes may be there damaged: new ones replace them.
        sqlx::query("INSERT OR REPLACE INTO snapshot_blobs (digest, bytes) VALUES (?, ?)")
            .bind(digest.0.to_vec())
            .bind(bytes)
            .execute(&mut *connection)
            .await?;
    }
    for (shard, digest) in &manifest.shards {
        sqlx::query("INSERT INTO snapshot_shards (position, shard, digest) VALUES (?, ?, ?)")
            .bind(column(manifest.position))
            .bind(i64::from(shard.number()))
            .bind(digest.0.to_vec())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(
        "INSERT INTO snapshot_manifests (position, ordinal, recorded_at, format_version) \
         VALUES (?, ?, ?, ?)",
    )
    .bind(column(manifest.position))
    .bind(ordinal)
    .bind(manifest.recorded_at.0)
    .bind(i64::from(manifest.format_version))
    .execute(connection)
    .await
    .map(drop)
}

async fn thin(connection: &mut SqliteConnection, newest: i64) -> Result<(), sqlx::Error> {
    let ordinals: Vec<(i64, i64)> =
        sqlx::query_as("SELECT position, ordinal FROM snapshot_manifests")
            .fetch_all(&mut *connection)
            .await?;
    let newest = u64::try_from(newest).unwrap_or(0);
    let is_dropped = |ordinal: i64| !thinning::is_kept(u64::try_from(ordinal).unwrap_or(0), newest);
    for (at, _) in ordinals.into_iter().filter(|(_, ordinal)| is_dropped(*ordinal)) {
        sqlx::query("DELETE FROM snapshot_manifests WHERE position = ?")
            .bind(at)
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM snapshot_shards WHERE position = ?")
            .bind(at)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(
        "DELETE FROM snapshot_blobs WHERE NOT EXISTS \
         (SELECT 1 FROM snapshot_shards WHERE snapshot_shards.digest = snapshot_blobs.digest)",
    )
    .execute(connection)
    .await
    .map(drop)
}
