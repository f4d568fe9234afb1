//! The two connections that write, owned by one worker on a thread of its own: the library's, for
//! what is written often, and the driver's, for all else.
//!
//! Every transaction runs to its end inside the worker, so a caller that goes away never leaves
//! half of one behind, and none waits for another's lock. Callers queue; the queue is bounded. After the disk has failed under a
//! commit nothing more is written: a later sync can succeed although what the failed one was to
//! bring down is lost, and commits would be answered that rest on it.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{super::Error, database::open_error, failure, library};
use crate::worker;

/// How many transactions may wait.
const QUEUE_MAX: usize = 256;

/// A future that borrows the connection.
pub(crate) type Work<'c, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

/// Why a transaction did not give a value.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// It was not begun, or not committed for want of room: nothing was written.
    Refused(Error),
    /// Its work failed: nothing was written.
    RolledBack(E),
    /// Its commit failed or its worker died: written or not, nobody knows.
    Unknown,
}

/// A job answers whether the connection can be used again.
type Job = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> JobFuture<'c> + Send>;
type LibraryJob = Box<dyn FnOnce(&rusqlite::Connection) -> ConnectionState + Send>;
type JobFuture<'c> = Pin<Box<dyn Future<Output = ConnectionState> + Send + 'c>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    Clean,
    Broken,
}

enum Message {
    Transaction(Job, oneshot::Sender<Error>),
    ByLibrary(LibraryJob, oneshot::Sender<Error>),
    Close(oneshot::Sender<()>),
}

/// A cheap handle on the writing worker.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    disk: Disk,
}

/// The disk under a file, as its commits have met it.
#[derive(Debug, Clone)]
struct Disk {
    path: PathBuf,
    /// What it said when it failed.
    failed: Arc<OnceLock<String>>,
}

impl Disk {
    fn check(&self) -> Result<(), Error> {
        let failed = |reason: &String| Error::DiskFailed {
            database: self.path.display().to_string(),
            reason: reason.clone(),
        };
        self.failed.get().map_or(Ok(()), |reason| Err(failed(reason)))
    }

    /// What a failed commit means.
    fn at_commit<E>(&self, failure: sqlx::Error) -> Failure<E> {
        if failure::is_disk_full(&failure) {
            return Failure::Refused(failure::classify(&self.path, "commit", failure));
        }
        if failure::is_io_error(&failure) {
            tracing::error!(%failure, "The disk failed under a commit; nothing more is written.");
            self.failed.get_or_init(|| failure.to_string());
        } else {
            tracing::error!(%failure, "A commit failed; its outcome must be looked up.");
        }
        Failure::Unknown
    }
}

impl Writer {
    /// `pragmas`: what the library's connection may do.
    pub(super) fn start(
        path: &Path,
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        pragmas: &'static str,
    ) -> Result<Self, Error> {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let disk = Disk { path: path.to_owned(), failed: Arc::default() };
        let worker = Worker {
            path: path.to_owned(),
            options,
            pragmas,
            runtime: Handle::current(),
            driver: Some(connection),
            library: None,
        };
        let started = worker::spawn_thread("sqlite writer", move || worker.run(messages));
        started.map_err(|source| open_error(path, sqlx::Error::Io(source)))?;
        Ok(Self { queue, disk })
    }

    /// Refuses when the disk has failed under a commit: what the log holds is not known then
    /// before the file is opened anew.
    pub(super) fn check_disk(&self) -> Result<(), Error> {
        self.disk.check()
    }

    /// Runs `work` in a transaction and, once it is committed, `after_commit` before any later
    /// transaction begins. Dropping the future does not stop the transaction.
    pub(super) async fn transaction<T, E, W, A>(
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
        let (answer, answered) = oneshot::channel();
        let (no_connection, not_begun) = oneshot::channel();
        let disk = self.disk.clone();
        let job: Job = Box::new(move |connection| {
            Box::pin(async move {
                let (result, state) = transact(connection, &disk, work).await;
                if let Ok(value) = &result {
                    after_commit(value);
                }
                // The caller may have gone away; the transaction stands all the same.
                drop(answer.send(result));
                state
            })
        });
        self.ask(Message::Transaction(job, no_connection), answered, not_begun).await
    }

    /// As [`Writer::transaction`], on the library's connection. `later` is given what `work` made
    /// for it once the caller is answered, and before any later transaction begins.
    pub(super) async fn transaction_by_library<T, L, E, W, A, R>(
        &self,
        work: W,
        after_commit: A,
        later: R,
    ) -> Result<T, Failure<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: FnOnce(&rusqlite::Connection) -> Result<(T, L), E> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
        R: FnOnce(L) + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let (no_connection, not_begun) = oneshot::channel();
        let disk = self.disk.clone();
        let job: LibraryJob = Box::new(move |connection| {
            let (result, state) = transact_by_library(connection, &disk, work);
            let (result, left) = match result {
                Ok((value, left)) => {
                    after_commit(&value);
                    (Ok(value), Some(left))
                }
                Err(failure) => (Err(failure), None),
            };
            // The caller may have gone away; the transaction stands all the same.
            drop(answer.send(result));
            left.map(later);
            state
        });
        self.ask(Message::ByLibrary(job, no_connection), answered, not_begun).await
    }

    async fn ask<T, E>(
        &self,
        message: Message,
        answered: oneshot::Receiver<Result<T, Failure<E>>>,
        not_begun: oneshot::Receiver<Error>,
    ) -> Result<T, Failure<E>> {
        self.queue.send(message).await.map_err(|_| Failure::Refused(Error::Closed))?;
        match answered.await {
            Ok(result) => result,
            Err(_) => match not_begun.await {
                Ok(refused) => Err(Failure::Refused(refused)),
                Err(_) => Err(Failure::Unknown),
            },
        }
    }

    /// Ends the worker after what is queued, and the connection with it.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            // An error means that the worker has ended already.
            drop(closed.await);
        }
    }
}

