//! Writes what is remembered as runs, beside the appends: in pieces, each a transaction of its own,
//! so that an append never waits for a whole run.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use domain::log::Position;
use rusqlite::Connection;
use tokio::sync::{Mutex, mpsc};

use super::{
    super::{
        super::{Error, commit::Commit},
        Failure, failure, library,
        reader::Readers,
        statements,
        writer::Writer,
    },
    Lookups,
    run::{self, Piece, Run},
    segment::{Last, Segment},
};

/// How many rows one transaction writes, so that an append behind it waits a few milliseconds.
const ROWS: usize = 500;

/// The same when more events come than are written so.
const ROWS_IN_HASTE: usize = 16_384;

/// How often it is tried to lead to a position: mostly once, and once more for what is being
/// written.
const TRIES: usize = 8;

/// The one that writes runs, one after the other.
#[derive(Debug, Clone)]
pub(in super::super) struct Indexer {
    path: PathBuf,
    lookups: Lookups,
    writer: Writer,
    readers: Readers,
    turn: Arc<Mutex<()>>,
}

/// A run on its way into the database.
struct Writing {
    segment: Arc<Segment>,
    pieces: Vec<Piece>,
    /// In the order of their table.
    streams: Vec<(String, Last)>,
}

/// Why a piece of a run was not written.
enum Refused {
    /// Another process has written a run meanwhile.
    Overtaken,
    Library(rusqlite::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(source: rusqlite::Error) -> Self {
        Self::Library(source)
    }
}

impl Indexer {
    pub(in super::super) fn new(
        path: PathBuf,
        lookups: Lookups,
        writer: Writer,
        readers: Readers,
    ) -> Self {
        Self { path, lookups, writer, readers, turn: Arc::default() }
    }

    /// Writes a run each time that there is enough for one, until nobody can tell any more.
    pub(in super::super) async fn run(self, mut due: mpsc::Receiver<()>) {
        while due.recv().await.is_some() {
            self.index_or_warn().await;
        }
    }

    /// Makes a run of what is remembered. Whatever keeps it from being written, the events are
    /// found in memory.
    pub(in super::super) async fn index_or_warn(&self) {
        match self.index().await {
            Ok(()) | Err(Error::Closed) => {}
            Err(failure) => {
                tracing::warn!(%failure, "The log's look-ups could not be written; tried again.");
            }
        }
    }

    /// Makes runs of all that is in the log, for one that was not written by appends. What is left
    /// in memory is at most two runs, unless another process writes runs too.
    pub(in super::super) async fn index_stored(&self) -> Result<(), Error> {
        let mut before = None;
        loop {
            let lookups = self.lookups.clone();
            let freeze = move |connection: &Connection| lookups.freeze_stored(connection);
            let look = self.readers.look("look what no look-up leads to yet", freeze);
            let Some(behind) = look.await? else { return Ok(()) };
            if before == Some(behind) {
                return Ok(());
            }
            tracing::info!(events = behind, "The log's look-ups are written anew.");
            self.index().await?;
            before = Some(behind);
        }
    }

    /// Makes runs until they lead to a position.
    ///
    /// # Errors
    /// Also when they do not get there, because other processes write runs too.
    pub(in super::super) async fn index_to(&self, position: Position) -> Result<(), Error> {
        let operation = "write the look-ups";
        for _ in 0..TRIES {
            let lookups = self.lookups.clone();
            let catch_up = move |connection: &Connection| lookups.catch_up(connection);
            self.readers.look(operation, catch_up).await?;
            if self.lookups.indexed() >= position {
                return Ok(());
            }
            self.index().await?;
        }
        let source = sqlx::Error::Protocol("another process writes them too".to_owned());
        Err(Error::Database { operation, source })
    }

    /// Makes a run of what is remembered.
    async fn index(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let Some(segment) = self.lookups.freeze() else { return Ok(()) };
        let prepare = move || {
            let (run, pieces) = Run::of(&segment);
            let mut streams: Vec<(String, Last)> =
                segment.streams.iter().map(|(stream, last)| (stream.clone(), *last)).collect();
            streams.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            (run, Arc::new(Writing { segment, pieces, streams }))
        };
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let operation = "write the look-ups";
        let (run, writing) = prepared
            .map_err(|_| Error::Database { operation, source: sqlx::Error::WorkerCrashed })?;
        self.write(&writing, |_, connection| Ok(run::delete_unfinished(connection)?)).await?;
        let mut done = 0;
        while done < writing.pieces.len() {
            let end = self.end_behind(done, writing.pieces.len());
            self.write(&writing, move |writing, connection| {
                let pieces = writing.pieces.get(done..end).unwrap_or_default();
                Ok(run::insert(connection, writing.segment.last, pieces)?)
            })
            .await?;
            done = end;
        }
        done = 0;
        while done < writing.streams.len() {
            let end = self.end_behind(done, writing.streams.len());
            self.write(&writing, move |writing, connection| {
                for (stream, last) in writing.streams.get(done..end).unwrap_or_default() {
                    statements::upsert_stream(connection, stream, last.version, last.position)?;
                }
                Ok(())
            })
            .await?;
            done = end;
        }
        self.finish(&writing, Arc::new(run)).await
    }

