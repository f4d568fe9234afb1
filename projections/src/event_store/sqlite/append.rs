//! Writing one batch: head checked, events, streams, boundary and head row in one transaction.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    event::Event,
    log::{LeaseEpoch, Position, Recorded, StreamId, StreamVersion},
};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, query::Query};

use super::{
    super::{
        AppendError, Batch, BatchRow, Error, Head, Leaf, Row,
        commit::{self, Commit},
        packed::Packed,
        subscription::Feed,
    },
    Database, Failure, failure, rows,
};
use crate::failpoint::{self, Step};

/// How many rows one INSERT takes: few sizes, so that each stays a prepared statement, and the
/// parameters stay below SQLite's limit of 32,766.
const CHUNKS: [usize; 3] = [256, 16, 1];

pub(super) async fn append(
    database: &Database,
    feed: Arc<Feed>,
    batch: Batch,
) -> Result<Vec<Recorded<Event>>, AppendError> {
    let id = batch.id;
    failpoint::reached(Step::AppendBegins);
    database
        .transaction(
            move |connection| Box::pin(write(connection, batch)),
            move |events: &Vec<Recorded<Event>>| {
                failpoint::reached(Step::Committed);
                feed.publish(events);
            },
        )
        .await
        .map_err(|failure| match failure {
            Failure::Refused(refused) => AppendError::Failed(refused),
            Failure::RolledBack(AppendError::Failed(failure)) => {
                AppendError::Failed(failure::told(database.path(), failure))
            }
            Failure::RolledBack(failure) => failure,
            Failure::Unknown => AppendError::OutcomeUnknown { batch: id },
        })
}

fn failed(operation: &'static str, source: sqlx::Error) -> AppendError {
    AppendError::Failed(Error::Database { operation, source })
}

async fn write(
    connection: &mut SqliteConnection,
    batch: Batch,
) -> Result<Vec<Recorded<Event>>, AppendError> {
    let head = sqlx::query(rows::SELECT_HEAD)
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| rows::head(&row))
        .map_err(|source| failed("read the log's head", source))?;
    failpoint::reached(Step::HeadLocked);
    commit::check(&head, &batch)?;
    if let Some(lease_epoch) = batch.lease {
        check_lease(connection, lease_epoch).await?;
    }
    let versions = versions(connection, &batch)
        .await
        .map_err(|source| failed("read the streams' versions", source))?;
    let commit = commit::place(&head, versions, batch)?;
    insert(connection, &commit).await.map_err(|source| failed("write a batch", source))?;
    Ok(commit.events)
}

async fn check_lease(
    connection: &mut SqliteConnection,
    lease_epoch: LeaseEpoch,
) -> Result<(), AppendError> {
    let current: Option<i64> = sqlx::query_scalar("SELECT epoch FROM lease WHERE id = 1")
        .fetch_optional(connection)
        .await
        .map_err(|source| failed("read the lease", source))?;
    if current == Some(rows::column(lease_epoch.0)) {
        return Ok(());
    }
    Err(AppendError::LeasePassed { lease_epoch })
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    commit: &Commit,
) -> Result<(), sqlx::Error> {
    insert_events(connection, &commit.rows).await?;
    failpoint::reached(Step::EventsWritten);
    upsert_streams(connection, &commit.versions, commit.head.position).await?;
    insert_batch(connection, &commit.batch).await?;
    failpoint::reached(Step::BatchWritten);
    move_head(connection, &commit.head).await?;
    failpoint::reached(Step::HeadMoved);
    Ok(())
}

/// The versions of the batch's streams, in one look however many there are.
async fn versions(
    connection: &mut SqliteConnection,
    batch: &Batch,
) -> Result<BTreeMap<StreamId, StreamVersion>, sqlx::Error> {
    versions_of(connection, batch.events.iter().map(|event| &event.stream)).await
}

