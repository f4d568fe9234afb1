//! `GET /metrics`: the node's figures in Prometheus' text format, for whoever may read.
//!
//! The recorder is the process's: several nodes in one process, as in tests, share its counters.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::{append, commands, scrape, subscribers};
use crate::{
    control_plane::ControlPlane,
    http::{Access, Denied},
};

/// The edge's name where an actor is asked for.
const VIA: &str = "metrics";

/// How often samples are folded into their histograms when nobody asks for them.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// The bounds of what takes time, in seconds: from a fast disk's commit to the append's deadline.
const SECONDS_BOUNDS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The bounds of a batch's size, in events, up to the most that one may hold.
const EVENTS_BOUNDS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// The route, open to whoever may read the API.
pub fn router(control_plane: ControlPlane, access: Access) -> Router {
    let access = Arc::new(access);
    let handle = recorder();
    Router::new().route(
        "/metrics",
        get(move |headers: HeaderMap| {
            let (access, control_plane) = (Arc::clone(&access), control_plane.clone());
            async move {
                match access.judge(&headers, VIA) {
                    Ok(Some(_)) => answer(&control_plane, handle).await,
                    Ok(None) => refuse(&Denied::Unauthenticated),
                    Err(denied) => refuse(&denied),
                }
            }
        }),
    )
}

/// Folds samples that nobody asks for, so that they take no room. Never ends.
pub async fn keep_up() {
    let handle = recorder();
    let mut period = tokio::time::interval(UPKEEP_PERIOD);
    loop {
        period.tick().await;
        if let Some(handle) = handle {
            handle.run_upkeep();
        }
    }
}

async fn answer(control_plane: &ControlPlane, handle: Option<&PrometheusHandle>) -> Response {
    let Some(handle) = handle else {
        let problem = "the metrics of this process are recorded elsewhere\n";
        return (StatusCode::SERVICE_UNAVAILABLE, problem).into_response();
    };
    scrape::note(control_plane).await;
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, handle.render()).into_response()
}

fn refuse(denied: &Denied) -> Response {
    let status = match denied {
        Denied::Unauthenticated => StatusCode::UNAUTHORIZED,
        Denied::Host | Denied::Origin | Denied::Malformed(_) => StatusCode::FORBIDDEN,
    };
    let mut response = (status, format!("{denied}\n")).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let bearer = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

/// The process's recorder, made when it is first asked for; `None` when another one was installed
/// before.
fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER.get_or_init(install).as_ref()
}

fn install() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(append::SECONDS.to_owned()), &SECONDS_BOUNDS)
        .and_then(|builder| {
            let name = Matcher::Full(append::BATCH_EVENTS.to_owned());
            builder.set_buckets_for_metric(name, &EVENTS_BOUNDS)
        });
    let recorder = match builder {
        Ok(builder) => builder.build_recorder(),
        Err(failure) => {
            tracing::error!(%failure, "The metrics cannot be recorded.");
            return None;
        }
    };
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::error!("Another recorder of metrics is there already.");
        return None;
    }
    describe();
    Some(handle)
}

fn describe() {
    metrics::describe_histogram!(
        append::SECONDS,
        Unit::Seconds,
        "How long an append to the log took, whatever came of it."
    );
    metrics::describe_histogram!(append::BATCH_EVENTS, "How many events a committed batch held.");
    metrics::describe_counter!(
        append::TOTAL,
        "Appends by outcome: head_moved is another node's write, unknown a lost answer that was \
         looked up."
    );
    for outcome in append::OUTCOMES {
        metrics::counter!(append::TOTAL, "outcome" => outcome).increment(0);
    }
    metrics::describe_counter!(
        commands::TOTAL,
        "Commands by kind and outcome: accepted, unchanged, or the code of the refusal."
    );
    metrics::describe_gauge!(subscribers::OPEN, "Streams that clients follow, by kind.");
    for stream in ["log", "actual_lrps", "logs"] {
        metrics::gauge!(subscribers::OPEN, "stream" => stream).increment(0.0);
    }
    scrape::describe();
}
