//! The only reader of wall time and of chance in the control plane.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use domain::{
    id::{CommandId, InstanceGuid},
    units::{Milliseconds, Timestamp},
};
use projections::event_store::postgres::WallClock;

/// A node's clock. It never goes back, whatever the machine's does.
#[derive(Debug)]
pub struct Clock {
    last: AtomicI64,
    started: Stopwatch,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: AtomicI64::default(), started: Stopwatch::start() }
    }
}

impl Clock {
    /// The span since this clock was made, whatever happens to wall time. A machine that sleeps
    /// does not count.
    #[must_use]
    pub fn monotonic(&self) -> Milliseconds {
        Milliseconds(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Lets a span pass in a test; from then on this clock stands until wall time has caught up.
    #[cfg(test)]
    pub(crate) fn pass(&self, span: Milliseconds) {
        let later = self.now().plus(span);
        self.last.fetch_max(later.0, Ordering::Relaxed);
    }

    /// Now, not before any earlier answer.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads wall time")]
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
        Timestamp(self.last.fetch_max(now, Ordering::Relaxed).max(now))
    }
}

/// Tells wall time to those who may not read it themselves.
#[must_use]
pub fn wall_clock() -> WallClock {
    let clock = Clock::default();
    Arc::new(move || clock.now())
}

/// A new id that no one else has.
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws ids")]
#[must_use]
pub fn new_uuid() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}

/// A new command id.
#[must_use]
pub fn new_command_id() -> CommandId {
    CommandId::from_uuid(new_uuid())
}

/// A new container's guid.
#[must_use]
pub fn new_instance_guid() -> InstanceGuid {
    InstanceGuid::new(&new_uuid().to_string())
        .unwrap_or_else(|_| unreachable!("a uuid is a well-formed guid"))
}

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts to measure.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads clocks")]
    #[must_use]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// How long ago it was started.
    #[must_use]
    pub fn elapsed(self) -> std::time::Duration {
        self.0.elapsed()
    }
}
