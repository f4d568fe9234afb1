//! What is checked of a log each time it is opened: the head row, the last batch, its events and
//! their hashes, as of one instant while other nodes go on writing.

use domain::log::Position;
use sqlx::PgConnection;

use super::{
    super::{
        BatchRow, Error, Head, LogId,
        chain::{Fault, FaultKind, GENESIS, Verifier},
    },
    beside,
    failure::at_open,
    rows::{self, select_events},
};

/// What the end of a log should be.
type Checked = Result<(Head, LogId), Fault>;

/// Compares the end of the log with its hashes and answers with its head.
pub(super) async fn check(
    name: &str,
    connection: &mut PgConnection,
) -> Result<(Head, LogId), Error> {
    let checked = look(connection).await.map_err(|source| at_open(name, source))?;
    checked.map_err(|fault| Error::TailDamaged { database: name.to_owned(), fault })
}

async fn look(connection: &mut PgConnection) -> Result<Checked, sqlx::Error> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    sqlx::query(begin).execute(&mut *connection).await?;
    let checked = look_at_one_instant(connection).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(checked)
}

async fn look_at_one_instant(connection: &mut PgConnection) -> Result<Checked, sqlx::Error> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(position) FROM events").fetch_one(&mut *connection).await?;
    let log_end = Position(last.map_or(0, rows::number));
    let Some(row) = sqlx::query(rows::SELECT_HEAD).fetch_optional(&mut *connection).await? else {
        return Ok(Err(Fault { position: log_end, kind: FaultKind::HeadAltered }));
    };
    let (head, log_id) = (rows::head(&row, 0)?, rows::log_id(&row)?);
    let found = sqlx::query(
        "SELECT first_position, event_count, recorded_at, batch_id, link FROM batches \
         ORDER BY first_position DESC LIMIT 2",
    )
    .fetch_all(&mut *connection)
    .await?;
    let batches = found.iter().map(rows::batch).collect::<Result<Vec<BatchRow>, _>>()?;
    let checked = check_last_batch(connection, &head, &batches, log_end).await?;
    Ok(checked.map(|()| (head, log_id)))
}

/// `batches`: the last batch and, where there is one, the batch before it.
async fn check_last_batch(
    connection: &mut PgConnection,
    head: &Head,
    batches: &[BatchRow],
    log_end: Position,
) -> Result<Result<(), Fault>, sqlx::Error> {
    let (last, mut verifier) = match batches {
        [] => return Ok(Verifier::new(Position(0), GENESIS).finish(head, log_end)),
        // The batch before it may have moved to an archive.
        [last] => {
            let floor = beside::floor_on(&mut *connection).await?;
            (last, Verifier::new(floor.position, floor.link))
        }
        [last, before, ..] => (last, Verifier::new(before.last(), before.link)),
    };
    let found = sqlx::query(select_events!("WHERE position >= $1 ORDER BY position LIMIT $2"))
        .bind(rows::column(last.first.0))
        .bind(rows::column(last.count))
        .fetch_all(connection)
        .await?;
    let found = found.iter().map(|row| rows::event(row).map(|stored| stored.row()));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    Ok(verifier.batch(last, &found, log_end).and_then(|()| verifier.finish(head, log_end)))
}
