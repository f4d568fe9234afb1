//! Where the log in this file begins, and moving that on when events are in an archive.

use domain::{log::Position, units::Timestamp};
use sqlx::{Executor, Row as _, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{
    super::{Error, Floor},
    Database,
    read::failed,
    rows,
};

const SELECT_FLOOR: &str =
    "SELECT position, recorded_at, link, archive FROM log_floor WHERE id = 1";

pub(super) async fn floor(readers: &SqlitePool) -> Result<Floor, Error> {
    floor_of(readers).await.map_err(failed("read where the log begins"))
}

pub(super) async fn floor_of<'c>(
    connection: impl Executor<'c, Database = Sqlite>,
) -> Result<Floor, sqlx::Error> {
    let found = sqlx::query(SELECT_FLOOR).fetch_optional(connection).await?;
    found.as_ref().map_or_else(|| Ok(Floor::none()), read)
}

fn read(row: &SqliteRow) -> Result<Floor, sqlx::Error> {
    Ok(Floor {
        position: Position(rows::number(row.try_get(0)?)),
        recorded_at: Timestamp(row.try_get(1)?),
        link: rows::bytes(row.try_get(2)?),
        archive: row.try_get(3)?,
    })
}

/// What the events are found by must lead to them from the database by then: it is gone with them.
/// The row that says so is moved first, and only if the batch is there and is not the last one:
/// the last batch stays, because each opening of the file is checked by it.
pub(super) async fn trim(database: &Database, floor: Floor) -> Result<(), Error> {
    // The last versions of streams are kept nowhere else.
    database.index_to(floor.position).await?;
    let position = floor.position;
    let has_moved = database
        .write("move the log's floor", move |connection| {
            Box::pin(async move {
                let moved = sqlx::query(
                    "INSERT INTO log_floor (id, position, recorded_at, link, archive) \
                     SELECT 1, first_position + event_count - 1, recorded_at, link, ?1 \
                     FROM batches \
                     WHERE first_position = (SELECT max(first_position) FROM batches \
                     WHERE first_position <= ?2) \
                     AND first_position + event_count - 1 = ?2 AND link = ?3 \
                     AND ?2 < (SELECT max(first_position) FROM batches) \
                     ON CONFLICT (id) DO UPDATE SET position = excluded.position, \
                     recorded_at = excluded.recorded_at, link = excluded.link, \
                     archive = excluded.archive WHERE excluded.position > log_floor.position",
                )
                .bind(floor.archive)
                .bind(rows::column(floor.position.0))
                .bind(floor.link.to_vec())
                .execute(&mut *connection)
                .await?;
                if moved.rows_affected() == 0 {
                    return Ok(false);
                }
                // The last run stays by its name: the next one goes on where it ends.
                for statement in [
                    "DELETE FROM batches WHERE first_position <= ?1",
                    "DELETE FROM lookups WHERE run <= ?1",
                    "UPDATE lookup_runs SET filter = x'' WHERE last_position <= ?1",
                    "DELETE FROM lookup_runs WHERE last_position <= ?1 \
                     AND last_position < (SELECT max(last_position) FROM lookup_runs)",
                ] {
                    sqlx::query(statement)
                        .bind(rows::column(floor.position.0))
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(true)
            })
        })
        .await?;
    if has_moved {
        database.lookups().trimmed(position);
    }
    Ok(())
}
