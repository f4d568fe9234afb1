//! The lease of a SQLite file, which one process at a time writes: always given, under an epoch
//! that is higher for each holder.
//!
//! Nothing is written to renew it: nobody else could take it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::{log::LeaseEpoch, units::Milliseconds};

use super::{LeaseState, Leases};
use crate::event_store::{Error, sqlite::Database};

/// The lease in a [`Database`], whose folder's lock keeps every other process out.
#[derive(Debug)]
pub struct SqliteLeases {
    database: Database,
    held: Mutex<Option<(String, LeaseEpoch)>>,
}

impl SqliteLeases {
    /// The lease of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Option<(String, LeaseEpoch)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, holder: String) -> Result<LeaseEpoch, Error> {
        let take = self.database.write("take the lease", move |connection| {
            Box::pin(async move {
                let epoch: i64 = sqlx::query_scalar(
                    "INSERT INTO lease (id, holder, epoch) VALUES (1, ?1, 1) \
                     ON CONFLICT (id) DO UPDATE SET holder = ?1, epoch = \
                     CASE WHEN holder = ?1 THEN epoch ELSE epoch + 1 END RETURNING epoch",
                )
                .bind(holder)
                .fetch_one(connection)
                .await?;
                u64::try_from(epoch).map_err(|failure| sqlx::Error::Decode(failure.into()))
            })
        });
        take.await.map(LeaseEpoch)
    }
}

#[async_trait]
impl Leases for SqliteLeases {
    async fn acquire(&self, holder: &str, _: Milliseconds) -> Result<LeaseState, Error> {
        if let Some((_, lease_epoch)) =
            self.held().as_ref().filter(|(held_by, _)| held_by == holder)
        {
            return Ok(LeaseState::Held { lease_epoch: *lease_epoch });
        }
        let lease_epoch = self.take(holder.to_owned()).await?;
        *self.held() = Some((holder.to_owned(), lease_epoch));
        Ok(LeaseState::Held { lease_epoch })
    }

    async fn release(&self, _: &str) -> Result<(), Error> {
        // Whoever comes next takes it at once.
        Ok(())
    }
}
