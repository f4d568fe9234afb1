//! Between SQLite's rows and the log's types: what is read is never guessed at.

use domain::{
    log::{Incarnation, Position},
    units::Timestamp,
};
use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::super::{BatchId, BatchRow, Head};

pub(super) use super::super::columns::{bytes, column, number};

pub(super) const SELECT_BATCHES_BEHIND: &str = "SELECT first_position, event_count, recorded_at, \
     batch_id, link FROM batches WHERE first_position > ?1 ORDER BY first_position LIMIT ?2";

pub(super) fn batch(row: &rusqlite::Row<'_>) -> rusqlite::Result<BatchRow> {
    Ok(BatchRow {
        first: Position(number(row.get(0)?)),
        count: number(row.get(1)?),
        recorded_at: Timestamp(row.get(2)?),
        id: BatchId(Uuid::from_bytes(bytes(row.get_ref(3)?.as_blob()?))),
        link: bytes(row.get_ref(4)?.as_blob()?),
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
