//! The only place in this crate that reads a clock or draws a random id.
//!
//! Everything else takes the time as an argument or asks here, so that one search finds every
//! reading. Never compare wall times of two machines: use the positions of the log for that.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domain::units::Timestamp;
use uuid::Uuid;

/// The wall time in nanoseconds since the Unix epoch; 0 if the clock is set before it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the module that may read the clock")]
pub fn wall_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// The monotonic time: for deadlines and durations on this machine.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the module that may read the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The wall time as the log counts it.
#[must_use]
pub fn now() -> Timestamp {
    timestamp(wall_ns())
}

/// A wall time of [`wall_ns`] as the log counts it.
#[must_use]
pub fn timestamp(wall_ns: u64) -> Timestamp {
    Timestamp(i64::try_from(wall_ns).unwrap_or(i64::MAX))
}

/// A new random id.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the module that may draw ids")]
pub fn random_uuid() -> Uuid {
    Uuid::new_v4()
}
