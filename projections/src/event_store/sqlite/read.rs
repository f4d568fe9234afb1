//! Reading the log: whole pages by the library, all else from the pool of readers. Every statement
//! is one consistent look.

use domain::{
    event::Event,
    id::CommandId,
    log::{Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use sqlx::{QueryBuilder, Sqlite, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    super::{
        BatchId, BatchRow, Error, Filter, Head, Leaf, LogId, Order, READ_EVENTS_MAX, Row,
        encoding::actor_kind_text, packed, stored::Stored,
    },
    pages::Pages,
    rows::{self, select_events},
};

pub(super) fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| {
        if matches!(source, sqlx::Error::PoolClosed) {
            return Error::Closed;
        }
        Error::Database { operation, source }
    }
}

pub(super) fn limited(limit: usize) -> i64 {
    i64::try_from(limit.min(READ_EVENTS_MAX)).unwrap_or(i64::MAX)
}

fn decoded(
    operation: &'static str,
    found: Result<Vec<SqliteRow>, sqlx::Error>,
) -> Result<Vec<Recorded<Event>>, Error> {
    let found = found.map_err(failed(operation))?;
    let decode = |row: &SqliteRow| rows::event(row).map_err(failed(operation))?.event();
    found.iter().map(decode).collect()
}

pub(super) async fn head(readers: &SqlitePool) -> Result<Head, Error> {
    sqlx::query(rows::SELECT_HEAD)
        .fetch_one(readers)
        .await
        .and_then(|row| rows::head(&row))
        .map_err(failed("read the log's head"))
}

pub(super) async fn log_id(readers: &SqlitePool) -> Result<LogId, Error> {
    let bytes: Vec<u8> = sqlx::query_scalar("SELECT log_id FROM log_head WHERE id = 1")
        .fetch_one(readers)
        .await
        .map_err(failed("read the log's id"))?;
    Ok(LogId(Uuid::from_slice(&bytes).unwrap_or_default()))
}

pub(super) async fn all(
    pages: &Pages,
    after: Position,
    limit: usize,
) -> Result<Vec<Recorded<Event>>, Error> {
    pages.behind("read the log", after, limited(limit), |stored| stored.event()).await
}

pub(super) async fn rows(
    pages: &Pages,
    after: Position,
    limit: usize,
) -> Result<Vec<(Row, Leaf)>, Error> {
    let decode = |stored: &Stored<'_>| Ok(stored.row());
    pages.behind("read the log's rows", after, limited(limit), decode).await
}

pub(super) async fn batches(
    readers: &SqlitePool,
    after: Position,
    limit: usize,
) -> Result<Vec<BatchRow>, Error> {
    sqlx::query(rows::SELECT_BATCHES_BEHIND)
        .bind(rows::column(after.0))
        .bind(limited(limit))
        .fetch_all(readers)
        .await
        .and_then(|found| found.iter().map(rows::batch).collect())
        .map_err(failed("read the log's batches"))
}

pub(super) async fn batch(
    readers: &SqlitePool,
    id: BatchId,
) -> Result<Option<Vec<Recorded<Event>>>, Error> {
    let batch = sqlx::query(rows::SELECT_BATCH)
        .bind(id.0.as_bytes().to_vec())
        .fetch_optional(readers)
        .await
        .and_then(|row| row.as_ref().map(rows::batch).transpose())
        .map_err(failed("look a batch up"))?;
    let Some(batch) = batch else { return Ok(None) };
    let found = sqlx::query(select_events!("WHERE position BETWEEN ? AND ? ORDER BY position"))
        .bind(rows::column(batch.first.0))
        .bind(rows::column(batch.last().0))
        .fetch_all(readers)
        .await;
    decoded("read a batch", found).map(Some)
}

pub(super) async fn command(
    readers: &SqlitePool,
    id: &CommandId,
) -> Result<Option<Vec<Recorded<Event>>>, Error> {
    let packed = packed::text(id.as_str());
    let found =
        sqlx::query(select_events!("WHERE command_hash = ? AND command_id = ? ORDER BY position"))
            .bind(packed::hash(id.as_str()))
            .bind(packed)
            .fetch_all(readers)
            .await;
    let events = decoded("look a command up", found)?;
    Ok(Some(events).filter(|events| !events.is_empty()))
}

pub(super) async fn stream(
    readers: &SqlitePool,
    stream: &StreamId,
    after: StreamVersion,
    limit: usize,
) -> Result<Vec<Recorded<Event>>, Error> {
    // A stream's events are found among its owner's; positions and versions rise together.
    let found = sqlx::query(select_events!(
        "WHERE owner_hash = ? AND stream = ? AND version > ? ORDER BY position LIMIT ?"
    ))
    .bind(packed::hash(&stream.owner().to_string()))
    .bind(stream.to_string())
    .bind(rows::column(after.0))
    .bind(limited(limit))
    .fetch_all(readers)
    .await;
    decoded("read a stream", found)
}

pub(super) async fn filtered(
    readers: &SqlitePool,
    filter: &Filter,
    after: Position,
    limit: usize,
    order: Order,
) -> Result<Vec<Recorded<Event>>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(select_events!("WHERE position "));
    match order {
        Order::OldestFirst => query.push("> ").push_bind(rows::column(after.0)),
        Order::NewestFirst if after == Position(0) => query.push("> 0"),
        Order::NewestFirst => query.push("< ").push_bind(rows::column(after.0)),
    };
    if let Some(owner) = &filter.owner {
        let streams = packed::streams(owner);
        query.push(" AND owner_hash = ").push_bind(packed::hash(&owner.to_string()));
        let [own, secrets] = streams.whole;
        query.push(" AND (stream IN (").push_bind(own);
        query.push(", ").push_bind(secrets).push(")");
        if let Some((prefix, characters)) = streams.prefix {
            query.push(" OR substr(stream, 1, ").push_bind(characters);
            query.push(") = ").push_bind(prefix);
        }
        query.push(")");
    }
    if !filter.types.is_empty() {
        query.push(" AND type IN (");
        let mut types = query.separated(", ");
        for name in &filter.types {
            types.push_bind(name.clone());
        }
        query.push(")");
    }
    if let Some(actor) = &filter.actor {
        query.push(" AND actor_kind = ").push_bind(actor_kind_text(actor.kind));
        query.push(" AND actor_name = ").push_bind(actor.name.clone());
        query.push(" AND actor_via = ").push_bind(actor.via.clone());
    }
    if let Some(until) = filter.until {
        query.push(" AND position <= ").push_bind(rows::column(until.0));
    }
    query.push(match order {
        Order::OldestFirst => " ORDER BY position LIMIT ",
        Order::NewestFirst => " ORDER BY position DESC LIMIT ",
    });
    query.push_bind(limited(limit));
    decoded("read the filtered log", query.build().fetch_all(readers).await)
}

pub(super) async fn position_at(readers: &SqlitePool, time: Timestamp) -> Result<Position, Error> {
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT first_position + event_count - 1 FROM batches WHERE recorded_at <= ? \
         ORDER BY recorded_at DESC, first_position DESC LIMIT 1",
    )
    .bind(time.0)
    .fetch_optional(readers)
    .await
    .map_err(failed("find the position of a time"))?;
    Ok(Position(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0)))
}
