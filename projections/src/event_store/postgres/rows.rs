//! Between Postgres's rows and the log's types: what is read is never guessed at.

use domain::{
    log::{Incarnation, Position},
    units::Timestamp,
};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::super::{BatchId, BatchRow, Head, LogId, stored::Stored};

pub(super) use super::super::columns::{bytes, column, number, select_events};

/// The columns of `select_events!`.
pub(super) fn event(row: &PgRow) -> Result<Stored<'_>, sqlx::Error> {
    Ok(Stored {
        position: row.try_get(0)?,
        version: row.try_get(1)?,
        recorded_at: row.try_get(2)?,
        causation: row.try_get(3)?,
        hashes: Some((row.try_get(4)?, row.try_get(5)?)),
        schema_version: i64::from(row.try_get::<i32, _>(6)?),
        stream: row.try_get(7)?,
        type_name: row.try_get(8)?,
        actor_kind: row.try_get(9)?,
        actor_name: row.try_get(10)?,
        actor_via: row.try_get(11)?,
        command_id: row.try_get(12)?,
        correlation: row.try_get(13)?,
        leaf: row.try_get(14)?,
        payload: row.try_get(15)?,
    })
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
