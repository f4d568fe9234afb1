//! Looks at the log, by SQLite's library itself on a thread that may wait for the disk.
//!
//! Rows are stepped through and decoded where they lie. The driver that serves what is rare copies
//! every column into a value of its own first, which takes longer than all the rest.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, types::FromSqlError};
use tokio::sync::Semaphore;

use super::{super::Error, library};

/// How many looks are taken at a time; whoever asks for one more waits.
const READERS_MAX: u32 = 4;

/// The connections that read: a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    readers: Arc<Semaphore>,
}

/// Why a look gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// What the log holds.
    Log(Error),
    /// What the library said.
    Library(rusqlite::Error),
    /// What is wrong with the file.
    Damaged(String),
    /// The look is older than what is remembered of the database: another one is not.
    Outdated,
}

impl From<rusqlite::Error> for Failure {
    fn from(source: rusqlite::Error) -> Self {
        Self::Library(source)
    }
}

impl From<FromSqlError> for Failure {
    fn from(source: FromSqlError) -> Self {
        Self::Library(source.into())
    }
}

impl From<Error> for Failure {
    fn from(failure: Error) -> Self {
        Self::Log(failure)
    }
}

impl Failure {
    pub(super) fn told(self, path: &Path, operation: &'static str) -> Error {
        match self {
            Self::Log(failure) => failure,
            Self::Library(source) => Error::Database { operation, source: library::error(source) },
            Self::Damaged(reason) => Error::Damaged { path: path.to_owned(), reason },
            Self::Outdated => Error::Database {
                operation,
                source: sqlx::Error::Protocol("the look at the file was too old".to_owned()),
            },
        }
    }
}

impl Readers {
    /// Of a file that is known to be ours.
    pub(super) fn of(path: &Path) -> Self {
        let permits = usize::try_from(READERS_MAX).unwrap_or(1);
        let readers = Arc::new(Semaphore::new(permits));
        Self(Arc::new(Inner { path: path.to_owned(), idle: Mutex::default(), readers }))
    }

    /// All that `work` reads is of one instant. Dropping the future does not stop the look, which
    /// is short.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.0.readers).acquire_owned().await;
        let permit = permit.map_err(|_| Error::Closed)?;
        let readers = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let found = readers.look_now(&work);
            drop(permit);
            found
        });
        let crashed = |_| Error::Database { operation, source: sqlx::Error::WorkerCrashed };
        looked.await.map_err(crashed)?.map_err(|failure| failure.told(&self.0.path, operation))
    }

    fn look_now<T>(&self, work: impl Fn(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => library::connect(&self.0.path, library::READS)?,
        };
        let found = loop {
            let instant = connection.unchecked_transaction()?;
            match work(&instant) {
                Err(Failure::Outdated) => {}
                found => break found,
            }
        };
        self.idle().push(connection);
        found
    }

    /// Waits for those who read now, and closes all connections.
    pub(super) async fn close(&self) {
        let all = self.0.readers.acquire_many(READERS_MAX).await;
        self.0.readers.close();
        self.idle().clear();
        // An error says that it was closed before.
        drop(all);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
