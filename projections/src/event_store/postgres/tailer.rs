//! Follows the log for one store: what other nodes wrote is read and published in order. Woken by
//! notifications, but never resting on them: a lost one costs a poll's interval, never an event.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgListener;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{super::Error, database::Database, read, shared::Shared};

const POLL: Duration = Duration::from_millis(250);
/// A listening connection that is silent for so long is made anew: one whose peer is gone without
/// a goodbye is silent for ever.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_secs(1);
const PAGE_EVENTS: usize = 1000;
const CHANNEL: &str = "diario_log";

/// Publishes until it is stopped.
pub(super) async fn follow(database: Database, shared: Arc<Shared>, stop: CancellationToken) {
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = poll.tick() => {}
            () = shared.wake.notified() => {
                if shared.feed.published() >= shared.lineage.known().position {
                    continue;
                }
            }
        }
        match catch_up(&database, &shared).await {
            Ok(()) => is_failing = false,
            Err(Error::Closed) => return,
            Err(Error::Replaced { .. }) => {
                // Whoever waits for the next event of the log that was is to hear of it.
                shared.feed.look_again();
                return;
            }
            Err(failure) if !is_failing => {
                tracing::warn!(
                    error = &failure as &dyn std::error::Error,
                    "The log cannot be followed; it is tried again."
                );
                is_failing = true;
            }
            Err(_) => {}
        }
    }
}

async fn catch_up(database: &Database, shared: &Shared) -> Result<(), Error> {
    loop {
        let page = read::all(database, shared.feed.published(), PAGE_EVENTS).await?;
        if page.is_empty() {
            return Ok(());
        }
        shared.saw_events(&page);
        shared.feed.publish(&page);
        if page.len() < PAGE_EVENTS {
            return Ok(());
        }
    }
}

/// Hears notifications until it is stopped.
pub(super) async fn listen(database: Database, shared: Arc<Shared>, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        loop {
            if let Err(failure) = listen_once(&database, &shared).await {
                let error = database.failed("listen to other nodes", failure);
                if matches!(error, Error::Closed) {
                    return;
                }
                tracing::debug!(%error, "Not listening; the log is polled.");
                sleep(RECONNECT).await;
            }
        }
    })
    .await;
}

async fn listen_once(database: &Database, shared: &Shared) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(database.readers()).await?;
    listener.listen(CHANNEL).await?;
    // Whatever was written while nobody listened.
    shared.wake.notify_one();
    loop {
        match timeout(SILENCE_MAX, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => shared.heard(notification.payload()),
            // The connection was lost and made again; what came between was not heard.
            Ok(Ok(None)) => shared.wake.notify_one(),
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Ok(()),
        }
    }
}
