//! What a node tells of itself to those who run it: traces (OpenTelemetry) and metrics
//! (Prometheus).
//!
//! - [`traces`]: spans from the edge to the commit, exported only when an endpoint is given
//! - [`metrics_route`]: `GET /metrics`
//! - [`append`], [`commands`], [`subscribers`]: what is measured, and where
//!
//! Never a payload, a name of a user or a secret in a span or a label: kinds, counts, positions.

pub mod append;
pub mod commands;
pub mod metrics_route;
mod scrape;
pub mod subscribers;
#[cfg(test)]
mod tests;
pub mod traces;

use domain::log::Position;

/// The target of all spans that are exported. They are of the lowest level, so that a log filter
/// leaves them out and a span that nobody takes costs one comparison.
pub const SPANS: &str = "diario::spans";

/// A position as an attribute of a span, which knows no unsigned numbers.
#[must_use]
pub fn position_attribute(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// A count as an attribute of a span.
#[must_use]
pub fn count_attribute(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as the value of a metric. Exact up to 2^53, which no log of ours reaches.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn gauge_value(count: u64) -> f64 {
    count as f64
}
