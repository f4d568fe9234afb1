//! Counts the streams that clients follow.

/// How many streams of which kind are open.
pub(super) const OPEN: &str = "diario_subscribers";

/// A stream that is counted for as long as this lives.
#[derive(Debug)]
pub struct Subscriber(&'static str);

impl Subscriber {
    /// Counts a stream of a kind: `log`, `actual_lrps` or `logs`.
    #[must_use]
    pub fn of(stream: &'static str) -> Self {
        metrics::gauge!(OPEN, "stream" => stream).increment(1.0);
        Self(stream)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        metrics::gauge!(OPEN, "stream" => self.0).decrement(1.0);
    }
}
