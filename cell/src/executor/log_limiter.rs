//! How much of what a container writes is handed on: bytes and lines a second, as Diego limits
//! them.
//!
//! Pure: time is that of the lines themselves, so what was written while nobody read is judged as
//! if it had been read at once. The cell's own lines are never limited.

use domain::units::{Milliseconds, Timestamp};

/// How long all is dropped after the limit was exceeded (Diego: one report a second at most).
const SILENCE: Milliseconds = Milliseconds::from_seconds(1);
const SECOND_NS: u128 = 1_000_000_000;

/// The most that is handed on; absent means all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LogLimits {
    /// Bytes a second, as the app asks for.
    pub(super) bytes_per_second: Option<u64>,
    /// Lines a second, as the platform's operator sets for all.
    pub(super) lines_per_second: Option<u64>,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is handed on, behind a word on those that were dropped before it.
    Pass(Option<Dropped>),
    /// It is dropped.
    Drop,
    /// It is dropped, and this is said: the limit is exceeded.
    Exceeded(String),
    /// It is dropped, and nothing is kept of it: none are wanted.
    Unwanted,
}

/// What was dropped in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dropped {
    lines: u64,
    bytes: u64,
}

impl Dropped {
    /// In words.
    pub(super) fn text(self) -> String {
        let Self { lines, bytes } = self;
        format!("{lines} log lines ({bytes} bytes) over the log rate limit were dropped")
    }

    fn note(&mut self, bytes: u64) {
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn take(&mut self) -> Option<Self> {
        (self.lines > 0).then(|| std::mem::take(self))
    }
}

/// Judges the lines of one container.
#[derive(Debug, Default)]
pub(super) struct LogLimiter {
    bytes: Option<Bucket>,
    lines: Option<Bucket>,
    is_unwanted: bool,
    silent_until: Timestamp,
    dropped: Dropped,
}

impl LogLimiter {
    pub(super) fn new(limits: LogLimits) -> Self {
        let LogLimits { bytes_per_second, lines_per_second } = limits;
        Self {
            is_unwanted: bytes_per_second == Some(0) || lines_per_second == Some(0),
            bytes: bytes_per_second.map(Bucket::full),
            lines: lines_per_second.map(Bucket::full),
            ..Self::default()
        }
    }

    /// Judges a line that was written then.
    pub(super) fn judge(&mut self, at: Timestamp, bytes: usize) -> Verdict {
        if self.is_unwanted {
            return Verdict::Unwanted;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if at < self.silent_until {
            self.dropped.note(bytes);
            return Verdict::Drop;
        }
        if let Some(limit) = self.lines.as_mut().and_then(|lines| lines.take(at, 1)) {
            let text = format!(
                "app instance exceeded log rate limit ({limit} log-lines/sec) set by platform operator"
            );
            return self.exceeded(at, bytes, text);
        }
        if let Some(limit) = self.bytes.as_mut().and_then(|all| all.take(at, bytes)) {
            let text = format!("app instance exceeded log rate limit ({limit} bytes/sec)");
            return self.exceeded(at, bytes, text);
        }
        Verdict::Pass(self.dropped.take())
    }

    /// What was dropped and not told yet: nothing comes any more.
    pub(super) fn finish(&mut self) -> Option<Dropped> {
        self.dropped.take()
    }

    fn exceeded(&mut self, at: Timestamp, bytes: u64, text: String) -> Verdict {
        self.silent_until = at.plus(SILENCE);
        self.dropped.note(bytes);
        Verdict::Exceeded(text)
    }
}

/// What may still be taken: a second's worth at most, filled up by the passing of time.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    left: u64,
    filled_at: Timestamp,
}

impl Bucket {
    fn full(per_second: u64) -> Self {
        Self { per_second, left: per_second, filled_at: Timestamp::default() }
    }

    /// Takes some out; gives the limit where there is not enough, and takes nothing.
    fn take(&mut self, at: Timestamp, wanted: u64) -> Option<u64> {
        let passed = u128::from(u64::try_from(at.0.saturating_sub(self.filled_at.0)).unwrap_or(0));
        let more = passed.saturating_mul(u128::from(self.per_second)) / SECOND_NS;
        if more > 0 {
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(more).min(self.per_second);
            self.filled_at = at;
        }
        match self.left.checked_sub(wanted) {
            Some(left) => {
                self.left = left;
                None
            }
            None => Some(self.per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp(1_000_000_000_000).plus(Milliseconds(milliseconds))
    }

    fn limiter(bytes: Option<u64>, lines: Option<u64>) -> LogLimiter {
        LogLimiter::new(LogLimits { bytes_per_second: bytes, lines_per_second: lines })
    }

    #[test]
    fn what_exceeds_the_limit_is_told_once_a_second_and_counted() {
        let mut limiter = limiter(Some(100), None);

        assert_eq!(limiter.judge(at(0), 60), Verdict::Pass(None));
        let told = "app instance exceeded log rate limit (100 bytes/sec)".to_owned();
        assert_eq!(limiter.judge(at(1), 60), Verdict::Exceeded(told));
        assert_eq!(limiter.judge(at(999), 1), Verdict::Drop);
        let dropped = Dropped { lines: 2, bytes: 61 };
        assert_eq!(limiter.judge(at(1001), 100), Verdict::Pass(Some(dropped)));
        assert_eq!(dropped.text(), "2 log lines (61 bytes) over the log rate limit were dropped");
        assert_eq!(limiter.finish(), None);
    }

    #[test]
    fn lines_are_limited_for_the_whole_platform_and_a_second_fills_up_again() {
        let mut limiter = limiter(None, Some(2));

        assert_eq!(limiter.judge(at(0), 9), Verdict::Pass(None));
        assert_eq!(limiter.judge(at(0), 9), Verdict::Pass(None));
        let Verdict::Exceeded(text) = limiter.judge(at(10), 9) else { panic!() };
        assert!(text.contains("(2 log-lines/sec) set by platform operator"), "{text}");
        assert_eq!(limiter.finish(), Some(Dropped { lines: 1, bytes: 9 }));
        assert_eq!(limiter.judge(at(1010), 9), Verdict::Pass(None));
        assert_eq!(limiter.judge(at(1510), 9), Verdict::Pass(None));
    }

    #[test]
    fn a_slow_writer_is_filled_up_though_each_step_is_less_than_a_byte() {
        let mut limiter = limiter(Some(1), None);
        limiter.judge(at(0), 1);

        assert!(matches!(limiter.judge(at(500), 1), Verdict::Exceeded(_)));
        assert!(matches!(limiter.judge(at(1500), 1), Verdict::Pass(Some(_))));
    }

    #[test]
    fn without_a_limit_all_passes_and_with_0_nothing_does_and_nothing_is_said() {
        let mut all = limiter(None, None);
        let mut none = limiter(Some(0), None);

        for _ in 0..1000 {
            assert_eq!(all.judge(at(0), usize::MAX), Verdict::Pass(None));
            assert_eq!(none.judge(at(0), 1), Verdict::Unwanted);
        }
        assert_eq!(none.finish(), None);
    }

    #[test]
    fn a_clock_that_was_set_back_neither_fills_nor_silences_for_ever() {
        let mut limiter = limiter(Some(10), None);
        limiter.judge(at(10_000), 10);
        limiter.judge(at(10_000), 10);

        assert_eq!(limiter.judge(at(0), 1), Verdict::Drop);
        assert!(matches!(limiter.judge(at(11_000), 1), Verdict::Pass(Some(_))));
    }
}
