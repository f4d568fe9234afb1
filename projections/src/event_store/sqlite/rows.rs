//! Between SQLite's rows and the log's types: what is read is never guessed at.

use domain::{
    log::{Incarnation, Position, StreamVersion},
    units::Timestamp,
};
use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::super::{
    BatchId, BatchRow, Head, Leaf, Row,
    packed::{self, Packed},
};

pub(super) use super::super::columns::{bytes, column, number, select_events};

pub(super) fn event(row: &SqliteRow) -> Result<(Row, Leaf), sqlx::Error> {
    let (event, leaf, _) = packed_event(row)?;
    Ok((event, leaf))
}

/// As [`event`], and compares the packed columns with what they must be: the leaf of a row whose
/// do not fit reads as zeros, which `verify` finds.
pub(super) fn checked_event(row: &SqliteRow) -> Result<(Row, Leaf), sqlx::Error> {
    let (event, leaf, packed) = packed_event(row)?;
    let leaf = if Packed::of(&event) == packed { leaf } else { [0; 32] };
    Ok((event, leaf))
}

fn packed_event(row: &SqliteRow) -> Result<(Row, Leaf, Packed), sqlx::Error> {
    let causation: Option<i64> = row.try_get(3)?;
    let schema_version: i64 = row.try_get(6)?;
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

pub(super) const SELECT_BATCHES_BEHIND: &str = "SELECT first_position, event_count, recorded_at, \
     batch_id, link FROM batches WHERE first_position > ? ORDER BY first_position LIMIT ?";

pub(super) const SELECT_LAST_BATCH: &str = "SELECT first_position, event_count, recorded_at, \
     batch_id, link FROM batches ORDER BY first_position DESC LIMIT 2";

pub(super) const SELECT_BATCH: &str = "SELECT first_position, event_count, recorded_at, \
     batch_id, link FROM batches WHERE batch_id = ?";

pub(super) fn batch(row: &SqliteRow) -> Result<BatchRow, sqlx::Error> {
    Ok(BatchRow {
        first: Position(number(row.try_get(0)?)),
        count: number(row.try_get(1)?),
        recorded_at: Timestamp(row.try_get(2)?),
        id: BatchId(Uuid::from_bytes(bytes(row.try_get(3)?))),
        link: bytes(row.try_get(4)?),
    })
}

pub(super) const SELECT_HEAD: &str =
    "SELECT position, recorded_at, incarnation, link FROM log_head WHERE id = 1";

pub(super) fn head(row: &SqliteRow) -> Result<Head, sqlx::Error> {
    Ok(Head {
        position: Position(number(row.try_get(0)?)),
        recorded_at: Timestamp(row.try_get(1)?),
        incarnation: Incarnation(Uuid::from_bytes(bytes(row.try_get(2)?))),
        link: bytes(row.try_get(3)?),
    })
}
