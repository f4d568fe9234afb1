//! A log that is filled from elsewhere: marked while it is not whole, and begun behind a floor where
//! its first part is nowhere any more.

use sqlx::PgConnection;

use super::{
    super::{Floor, LogId, StreamRow},
    rows,
};

/// A table that is there while a backup is written into the database.
pub(super) const RESTORE_MARK: &str = "restoring";

/// Makes and drops that table.
pub(super) const BEGIN_RESTORE: &str = "CREATE TABLE restoring ()";
pub(super) const END_RESTORE: &str = "DROP TABLE IF EXISTS restoring";

/// Only an empty log begins so.
pub(super) async fn behind(
    connection: &mut PgConnection,
    log_id: LogId,
    floor: Floor,
) -> Result<(), sqlx::Error> {
    let begun = sqlx::query(
        "UPDATE log_head SET log_id = $1, position = $2, recorded_at = $3, link = $4 \
         WHERE id = 1 AND position = 0",
    )
    .bind(log_id.0.as_bytes().as_slice())
    .bind(rows::column(floor.position.0))
    .bind(floor.recorded_at.0)
    .bind(floor.link.as_slice())
    .execute(&mut *connection)
    .await?;
    if begun.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO log_floor (id, position, recorded_at, link, archive) \
         VALUES (1, $1, $2, $3, $4)",
    )
    .bind(rows::column(floor.position.0))
    .bind(floor.recorded_at.0)
    .bind(floor.link.as_slice())
    .bind(floor.archive)
    .execute(connection)
    .await
    .map(drop)
}

pub(super) async fn add_streams(
    connection: &mut PgConnection,
    streams: &[StreamRow],
) -> Result<(), sqlx::Error> {
    let last = |row: &StreamRow| rows::column(row.last_position.0);
    sqlx::query(
        "INSERT INTO streams (stream, version, last_position) \
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) ON CONFLICT DO NOTHING",
    )
    .bind(streams.iter().map(|row| row.stream.clone()).collect::<Vec<_>>())
    .bind(streams.iter().map(|row| rows::column(row.version.0)).collect::<Vec<_>>())
    .bind(streams.iter().map(last).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}
