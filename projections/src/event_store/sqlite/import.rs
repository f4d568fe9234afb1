//! Taking batches of another log as they are: all of a call in one transaction.

use domain::log::Position;
use sqlx::SqliteConnection;

use super::{
    super::{Error, Head, ImportError, LogId, StoredBatch, import},
    Database, Failure, append, failure, rows, trim,
};

pub(super) async fn import(
    database: &Database,
    log_id: LogId,
    batches: Vec<StoredBatch>,
) -> Result<Head, ImportError> {
    database
        .transaction(move |connection| Box::pin(write(connection, log_id, batches)), |_| {})
        .await
        .map_err(|failure| match failure {
            Failure::Refused(refused) => ImportError::Failed(refused),
            Failure::RolledBack(ImportError::Failed(failure)) => {
                ImportError::Failed(failure::told(database.path(), failure))
            }
            Failure::RolledBack(failure) => failure,
            Failure::Unknown => failed("end an import", sqlx::Error::WorkerCrashed),
        })
}

fn failed(operation: &'static str, source: sqlx::Error) -> ImportError {
    ImportError::Failed(Error::Database { operation, source })
}

async fn write(
    connection: &mut SqliteConnection,
    log_id: LogId,
    batches: Vec<StoredBatch>,
) -> Result<Head, ImportError> {
    let head = sqlx::query(rows::SELECT_HEAD)
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| rows::head(&row))
        .map_err(|source| failed("read the log's head", source))?;
    let own: Vec<u8> = sqlx::query_scalar("SELECT log_id FROM log_head WHERE id = 1")
        .fetch_one(&mut *connection)
        .await
        .map_err(|source| failed("read the log's id", source))?;
    let own = LogId(uuid::Uuid::from_slice(&own).unwrap_or_default());
    import::check_log(&head, own, log_id)?;
    let streams = import::streams(&batches)?;
    let mut versions = append::versions_of(connection, streams.iter())
        .await
        .map_err(|source| failed("read the streams' versions", source))?;
    let floor = trim::floor_of(&mut *connection)
        .await
        .map_err(|source| failed("read where the log begins", source))?;
    if floor.position > Position(0) {
        let before = import::versions_at_floor(&batches, &versions)?;
        versions.extend(before);
    }
    let mut head = head;
    for commit in import::place(head, versions, batches)? {
        append::insert(connection, &commit)
            .await
            .map_err(|source| failed("write a batch", source))?;
        head = commit.head;
    }
    if own != log_id {
        sqlx::query("UPDATE log_head SET log_id = ? WHERE id = 1")
            .bind(log_id.0.as_bytes().to_vec())
            .execute(connection)
            .await
            .map_err(|source| failed("set the log's id", source))?;
    }
    Ok(head)
}
