//! Which kinds of events a log holds, by jumps along the index on the type.

use domain::log::Position;
use sqlx::{Row as _, SqlitePool};

use super::super::{Error, NewestOfType};

/// A damaged log may hold any number of names; ours are a few dozen.
const SELECT_NEWEST_OF_EACH_TYPE: &str = "WITH RECURSIVE types (type) AS ( \
         SELECT min(type) FROM events \
         UNION ALL \
         SELECT (SELECT min(type) FROM events WHERE type > types.type) FROM types \
         WHERE types.type IS NOT NULL \
         LIMIT 10000 \
     ) \
     SELECT events.type, events.schema_version, events.position FROM types JOIN events \
     ON events.position = (SELECT max(position) FROM events WHERE type = types.type) \
     ORDER BY events.position";

pub(super) async fn newest_of_each(readers: &SqlitePool) -> Result<Vec<NewestOfType>, Error> {
    let found = sqlx::query(SELECT_NEWEST_OF_EACH_TYPE).fetch_all(readers).await;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        let schema_version: i64 = row.try_get(1)?;
        let position: i64 = row.try_get(2)?;
        Ok(NewestOfType {
            type_name: row.try_get(0)?,
            schema_version: u16::try_from(schema_version).unwrap_or(u16::MAX),
            position: Position(u64::try_from(position).unwrap_or(0)),
        })
    };
    found.and_then(|found| found.iter().map(read).collect()).map_err(|source| {
        if matches!(source, sqlx::Error::PoolClosed) {
            return Error::Closed;
        }
        Error::Database { operation: "list the types of events", source }
    })
}
