//! Filling a new log at once, for benches: rows first, indexes last, nothing durable before the end.
//!
//! What is written is what the same appends would have written, to the byte. A crash meanwhile
//! leaves a file that is of no use, so this is only for a file that nothing rests on yet.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use domain::log::{StreamId, StreamVersion};
use rusqlite::Connection;

use super::{
    super::{
        AppendError, Batch, BatchRow, Error, Head, Leaf, Row,
        commit::{self, Commit},
        packed::Packed,
    },
    library, statements,
};

/// How many batches wait between two threads.
const WAITING_MAX: usize = 4;

/// Half a gibibyte of pages, so that few are read again while the indexes are made.
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

/// Rows as the table holds them.
struct Placed {
    rows: Vec<(Row, Leaf, Packed)>,
    versions: BTreeMap<StreamId, StreamVersion>,
    batch: BatchRow,
    head: Head,
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
        let Commit { rows, versions, batch, head: next, .. } =
            commit::place(&head, versions, batch)?;
        head = next;
        for (stream, version) in &versions {
            known.insert(stream.clone(), *version);
        }
        let rows = rows.into_iter().map(|(row, leaf)| {
            let packed = Packed::of(&row);
            (row, leaf, packed)
        });
        if give.send(Placed { rows: rows.collect(), versions, batch, head }).is_err() {
            // The writer has failed, and says why.
            return Ok(head);
        }
    }
    Ok(head)
}

fn write(file: &Path, head: Head, take: &Receiver<Placed>) -> rusqlite::Result<()> {
    let connection = Connection::open(file)?;
    connection.execute_batch(PRAGMAS)?;
    let indexes = indexes_of_events(&connection)?;
    for (name, _) in &indexes {
        connection.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    connection.execute_batch("BEGIN")?;
    let (mut end, mut streams) = (head, BTreeMap::new());
    while let Ok(Placed { rows, versions, batch, head }) = take.recv() {
        for (row, leaf, packed) in &rows {
            statements::insert_event(&connection, row, leaf, packed)?;
        }
        statements::insert_batch(&connection, &batch)?;
        streams.extend(versions.into_iter().map(|(stream, version)| {
            // In the order of the table's key.
            (stream.to_string(), (version, head.position))
        }));
        end = head;
    }
    for (stream, (version, last)) in streams {
        statements::upsert_stream(&connection, &stream, version, last)?;
    }
    statements::move_head(&connection, &end)?;
    connection.execute_batch("COMMIT")?;
    for (_, statement) in &indexes {
        connection.execute_batch(statement)?;
    }
    connection.execute_batch("PRAGMA journal_mode = WAL")
}

/// The names of the indexes, and the statements that make them.
fn indexes_of_events(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut select = connection.prepare(
        "SELECT name, sql FROM sqlite_schema \
         WHERE type = 'index' AND tbl_name = 'events' AND sql IS NOT NULL",
    )?;
    let found = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    found.collect()
}
