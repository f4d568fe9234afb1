//! The lease of a SQLite file, which one process at a time writes: always given, under an epoch
//! that is higher for each holder.

use async_trait::async_trait;
use domain::{log::LeaseEpoch, units::Milliseconds};

use super::{LeaseState, Leases};
use crate::event_store::{Error, sqlite::Database};

/// The lease in a [`Database`], whose folder's lock keeps every other process out.
#[derive(Debug, Clone)]
pub struct SqliteLeases {
    database: Database,
}

impl SqliteLeases {
    /// The lease of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Leases for SqliteLeases {
    async fn acquire(&self, holder: &str, _: Milliseconds) -> Result<LeaseState, Error> {
        let holder = holder.to_owned();
        self.database
            .write("take the lease", move |connection| {
                Box::pin(async move {
                    let epoch: i64 = sqlx::query_scalar(
                        "INSERT INTO lease (id, holder, epoch) VALUES (1, ?1, 1) \
                         ON CONFLICT (id) DO UPDATE SET holder = ?1, epoch = \
                         CASE WHEN holder = ?1 THEN epoch ELSE epoch + 1 END RETURNING epoch",
                    )
                    .bind(holder)
                    .fetch_one(connection)
                    .await?;
                    let epoch = u64::try_from(epoch)
                        .map_err(|failure| sqlx::Error::Decode(failure.into()))?;
                    Ok(LeaseState::Held { lease_epoch: LeaseEpoch(epoch) })
                })
            })
            .await
    }

    async fn release(&self, _: &str) -> Result<(), Error> {
        // Whoever comes next takes it at once.
        Ok(())
    }
}
