//! Shares which cells were heard among the nodes of one log: each tells in batches whom it heard,
//! and learns whom any of them heard.
//!
//! Decides nothing: who is lost is for the presence watch, which looks only at what was learned.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::id::CellId;
use projections::{
    event_store::Error,
    presence::{Presence, PresenceTable},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock::Clock;

/// How often nodes tell each other whom they heard.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the table may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Tells and learns until the node goes down.
pub async fn run(
    table: Arc<dyn PresenceTable>,
    presence: Arc<Mutex<Presence>>,
    clock: Arc<Clock>,
    shutdown: CancellationToken,
) {
    let mut is_failing = false;
    loop {
        let shared = tokio::time::timeout(ANSWER_MAX, share(&table, &presence, &clock)).await;
        let failure = match shared {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(reason) = failure.as_ref().filter(|_| !is_failing) {
            warn!(reason, "The nodes cannot tell each other whom they heard; no cell is lost now.");
        }
        is_failing = failure.is_some();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn share(
    table: &Arc<dyn PresenceTable>,
    presence: &Mutex<Presence>,
    clock: &Clock,
) -> Result<(), Error> {
    let untold = lock(presence).take_untold();
    if !untold.is_empty() {
        let cells: Vec<CellId> = untold.iter().cloned().collect();
        // Told again if this is cut off: cells are heard every few seconds anyway.
        if let Err(failure) = table.heard(&cells).await {
            lock(presence).keep_untold(untold);
            return Err(failure);
        }
    }
    // Before the question: what is learned must not look younger than it is.
    let asked = clock.monotonic();
    let ages = table.ages().await?;
    lock(presence).learn(&ages, asked, clock.now());
    Ok(())
}

fn lock(presence: &Mutex<Presence>) -> std::sync::MutexGuard<'_, Presence> {
    presence.lock().unwrap_or_else(PoisonError::into_inner)
}