    /// Where the next transaction ends that begins at a row.
    fn end_behind(&self, done: usize, all: usize) -> usize {
        let rows = if self.lookups.is_behind() { ROWS_IN_HASTE } else { ROWS };
        done.saturating_add(rows).min(all)
    }

    async fn finish(&self, writing: &Arc<Writing>, run: Arc<Run>) -> Result<(), Error> {
        let lookups = self.lookups.clone();
        let writing = Arc::clone(writing);
        let written_run = Arc::clone(&writing);
        let written = self.writer.transaction_by_library(
            move |connection| {
                check_turn(connection, &writing.segment)?;
                // Another process may have taken them for what a broken one has left.
                if run::count(connection, run.last)? != writing.pieces.len() {
                    return Err(Refused::Overtaken);
                }
                run::finish(connection, &run, &writing.segment)?;
                Ok((run, ()))
            },
            move |run: &Arc<Run>| lookups.finished(&written_run.segment, run),
            |()| {},
        );
        self.told(written.await.map(drop))
    }

    async fn write(
        &self,
        writing: &Arc<Writing>,
        work: impl FnOnce(&Writing, &Connection) -> Result<(), Refused> + Send + 'static,
    ) -> Result<(), Error> {
        let writing = Arc::clone(writing);
        let written = self.writer.transaction_by_library(
            move |connection| {
                check_turn(connection, &writing.segment)?;
                Ok((work(&writing, connection)?, ()))
            },
            |()| {},
            |()| {},
        );
        self.told(written.await)
    }

    fn told(&self, written: Result<(), Failure<Refused>>) -> Result<(), Error> {
        let operation = "write the look-ups";
        let failed = |source| failure::classify(&self.path, operation, source);
        written.or_else(|refused| match refused {
            Failure::Refused(refused) => Err(refused),
            // Its run leads to the same events.
            Failure::RolledBack(Refused::Overtaken) => Ok(()),
            Failure::RolledBack(Refused::Library(source)) => Err(failed(library::error(source))),
            Failure::Unknown => Err(failed(sqlx::Error::WorkerCrashed)),
        })
    }
}

/// A run must go on where the runs in the database end.
fn check_turn(connection: &Connection, segment: &Segment) -> Result<(), Refused> {
    if run::newest(connection)? == segment.after {
        return Ok(());
    }
    Err(Refused::Overtaken)
}

/// Runs of a log that is filled at once.
#[derive(Debug)]
pub(in super::super) struct BulkRuns {
    segment: Segment,
    /// In the order of their table, which is written at the end.
    streams: BTreeMap<String, Last>,
}

impl BulkRuns {
    pub(in super::super) fn behind(position: Position) -> Self {
        Self { segment: Segment::behind(position), streams: BTreeMap::new() }
    }

    /// Adds a batch, and writes a run when there is enough for one.
    pub(in super::super) fn add(
        &mut self,
        connection: &Connection,
        commit: &Commit,
        run_events: u64,
    ) -> rusqlite::Result<()> {
        self.segment.add(&commit.batch, commit.rows.iter().map(|(row, _)| row));
        if self.segment.count() < run_events {
            return Ok(());
        }
        let (run, pieces) = Run::of(&self.segment);
        run::insert(connection, run.last, &pieces)?;
        run::finish(connection, &run, &self.segment)?;
        self.streams.extend(self.segment.streams.drain());
        self.segment = Segment::behind(run.last);
        Ok(())
    }

    /// Writes the last versions of the streams up to the last run.
    pub(in super::super) fn write_streams(self, connection: &Connection) -> rusqlite::Result<()> {
        for (stream, last) in &self.streams {
            statements::upsert_stream(connection, stream, last.version, last.position)?;
        }
        Ok(())
    }
}
