//! How the writer paces itself: how long it waits for callers that are about to return, and whether
//! it writes on the head it knows or waits for its turn.
//!
//! Only ever costs time; what is written does not depend on it.

use std::time::Duration;

use crate::clock::Stopwatch;

/// So many turns in a row that met no other writer mean that this one is alone again.
const QUIET_TURNS: u32 = 16;

/// A wait that is at least this long is slept; tokio's timers are no finer than a millisecond.
pub(super) const SLEEP_MIN: Duration = Duration::from_millis(2);

/// How many requests are worth waiting for, and how long.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    expected: usize,
    last_commit: Duration,
}

impl Gathering {
    /// Notes that a commit took so long, answered so many requests, and so many waited meanwhile:
    /// clients that send their next command after an answer make the next batch that large.
    pub(super) fn note(&mut self, commit: Duration, answered: usize, waiting: usize) {
        self.last_commit = commit;
        self.expected = answered.saturating_add(waiting);
    }

    /// How many requests are expected.
    pub(super) fn expected(&self) -> usize {
        self.expected
    }

    /// How long is left of the wait that began then: a quarter of the last commit's time in all.
    pub(super) fn left(&self, began: Stopwatch) -> Duration {
        (self.last_commit / 4).saturating_sub(began.elapsed())
    }
}

/// Whether other nodes write at the same time.
#[derive(Debug, Default)]
pub(super) struct Contention {
    quiet_turns: Option<u32>,
}

impl Contention {
    /// Whether to wait for a turn before deciding.
    pub(super) fn takes_turns(&self) -> bool {
        self.quiet_turns.is_some()
    }

    /// Another node wrote first.
    pub(super) fn note_moved(&mut self) {
        self.quiet_turns = Some(0);
    }

    /// A turn began, and so many events of other nodes had come since the last batch.
    pub(super) fn note_turn(&mut self, tail: usize) {
        self.quiet_turns = match self.quiet_turns {
            Some(_) if tail > 0 => Some(0),
            Some(turns) if turns + 1 < QUIET_TURNS => Some(turns + 1),
            Some(_) | None => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_while_others_write_and_a_while_longer() {
        let mut contention = Contention::default();
        assert!(!contention.takes_turns());
        contention.note_moved();
        for _ in 0..3 {
            contention.note_turn(5);
        }
        for _ in 1..QUIET_TURNS {
            contention.note_turn(0);
            assert!(contention.takes_turns());
        }
        contention.note_turn(0);
        assert!(!contention.takes_turns());
    }

    #[test]
    fn a_wait_is_never_longer_than_a_quarter_of_the_last_commit() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.left(Stopwatch::start()), Duration::ZERO);
        gathering.note(Duration::from_secs(400), 3, 4);
        let left = gathering.left(Stopwatch::start());
        assert!(left > Duration::from_secs(99) && left <= Duration::from_secs(100));
        assert_eq!(gathering.expected(), 7);
    }
}
