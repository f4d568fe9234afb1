//! Leases: which of several control-plane nodes runs the loops.
//!
//! One node holds the lease under an epoch; another takes it once it has expired, under a higher
//! epoch. Appends of loops' commands carry the epoch and are refused when it has passed, so a node
//! that lost its lease without noticing does no harm. Time is the store's, never a node's.

mod memory;
mod postgres;
mod sqlite;

use async_trait::async_trait;
use domain::{log::LeaseEpoch, units::Milliseconds};

pub use memory::MemoryLeases;
pub use postgres::PostgresLeases;
pub use sqlite::SqliteLeases;

/// How long a lease lasts unless it is renewed.
pub const LEASE_TIME_TO_LIVE: Milliseconds = Milliseconds::from_seconds(15);

/// Who holds the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseState {
    /// The one who asked, from now for a whole time to live.
    Held {
        /// Under which epoch; the same as long as the lease does not change hands.
        lease_epoch: LeaseEpoch,
    },
    /// Another node.
    HeldByOther {
        /// Its name.
        holder: String,
        /// Its epoch.
        lease_epoch: LeaseEpoch,
        /// How long it still lasts unless it is renewed.
        left: Milliseconds,
    },
}

/// Gives the lease to one holder at a time.
#[async_trait]
pub trait Leases: Send + Sync + std::fmt::Debug {
    /// Takes the lease if it is free or has expired, and renews it if `holder` has it. `holder` is
    /// another at each start of a process.
    async fn acquire(
        &self,
        holder: &str,
        time_to_live: Milliseconds,
    ) -> Result<LeaseState, crate::event_store::Error>;

    /// Gives the lease up, if `holder` has it, so that another need not wait for its end.
    async fn release(&self, holder: &str) -> Result<(), crate::event_store::Error>;
}

#[cfg(test)]
mod tests;
