//! Filling a new log at once, and indexing one to its end, for benches and tests.
//!
//! What is filled is what the same appends would have written, but nothing is durable before the
//! end. A crash meanwhile leaves a file that is of no use, so this is only for a file that nothing
//! rests on yet.

use std::{
    collections::HashMap,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use domain::log::{StreamId, StreamVersion};
use rusqlite::Connection;

use super::{
    super::{
        AppendError, Batch, Error, Head,
        commit::{self, Commit},
    },
    Database, library,
    lookups::{BulkRuns, RUN_EVENTS},
    packed_batch::pack,
    statements,
};

/// How many batches wait between two threads.
const WAITING_MAX: usize = 4;

/// Half a gibibyte of pages, so that few are read again.
const PRAGMAS: &str = "PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -524288;
    PRAGMA temp_store = MEMORY;";

/// Appends batches to the empty log in a file that nobody has open, and answers with its new head.
/// Each batch must be decided on the end of the one before. Blocks.
///
/// # Errors
/// When a batch is refused or the file fails; it is of no use then.
pub fn fill(
    file: &Path,
    head: Head,
    batches: impl Iterator<Item = Batch> + Send,
) -> Result<Head, AppendError> {
    // One core makes the batches and their hashes, the other one writes.
    thread::scope(|threads| {
        let (give, take) = sync_channel(WAITING_MAX);
        let writer = threads.spawn(move || write(file, head, &take));
        let placed = place_all(head, batches, &give);
        drop(give);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(|source| {
            let source = library::error(source);
            AppendError::Failed(Error::Database { operation: "fill a log", source })
        })?;
        placed
    })
}

/// A batch as the table holds it.
struct Placed {
    commit: Commit,
    events: Vec<u8>,
}

fn place_all(
    mut head: Head,
    batches: impl Iterator<Item = Batch>,
    give: &SyncSender<Placed>,
) -> Result<Head, AppendError> {
    let mut known: HashMap<StreamId, StreamVersion> = HashMap::new();
    for batch in batches {
        let streams = batch.events.iter().map(|event| &event.stream);
        let versions =
            streams.filter_map(|stream| Some((stream.clone(), *known.get(stream)?))).collect();
        let commit = commit::place(&head, versions, batch)?;
        head = commit.head;
        known.extend(commit.versions.iter().map(|(stream, version)| (stream.clone(), *version)));
        let events = pack(&commit.rows);
        if give.send(Placed { commit, events }).is_err() {
            // The writer has failed, and says why.
            return Ok(head);
        }
    }
    Ok(head)
}

fn write(file: &Path, head: Head, take: &Receiver<Placed>) -> rusqlite::Result<()> {
    let connection = Connection::open(file)?;
    connection.execute_batch(PRAGMAS)?;
    connection.execute_batch("BEGIN")?;
    let mut end = head;
    let mut runs = BulkRuns::behind(head.position);
    while let Ok(Placed { commit, events }) = take.recv() {
        statements::insert_batch(&connection, &commit.batch, &events)?;
        runs.add(&connection, &commit, RUN_EVENTS)?;
        end = commit.head;
    }
    runs.write_streams(&connection)?;
    statements::move_head(&connection, &end)?;
    connection.execute_batch("COMMIT")?;
    connection.execute_batch("PRAGMA journal_mode = WAL")
}

/// Writes all that the events of a file are found by, in runs of so many events: as a log does once
/// it has grown by so many. Nobody else may have it open.
///
/// # Errors
/// As [`Database::open`], and when the file cannot be written.
pub async fn index_all(file: &Path, head: Head, run_events: u64) -> Result<(), Error> {
    let database = Database::open_with_runs(file, head.incarnation, run_events).await?;
    let indexed = database.index_to(head.position).await;
    database.close().await;
    indexed
}
