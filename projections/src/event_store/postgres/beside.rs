//! What this database keeps beside the log: its floor, checkpoints, streams, its size, the kinds of
//! its events, and the search for rows that no reader of the log would see.

use async_trait::async_trait;
use domain::{
    log::{Incarnation, Position, StreamVersion},
    units::Timestamp,
};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        Error, EventStore as _, Floor, Head, HotLog, LogId, LogIdentity, NewestOfType,
        READ_EVENTS_MAX, StreamRow,
        chain::{Fault, FaultKind, fault},
    },
    Database, PostgresStore, begin, read, rows,
};
use crate::checkpoint::{Checkpoint, Previous, PublicKey};

fn limited(limit: usize) -> i64 {
    i64::try_from(limit.min(READ_EVENTS_MAX)).unwrap_or(i64::MAX)
}

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |source| Error::Database { operation, source }
}

fn read_each<T>(
    operation: &'static str,
    found: &[PgRow],
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, Error> {
    found.iter().map(read).collect::<Result<_, _>>().map_err(failed(operation))
}

/// A damaged log may hold any number of names; ours are a few dozen.
const SELECT_NEWEST_OF_EACH_TYPE: &str = "WITH RECURSIVE types (type) AS ( \
         (SELECT min(type) FROM events) \
         UNION ALL \
         SELECT (SELECT min(events.type) FROM events WHERE events.type > types.type) FROM types \
         WHERE types.type IS NOT NULL \
     ) \
     SELECT newest.type, newest.schema_version, newest.position \
     FROM (SELECT type FROM types WHERE type IS NOT NULL LIMIT 10000) AS known, \
     LATERAL (SELECT type, schema_version, position FROM events \
         WHERE events.type = known.type \
         ORDER BY (position >> 12) DESC, position DESC LIMIT 1) AS newest \
     ORDER BY newest.position";

pub(super) async fn newest_of_each_type(database: &Database) -> Result<Vec<NewestOfType>, Error> {
    let operation = "list the types of events";
    let query = || sqlx::query(SELECT_NEWEST_OF_EACH_TYPE);
    let found = database.fetch(operation, query).await?;
    read_each(operation, &found, |row| {
        let schema_version: i32 = row.try_get(1)?;
        Ok(NewestOfType {
            type_name: row.try_get(0)?,
            schema_version: u16::try_from(schema_version).unwrap_or(u16::MAX),
            position: Position(rows::number(row.try_get(2)?)),
        })
    })
}

/// The bytes of the log's tables with their indexes.
pub(super) async fn stored_bytes(database: &Database) -> Result<u64, Error> {
    let operation = "measure the log";
    let query = || {
        sqlx::query(
            "SELECT sum(pg_total_relation_size(name::regclass))::bigint \
             FROM unnest(ARRAY['events', 'streams', 'batches', 'log_head']) AS name",
        )
    };
    let found = database.fetch(operation, query).await?;
    let bytes = read_each(operation, &found, |row| row.try_get(0).map(rows::number))?;
    Ok(bytes.first().copied().unwrap_or(0))
}

pub(super) const SELECT_FLOOR: &str =
    "SELECT position, recorded_at, link, archive FROM log_floor WHERE id = 1";

pub(super) fn read_floor(row: &PgRow) -> Result<Floor, sqlx::Error> {
    Ok(Floor {
        position: Position(rows::number(row.try_get(0)?)),
        recorded_at: Timestamp(row.try_get(1)?),
        link: rows::bytes(row.try_get(2)?),
        archive: row.try_get(3)?,
    })
}

pub(super) async fn floor_on(connection: &mut PgConnection) -> Result<Floor, sqlx::Error> {
    let found = sqlx::query(SELECT_FLOOR).fetch_optional(connection).await?;
    found.as_ref().map_or_else(|| Ok(Floor::none()), read_floor)
}

/// The row that says so is moved first, and only if the batch is there and is not the last one:
/// the last batch stays, because each opening of the database is checked by it.
async fn trim(connection: &mut PgConnection, floor: Floor) -> Result<(), sqlx::Error> {
    let moved = sqlx::query(
        "INSERT INTO log_floor (id, position, recorded_at, link, archive) \
         SELECT 1, first_position + event_count - 1, recorded_at, link, $1 FROM batches \
         WHERE first_position = (SELECT max(first_position) FROM batches \
         WHERE first_position <= $2) \
         AND first_position + event_count - 1 = $2 AND link = $3 \
         AND $2 < (SELECT max(first_position) FROM batches) \
         ON CONFLICT (id) DO UPDATE SET position = excluded.position, \
         recorded_at = excluded.recorded_at, link = excluded.link, archive = excluded.archive \
         WHERE excluded.position > log_floor.position",
    )
    .bind(floor.archive)
    .bind(rows::column(floor.position.0))
    .bind(floor.link.as_slice())
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(());
    }
    for statement in [
        "DELETE FROM events WHERE position <= $1",
        "DELETE FROM batches WHERE first_position <= $1",
    ] {
        sqlx::query(statement)
            .bind(rows::column(floor.position.0))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A row at a position where the log has none: before its floor or behind its head. One
/// statement, so that head, floor and rows are of one instant.
const SELECT_SURPLUS: &str = "WITH log AS (SELECT \
         coalesce((SELECT position FROM log_floor WHERE id = 1), 0) AS floor, \
         (SELECT position FROM log_head WHERE id = 1) AS head) \
     SELECT least( \
         (SELECT min(position) FROM events WHERE position <= (SELECT floor FROM log)), \
         (SELECT min(position) FROM events WHERE position > (SELECT head FROM log)), \
         (SELECT min(first_position) FROM batches \
             WHERE first_position <= (SELECT floor FROM log)), \
         (SELECT min(first_position) FROM batches \
             WHERE first_position > (SELECT head FROM log)), \
         (SELECT min(position) FROM checkpoints WHERE position <= 0))";

fn checkpoint(row: &PgRow) -> Result<Checkpoint, sqlx::Error> {
    Ok(Checkpoint {
        position: Position(rows::number(row.try_get(0)?)),
        incarnation: Incarnation(Uuid::from_bytes(rows::bytes(row.try_get(1)?))),
        link: rows::bytes(row.try_get(2)?),
        signed_at: Timestamp(row.try_get(3)?),
        key: PublicKey(rows::bytes(row.try_get(4)?)),
        signature: rows::bytes(row.try_get(5)?),
        previous: row.try_get::<Option<&[u8]>, _>(6)?.map(Previous::from_bytes),
    })
}

#[async_trait]
impl HotLog for PostgresStore {
    async fn identity(&self) -> Result<LogIdentity, Error> {
        let incarnation = read::head(&self.database).await?.incarnation;
        Ok(LogIdentity { log_id: self.database.log_id(), incarnation })
    }

    async fn floor(&self) -> Result<Floor, Error> {
        let operation = "read where the log begins";
        let found = self.database.fetch(operation, || sqlx::query(SELECT_FLOOR)).await?;
        let floor = found.first().map(read_floor).transpose().map_err(failed(operation))?;
        Ok(floor.unwrap_or_else(Floor::none))
    }

    async fn trim(&self, floor: Floor) -> Result<(), Error> {
        let operation = "move the log's floor";
        self.database
            .transaction(operation, |connection| Box::pin(trim(connection, floor)))
            .await?
            .map_err(|source| self.database.failed(operation, source))
    }

    async fn begin_behind(&self, log_id: LogId, floor: Floor) -> Result<Head, Error> {
        let operation = "begin the log behind its floor";
        self.database
            .transaction(operation, move |connection| {
                Box::pin(begin::behind(connection, log_id, floor))
            })
            .await?
            .map_err(|source| self.database.failed(operation, source))?;
        let head = self.head().await?;
        self.database.became(log_id);
        Ok(head)
    }

    async fn add_streams(&self, streams: Vec<StreamRow>) -> Result<(), Error> {
        let operation = "add streams";
        self.database
            .transaction(operation, move |connection| {
                Box::pin(async move { begin::add_streams(connection, &streams).await })
            })
            .await?
            .map_err(|source| self.database.failed(operation, source))
    }

    async fn begin_restore(&self) -> Result<(), Error> {
        let query = || sqlx::query(begin::BEGIN_RESTORE);
        self.database.fetch_writing("mark the database", query).await.map(drop)
    }

    async fn end_restore(&self) -> Result<(), Error> {
        let query = || sqlx::query(begin::END_RESTORE);
        self.database.fetch_writing("unmark the database", query).await.map(drop)
    }

    async fn checkpoints(&self, after: Position, limit: usize) -> Result<Vec<Checkpoint>, Error> {
        let operation = "read the checkpoints";
        let query = || {
            sqlx::query(
                "SELECT position, incarnation, link, signed_at, key, signature, previous \
                 FROM checkpoints WHERE position > $1 ORDER BY position, signed_at LIMIT $2",
            )
            .bind(rows::column(after.0))
            .bind(limited(limit))
        };
        read_each(operation, &self.database.fetch(operation, query).await?, checkpoint)
    }

    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let query = || {
            sqlx::query(
                "INSERT INTO checkpoints \
                 (position, incarnation, link, signed_at, key, signature, previous) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .bind(rows::column(checkpoint.position.0))
            .bind(checkpoint.incarnation.0.as_bytes().as_slice())
            .bind(checkpoint.link.as_slice())
            .bind(checkpoint.signed_at.0)
            .bind(checkpoint.key.0.as_slice())
            .bind(checkpoint.signature.as_slice())
            .bind(checkpoint.previous.map(Previous::to_bytes))
        };
        self.database.fetch_writing("keep a checkpoint", query).await.map(drop)
    }

    async fn streams(&self, after: &str, limit: usize) -> Result<Vec<StreamRow>, Error> {
        let operation = "read the streams";
        let query = || {
            sqlx::query(
                "SELECT stream, version, last_position FROM streams WHERE stream > $1 \
                 ORDER BY stream LIMIT $2",
            )
            .bind(after.to_owned())
            .bind(limited(limit))
        };
        read_each(operation, &self.database.fetch(operation, query).await?, |row| {
            Ok(StreamRow {
                stream: row.try_get(0)?,
                version: StreamVersion(rows::number(row.try_get(1)?)),
                last_position: Position(rows::number(row.try_get(2)?)),
            })
        })
    }

    async fn misfit(&self) -> Result<Option<Fault>, Error> {
        let operation = "look for rows that the log never wrote";
        let found = self.database.fetch(operation, || sqlx::query(SELECT_SURPLUS)).await?;
        let first: Option<i64> =
            found.first().map_or(Ok(None), |row| row.try_get(0)).map_err(failed(operation))?;
        let surplus = |position| fault(Position(rows::number(position)), FaultKind::Surplus);
        Ok(first.map(surplus))
    }
}
