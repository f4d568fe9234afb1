//! The statements of an append, each prepared once and run by SQLite's library itself.
//!
//! The driver that serves what is rare hands every statement to a thread and back, which takes
//! longer than all that an append writes.

use domain::{
    log::{Incarnation, Position, StreamVersion},
    units::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, Result, Row as Found};
use uuid::Uuid;

use super::{
    super::{BatchRow, Head, LogId, StreamRow, chain::GENESIS, commit::Commit},
    packed_batch::pack,
    rows::{self, column, number},
};
use crate::failpoint::{self, Step};

pub(super) fn head(connection: &Connection) -> Result<Head> {
    let head = |row: &Found<'_>| {
        Ok(Head {
            position: Position(number(row.get(0)?)),
            recorded_at: Timestamp(row.get(1)?),
            incarnation: Incarnation(Uuid::from_bytes(rows::bytes(row.get_ref(2)?.as_blob()?))),
            link: rows::bytes(row.get_ref(3)?.as_blob()?),
        })
    };
    connection.prepare_cached(rows::SELECT_HEAD)?.query_row((), head)
}

pub(super) fn log_id(connection: &Connection) -> Result<LogId> {
    let id: Vec<u8> =
        connection.query_row("SELECT log_id FROM log_head WHERE id = 1", (), |row| row.get(0))?;
    Ok(LogId(Uuid::from_slice(&id).unwrap_or_default()))
}

pub(super) fn set_log_id(connection: &Connection, log_id: LogId) -> Result<()> {
    let id = log_id.0.as_bytes().as_slice();
    connection.execute("UPDATE log_head SET log_id = ?1 WHERE id = 1", [id]).map(drop)
}

/// The last event that has moved to an archive.
pub(super) fn floor(connection: &Connection) -> Result<Position> {
    floor_link(connection).map(|(position, _)| position)
}

/// The last event that has moved to an archive, and its batch's link.
pub(super) fn floor_link(connection: &Connection) -> Result<(Position, [u8; 32])> {
    let mut select =
        connection.prepare_cached("SELECT position, link FROM log_floor WHERE id = 1")?;
    let found = select.query_row((), |row| {
        Ok((Position(number(row.get(0)?)), rows::bytes(row.get_ref(1)?.as_blob()?)))
    });
    Ok(found.optional()?.unwrap_or((Position(0), GENESIS)))
}

/// The epoch of the lease, where one was ever taken.
pub(super) fn lease(connection: &Connection) -> Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT epoch FROM lease WHERE id = 1")?;
    select.query_row((), |row| row.get(0)).optional()
}

/// The last version of a stream up to the last run, or a later one; `None` when it is new.
pub(super) fn version(connection: &Connection, stream: &str) -> Result<Option<StreamVersion>> {
    let mut select = connection.prepare_cached("SELECT version FROM streams WHERE stream = ?1")?;
    let found = select.query_row([stream], |row| row.get(0)).optional()?;
    Ok(found.map(|version| StreamVersion(number(version))))
}

/// The streams behind a text as they are kept, in its order.
pub(super) fn streams(
    connection: &Connection,
    after: &str,
    limit: usize,
) -> Result<Vec<StreamRow>> {
    let mut select = connection.prepare_cached(
        "SELECT stream, version, last_position FROM streams WHERE stream > ?1 \
         ORDER BY stream LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = select.query_map((after, limit), |row| {
        Ok(StreamRow {
            stream: row.get(0)?,
            version: StreamVersion(number(row.get(1)?)),
            last_position: Position(number(row.get(2)?)),
        })
    })?;
    found.collect()
}

/// Writes a commit. What its events are found by is written later, see [`super::lookups`].
pub(super) fn insert(connection: &Connection, commit: &Commit) -> Result<()> {
    let events = pack(&commit.rows);
    failpoint::reached(Step::EventsWritten);
    insert_batch(connection, &commit.batch, &events)?;
    failpoint::reached(Step::BatchWritten);
    move_head(connection, &commit.head)?;
    failpoint::reached(Step::HeadMoved);
    Ok(())
}

pub(super) fn upsert_stream(
    connection: &Connection,
    stream: &str,
    version: StreamVersion,
    last: Position,
) -> Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO streams (stream, version, last_position) VALUES (?1, ?2, ?3) \
         ON CONFLICT (stream) DO UPDATE SET version = excluded.version, \
         last_position = excluded.last_position WHERE excluded.version > streams.version",
    )?;
    upsert.execute((stream, column(version.0), column(last.0))).map(drop)
}

/// `events`: the batch's, packed.
pub(super) fn insert_batch(connection: &Connection, batch: &BatchRow, events: &[u8]) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO batches (first_position, event_count, recorded_at, batch_id, link, events) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let (first, count) = (column(batch.first.0), column(batch.count));
    let id = batch.id.0.as_bytes().as_slice();
    insert.execute((first, count, batch.recorded_at.0, id, &batch.link[..], events)).map(drop)
}

pub(super) fn move_head(connection: &Connection, head: &Head) -> Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE log_head SET position = ?1, recorded_at = ?2, link = ?3 WHERE id = 1",
    )?;
    update.execute((column(head.position.0), head.recorded_at.0, &head.link[..])).map(drop)
}
