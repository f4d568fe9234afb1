//! Shares among the nodes of one log which cells were heard, and how far their routers have
//! followed: each tells in batches what it knows, and learns what any of them does.
//!
//! Decides nothing: who is lost is for the presence watch, and what may be stopped for the route
//! withdrawal; both look only at what was learned.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::id::CellId;
use projections::{
    event_store::Error,
    presence::{Presence, PresenceTable},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{clock::Clock, control_plane::ControlPlane};

/// How often nodes tell each other what they know.
const PERIOD: Duration = Duration::from_secs(1);
/// How often they tell each other how far their routers are while an instance waits for that.
const WAITED_FOR_PERIOD: Duration = Duration::from_millis(50);
/// How long the table may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Tells and learns until the node goes down.
pub async fn run(
    table: Arc<dyn PresenceTable>,
    control_plane: ControlPlane,
    shutdown: CancellationToken,
) {
    let mut is_failing = false;
    loop {
        let next = Instant::now() + PERIOD;
        let shared = timeout(ANSWER_MAX, share(&table, &control_plane)).await;
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
            () = shutdown.cancelled() => break,
            () = until(next, &table, &control_plane) => {}
        }
    }
    let ended = timeout(ANSWER_MAX, table.router_ends(&control_plane.node)).await;
    if !matches!(ended, Ok(Ok(()))) {
        debug!("The other nodes are not told that this one's router ends.");
    }
}

async fn share(table: &Arc<dyn PresenceTable>, control_plane: &ControlPlane) -> Result<(), Error> {
    share_presence(table, &control_plane.presence, &control_plane.clock).await?;
    share_routers(table, control_plane).await
}

/// Until the next turn, and meanwhile how far routers are, should something wait for them.
async fn until(next: Instant, table: &Arc<dyn PresenceTable>, control_plane: &ControlPlane) {
    let mut moved = control_plane.now.moved();
    while Instant::now() < next {
        moved.borrow_and_update();
        let waits = table.is_shared()
            && control_plane.now.read(|world| world.discrepancies().withdrawing().next().is_some());
        let pause = if waits { WAITED_FOR_PERIOD } else { PERIOD };
        let pause = pause.min(next.duration_since(Instant::now()));
        if waits
            && let Ok(Err(error)) = timeout(ANSWER_MAX, share_routers(table, control_plane)).await
        {
            debug!(%error, "The nodes cannot tell each other how far their routers are.");
        }
        tokio::select! {
            () = sleep(pause) => {}
            changed = moved.changed(), if !waits && table.is_shared() => {
                if changed.is_err() {
                    sleep(pause).await;
                }
            }
        }
    }
}

async fn share_routers(
    table: &Arc<dyn PresenceTable>,
    control_plane: &ControlPlane,
) -> Result<(), Error> {
    if !table.is_shared() {
        return Ok(());
    }
    let routers = &control_plane.routers;
    let own = routers.known().own();
    if let Some(own) = own {
        table.followed(&control_plane.node, own).await?;
    }
    // Before the question: what is learned must not look younger than it is.
    let asked = control_plane.clock.monotonic();
    let all = table.routers().await?;
    routers.known().learn(all, asked);
    routers.ring();
    Ok(())
}

async fn share_presence(
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
