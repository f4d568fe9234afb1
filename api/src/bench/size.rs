//! The bytes that one event takes, with indexes: hot in Postgres and in SQLite.

use projections::{event_store::sqlite, peers::pgbench, storage::Location};

use super::{
    Effort, Error,
    measure::{Goal, Report, Round, Row},
    place::{self, Place},
    replay,
};

/// What an event may take in either store.
const HOT_BYTES_MAX: f64 = 750.0;
/// What grows with every event, in Postgres.
const TABLES: [&str; 3] = ["events", "streams", "batches"];

pub(super) async fn hot(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    let [_, events, _] = effort.events;
    let events = u32::try_from(events.min(100_000)).unwrap_or(u32::MAX);
    if report.wants("bytes/sqlite") {
        report.progress("bytes of an event on SQLite");
        let location = place.new_sqlite()?;
        let storage = place::open(&location).await?;
        // By appends: filled at once, it would be packed tighter than in life.
        replay::fill(storage.store.as_ref(), u64::from(events), effort).await?;
        let head = storage.store.head().await?;
        // Closing folds the WAL into the file.
        storage.close().await;
        // What the newest events are found by is in memory otherwise, and would not be counted.
        let Location::Sqlite { file } = &location else {
            return Err(Error::Unexpected("only SQLite indexes behind the log".to_owned()));
        };
        sqlite::index_all(file, head, sqlite::RUN_EVENTS).await?;
        let storage = place::open(&location).await?;
        let bytes = storage.store.stored_bytes().await?.unwrap_or_default();
        storage.close().await;
        let ours = Round { ours: each(bytes, events), peer: None };
        report.add(row("bytes/sqlite", events), &[ours]);
    }
    if report.wants("bytes/postgres") {
        report.progress("bytes of an event on Postgres");
        let (location, name) = place.new_postgres()?;
        let storage = place::open(&location).await?;
        replay::fill(storage.store.as_ref(), u64::from(events), effort).await?;
        storage.close().await;
        let server = place.server()?;
        let bytes = server.table_bytes(&name, &TABLES)?;
        let naive = pgbench::naive_bytes_per_event(server, &name, events)?;
        let round = Round { ours: each(bytes, events), peer: Some(naive) };
        report.add(row("bytes/postgres", events), &[round]);
    }
    Ok(())
}

fn row(name: &'static str, events: u32) -> Row {
    let size = format!("events={events}");
    Row { name, size, unit: "bytes/event", goal: Goal::AtMost(HOT_BYTES_MAX) }
}

#[expect(clippy::cast_precision_loss, reason = "a figure of a bench")]
fn each(bytes: u64, events: u32) -> f64 {
    bytes as f64 / f64::from(events.max(1))
}
