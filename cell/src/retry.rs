//! How long to wait before trying again: longer each time, up to a limit.
//!
//! Holds no clock: the caller sleeps.

use std::time::Duration;

/// The pauses between tries.
#[derive(Debug, Clone)]
pub(crate) struct BackOff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl BackOff {
    /// Pauses of `first`, then twice as long each time, at most `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// What a request to the control plane waits: 100 ms, then up to 5 s.
    pub(crate) fn for_requests() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// How long to wait now.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.longest.min(pause.saturating_mul(2));
        pause
    }

    /// It went well: the next pause is a first one.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}
