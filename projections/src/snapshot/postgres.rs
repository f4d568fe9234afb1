//! Snapshots in a Postgres database: manifests as rows, shards' bytes by digest, each kept once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::{log::Position, sealed::Digest, units::Timestamp};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{Error, Manifest, NewSnapshot, ShardId, SnapshotStore, manifest, thinning};
use crate::{
    event_store::{self, postgres::Database},
    failpoint::{self, Step},
};

/// Snapshots in an open database.
#[derive(Debug, Clone)]
pub struct PostgresSnapshotStore {
    database: Database,
}

impl PostgresSnapshotStore {
    /// The snapshots of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl SnapshotStore for PostgresSnapshotStore {
    async fn save(&self, snapshot: NewSnapshot) -> Result<Manifest, Error> {
        self.database
            .transaction(OPERATION, |connection| Box::pin(save(connection, snapshot)))
            .await
            .map_err(Error::Store)?
    }

    async fn newest_at_or_before(
        &self,
        position: Position,
        format_version: u32,
    ) -> Result<Option<Manifest>, Error> {
        let mut before = column(position);
        loop {
            let query = || {
                sqlx::query(
                    "SELECT position, recorded_at, format_version, checksum \
                     FROM snapshot_manifests WHERE position <= $1 AND format_version = $2 \
                     ORDER BY position DESC LIMIT 1",
                )
                .bind(before)
                .bind(i64::from(format_version))
            };
            let found = self.database.fetch(OPERATION, query).await.map_err(Error::Store)?;
            let Some(row) = found.first() else { return Ok(None) };
            let at: i64 = row.try_get(0).map_err(failed)?;
            let query = || sqlx::query(SELECT_SHARDS).bind(at);
            let shards = self.database.fetch(OPERATION, query).await.map_err(Error::Store)?;
            let read = read_manifest(row, &shards).map_err(failed)?;
            if read.is_some() {
                return Ok(read);
            }
            before = at.saturating_sub(1);
        }
    }

    async fn blobs(&self, digests: &[Digest]) -> Result<Vec<Vec<u8>>, Error> {
        let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.0.to_vec()).collect();
        let query = || {
            sqlx::query("SELECT bytes FROM snapshot_blobs WHERE digest = ANY($1)")
                .bind(digests.clone())
        };
        let found = self.database.fetch(OPERATION, query).await.map_err(Error::Store)?;
        found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed)
    }

    async fn positions(&self) -> Result<Vec<Position>, Error> {
        let query = || sqlx::query("SELECT position FROM snapshot_manifests ORDER BY position");
        let found = self.database.fetch(OPERATION, query).await.map_err(Error::Store)?;
        let read = |row: &PgRow| row.try_get(0).map(position);
        found.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }
}

const OPERATION: &str = "use a snapshot";
const SELECT_SHARDS: &str = "SELECT shard, digest FROM snapshot_shards WHERE position = $1";

fn failed(source: sqlx::Error) -> Error {
    Error::Store(event_store::Error::Database { operation: OPERATION, source })
}

fn column(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

fn position(column: i64) -> Position {
    Position(u64::try_from(column).unwrap_or(0))
}

async fn save(connection: &mut PgConnection, snapshot: NewSnapshot) -> Result<Manifest, Error> {
    // Of several nodes one saves at a time; readers go on.
    sqlx::query("LOCK TABLE snapshot_manifests IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
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
    failpoint::reached(Step::SnapshotWritten);
    thin(connection).await.map_err(failed)?;
    Ok(manifest)
}

async fn manifest_at(
    connection: &mut PgConnection,
    position: Position,
) -> Result<Option<Manifest>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT position, recorded_at, format_version, checksum FROM snapshot_manifests \
         WHERE position = $1",
    )
    .bind(column(position))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = found else { return Ok(None) };
    let shards = sqlx::query(SELECT_SHARDS).bind(column(position)).fetch_all(connection).await?;
    read_manifest(&row, &shards)
}

