//! The figures that are looked up when they are asked for: log, views, lease, snapshots.
//!
//! A figure that cannot be had is left out of the answer as it is then, and told in the log.

use domain::log::Position;
use metrics::{Unit, gauge};
use projections::{event_store, world::World};
use tracing::warn;

use super::gauge_value;
use crate::control_plane::ControlPlane;

const HEAD: &str = "diario_log_head_position";
const FLOOR: &str = "diario_log_floor_position";
const PRUNED: &str = "diario_log_pruned_position";
const EVENTS: &str = "diario_log_events";
const BYTES: &str = "diario_log_bytes";
const LAG_EVENTS: &str = "diario_view_lag_events";
const LAG_SECONDS: &str = "diario_view_lag_seconds";
const LEASE_HELD: &str = "diario_lease_held";
const LEASE_EPOCH: &str = "diario_lease_epoch";
const SNAPSHOT_EVENTS: &str = "diario_snapshot_age_events";
const SNAPSHOT_SECONDS: &str = "diario_snapshot_age_seconds";

/// The view of the present, which all others of a node are parts of.
const WORLD: &str = "world";

pub(super) fn describe() {
    metrics::describe_gauge!(HEAD, "The position of the log's last event.");
    metrics::describe_gauge!(
        FLOOR,
        "The position of the last event that was moved to the archive; the database begins behind it."
    );
    metrics::describe_gauge!(
        PRUNED,
        "The position of the last event that was dropped for ever; the log begins behind it."
    );
    metrics::describe_gauge!(EVENTS, "How many events the log holds, archived ones too.");
    metrics::describe_gauge!(
        BYTES,
        Unit::Bytes,
        "How much room the log takes in its store, with indexes and what lies beside it."
    );
    metrics::describe_gauge!(LAG_EVENTS, "How many events a view has not folded yet.");
    metrics::describe_gauge!(
        LAG_SECONDS,
        Unit::Seconds,
        "The age of the oldest event that a view has not folded yet."
    );
    metrics::describe_gauge!(LEASE_HELD, "1 while this node's loops are active, else 0.");
    metrics::describe_gauge!(LEASE_EPOCH, "The epoch of the lease that this node knows.");
    metrics::describe_gauge!(SNAPSHOT_EVENTS, "Events behind the newest snapshot.");
    metrics::describe_gauge!(
        SNAPSHOT_SECONDS,
        Unit::Seconds,
        "The age of the last event in the newest snapshot."
    );
}

/// Looks everything up.
pub(super) async fn note(control_plane: &ControlPlane) {
    note_lease(control_plane);
    if let Err(failure) = note_log(control_plane).await {
        warn!(error = %failure, "The figures of the log could not be looked up.");
    }
}

fn note_lease(control_plane: &ControlPlane) {
    let epoch = control_plane.bus.lease().epoch();
    gauge!(LEASE_HELD).set(if epoch.is_some() { 1.0 } else { 0.0 });
    if let Some(epoch) = epoch {
        gauge!(LEASE_EPOCH).set(gauge_value(epoch.0));
    }
}

async fn note_log(control_plane: &ControlPlane) -> Result<(), event_store::Error> {
    // The view first: what is committed meanwhile must not make it look ahead of the log.
    let seen = control_plane.now.read(World::position);
    let head = control_plane.store.head().await?.position;
    gauge!(HEAD).set(gauge_value(head.0));
    let pruned = control_plane.store.pruned();
    gauge!(FLOOR).set(gauge_value(control_plane.store.archived().await?.0));
    gauge!(PRUNED).set(gauge_value(pruned.0));
    gauge!(EVENTS).set(gauge_value(head.0.saturating_sub(pruned.0)));
    if let Some(bytes) = control_plane.store.stored_bytes().await? {
        gauge!(BYTES).set(gauge_value(bytes));
    }
    gauge!(LAG_EVENTS, "view" => WORLD).set(gauge_value(head.0.saturating_sub(seen.0)));
    let lag_seconds = if seen < head { age_of_next(control_plane, seen).await? } else { 0.0 };
    gauge!(LAG_SECONDS, "view" => WORLD).set(lag_seconds);
    note_snapshot(control_plane, head).await;
    Ok(())
}

async fn note_snapshot(control_plane: &ControlPlane, head: Position) {
    let newest = match control_plane.history.newest_snapshot(head).await {
        Ok(newest) => newest,
        Err(failure) => {
            warn!(error = %failure, "The newest snapshot could not be looked up.");
            return;
        }
    };
    let position = newest.map_or(Position(0), |stamp| stamp.position);
    gauge!(SNAPSHOT_EVENTS).set(gauge_value(head.0.saturating_sub(position.0)));
    if let Some(stamp) = newest {
        gauge!(SNAPSHOT_SECONDS).set(seconds_since(control_plane, stamp.recorded_at));
    }
}

async fn age_of_next(
    control_plane: &ControlPlane,
    seen: Position,
) -> Result<f64, event_store::Error> {
    let next = control_plane.store.read_all(seen, 1).await?;
    Ok(next.first().map_or(0.0, |event| seconds_since(control_plane, event.recorded_at)))
}

fn seconds_since(control_plane: &ControlPlane, time: domain::units::Timestamp) -> f64 {
    let nanoseconds = control_plane.clock.now().0.saturating_sub(time.0).max(0);
    std::time::Duration::from_nanos(nanoseconds.unsigned_abs()).as_secs_f64()
}
