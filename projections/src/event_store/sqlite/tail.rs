//! What is checked of a log each time it is opened: the head row, the last batch, its events and
//! their hashes. The rest of the chain is for `verify`, which reads everything.

use std::path::Path;

use domain::log::{Incarnation, Position};
use rusqlite::{Connection, OptionalExtension as _};
use sqlx::SqliteConnection;

use super::{
    super::{
        BatchRow, Error,
        chain::{Fault, FaultKind, GENESIS, Verifier},
    },
    library, open_error,
    packed_batch::PackedBatch,
    rows, statements,
};

/// Writes the head row of a log that was just made. Its first incarnation is its id for ever.
pub(super) async fn start(
    path: &Path,
    connection: &mut SqliteConnection,
    incarnation: Incarnation,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO log_head (id, log_id, position, recorded_at, incarnation, link) \
         SELECT 1, ?1, 0, 0, ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM log_head) \
         AND NOT EXISTS (SELECT 1 FROM batches)",
    )
    .bind(incarnation.0.as_bytes().to_vec())
    .bind(GENESIS.to_vec())
    .execute(connection)
    .await
    .map(drop)
    .map_err(|source| open_error(path, source))
}

/// Compares the end of the log with its hashes.
pub(super) async fn check(path: &Path) -> Result<(), Error> {
    let file = path.to_owned();
    let checked = tokio::task::spawn_blocking(move || {
        let connection = library::connect(&file, library::READS)?;
        // One instant: the log may grow meanwhile.
        check_end(&*connection.unchecked_transaction()?)
    });
    let checked = checked.await.map_err(|_| open_error(path, sqlx::Error::WorkerCrashed))?;
    let damaged = |fault| Error::TailDamaged { database: path.display().to_string(), fault };
    checked.map_err(|source| open_error(path, library::error(source)))?.map_err(damaged)
}

fn check_end(connection: &Connection) -> rusqlite::Result<Result<(), Fault>> {
    let mut select = connection.prepare(
        "SELECT first_position, event_count, recorded_at, batch_id, link, events FROM batches \
         ORDER BY first_position DESC LIMIT 2",
    )?;
    let last_batches = select.query_map((), |row| {
        Ok((rows::batch(row)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(5)?))
    })?;
    let last_batches = last_batches.collect::<rusqlite::Result<Vec<_>>>()?;
    let head = statements::head(connection).optional()?;
    let packed = |(batch, count, events): &(BatchRow, i64, Vec<u8>)| {
        let packed = PackedBatch::of(batch.first, batch.recorded_at.0, *count, events);
        (0..packed.len()).filter_map(|index| packed.row(index)).collect::<Vec<_>>()
    };
    let (rows, log_end) = match last_batches.first() {
        Some(last) => {
            let rows = packed(last);
            let end = rows.last().map_or(last.0.first, |(row, _)| row.position);
            (rows, end)
        }
        None => (Vec::new(), Position(0)),
    };
    let Some(head) = head else {
        return Ok(Err(Fault { position: log_end, kind: FaultKind::HeadAltered }));
    };
    let (last, mut verifier) = match last_batches.as_slice() {
        [] => return Ok(Verifier::new(Position(0), GENESIS).finish(&head, log_end)),
        // The batch before it may have moved to an archive.
        [(last, ..)] => {
            let (position, link) = statements::floor_link(connection)?;
            (last, Verifier::new(position, link))
        }
        [(last, ..), (before, ..), ..] => (last, Verifier::new(before.last(), before.link)),
    };
    Ok(verifier.batch(last, &rows, log_end).and_then(|()| verifier.finish(&head, log_end)))
}
