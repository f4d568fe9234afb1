//! A log whose first part is nowhere any more, begun anew in this file behind a floor.

use sqlx::SqliteConnection;

use super::{
    super::{Error, Floor, LogId, StreamRow},
    Database, rows,
};

/// Only an empty log begins so.
pub(super) async fn behind(database: &Database, log_id: LogId, floor: Floor) -> Result<(), Error> {
    database
        .write("begin the log behind its floor", move |connection| {
            Box::pin(begin(connection, log_id, floor))
        })
        .await
}

async fn begin(
    connection: &mut SqliteConnection,
    log_id: LogId,
    floor: Floor,
) -> Result<(), sqlx::Error> {
    let begun = sqlx::query(
        "UPDATE log_head SET log_id = ?, position = ?, recorded_at = ?, link = ? \
         WHERE id = 1 AND position = 0",
    )
    .bind(log_id.0.as_bytes().to_vec())
    .bind(rows::column(floor.position.0))
    .bind(floor.recorded_at.0)
    .bind(floor.link.to_vec())
    .execute(&mut *connection)
    .await?;
    if begun.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO log_floor (id, position, recorded_at, link, archive) VALUES (1, ?, ?, ?, ?)",
    )
    .bind(rows::column(floor.position.0))
    .bind(floor.recorded_at.0)
    .bind(floor.link.to_vec())
    .bind(floor.archive)
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn add_streams(database: &Database, streams: Vec<StreamRow>) -> Result<(), Error> {
    database
        .write("add streams", move |connection| {
            Box::pin(async move {
                for row in streams {
                    sqlx::query(
                        "INSERT INTO streams (stream, version, last_position) VALUES (?, ?, ?) \
                         ON CONFLICT DO NOTHING",
                    )
                    .bind(row.stream)
                    .bind(rows::column(row.version.0))
                    .bind(rows::column(row.last_position.0))
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(())
            })
        })
        .await
}
