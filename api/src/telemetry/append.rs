//! Measures appends: how long, how many events, and what came of them.

use domain::{event::Event, log::Recorded};
use projections::event_store::AppendError;
use tracing::{Instrument as _, field, trace_span};

use super::{SPANS, count_attribute, position_attribute};
use crate::clock::Stopwatch;

/// How long an append took, whatever came of it.
pub(super) const SECONDS: &str = "diario_append_duration_seconds";
/// How many events a batch held that was committed.
pub(super) const BATCH_EVENTS: &str = "diario_append_batch_events";
/// How many appends ended in which way.
pub(super) const TOTAL: &str = "diario_appends_total";

/// All ways in which an append ends, as the label `outcome`.
pub(super) const OUTCOMES: [&str; 6] =
    ["committed", "head_moved", "lease_passed", "unknown", "refused", "failed"];

/// Waits for an append of so many events, under a span and with its figures noted.
///
/// # Errors
/// The append's own.
pub async fn observed(
    events: usize,
    append: impl Future<Output = Result<Vec<Recorded<Event>>, AppendError>>,
) -> Result<Vec<Recorded<Event>>, AppendError> {
    let span = trace_span!(
        target: SPANS,
        "append",
        diario.events = count_attribute(events),
        diario.position = field::Empty,
        diario.outcome = field::Empty,
    );
    let started = Stopwatch::start();
    let result = append.instrument(span.clone()).await;
    metrics::histogram!(SECONDS).record(started.elapsed().as_secs_f64());
    let outcome = outcome(&result);
    metrics::counter!(TOTAL, "outcome" => outcome).increment(1);
    span.record("diario.outcome", outcome);
    if let Ok(recorded) = &result {
        metrics::histogram!(BATCH_EVENTS).record(batch_value(recorded.len()));
        if let Some(last) = recorded.last() {
            span.record("diario.position", position_attribute(last.position));
        }
    }
    result
}

fn batch_value(events: usize) -> f64 {
    super::gauge_value(u64::try_from(events).unwrap_or(u64::MAX))
}

fn outcome(result: &Result<Vec<Recorded<Event>>, AppendError>) -> &'static str {
    match result {
        Ok(_) => "committed",
        Err(AppendError::HeadMoved { .. }) => "head_moved",
        Err(AppendError::LeasePassed { .. }) => "lease_passed",
        Err(AppendError::OutcomeUnknown { .. }) => "unknown",
        Err(AppendError::Refused(_)) => "refused",
        Err(AppendError::Failed(_)) => "failed",
    }
}
