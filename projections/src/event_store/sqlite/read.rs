//! Looking things up in the log: every question is answered from one consistent look.

use domain::{
    event::Event,
    id::CommandId,
    log::{Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _};
use sqlx::SqlitePool;
use uuid::Uuid;

use super::{
    super::{
        BatchId, BatchRow, Error, Filter, Head, LogId, Order, READ_EVENTS_MAX, packed,
        stored::Stored,
    },
    lookups::{Kind, Lookups, Stretch},
    packed_batch::PackedBatch,
    pages::{self, Held, Kept, SELECT_FROM},
    reader::Failure,
    rows, statements,
    wanted::Wanted,
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

pub(super) fn batches(
    connection: &Connection,
    after: Position,
    limit: usize,
) -> Result<Vec<BatchRow>, Failure> {
    let mut select = connection.prepare_cached(rows::SELECT_BATCHES_BEHIND)?;
    let found = select.query_map((rows::column(after.0), limited(limit)), rows::batch)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The batches that single positions are in, one after another: the one that was read last is
/// kept.
struct Batches<'c> {
    connection: &'c Connection,
    held: Option<Held>,
}

impl<'c> Batches<'c> {
    fn of(connection: &'c Connection) -> Self {
        Self { connection, held: None }
    }

    /// The event at a position, if it is in the log here.
    fn get(&mut self, position: Position) -> Result<Option<Stored<'_>>, Failure> {
        if !self.held.as_ref().is_some_and(|held| held.has(position)) {
            self.held = self.read(position)?;
        }
        let Some(held) = &self.held else { return Ok(None) };
        let packed = held.packed();
        Ok(packed.get(packed.index(position)).transpose()?)
    }

    fn read(&self, position: Position) -> rusqlite::Result<Option<Held>> {
        let mut select = self.connection.prepare_cached(
            "SELECT first_position, event_count, recorded_at, events FROM batches \
             WHERE first_position <= ?1 ORDER BY first_position DESC LIMIT 1",
        )?;
        let held = select.query_row([rows::column(position.0)], |row| {
            Ok(Held {
                first: Position(rows::number(row.get(0)?)),
                count: row.get(1)?,
                recorded_at: row.get(2)?,
                events: row.get(3)?,
            })
        });
        held.optional()
    }
}

pub(super) fn batch(
    connection: &Connection,
    lookups: &Lookups,
    id: BatchId,
) -> Result<Option<Vec<Recorded<Event>>>, Failure> {
    let bytes = id.0.as_bytes().as_slice();
    let hashes = [packed::hash_of(bytes)];
    let found = lookups.find(connection, Kind::Batch, &hashes)?;
    for stretch in found.stretches(Position(0), Position(u64::MAX)) {
        for first in found.positions(connection, stretch, Kind::Batch, &hashes)? {
            let mut select = connection.prepare_cached(
                "SELECT event_count FROM batches WHERE first_position = ?1 AND batch_id = ?2",
            )?;
            let key = (rows::column(first), bytes);
            let count: Option<i64> = select.query_row(key, |row| row.get(0)).optional()?;
            if let Some(count) = count {
                let count = usize::try_from(count).unwrap_or(0);
                let before = Position(first.saturating_sub(1));
                return pages::all(connection, &Kept::default(), before, count).map(Some);
            }
        }
    }
    Ok(None)
}

/// The events of each of some commands.
pub(super) fn commands(
    connection: &Connection,
    lookups: &Lookups,
    ids: &[CommandId],
) -> Result<Vec<Vec<Recorded<Event>>>, Failure> {
    let hashes: Vec<i64> = ids.iter().map(|id| packed::hash(id.as_str())).collect();
    let found = lookups.find_commands(connection, &hashes)?;
    let mut batches = Batches::of(connection);
    let mut commands = Vec::with_capacity(ids.len());
    for (id, positions) in ids.iter().zip(found) {
        let mut events = Vec::new();
        if !positions.is_empty() {
            let packed = packed::text(id.as_str());
            for position in positions {
                let stored = batches.get(Position(position))?;
                if let Some(stored) = stored.filter(|it| it.command_id == packed) {
                    events.push(stored.event()?);
                }
            }
        }
        commands.push(events);
    }
    Ok(commands)
}

pub(super) fn stream(
    connection: &Connection,
    lookups: &Lookups,
    stream: &StreamId,
    after: StreamVersion,
    limit: usize,
) -> Result<Vec<Recorded<Event>>, Failure> {
    // A stream's events are found among its owner's; positions and versions rise together.
    let hashes = [packed::hash(&stream.owner().to_string())];
    let (text, after) = (stream.to_string(), rows::column(after.0));
    let within = Within {
        after: Position(0),
        until: Position(u64::MAX),
        order: Order::OldestFirst,
        limit: limit.min(READ_EVENTS_MAX),
    };
    let is_wanted = |stored: &Stored<'_>| stored.stream == text && stored.version > after;
    found(connection, lookups, Kind::Owner, &hashes, within, is_wanted)
}

/// Which part of the log is asked for, and how much of it.
#[derive(Debug, Clone, Copy)]
struct Within {
    /// Exclusive.
    after: Position,
    /// Inclusive.
    until: Position,
    order: Order,
    limit: usize,
}

impl Within {
    fn holds(&self, position: u64) -> bool {
        position > self.after.0 && position <= self.until.0
    }
}

pub(super) fn filtered(
    connection: &Connection,
    lookups: &Lookups,
    filter: &Filter,
    after: Position,
    limit: usize,
    order: Order,
) -> Result<Vec<Recorded<Event>>, Failure> {
    let end = filter.until.unwrap_or(Position(u64::MAX));
    let (after, until) = match order {
        Order::OldestFirst => (after, end),
        Order::NewestFirst if after == Position(0) => (Position(0), end),
        Order::NewestFirst => (Position(0), end.min(Position(after.0.saturating_sub(1)))),
    };
    let within = Within { after, until, order, limit: limit.min(READ_EVENTS_MAX) };
    let wanted = Wanted::of(filter);
    let is_wanted = |stored: &Stored<'_>| wanted.lets_through(stored);
    match wanted.found_by() {
        Some((kind, hashes)) => found(connection, lookups, kind, &hashes, within, is_wanted),
        None => scanned(connection, within, is_wanted),
    }
}

/// The wanted events among those that are found by a hash.
fn found(
    connection: &Connection,
    lookups: &Lookups,
    kind: Kind,
    hashes: &[i64],
    within: Within,
    is_wanted: impl Fn(&Stored<'_>) -> bool,
) -> Result<Vec<Recorded<Event>>, Failure> {
    let found = lookups.find(connection, kind, hashes)?;
    let mut stretches: Vec<Stretch> = found.stretches(within.after, within.until);
    if within.order == Order::NewestFirst {
        stretches.reverse();
    }
    let mut batches = Batches::of(connection);
    let mut events = Vec::new();
    for stretch in stretches {
        let mut positions = found.positions(connection, stretch, kind, hashes)?;
        positions.retain(|position| within.holds(*position));
        if within.order == Order::NewestFirst {
            positions.reverse();
        }
        for position in positions {
            if events.len() >= within.limit {
                return Ok(events);
            }
            let stored = batches.get(Position(position))?;
            if let Some(stored) = stored.filter(&is_wanted) {
                events.push(stored.event()?);
            }
        }
    }
    Ok(events)
}

/// The wanted events, when nothing leads to them: batch after batch.
fn scanned(
    connection: &Connection,
    within: Within,
    is_wanted: impl Fn(&Stored<'_>) -> bool,
) -> Result<Vec<Recorded<Event>>, Failure> {
    let mut select = match within.order {
        Order::OldestFirst => connection.prepare_cached(SELECT_FROM)?,
        Order::NewestFirst => connection.prepare_cached(
            "SELECT first_position, event_count, recorded_at, events FROM batches \
             WHERE first_position <= ?1 ORDER BY first_position DESC",
        )?,
    };
    let start = match within.order {
        Order::OldestFirst => within.after.next(),
        Order::NewestFirst => within.until,
    };
    let mut found = select.query([rows::column(start.0)])?;
    let mut events = Vec::new();
    while let Some(row) = found.next()? {
        let first = Position(rows::number(row.get(0)?));
        if first > within.until {
            break;
        }
        let packed = PackedBatch::of(first, row.get(2)?, row.get(1)?, row.get_ref(3)?.as_blob()?);
        let count = packed.len();
        for index in 0..count {
            let index = match within.order {
                Order::OldestFirst => index,
                Order::NewestFirst => count - 1 - index,
            };
            if events.len() >= within.limit {
                return Ok(events);
            }
            if !within.holds(packed.position(index).0) {
                continue;
            }
            if let Some(stored) = packed.get(index).transpose()?.filter(&is_wanted) {
                events.push(stored.event()?);
            }
        }
    }
    Ok(events)
}

/// Times never go back, so the last batch that is not later than a time is found by halving.
pub(super) fn position_at(connection: &Connection, time: Timestamp) -> Result<Position, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT first_position, event_count, recorded_at FROM batches \
         WHERE first_position <= ?1 ORDER BY first_position DESC LIMIT 1",
    )?;
    let (mut low, mut high) = (0, statements::head(connection)?.position.0);
    let mut last = Position(0);
    while low < high {
        let middle = high - (high - low) / 2;
        let found = select.query_row([rows::column(middle)], |row| {
            let (first, count): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok((rows::number(first), rows::number(count), row.get::<_, i64>(2)?))
        });
        match found.optional()? {
            Some((first, _, recorded_at)) if recorded_at > time.0 => {
                high = first.saturating_sub(1).min(middle - 1);
            }
            Some((first, count, _)) => {
                last = Position(first.saturating_add(count).saturating_sub(1));
                low = middle.max(last.0);
            }
            // Before the first one here.
            None => low = middle,
        }
    }
    Ok(last)
}
