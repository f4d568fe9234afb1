//! What is checked of a log each time it is opened: the head row, the last batch, its events and
//! their hashes. The rest of the chain is for `verify`, which reads everything.

use std::path::Path;

use domain::log::{Incarnation, Position};
use sqlx::SqliteConnection;

use super::{
    super::{
        BatchRow, Error, Head,
        chain::{Fault, FaultKind, GENESIS, Verifier},
    },
    open_error,
    rows::{self, select_events},
    trim,
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
         AND NOT EXISTS (SELECT 1 FROM events) AND NOT EXISTS (SELECT 1 FROM batches)",
    )
    .bind(incarnation.0.as_bytes().to_vec())
    .bind(GENESIS.to_vec())
    .execute(connection)
    .await
    .map(drop)
    .map_err(|source| open_error(path, source))
}

/// Compares the end of the log with its hashes.
pub(super) async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let failed = |source| open_error(path, source);
    let damaged = |fault| Error::TailDamaged { database: path.display().to_string(), fault };
    let last: Option<i64> = sqlx::query_scalar("SELECT max(position) FROM events")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let log_end = Position(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0));
    let head = sqlx::query(rows::SELECT_HEAD)
        .fetch_optional(&mut *connection)
        .await
        .and_then(|row| row.as_ref().map(rows::head).transpose())
        .map_err(failed)?;
    let Some(head) = head else {
        return Err(damaged(Fault { position: log_end, kind: FaultKind::HeadAltered }));
    };
    let batches: Vec<BatchRow> = sqlx::query(rows::SELECT_LAST_BATCH)
        .fetch_all(&mut *connection)
        .await
        .and_then(|found| found.iter().map(rows::batch).collect())
        .map_err(failed)?;
    check_last_batch(connection, &head, &batches, log_end).await.map_err(failed)?.map_err(damaged)
}

/// `batches`: the last batch and, where there is one, the batch before it.
async fn check_last_batch(
    connection: &mut SqliteConnection,
    head: &Head,
    batches: &[BatchRow],
    log_end: Position,
) -> Result<Result<(), Fault>, sqlx::Error> {
    let (last, mut verifier) = match batches {
        [] => return Ok(Verifier::new(Position(0), GENESIS).finish(head, log_end)),
        // The batch before it may have moved to an archive.
        [last] => {
            let floor = trim::floor_of(&mut *connection).await?;
            (last, Verifier::new(floor.position, floor.link))
        }
        [last, before, ..] => (last, Verifier::new(before.last(), before.link)),
    };
    let found = sqlx::query(select_events!("WHERE position >= ? ORDER BY position LIMIT ?"))
        .bind(rows::column(last.first.0))
        .bind(rows::column(last.count))
        .fetch_all(connection)
        .await?;
    let found = found.iter().map(|row| rows::event(row).map(|stored| stored.row()));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    Ok(verifier.batch(last, &found, log_end).and_then(|()| verifier.finish(head, log_end)))
}