/// `None` when it is damaged.
fn read_manifest(row: &PgRow, named: &[PgRow]) -> Result<Option<Manifest>, sqlx::Error> {
    let format_version: i64 = row.try_get(2)?;
    let mut shards = BTreeMap::new();
    for row in named {
        let number: i64 = row.try_get(0)?;
        let digest: Vec<u8> = row.try_get(1)?;
        // A digest of another length matches no bytes, so the shard counts as damaged.
        let digest = Digest(digest.try_into().unwrap_or([0; 32]));
        if let Some(shard) = u16::try_from(number).ok().and_then(ShardId::new) {
            shards.insert(shard, digest);
        }
    }
    let manifest = Manifest {
        position: position(row.try_get(0)?),
        recorded_at: Timestamp(row.try_get(1)?),
        format_version: u32::try_from(format_version).unwrap_or(u32::MAX),
        shards,
    };
    Ok(manifest.if_whole(row.try_get(3)?))
}

async fn write(
    connection: &mut PgConnection,
    manifest: &Manifest,
    ordinal: i64,
    added: Vec<(Digest, Vec<u8>)>,
) -> Result<(), sqlx::Error> {
    for (digest, bytes) in added {
        // The same bytes may be there damaged: new ones replace them.
        sqlx::query(
            "INSERT INTO snapshot_blobs (digest, bytes) VALUES ($1, $2) \
             ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes",
        )
        .bind(digest.0.to_vec())
        .bind(bytes)
        .execute(&mut *connection)
        .await?;
    }
    let (numbers, digests): (Vec<i64>, Vec<Vec<u8>>) = manifest
        .shards
        .iter()
        .map(|(shard, digest)| (i64::from(shard.number()), digest.0.to_vec()))
        .unzip();
    sqlx::query(
        "INSERT INTO snapshot_shards (position, shard, digest) \
         SELECT $1, shard, digest FROM unnest($2::bigint[], $3::bytea[]) AS named (shard, digest)",
    )
    .bind(column(manifest.position))
    .bind(numbers)
    .bind(digests)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO snapshot_manifests (position, ordinal, recorded_at, format_version, checksum) \
         VALUES ($1, $2, $3, $4, $5)",
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

async fn thin(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let positions: Vec<i64> =
        sqlx::query_scalar("SELECT position FROM snapshot_manifests ORDER BY position")
            .fetch_all(&mut *connection)
            .await?;
    let mut positions: Vec<Position> = positions.into_iter().map(position).collect();
    loop {
        let (bytes, log_bytes): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT coalesce(sum(octet_length(bytes)), 0)::bigint FROM snapshot_blobs), \
             pg_total_relation_size('events')",
        )
        .fetch_one(&mut *connection)
        .await?;
        let bytes = u64::try_from(bytes).unwrap_or(0);
        let log_bytes = u64::try_from(log_bytes).unwrap_or(0);
        if !thinning::is_too_much(positions.len(), bytes, log_bytes) {
            return Ok(());
        }
        let Some(gone) = thinning::first_to_go(&positions) else { return Ok(()) };
        positions.retain(|position| *position != gone);
        for statement in DROP_SNAPSHOT {
            sqlx::query(statement).bind(column(gone)).execute(&mut *connection).await?;
        }
    }
}

/// Drops a snapshot, and of its bytes those that no other one names.
const DROP_SNAPSHOT: [&str; 3] = [
    "DELETE FROM snapshot_blobs WHERE digest IN \
     (SELECT digest FROM snapshot_shards AS gone WHERE position = $1 AND NOT EXISTS \
     (SELECT 1 FROM snapshot_shards AS kept \
      WHERE kept.digest = gone.digest AND kept.position <> $1))",
    "DELETE FROM snapshot_shards WHERE position = $1",
    "DELETE FROM snapshot_manifests WHERE position = $1",
];