/// The versions of streams; one that is new is left out.
pub(super) async fn versions_of<'a>(
    connection: &mut SqliteConnection,
    streams: impl Iterator<Item = &'a StreamId>,
) -> Result<BTreeMap<StreamId, StreamVersion>, sqlx::Error> {
    let by_text: BTreeMap<String, &StreamId> =
        streams.map(|stream| (stream.to_string(), stream)).collect();
    let texts: Vec<&String> = by_text.keys().collect();
    let found = sqlx::query(
        "SELECT stream, version FROM streams WHERE stream IN (SELECT value FROM json_each(?))",
    )
    .bind(json(&texts)?)
    .fetch_all(connection)
    .await?;
    let mut versions = BTreeMap::new();
    for row in &found {
        let text: String = row.try_get(0)?;
        let version: i64 = row.try_get(1)?;
        if let Some(stream) = by_text.get(&text) {
            let version = StreamVersion(u64::try_from(version).unwrap_or(0));
            versions.insert((*stream).clone(), version);
        }
    }
    Ok(versions)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|failure| sqlx::Error::Encode(Box::new(failure)))
}

async fn insert_events(
    connection: &mut SqliteConnection,
    mut rows: &[(Row, Leaf)],
) -> Result<(), sqlx::Error> {
    for size in CHUNKS {
        if rows.len() < size {
            continue;
        }
        let statement = insert_statement(size);
        while let Some((chunk, rest)) = rows.split_at_checked(size) {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement.clone()));
            for (row, leaf) in chunk {
                query = bind_event(query, row, leaf);
            }
            query.execute(&mut *connection).await?;
            rows = rest;
        }
    }
    Ok(())
}

fn insert_statement(rows: usize) -> String {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO events (position, version, recorded_at, causation, owner_hash, \
         command_hash, schema_version, stream, type, actor_kind, actor_name, actor_via, \
         command_id, correlation, leaf, payload) VALUES ",
    );
    let mut values = query.separated(", ");
    for _ in 0..rows {
        values.push("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    }
    query.into_string()
}

fn bind_event<'q>(
    query: Query<'q, Sqlite, <Sqlite as sqlx::Database>::Arguments>,
    row: &Row,
    leaf: &Leaf,
) -> Query<'q, Sqlite, <Sqlite as sqlx::Database>::Arguments> {
    let packed = Packed::of(row);
    query
        .bind(rows::column(row.position.0))
        .bind(rows::column(row.version.0))
        .bind(row.recorded_at.0)
        .bind(row.causation.map(|position| rows::column(position.0)))
        .bind(packed.owner_hash)
        .bind(packed.command_hash)
        .bind(i64::from(row.schema_version))
        .bind(row.stream.clone())
        .bind(row.type_name.clone())
        .bind(row.actor_kind.clone())
        .bind(row.actor_name.clone())
        .bind(row.actor_via.clone())
        .bind(packed.command_id)
        .bind(packed.correlation)
        .bind(leaf.to_vec())
        .bind(row.payload.clone())
}

async fn upsert_streams(
    connection: &mut SqliteConnection,
    versions: &BTreeMap<StreamId, StreamVersion>,
    last: Position,
) -> Result<(), sqlx::Error> {
    let pairs: Vec<(String, u64)> =
        versions.iter().map(|(stream, version)| (stream.to_string(), version.0)).collect();
    // `WHERE true` lets the parser tell ON CONFLICT from a join's ON.
    sqlx::query(
        "INSERT INTO streams (stream, version, last_position) \
         SELECT value ->> 0, value ->> 1, ? FROM json_each(?) WHERE true \
         ON CONFLICT (stream) DO UPDATE SET version = excluded.version, \
         last_position = excluded.last_position",
    )
    .bind(rows::column(last.0))
    .bind(json(&pairs)?)
    .execute(connection)
    .await
    .map(drop)
}

async fn insert_batch(
    connection: &mut SqliteConnection,
    batch: &BatchRow,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO batches (first_position, event_count, recorded_at, batch_id, link) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(rows::column(batch.first.0))
    .bind(rows::column(batch.count))
    .bind(batch.recorded_at.0)
    .bind(batch.id.0.as_bytes().to_vec())
    .bind(batch.link.to_vec())
    .execute(connection)
    .await
    .map(drop)
}

async fn move_head(connection: &mut SqliteConnection, head: &Head) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE log_head SET position = ?, recorded_at = ?, link = ? WHERE id = 1")
        .bind(rows::column(head.position.0))
        .bind(head.recorded_at.0)
        .bind(head.link.to_vec())
        .execute(connection)
        .await
        .map(drop)
}
