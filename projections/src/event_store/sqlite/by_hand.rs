//! For tests only: a log that somebody changed past this program, or that a newer one wrote.

use std::path::Path;

use domain::log::Position;
use rusqlite::Connection;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

use super::{
    super::{Leaf, Row},
    packed_batch::{PackedBatch, pack},
    rows,
};

/// Runs SQL statements on a database file, past every check.
///
/// # Panics
/// When SQLite refuses them.
pub async fn change_by_hand(path: &Path, statements: &str) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("a database file");
    let statements = sqlx::AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(statements).execute(&mut connection).await.expect("statements that SQLite takes");
    sqlx::Connection::close(connection).await.expect("an end");
}

/// Changes one event past every check; the hash beside it stays.
///
/// # Panics
/// When it is not there.
pub fn change_event_by_hand(path: &Path, position: u64, change: impl FnOnce(&mut Row)) {
    change_events_by_hand(path, position, |rows| {
        let event = rows.iter_mut().find(|(row, _)| row.position == Position(position));
        change(&mut event.expect("the event").0);
    });
}

/// Changes the events of the batch that holds a position, past every check.
///
/// # Panics
/// When it is not there.
pub fn change_events_by_hand(
    path: &Path,
    position: u64,
    change: impl FnOnce(&mut Vec<(Row, Leaf)>),
) {
    let connection = Connection::open(path).expect("a database file");
    let select = "SELECT first_position, recorded_at, event_count, events FROM batches \
                  WHERE first_position <= ?1 ORDER BY first_position DESC LIMIT 1";
    let (first, mut events) = connection
        .query_row(select, [rows::column(position)], |row| {
            let first: i64 = row.get(0)?;
            let bytes = row.get_ref(3)?.as_blob()?;
            let first_position = Position(rows::number(first));
            let packed = PackedBatch::of(first_position, row.get(1)?, row.get(2)?, bytes);
            let events: Vec<_> = (0..packed.len()).filter_map(|index| packed.row(index)).collect();
            Ok((first, events))
        })
        .expect("a batch");
    change(&mut events);
    let update = "UPDATE batches SET events = ?2 WHERE first_position = ?1";
    connection.execute(update, (first, pack(&events))).expect("a batch");
}
