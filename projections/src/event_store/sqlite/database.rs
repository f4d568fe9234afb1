//! One SQLite file, opened with every check that can be made without reading all of it.
//!
//! Nothing is changed in a file before it is known to be ours.

use std::{
    fs::OpenOptions,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use domain::log::{Incarnation, Position};
use rusqlite::Connection;
use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::mpsc;

use super::{
    super::{Error, migrate},
    convert, failure, library,
    lookups::{Indexer, Lookups, RUN_EVENTS, Written},
    reader::{self, Readers},
    tail,
    writer::{Failure, Work, Writer},
};
use crate::worker;

/// `DIAR`: marks a SQLite file as ours.
const APPLICATION_ID: i64 = 0x4449_4152;

/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Read and written by its owner only.
const PRIVATE_FILE_MODE: u32 = 0o600;
const READERS_MAX: u32 = 4;
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// An open database: a cheap handle on its writer and its readers.
#[derive(Debug, Clone)]
pub struct Database {
    path: PathBuf,
    writer: Writer,
    /// For what is rare.
    readers: SqlitePool,
    /// For the log itself.
    looks: Readers,
    lookups: Lookups,
    indexer: Indexer,
    /// Tells the indexer that there is enough for a run.
    due: mpsc::Sender<()>,
}

/// Whether a database is written by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

impl Database {
    /// Opens a database, or makes it when the file is missing or empty. A new log lives under
    /// `new_incarnation`; an existing one keeps its own.
    ///
    /// # Errors
    /// [`Error::NotADatabase`], [`Error::NewerDatabase`], [`Error::Damaged`] and
    /// [`Error::TailDamaged`] say what is wrong with the file, which is left as it is;
    /// [`Error::Open`] when it cannot be reached.
    pub async fn open(path: &Path, new_incarnation: Incarnation) -> Result<Self, Error> {
        Self::open_with_runs(path, new_incarnation, RUN_EVENTS).await
    }

    /// As [`Database::open`], with what its events are found by written each time so many have
    /// come.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn open_with_runs(
        path: &Path,
        new_incarnation: Incarnation,
        run_events: u64,
    ) -> Result<Self, Error> {
        create_private(path)?;
        check_magic(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Full)
            // Deleted bytes are overwritten where that costs no further page; `keys` asks for more.
            .pragma("secure_delete", "FAST");
        let mut connection = options.connect().await.map_err(|source| open_error(path, source))?;
        check_application(path, &mut connection).await?;
        if migrate::run_before_packing(path, &mut connection).await? {
            convert::pack_batches(path).await?;
        }
        migrate::run(path, &mut connection).await?;
        tail::start(path, &mut connection, new_incarnation).await?;
        tail::check(path).await?;
        settle(path, &mut connection).await?;
        let lookups = Lookups::new(run_events);
        let database = Self::start(path, connection, options, lookups, Access::Write).await?;
        database.indexer.index_stored().await?;
        Ok(database)
    }

    /// Opens a database only to read, beside a process that may be writing it; every write fails.
    ///
    /// # Errors
    /// As [`Database::open`], and [`Error::OlderDatabase`]; the file is left as it is.
    pub async fn open_to_read(path: &Path) -> Result<Self, Error> {
        check_magic(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "ON");
        let mut connection = options.connect().await.map_err(|source| open_error(path, source))?;
        if !is_ours(path, &mut connection).await? {
            return Err(Error::NotADatabase { database: path.display().to_string() });
        }
        migrate::check(path, &mut connection).await?;
        tail::check(path).await?;
        Self::start(path, connection, options, Lookups::new(RUN_EVENTS), Access::Read).await
    }

    async fn start(
        path: &Path,
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        lookups: Lookups,
        access: Access,
    ) -> Result<Self, Error> {
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_with(options.clone().pragma("query_only", "ON"))
            .await
            .map_err(|source| open_error(path, source))?;
        let pragmas = match access {
            Access::Write => library::WRITES,
            Access::Read => library::READS,
        };
        let writer = Writer::start(path, connection, options, pragmas)?;
        let (path, looks) = (path.to_owned(), Readers::of(path));
        let indexer = Indexer::new(path.clone(), lookups.clone(), writer.clone(), looks.clone());
        let (due, told) = mpsc::channel(1);
        if access == Access::Write {
            drop(worker::spawn("sqlite lookups", indexer.clone().run(told)));
        }
        Ok(Self { path, writer, readers, looks, lookups, indexer, due })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file and of the WAL beside it.
    pub(super) fn file_bytes(&self) -> Result<u64, Error> {
        let unreadable = |source| Error::Open {
            database: self.path.display().to_string(),
            source: sqlx::Error::Io(source),
        };
        let file = std::fs::metadata(&self.path).map_err(unreadable)?.len();
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        // There is none while nobody writes.
        let wal = std::fs::metadata(wal).map_or(0, |metadata| metadata.len());
        Ok(file.saturating_add(wal))
    }

    /// Ends what is queued and closes the file. Handles that are left answer [`Error::Closed`].
    pub async fn close(&self) {
        // The writer goes last: the last connection to close folds the WAL into the file.
        self.looks.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }

    /// See [`Writer::check_disk`].
    pub(super) fn check_disk(&self) -> Result<(), Error> {
        self.writer.check_disk()
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// See [`Readers::look`].
    pub(super) async fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Fn(&Connection) -> Result<T, reader::Failure> + Send + 'static,
    ) -> Result<T, Error> {
        self.looks.look(operation, work).await
    }

    pub(super) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Notes what was just committed, by what it is found.
    pub(super) fn note(&self, committed: &[Written]) {
        if self.lookups.committed(committed) {
            // One that was told and has not begun will see this too.
            self.due.try_send(()).ok();
        }
    }

    /// Waits while so much is remembered that it must be written first.
    pub(super) async fn keep_up(&self) {
        if self.lookups.is_full() {
            self.indexer.index_or_warn().await;
        }
    }

    /// Makes what events are found by lead to a position from the database itself.
    pub(super) async fn index_to(&self, position: Position) -> Result<(), Error> {
        self.indexer.index_to(position).await
    }

    /// See [`Writer::transaction`].
    pub(crate) async fn transaction<T, E, W, A>(
        &self,
        work: W,
        after_commit: A,
    ) -> Result<T, Failure<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T, E> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        self.writer.transaction(work, after_commit).await
    }

    /// See [`Writer::transaction_by_library`].
    pub(super) async fn transaction_by_library<T, L, E, W, A, R>(
        &self,
        work: W,
        after_commit: A,
        later: R,
    ) -> Result<T, Failure<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: FnOnce(&Connection) -> Result<(T, L), E> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
        R: FnOnce(L) + Send + 'static,
    {
        self.writer.transaction_by_library(work, after_commit, later).await
    }

    /// A transaction of plain statements, for what may simply be tried again.
    pub(crate) async fn write<T, W>(&self, operation: &'static str, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T, sqlx::Error> + Send + 'static,
    {
        self.writer.transaction(work, |_| {}).await.map_err(|failure| match failure {
            Failure::Refused(refused) => refused,
            Failure::RolledBack(source) => failure::classify(&self.path, operation, source),
            Failure::Unknown => self.check_disk().err().unwrap_or_else(|| Error::Database {
                operation,
                source: sqlx::Error::WorkerCrashed,
            }),
        })
    }
}

/// What a failure while opening means.
pub(in crate::event_store) fn open_error(path: &Path, source: sqlx::Error) -> Error {
    let path = path.to_owned();
    // SQLite's primary result codes: 11 CORRUPT, 26 NOTADB; 522 is IOERR_SHORT_READ.
    let code = source.as_database_error().and_then(|error| error.code()).map(Into::into);
    match code.map(|code: String| code.parse::<i32>()) {
        Some(Ok(26)) => Error::NotADatabase { database: path.display().to_string() },
        Some(Ok(code)) if code & 0xff == 11 || code == 522 => {
            Error::Damaged { path, reason: source.to_string() }
        }
        Some(_) | None => Error::Open { database: path.display().to_string(), source },
    }
}

/// Makes a missing file, for its owner alone: the log holds what users told us. SQLite gives the
/// files beside it the same mode.
fn create_private(path: &Path) -> Result<(), Error> {
    let created =
        OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE_MODE).open(path);
    match created {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::Open {
            database: path.display().to_string(),
            source: sqlx::Error::Io(source),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn check_magic(path: &Path) -> Result<(), Error> {
    let unreadable = |source| Error::Open {
        database: path.display().to_string(),
        source: sqlx::Error::Io(source),
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut start = Vec::new();
    file.by_ref().take(16).read_to_end(&mut start).map_err(unreadable)?;
    if start.is_empty() || start == MAGIC {
        return Ok(());
    }
    Err(Error::NotADatabase { database: path.display().to_string() })
}

async fn is_ours(path: &Path, connection: &mut SqliteConnection) -> Result<bool, Error> {
    sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(connection)
        .await
        .map(|application: i64| application == APPLICATION_ID)
        .map_err(|source| open_error(path, source))
}

async fn check_application(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let failed = |source| open_error(path, source);
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if tables > 0 && !is_ours(path, connection).await? {
        return Err(Error::NotADatabase { database: path.display().to_string() });
    }
    if tables == 0 {
        // The mark comes before the first table, so that a crash between leaves an empty file.
        for pragma in ["PRAGMA application_id = 1145651538", "PRAGMA journal_mode = WAL"] {
            sqlx::query(pragma).execute(&mut *connection).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Moves what a process before this one left in the write-ahead log into the file. If that process
/// ended because a sync failed, the kernel may show commits that are not on the disk and believe
/// that they are: here they are written again and synced, before anything is built on them.
async fn settle(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    // Readers in the way make it do less, which is no error.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| open_error(path, source))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mark_in_the_pragma_is_the_application_id() {
        assert_eq!(super::APPLICATION_ID, 1_145_651_538);
    }
}
