//! What follows a crash: Diego's restart rule, as one pure function of the crash count.
//!
//! Crashes 1 and 2 restart at once; from the third on a slot waits 30 s, doubled each time up to
//! 16 minutes; after 200 crashes it is given up (bbs, `restart_calculator.go`).

use serde::{Deserialize, Serialize};

use crate::units::{Milliseconds, Timestamp};

/// Below this crash count a restart is immediate.
pub const IMMEDIATE_RESTARTS: u32 = 3;
/// The first pause.
pub const BACK_OFF_FIRST: Milliseconds = Milliseconds::from_seconds(30);
/// The longest pause.
pub const BACK_OFF_MAX: Milliseconds = Milliseconds::from_seconds(16 * 60);
/// From this crash count on, nothing restarts it but a user.
pub const RESTARTS_MAX: u32 = 200;
/// An instance that ran longer than this crashes for the first time again.
pub const CRASH_COUNT_RESET_AFTER: Milliseconds = Milliseconds::from_seconds(5 * 60);

/// What follows a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// The slot is unclaimed again and may be placed at once.
    Immediately,
    /// The slot stays crashed until this instant.
    NotBefore(Timestamp),
    /// The slot stays crashed until a user acts.
    Never,
}

/// What follows the crash that makes `crash_count`, at `now`.
#[must_use]
pub fn restart(crash_count: u32, now: Timestamp) -> Restart {
    if crash_count < IMMEDIATE_RESTARTS {
        return Restart::Immediately;
    }
    if crash_count >= RESTARTS_MAX {
        return Restart::Never;
    }
    let doublings = (crash_count - IMMEDIATE_RESTARTS).min(10);
    let pause = Milliseconds(BACK_OFF_FIRST.0 << doublings).min(BACK_OFF_MAX);
    Restart::NotBefore(now.plus(pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_diegos() {
        let at = |crash_count| restart(crash_count, Timestamp(0));
        let after =
            |seconds| Restart::NotBefore(Timestamp(0).plus(Milliseconds::from_seconds(seconds)));

        assert_eq!([at(1), at(2)], [Restart::Immediately; 2]);
        assert_eq!(
            [at(3), at(4), at(5), at(6), at(7), at(8), at(199)],
            [30, 60, 120, 240, 480, 960, 960].map(after)
        );
        assert_eq!(at(200), Restart::Never);
    }
}