/// What the thread owns. A connection that is in doubt is closed, and made again when it is asked
/// for.
struct Worker {
    path: PathBuf,
    options: SqliteConnectOptions,
    pragmas: &'static str,
    /// For the driver's futures.
    runtime: Handle,
    driver: Option<SqliteConnection>,
    library: Option<rusqlite::Connection>,
}

impl Worker {
    fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let operation = "connect the writer again";
        while let Some(message) = messages.blocking_recv() {
            match message {
                Message::Transaction(job, no_connection) => {
                    let mut connection = match self.driver() {
                        Ok(connection) => connection,
                        Err(source) => {
                            drop(no_connection.send(Error::Database { operation, source }));
                            continue;
                        }
                    };
                    let state = self.runtime.block_on(job(&mut connection));
                    self.driver = Some(connection).filter(|_| state == ConnectionState::Clean);
                }
                Message::ByLibrary(job, no_connection) => {
                    let connection = match self.library() {
                        Ok(connection) => connection,
                        Err(source) => {
                            let source = library::error(source);
                            drop(no_connection.send(Error::Database { operation, source }));
                            continue;
                        }
                    };
                    let state = job(&connection);
                    self.library = Some(connection).filter(|_| state == ConnectionState::Clean);
                }
                Message::Close(done) => {
                    messages.close();
                    self.close();
                    // Whoever asked may have gone away.
                    done.send(()).ok();
                    return;
                }
            }
        }
        self.close();
    }

    fn driver(&mut self) -> Result<SqliteConnection, sqlx::Error> {
        match self.driver.take() {
            Some(connection) => Ok(connection),
            None => self.runtime.block_on(self.options.connect()),
        }
    }

    fn library(&mut self) -> rusqlite::Result<rusqlite::Connection> {
        match self.library.take() {
            Some(connection) => Ok(connection),
            None => library::connect(&self.path, self.pragmas),
        }
    }

    fn close(self) {
        let closed = self.library.map_or(Ok(()), |connection| {
            connection.close().map_err(|(_, failure)| library::error(failure))
        });
        let also_closed =
            self.driver.map_or(Ok(()), |connection| self.runtime.block_on(connection.close()));
        for failure in [closed, also_closed].into_iter().filter_map(Result::err) {
            tracing::warn!(%failure, "Could not close a writing connection cleanly.");
        }
    }
}

async fn transact<T, E, W>(
    connection: &mut SqliteConnection,
    disk: &Disk,
    work: W,
) -> (Result<T, Failure<E>>, ConnectionState)
where
    W: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T, E>,
{
    if let Err(failed) = disk.check() {
        return (Err(Failure::Refused(failed)), ConnectionState::Clean);
    }
    // IMMEDIATE: a transaction that begins by reading cannot be upgraded under a second writer.
    if let Err(source) = execute(connection, "BEGIN IMMEDIATE").await {
        // A failed BEGIN may mean that one is still open: only a new connection is sure.
        let refused = failure::classify(&disk.path, "begin to write", source);
        return (Err(Failure::Refused(refused)), ConnectionState::Broken);
    }
    match work(connection).await {
        Ok(value) => match execute(connection, "COMMIT").await {
            Ok(()) => (Ok(value), ConnectionState::Clean),
            Err(failure) => (Err(disk.at_commit(failure)), ConnectionState::Broken),
        },
        Err(failure) => {
            let state = match execute(connection, "ROLLBACK").await {
                Ok(()) => ConnectionState::Clean,
                Err(_) => ConnectionState::Broken,
            };
            (Err(Failure::RolledBack(failure)), state)
        }
    }
}

async fn execute(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(connection).await.map(drop)
}

/// As [`transact`], on the library's connection.
fn transact_by_library<T, E>(
    connection: &rusqlite::Connection,
    disk: &Disk,
    work: impl FnOnce(&rusqlite::Connection) -> Result<T, E>,
) -> (Result<T, Failure<E>>, ConnectionState) {
    let execute = |statement| {
        let mut prepared = connection.prepare_cached(statement).map_err(library::error)?;
        prepared.execute(()).map(drop).map_err(library::error)
    };
    if let Err(failed) = disk.check() {
        return (Err(Failure::Refused(failed)), ConnectionState::Clean);
    }
    if let Err(source) = execute("BEGIN IMMEDIATE") {
        let refused = failure::classify(&disk.path, "begin to write", source);
        return (Err(Failure::Refused(refused)), ConnectionState::Broken);
    }
    match work(connection) {
        Ok(value) => match execute("COMMIT") {
            Ok(()) => (Ok(value), ConnectionState::Clean),
            Err(failure) => (Err(disk.at_commit(failure)), ConnectionState::Broken),
        },
        Err(failure) => {
            let state = match execute("ROLLBACK") {
                Ok(()) => ConnectionState::Clean,
                Err(_) => ConnectionState::Broken,
            };
            (Err(Failure::RolledBack(failure)), state)
        }
    }
}
