//! The lease of a Postgres database, for which nodes compete: one statement takes or renews it, on
//! the database's clock.

use async_trait::async_trait;
use domain::{log::LeaseEpoch, units::Milliseconds};
use sqlx::{Row as _, postgres::PgRow};

use super::{LeaseState, Leases};
use crate::event_store::{Error, postgres::Database};

/// The lease in a [`Database`].
#[derive(Debug, Clone)]
pub struct PostgresLeases {
    database: Database,
}

impl PostgresLeases {
    /// The lease of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

/// Answers with the row as it is behind the statement, or with none when another took the lease
/// at the same moment for the first time. A lease that ran out but was taken by nobody is renewed
/// under its epoch.
const ACQUIRE: &str = "WITH taken AS ( \
     INSERT INTO lease AS held (id, holder, epoch, expires_at) \
     VALUES (1, $1, 1, clock_timestamp() + $2 * interval '1 millisecond') \
     ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at, \
     epoch = held.epoch + CASE WHEN held.holder = excluded.holder THEN 0 ELSE 1 END \
     WHERE held.holder = excluded.holder OR held.expires_at <= clock_timestamp() \
     RETURNING holder, epoch, expires_at) \
     SELECT holder, epoch, \
     greatest(0, extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint \
     FROM (SELECT *, 0 AS choice FROM taken \
     UNION ALL SELECT holder, epoch, expires_at, 1 FROM lease) AS either ORDER BY choice LIMIT 1";

const OPERATION: &str = "take the lease";

#[async_trait]
impl Leases for PostgresLeases {
    async fn acquire(&self, holder: &str, time_to_live: Milliseconds) -> Result<LeaseState, Error> {
        let milliseconds = i64::try_from(time_to_live.0).unwrap_or(i64::MAX);
        let query = || sqlx::query(ACQUIRE).bind(holder.to_owned()).bind(milliseconds);
        let mut found = self.database.fetch_writing(OPERATION, query).await?;
        if found.is_empty() {
            found = self.database.fetch_writing(OPERATION, query).await?;
        }
        let row = found.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(|row| state(row, holder))
            .map_err(|source| Error::Database { operation: OPERATION, source })
    }

    async fn release(&self, holder: &str) -> Result<(), Error> {
        let query = || {
            sqlx::query(
                "UPDATE lease SET holder = '', expires_at = clock_timestamp() WHERE holder = $1",
            )
            .bind(holder.to_owned())
        };
        self.database.fetch_writing("give the lease up", query).await.map(drop)
    }
}

fn state(row: &PgRow, asking: &str) -> Result<LeaseState, sqlx::Error> {
    let holder: String = row.try_get(0)?;
    let number = |column: i64| u64::try_from(column).unwrap_or(0);
    let lease_epoch = LeaseEpoch(number(row.try_get(1)?));
    if holder == asking {
        return Ok(LeaseState::Held { lease_epoch });
    }
    Ok(LeaseState::HeldByOther { holder, lease_epoch, left: Milliseconds(number(row.try_get(2)?)) })
}
