//! What a load balancer asks: `/healthz`, whether the process is alive, and `/readyz`, whether it
//! should be asked anything.
//!
//! Names no secret and asks for no token.

use std::time::Duration;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use projections::world::World;
use serde::Serialize;
use tokio::time::timeout;

use crate::control_plane::ControlPlane;

/// A view that is further behind the log than this many events is of yesterday.
const LAG_EVENTS_MAX: u64 = 10_000;
/// How long the log's end may take to be read.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Whether a node is ready, and why not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    ready: bool,
    node: String,
    /// Whether it is this node whose loops act.
    leads: bool,
    /// What its view shows.
    position: String,
    /// Where the log ends; absent when that cannot be read.
    head: Option<String>,
    /// How many events the view is behind.
    lag_events: Option<u64>,
    /// Why it is not ready.
    reason: Option<String>,
}

pub(crate) fn router(control_plane: ControlPlane) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(control_plane)
}

async fn ready(State(control_plane): State<ControlPlane>) -> (StatusCode, Json<Readiness>) {
    let readiness = look(&control_plane).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn look(control_plane: &ControlPlane) -> Readiness {
    // The view first: what is committed meanwhile must not make it look ahead of the log.
    let seen = control_plane.now.read(World::position);
    let head = match timeout(ANSWER_MAX, control_plane.store.ready()).await {
        Ok(Ok(head)) => Ok(head.position),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("the log did not answer in {} s", ANSWER_MAX.as_secs())),
    };
    let lag_events = head.as_ref().ok().map(|head| head.0.saturating_sub(seen.0));
    let reason = match (&head, lag_events) {
        (Err(reason), _) => Some(reason.clone()),
        (Ok(_), Some(lag)) if lag > LAG_EVENTS_MAX => Some(format!("{lag} events behind the log")),
        (Ok(_), _) => None,
    };
    Readiness {
        ready: reason.is_none(),
        node: control_plane.node.as_ref().to_owned(),
        leads: control_plane.bus.lease().epoch().is_some(),
        position: seen.to_string(),
        head: head.ok().map(|head| head.to_string()),
        lag_events,
        reason,
    }
}
