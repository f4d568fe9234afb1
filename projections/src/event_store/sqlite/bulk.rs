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

use domain::log::{Position, StreamId, StreamVersion};
use rusqlite::{Connection, Statement};

use super::{
    super::{
        AppendError, Batch, BatchRow, Error, Head, Leaf, Row,
        commit::{self, Commit},
        packed::Packed,
    },
    library, rows,
};

/// How many batches wait between two threads.
const WAITING_MAX: usize = 4;

/// Half a gibibyte of pages, so that few are read again while the indexes are made.
const PRAGMAS: &str = "PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -524288;
    PRAGMA temp_store = MEMORY;";

const INSERT_EVENT: &str = "INSERT INTO events (position, version, recorded_at, causation, \
     owner_hash, command_hash, schema_version, stream, type, actor_kind, actor_name, actor_via, \
     command_id, correlation, leaf, payload) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

const INSERT_BATCH: &str = "INSERT INTO batches (first_position, event_count, recorded_at, \
     batch_id, link) VALUES (?1, ?2, ?3, ?4, ?5)";

const INSERT_STREAM: &str =
    "INSERT INTO streams (stream, version, last_position) VALUES (?1, ?2, ?3)";

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
    {
        let mut event = connection.prepare(INSERT_EVENT)?;
        let mut boundary = connection.prepare(INSERT_BATCH)?;
        while let Ok(Placed { rows, versions, batch, head }) = take.recv() {
            for (row, leaf, packed) in &rows {
                insert_event(&mut event, row, leaf, packed)?;
            }
            insert_batch(&mut boundary, &batch)?;
            let last = head.position;
            streams.extend(versions.into_iter().map(|(stream, version)| {
                // In the order of the table's key.
                (stream.to_string(), (version, last))
            }));
            end = head;
        }
        let mut insert = connection.prepare(INSERT_STREAM)?;
        for (stream, (version, last)) in &streams {
            let (version, Position(last)): (&StreamVersion, &Position) = (version, last);
            insert.execute((stream, rows::column(version.0), rows::column(*last)))?;
        }
    }
    connection.execute(
        "UPDATE log_head SET position = ?1, recorded_at = ?2, link = ?3 WHERE id = 1",
        (rows::column(end.position.0), end.recorded_at.0, &end.link[..]),
    )?;
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

fn insert_event(
    insert: &mut Statement<'_>,
    row: &Row,
    leaf: &Leaf,
    packed: &Packed,
) -> rusqlite::Result<()> {
    insert.raw_bind_parameter(1, rows::column(row.position.0))?;
    insert.raw_bind_parameter(2, rows::column(row.version.0))?;
    insert.raw_bind_parameter(3, row.recorded_at.0)?;
    insert.raw_bind_parameter(4, row.causation.map(|position| rows::column(position.0)))?;
    insert.raw_bind_parameter(5, packed.owner_hash)?;
    insert.raw_bind_parameter(6, packed.command_hash)?;
    insert.raw_bind_parameter(7, row.schema_version)?;
    insert.raw_bind_parameter(8, &row.stream)?;
    insert.raw_bind_parameter(9, &row.type_name)?;
    insert.raw_bind_parameter(10, &row.actor_kind)?;
    insert.raw_bind_parameter(11, &row.actor_name)?;
    insert.raw_bind_parameter(12, &row.actor_via)?;
    insert.raw_bind_parameter(13, &packed.command_id)?;
    insert.raw_bind_parameter(14, &packed.correlation)?;
    insert.raw_bind_parameter(15, &leaf[..])?;
    insert.raw_bind_parameter(16, &row.payload)?;
    insert.raw_execute().map(drop)
}

fn insert_batch(insert: &mut Statement<'_>, batch: &BatchRow) -> rusqlite::Result<()> {
    insert
        .execute((
            rows::column(batch.first.0),
            rows::column(batch.count),
            batch.recorded_at.0,
            &batch.id.0.as_bytes()[..],
            &batch.link[..],
        ))
        .map(drop)
}
