//! A schema version that never was, so that reading an old row can be tested over a store before
//! any event has a second version: version 0 of one event, in whole seconds.

use serde_json::{Value, json};

/// The event that has a version 0 here.
pub const MADE_UP_VERSION_0_OF: &str = "freshness_domain.upserted";

/// A payload of that version.
#[must_use]
pub fn version_0(fresh_until_seconds: i64) -> Vec<u8> {
    json!({ "until_seconds": fresh_until_seconds }).to_string().into_bytes()
}

/// Brings it into version 1.
pub(crate) fn upcast_version_0(old: Value) -> Value {
    let nanoseconds = old["until_seconds"].as_i64().map(|it| it.saturating_mul(1_000_000_000));
    json!({ "fresh_until": nanoseconds })
}
