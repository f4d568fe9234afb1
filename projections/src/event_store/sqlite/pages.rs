//! Whole pages of the log, read by SQLite's library itself on a thread that may wait for the disk.
//!
//! Rows are stepped through and decoded where they lie. The driver that serves all other reads
//! copies every column into a value of its own first, which takes longer than all the rest.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::log::Position;
use rusqlite::{
    Connection, Row,
    types::{FromSqlResult, ValueRef},
};
use tokio::sync::Semaphore;

use super::{
    super::{
        Error,
        columns::select_events,
        stored::{Stored, malformed},
    },
    library, rows,
};

/// How many pages are read at a time; whoever asks for one more waits.
const READERS_MAX: u32 = 4;

const SELECT_BEHIND: &str = select_events!("WHERE position > ?1 ORDER BY position LIMIT ?2");

/// The connections that read pages: a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Pages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    readers: Arc<Semaphore>,
}

impl Pages {
    /// Of a file that is known to be ours.
    pub(super) fn of(path: &Path) -> Self {
        let permits = usize::try_from(READERS_MAX).unwrap_or(1);
        let readers = Arc::new(Semaphore::new(permits));
        Self(Arc::new(Inner { path: path.to_owned(), idle: Mutex::default(), readers }))
    }

    /// The rows behind a position, each as `decode` makes it. Dropping the future does not stop
    /// the read, which is short.
    pub(super) async fn behind<T: Send + 'static>(
        &self,
        operation: &'static str,
        after: Position,
        limit: i64,
        decode: fn(&Stored<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let permit = Arc::clone(&self.0.readers).acquire_owned().await;
        let permit = permit.map_err(|_| Error::Closed)?;
        let pages = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let page = pages.read(after, limit, decode);
            drop(permit);
            page
        });
        let failed = |source| Error::Database { operation, source };
        let page = read.await.map_err(|_| failed(sqlx::Error::WorkerCrashed))?;
        page.map_err(|failure| match failure {
            Failure::Log(failure) => failure,
            Failure::Library(source) => failed(library::error(source)),
        })
    }

    fn read<T>(
        &self,
        after: Position,
        limit: i64,
        decode: fn(&Stored<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Failure> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => library::connect(&self.0.path, library::READS)?,
        };
        let page = {
            let mut statement = connection.prepare(SELECT_BEHIND)?;
            let mut found = statement.query((rows::column(after.0), limit))?;
            let mut page = Vec::new();
            while let Some(row) = found.next()? {
                page.push(decode(&stored(row)?).map_err(Failure::Log)?);
            }
            page
        };
        self.idle().push(connection);
        Ok(page)
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

enum Failure {
    /// What the log holds.
    Log(Error),
    /// What the library said.
    Library(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(source: rusqlite::Error) -> Self {
        Self::Library(source)
    }
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
        owner_hash: number(4)?,
        command_hash: number(5)?,
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
