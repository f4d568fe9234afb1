//! Reading the log from the pool of readers: whole pages by copies, all else by rows. Every
//! statement is one consistent look.

use std::collections::HashMap;

use domain::{
    event::Event,
    id::CommandId,
    log::{Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use sqlx::{
    Execute as _, PgConnection, Postgres, QueryBuilder, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    super::{
        BatchRow, Error, Filter, Head, Leaf, Order, READ_EVENTS_MAX, Row,
        encoding::actor_kind_text,
        packed,
        stored::{Actors, Stored},
    },
    database::Database,
    pages,
    rows::{self, select_events},
};

/// What the index of types is ordered by behind the type, as its migration says it.
const CHUNK: &str = "(position >> 12)";
const CHUNK_BITS: u32 = 12;

fn limited(limit: usize) -> i64 {
    i64::try_from(limit.min(READ_EVENTS_MAX)).unwrap_or(i64::MAX)
}

pub(super) fn decoded(
    operation: &'static str,
    found: &[PgRow],
) -> Result<Vec<Recorded<Event>>, Error> {
    let failed = |source| Error::Database { operation, source };
    found.iter().map(|row| rows::event(row).map_err(failed)?.event()).collect()
}

pub(super) async fn head(database: &Database) -> Result<Head, Error> {
    let operation = "read the log's head";
    let found = database.fetch(operation, || sqlx::query(rows::SELECT_HEAD)).await?;
    let row = found.first().ok_or(sqlx::Error::RowNotFound);
    row.and_then(|row| rows::head(row, 0)).map_err(|source| Error::Database { operation, source })
}

fn select_behind(after: Position, limit: usize) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(select_events!("WHERE position > $1 ORDER BY position LIMIT $2"))
        .bind(rows::column(after.0))
        .bind(limited(limit))
}

pub(super) async fn all(
    database: &Database,
    after: Position,
    limit: usize,
) -> Result<Vec<Recorded<Event>>, Error> {
    let mut actors = Actors::default();
    let decode = |stored: &Stored<'_>| stored.event_by(&mut actors);
    pages::behind(database, "read the log", after, limited(limit), decode).await
}

/// As [`all`], on a connection that holds a turn.
pub(super) async fn all_on(
    connection: &mut PgConnection,
    after: Position,
    limit: usize,
) -> Result<Vec<PgRow>, sqlx::Error> {
    select_behind(after, limit).fetch_all(connection).await
}

/// The events of a batch, on the connection that looked it up.
pub(super) async fn batch_on(
    connection: &mut PgConnection,
    batch: &BatchRow,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(select_events!("WHERE position BETWEEN $1 AND $2 ORDER BY position"))
        .bind(rows::column(batch.first.0))
        .bind(rows::column(batch.last().0))
        .fetch_all(connection)
        .await
}

pub(super) async fn rows(
    database: &Database,
    after: Position,
    limit: usize,
) -> Result<Vec<(Row, Leaf)>, Error> {
    let decode = |stored: &Stored<'_>| Ok(stored.row());
    pages::behind(database, "read the log's rows", after, limited(limit), decode).await
}

pub(super) async fn batches(
    database: &Database,
    after: Position,
    limit: usize,
) -> Result<Vec<BatchRow>, Error> {
    let operation = "read the log's batches";
    let query = || {
        sqlx::query(
            "SELECT first_position, event_count, recorded_at, batch_id, link FROM batches \
             WHERE first_position > $1 ORDER BY first_position LIMIT $2",
        )
        .bind(rows::column(after.0))
        .bind(limited(limit))
    };
    let found = database.fetch(operation, query).await?;
    let batches = found.iter().map(rows::batch).collect::<Result<_, _>>();
    batches.map_err(|source| Error::Database { operation, source })
}

pub(super) async fn commands(
    database: &Database,
    ids: &[CommandId],
) -> Result<HashMap<CommandId, Vec<Recorded<Event>>>, Error> {
    let hashes: Vec<i64> = ids.iter().map(|id| packed::hash(id.as_str())).collect();
    let names: Vec<Vec<u8>> = ids.iter().map(|id| packed::text(id.as_str())).collect();
    let query = || {
        sqlx::query(select_events!(
            "WHERE command_hash = ANY($1) AND command_id = ANY($2) ORDER BY position"
        ))
        .bind(hashes.as_slice())
        .bind(names.as_slice())
    };
    let operation = "look commands up";
    let mut found: HashMap<CommandId, Vec<Recorded<Event>>> = HashMap::new();
    for recorded in decoded(operation, &database.fetch(operation, query).await?)? {
        found.entry(recorded.command_id.clone()).or_default().push(recorded);
    }
    Ok(found)
}

pub(super) async fn stream(
    database: &Database,
    stream: &StreamId,
    after: StreamVersion,
    limit: usize,
) -> Result<Vec<Recorded<Event>>, Error> {
    // A stream's events are found among its owner's; positions and versions rise together.
    let query = || {
        sqlx::query(select_events!(
            "WHERE owner_hash = $1 AND stream = $2 AND version > $3 ORDER BY position LIMIT $4"
        ))
        .bind(packed::hash(&stream.owner().to_string()))
        .bind(stream.to_string())
        .bind(rows::column(after.0))
        .bind(limited(limit))
    };
    decoded("read a stream", &database.fetch("read a stream", query).await?)
}

pub(super) async fn filtered(
    database: &Database,
    filter: &Filter,
    after: Position,
    limit: usize,
    order: Order,
) -> Result<Vec<Recorded<Event>>, Error> {
    let operation = "read the filtered log";
    let query = || {
        let mut query = select_filtered(filter, after, limit, order);
        // Numbers and texts always encode; without them the server would refuse the statement.
        let arguments = query.build().take_arguments().ok().flatten().unwrap_or_default();
        sqlx::query_with(query.into_sql(), arguments)
    };
    decoded(operation, &database.fetch(operation, query).await?)
}

fn select_filtered(
    filter: &Filter,
    after: Position,
    limit: usize,
    order: Order,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::<Postgres>::new(select_events!("WHERE position "));
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
        if let Some((prefix, _)) = streams.prefix {
            query.push(" OR starts_with(stream, ").push_bind(prefix).push(")");
        }
        query.push(")");
    }
    // Of one type alone, the index gives chunks of the log in order.
    let only_type = match filter.types.as_slice() {
        [only] if filter.owner.is_none() => Some(only),
        _ => None,
    };
    if let Some(only) = only_type {
        let is_downwards = order == Order::NewestFirst && after > Position(0);
        query.push(" AND type = ").push_bind(only.clone());
        query.push(" AND ").push(CHUNK).push(if is_downwards { " <= " } else { " >= " });
        query.push_bind(rows::column(after.0) >> CHUNK_BITS);
    } else if !filter.types.is_empty() {
        query.push(" AND type = ANY(").push_bind(filter.types.clone()).push(")");
    }
    if let Some(actor) = &filter.actor {
        query.push(" AND actor_kind = ").push_bind(actor_kind_text(actor.kind));
        query.push(" AND actor_name = ").push_bind(actor.name.clone());
        query.push(" AND actor_via = ").push_bind(actor.via.clone());
    }
    if let Some(until) = filter.until {
        query.push(" AND position <= ").push_bind(rows::column(until.0));
    }
    let direction = match order {
        Order::OldestFirst => "",
        Order::NewestFirst => " DESC",
    };
    query.push(" ORDER BY ");
    if only_type.is_some() {
        query.push(CHUNK).push(direction).push(", ");
    }
    query.push("position").push(direction).push(" LIMIT ");
    query.push_bind(limited(limit));
    query
}

pub(super) async fn position_at(database: &Database, time: Timestamp) -> Result<Position, Error> {
    let operation = "find the position of a time";
    let query = || sqlx::query("SELECT diario_position_at($1)").bind(time.0);
    let found = database.fetch(operation, query).await?;
    let Some(row) = found.first() else { return Ok(Position(0)) };
    let last: i64 = row.try_get(0).map_err(|source| Error::Database { operation, source })?;
    Ok(Position(rows::number(last)))
}
