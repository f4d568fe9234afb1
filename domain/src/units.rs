//! Amounts with their unit in the type: memory, time, instants.
//!
//! Nothing here reads a clock. Arithmetic saturates: a sum of hostile numbers is large, never a
//! panic and never negative.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of memory or disk in mebibytes (2^20 bytes).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mebibytes(pub u32);

impl Mebibytes {
    /// The same amount in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }

    /// The whole mebibytes in an amount of bytes.
    #[must_use]
    pub fn floor(bytes: u64) -> Self {
        Self(u32::try_from(bytes >> 20).unwrap_or(u32::MAX))
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

/// A span of time in milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Milliseconds(pub u64);

impl Milliseconds {
    /// A span of whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The span as the standard library's type.
    #[must_use]
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

/// An instant in nanoseconds since 1970-01-01T00:00:00Z, as Diego counts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant a span later.
    #[must_use]
    pub fn plus(self, span: Milliseconds) -> Self {
        let nanoseconds = i64::try_from(span.0.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Milliseconds {
        let nanoseconds = self.0.saturating_sub(earlier.0);
        Milliseconds(u64::try_from(nanoseconds).map_or(0, |positive| positive / 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_amounts_saturate() {
        assert_eq!(Mebibytes(u32::MAX).plus(Mebibytes(1)), Mebibytes(u32::MAX));
        assert_eq!(Timestamp(5).plus(Milliseconds(u64::MAX)), Timestamp(i64::MAX));
        assert_eq!(Timestamp(0).since(Timestamp(9)), Milliseconds(0));
    }
}
