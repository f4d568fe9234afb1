//! Between Postgres's columns and the log's types. Postgres has no unsigned numbers: a position
//! past its range is cut to the last one, where no event can be.

use domain::{
    log::{Incarnation, Position, StreamVersion},
    units::Timestamp,
};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::super::{
    BatchId, BatchRow, Head, Leaf, LogId, Row,
    packed::{self, Packed},
};

/// Begins a query for event rows in the order that [`event`] reads.
macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT position, version, recorded_at, causation, owner_hash, command_hash, ",
            "schema_version, stream, type, actor_kind, actor_name, actor_via, command_id, ",
            "correlation, leaf, payload FROM events ",
            $rest
        )
    };
}
pub(super) use select_events;

pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The log's own positions and versions are never negative; a row changed by hand reads as 0,
/// which `verify` finds.
pub(super) fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

/// A hash or id of another length than written reads as zeros, which `verify` finds.
pub(super) fn bytes<const N: usize>(column: &[u8]) -> [u8; N] {
    column.try_into().unwrap_or([0; N])
}

pub(super) fn event(row: &PgRow) -> Result<(Row, Leaf), sqlx::Error> {
    let (event, leaf, _) = packed_event(row)?;
    Ok((event, leaf))
}

/// As [`event`], and compares the packed columns with what they must be: the leaf of a row whose
/// do not fit reads as zeros, which `verify` finds.
pub(super) fn checked_event(row: &PgRow) -> Result<(Row, Leaf), sqlx::Error> {
    let (event, leaf, packed) = packed_event(row)?;
    let leaf = if Packed::of(&event) == packed { leaf } else { [0; 32] };
    Ok((event, leaf))
}

fn packed_event(row: &PgRow) -> Result<(Row, Leaf, Packed), sqlx::Error> {
    let causation: Option<i64> = row.try_get(3)?;
    let schema_version: i32 = row.try_get(6)?;
    let packed = Packed {
        owner_hash: row.try_get(4)?,
        command_hash: row.try_get(5)?,
        command_id: row.try_get(12)?,
        correlation: row.try_get(13)?,
    };
    let stream: String = row.try_get(7)?;
    let event = Row {
        position: Position(number(row.try_get(0)?)),
        owner: packed::owner_text(&stream),
        stream,
        version: StreamVersion(number(row.try_get(1)?)),
        type_name: row.try_get(8)?,
        schema_version: u16::try_from(schema_version).unwrap_or(u16::MAX),
        recorded_at: Timestamp(row.try_get(2)?),
        actor_kind: row.try_get(9)?,
        actor_name: row.try_get(10)?,
        actor_via: row.try_get(11)?,
        command_id: packed.command_id(),
        causation: causation.map(|position| Position(number(position))),
        correlation: packed.correlation(),
        payload: row.try_get(15)?,
    };
    Ok((event, bytes(row.try_get(14)?), packed))
}

/// `first_position, event_count, recorded_at, batch_id, link`.
pub(super) fn batch(row: &PgRow) -> Result<BatchRow, sqlx::Error> {
    Ok(BatchRow {
        first: Position(number(row.try_get(0)?)),
        count: number(row.try_get(1)?),
        recorded_at: Timestamp(row.try_get(2)?),
        id: BatchId(Uuid::from_bytes(bytes(row.try_get(3)?))),
        link: bytes(row.try_get(4)?),
    })
}

pub(super) const SELECT_HEAD: &str =
    "SELECT position, recorded_at, incarnation, link, log_id FROM log_head WHERE id = 1";

pub(super) const LOCK_HEAD: &str =
    "SELECT position, recorded_at, incarnation, link FROM log_head WHERE id = 1 FOR UPDATE";

/// `position, recorded_at, incarnation, link` from a column on.
pub(super) fn head(row: &PgRow, from: usize) -> Result<Head, sqlx::Error> {
    Ok(Head {
        position: Position(number(row.try_get(from)?)),
        recorded_at: Timestamp(row.try_get(from.saturating_add(1))?),
        incarnation: Incarnation(Uuid::from_bytes(bytes(row.try_get(from.saturating_add(2))?))),
        link: bytes(row.try_get(from.saturating_add(3))?),
    })
}

pub(super) fn log_id(row: &PgRow) -> Result<LogId, sqlx::Error> {
    Ok(LogId(Uuid::from_bytes(bytes(row.try_get(4)?))))
}
