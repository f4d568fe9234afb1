//! The one connection that writes, owned by one worker.
//!
//! Every transaction runs to its end inside the worker, so a caller that goes away never leaves
//! half of one behind. Callers queue; the queue is bounded. After the disk has failed under a
//! commit nothing more is written: a later sync can succeed although what the failed one was to
//! bring down is lost, and commits would be answered that rest on it.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};

use super::{super::Error, failure};
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
type JobFuture<'c> = Pin<Box<dyn Future<Output = ConnectionState> + Send + 'c>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    Clean,
    Broken,
}

enum Message {
    Transaction(Job, oneshot::Sender<Error>),
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
    pub(super) fn start(
        path: &Path,
        connection: SqliteConnection,
        options: SqliteConnectOptions,
    ) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        worker::spawn("sqlite writer", run(connection, options, messages));
        Self { queue, disk: Disk { path: path.to_owned(), failed: Arc::default() } }
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
        let message = Message::Transaction(job, no_connection);
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

async fn run(
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    mut messages: mpsc::Receiver<Message>,
) {
    let mut held = Some(connection);
    while let Some(message) = messages.recv().await {
        match message {
            Message::Transaction(job, no_connection) => {
                let mut connection = match held.take() {
                    Some(connection) => connection,
                    None => match options.connect().await {
                        Ok(connection) => connection,
                        Err(source) => {
                            let operation = "connect the writer again";
                            drop(no_connection.send(Error::Database { operation, source }));
                            continue;
                        }
                    },
                };
                if job(&mut connection).await == ConnectionState::Clean {
                    held = Some(connection);
                }
            }
            Message::Close(done) => {
                messages.close();
                if let Some(connection) = held.take() {
                    close(connection).await;
                }
                // Whoever asked may have gone away.
                done.send(()).ok();
                return;
            }
        }
    }
    if let Some(connection) = held.take() {
        close(connection).await;
    }
}

async fn close(connection: SqliteConnection) {
    if let Err(failure) = connection.close().await {
        tracing::warn!(%failure, "Could not close the writing connection cleanly.");
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
