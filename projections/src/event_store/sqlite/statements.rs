//! The statements that write a batch, each prepared once and run by SQLite's library itself.
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
    super::{BatchRow, Head, Leaf, LogId, Row, commit::Commit, packed::Packed},
    rows::{self, column, number},
};
use crate::failpoint::{self, Step};

const INSERT_EVENT: &str = "INSERT INTO events (position, version, recorded_at, causation, \
     owner_hash, command_hash, schema_version, stream, type, actor_kind, actor_name, actor_via, \
     command_id, correlation, leaf, payload) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

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
    let select = "SELECT position FROM log_floor WHERE id = 1";
    let found = connection.query_row(select, (), |row| row.get(0)).optional()?;
    Ok(Position(found.map_or(0, number)))
}

/// The epoch of the lease, where one was ever taken.
pub(super) fn lease(connection: &Connection) -> Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT epoch FROM lease WHERE id = 1")?;
    select.query_row((), |row| row.get(0)).optional()
}

/// The last version of a stream; `None` when it is new.
pub(super) fn version(connection: &Connection, stream: &str) -> Result<Option<StreamVersion>> {
    let mut select = connection.prepare_cached("SELECT version FROM streams WHERE stream = ?1")?;
    let found = select.query_row([stream], |row| row.get(0)).optional()?;
    Ok(found.map(|version| StreamVersion(number(version))))
}

/// Writes all rows of a commit.
pub(super) fn insert(connection: &Connection, commit: &Commit) -> Result<()> {
    for (row, leaf) in &commit.rows {
        insert_event(connection, row, leaf, &Packed::of(row))?;
    }
    failpoint::reached(Step::EventsWritten);
    for (stream, version) in &commit.versions {
        upsert_stream(connection, &stream.to_string(), *version, commit.head.position)?;
    }
    insert_batch(connection, &commit.batch)?;
    failpoint::reached(Step::BatchWritten);
    move_head(connection, &commit.head)?;
    failpoint::reached(Step::HeadMoved);
    Ok(())
}

pub(super) fn insert_event(
    connection: &Connection,
    row: &Row,
    leaf: &Leaf,
    packed: &Packed,
) -> Result<()> {
    let mut insert = connection.prepare_cached(INSERT_EVENT)?;
    insert.raw_bind_parameter(1, column(row.position.0))?;
    insert.raw_bind_parameter(2, column(row.version.0))?;
    insert.raw_bind_parameter(3, row.recorded_at.0)?;
    insert.raw_bind_parameter(4, row.causation.map(|position| column(position.0)))?;
    insert.raw_bind_parameter(5, packed.owner_hash)?;
    insert.raw_bind_parameter(6, packed.command_hash)?;
    insert.raw_bind_parameter(7, row.schema_version)?;
    insert.raw_bind_parameter(8, &row.stream)?;
    insert.raw_bind_parameter(9, &row.type_name)?;
    insert.raw_bind_parameter(10, &row.actor_kind)?;
    insert.raw_bind_parameter(11, &row.actor_name)?;
    insert.raw_bind_parameter(12, &row.actor_via)?;
    insert.raw_bind_parameter(13, &packed.command_id)?;
    insert.raw_bind_parameter(14, &packed.correlation)?;
    insert.raw_bind_parameter(15, &leaf[..])?;
    insert.raw_bind_parameter(16, &row.payload)?;
    insert.raw_execute().map(drop)
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
         last_position = excluded.last_position",
    )?;
    upsert.execute((stream, column(version.0), column(last.0))).map(drop)
}

pub(super) fn insert_batch(connection: &Connection, batch: &BatchRow) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO batches (first_position, event_count, recorded_at, batch_id, link) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let (first, count) = (column(batch.first.0), column(batch.count));
    let id = batch.id.0.as_bytes().as_slice();
    insert.execute((first, count, batch.recorded_at.0, id, &batch.link[..])).map(drop)
}

pub(super) fn move_head(connection: &Connection, head: &Head) -> Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE log_head SET position = ?1, recorded_at = ?2, link = ?3 WHERE id = 1",
    )?;
    update.execute((column(head.position.0), head.recorded_at.0, &head.link[..])).map(drop)
}
