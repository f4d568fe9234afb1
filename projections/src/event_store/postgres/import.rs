//! Taking batches of another log as they are: all of a call in one transaction, each through the
//! same function as an append, which checks head and versions once more.

use domain::log::{Position, StreamId, StreamVersion};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    super::{Error, Head, ImportError, LogId, StoredBatch, StreamRow, import},
    append, begin, beside, rows,
};

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> ImportError {
    move |source| ImportError::Failed(Error::Database { operation, source })
}

pub(super) async fn write(
    connection: &mut PgConnection,
    log_id: LogId,
    batches: Vec<StoredBatch>,
) -> Result<Head, ImportError> {
    let own: Vec<u8> = sqlx::query_scalar("SELECT log_id FROM log_head WHERE id = 1 FOR UPDATE")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("lock the log's head"))?;
    let own = LogId(Uuid::from_slice(&own).unwrap_or_default());
    let mut head = append::read_head(connection).await.map_err(failed("read the log's head"))?;
    import::check_log(&head, own, log_id)?;
    let streams = import::streams(&batches)?;
    let texts: Vec<String> = streams.iter().map(ToString::to_string).collect();
    let found = sqlx::query("SELECT stream, version FROM streams WHERE stream = ANY($1)")
        .bind(texts)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read the streams' versions"))?;
    let mut versions = std::collections::BTreeMap::new();
    for row in &found {
        let read = (row.try_get::<String, _>(0), row.try_get::<i64, _>(1));
        let (Ok(text), Ok(version)) = read else { continue };
        if let Ok(stream) = text.parse() {
            versions.insert(stream, StreamVersion(rows::number(version)));
        }
    }
    let floor = beside::floor_on(connection).await.map_err(failed("read where the log begins"))?;
    if floor.position > Position(0) {
        let at_floor = import::versions_at_floor(&batches, &versions)?;
        let row = |(stream, version): (&StreamId, &StreamVersion)| StreamRow {
            stream: stream.to_string(),
            version: *version,
            last_position: floor.position,
        };
        let rows: Vec<StreamRow> = at_floor.iter().map(row).collect();
        begin::add_streams(connection, &rows).await.map_err(failed("add streams"))?;
        versions.extend(at_floor);
    }
    let mut before = versions.clone();
    for commit in import::place(head, versions, batches)? {
        append::write_as_it_is(connection, &head, &before, &commit)
            .await
            .map_err(failed("write a batch"))?;
        before.extend(commit.versions);
        head = commit.head;
    }
    if own != log_id {
        sqlx::query("UPDATE log_head SET log_id = $1 WHERE id = 1")
            .bind(log_id.0.as_bytes().to_vec())
            .execute(connection)
            .await
            .map_err(failed("set the log's id"))?;
    }
    Ok(head)
}
