//! Taking batches of another log as they are: all of a call in one transaction.

use domain::log::Position;
use rusqlite::Connection;

use super::{
    super::{Error, Head, ImportError, LogId, StoredBatch, import},
    Database, Failure, append, failure, library,
    lookups::Written,
    statements,
};

pub(super) async fn import(
    database: &Database,
    log_id: LogId,
    batches: Vec<StoredBatch>,
) -> Result<Head, ImportError> {
    let (writing, noting) = (database.clone(), database.clone());
    let head = database
        .transaction_by_library(
            move |connection| write(connection, &writing, log_id, batches),
            |_| {},
            move |written: Vec<Written>| noting.note(&written),
        )
        .await;
    database.keep_up().await;
    head.map_err(|failure| match failure {
        Failure::Refused(refused) => ImportError::Failed(refused),
        Failure::RolledBack(ImportError::Failed(failure)) => {
            ImportError::Failed(failure::told(database.path(), failure))
        }
        Failure::RolledBack(failure) => failure,
        Failure::Unknown => {
            let (operation, source) = ("end an import", sqlx::Error::WorkerCrashed);
            ImportError::Failed(Error::Database { operation, source })
        }
    })
}

fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> ImportError {
    move |source| ImportError::Failed(Error::Database { operation, source: library::error(source) })
}

fn write(
    connection: &Connection,
    database: &Database,
    log_id: LogId,
    batches: Vec<StoredBatch>,
) -> Result<(Head, Vec<Written>), ImportError> {
    let mut head = statements::head(connection).map_err(failed("read the log's head"))?;
    let own = statements::log_id(connection).map_err(failed("read the log's id"))?;
    import::check_log(&head, own, log_id)?;
    let streams = import::streams(&batches)?;
    let versions = append::versions_of(connection, database, streams.iter());
    let mut versions = versions.map_err(ImportError::Failed)?;
    let floor = statements::floor(connection).map_err(failed("read where the log begins"))?;
    if floor > Position(0) {
        let before = import::versions_at_floor(&batches, &versions)?;
        versions.extend(before);
    }
    let commits = import::place(head, versions, batches)?;
    for commit in &commits {
        statements::insert(connection, commit).map_err(failed("write a batch"))?;
        head = commit.head;
    }
    if own != log_id {
        statements::set_log_id(connection, log_id).map_err(failed("set the log's id"))?;
    }
    Ok((head, commits.into_iter().map(|commit| (commit.batch, commit.rows)).collect()))
}
