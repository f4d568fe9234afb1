//! A log whose events are rows of their own, packed batch by batch: once, when a file is opened
//! that was written before batches were packed.

use std::path::Path;

use rusqlite::{
    Connection, Row,
    types::{FromSqlResult, ValueRef},
};

use super::{
    super::{
        BatchRow, Error,
        columns::select_events,
        stored::{Stored, malformed},
    },
    library,
    packed_batch::pack,
    reader::Failure,
    rows,
};

/// How many batches one transaction packs.
const BATCHES: i64 = 500;

const OPERATION: &str = "pack the log's batches";

/// Packs what is not packed yet; may be broken off and begun again. Every event stays as it is
/// stored, whatever its hash says.
pub(super) async fn pack_batches(path: &Path) -> Result<(), Error> {
    let file = path.to_owned();
    let packed = tokio::task::spawn_blocking(move || pack_all(&file)).await;
    let crashed = |_| Error::Database { operation: OPERATION, source: sqlx::Error::WorkerCrashed };
    packed.map_err(crashed)?.map_err(|failure| failure.told(path, OPERATION))
}

fn pack_all(file: &Path) -> Result<(), Failure> {
    let mut connection = library::connect(file, library::WRITES)?;
    loop {
        let transaction = connection.transaction()?;
        let Some(last) = pack_some(&transaction)? else { return Ok(()) };
        transaction.commit()?;
        tracing::info!(position = last.last().0, "The log is brought into its new form.");
    }
}

/// Packs the next batches and answers with the last of them.
fn pack_some(connection: &Connection) -> Result<Option<BatchRow>, Failure> {
    let last: Option<i64> =
        connection
            .query_row("SELECT max(first_position) FROM packed_batches", (), |row| row.get(0))?;
    let mut select = connection.prepare_cached(rows::SELECT_BATCHES_BEHIND)?;
    let batches = select.query_map((last.unwrap_or(0), BATCHES), rows::batch)?;
    let batches = batches.collect::<rusqlite::Result<Vec<_>>>()?;
    for batch in &batches {
        pack_one(connection, batch)?;
    }
    Ok(batches.last().cloned())
}

fn pack_one(connection: &Connection, batch: &BatchRow) -> Result<(), Failure> {
    let mut select = connection
        .prepare_cached(select_events!("WHERE position BETWEEN ?1 AND ?2 ORDER BY position"))?;
    let range = (rows::column(batch.first.0), rows::column(batch.last().0));
    let mut found = select.query(range)?;
    let mut events = Vec::new();
    while let Some(row) = found.next()? {
        events.push(stored(row)?.row());
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO packed_batches \
         SELECT first_position, event_count, recorded_at, batch_id, link, ?2 FROM batches \
         WHERE first_position = ?1",
    )?;
    insert.execute((rows::column(batch.first.0), pack(&events)))?;
    Ok(())
}

fn stored<'a>(row: &'a Row<'_>) -> Result<Stored<'a>, Failure> {
    let position = row.get_ref(0)?.as_i64().unwrap_or_default();
    let number = |index| of(row, position, index, |value| value.as_i64());
    let text = |index| of(row, position, index, |value| value.as_str());
    let bytes = |index| of(row, position, index, |value| value.as_blob());
    Ok(Stored {
        position,
        version: number(1)?,
        recorded_at: number(2)?,
        causation: of(row, position, 3, |value| value.as_i64_or_null())?,
        hashes: Some((number(4)?, number(5)?)),
        schema_version: number(6)?,
        stream: text(7)?,
        type_name: text(8)?,
        actor_kind: text(9)?,
        actor_name: text(10)?,
        actor_via: text(11)?,
        command_id: bytes(12)?,
        correlation: of(row, position, 13, |value| value.as_blob_or_null())?,
        leaf: bytes(14)?,
        payload: bytes(15)?,
    })
}

/// One column; of another type than written it is refused.
fn of<'a, T>(
    row: &'a Row<'_>,
    position: i64,
    index: usize,
    take: impl FnOnce(ValueRef<'a>) -> FromSqlResult<T>,
) -> Result<T, Failure> {
    take(row.get_ref(index)?).map_err(|_| Failure::Log(malformed(position, index)))
}
