//! How people name an instant: `now`, `@42`, `-10m`, or an RFC 3339 time.
//!
//! A time before now is by this machine's clock, which may differ from the control plane's.

use std::{fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat};
use domain::{log::Position, units::Timestamp};
use serde_json::{Value, json};

use super::Error;
use crate::{cli::target::Session, clock::Clock};

/// How instants may be written, for help texts.
pub(super) const FORMS: &str = "\
An instant is one of:
  now                    the present
  @42                    after the event at position 42
  -10m                   a while ago: s, m, h or d, by this machine's clock
  2026-01-31T12:00:00Z   a time in RFC 3339, with a zone";

/// An instant of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instant {
    /// The present.
    Now,
    /// After the event at a position.
    Position(Position),
    /// After the last event that was not recorded later.
    Time(Timestamp),
    /// So many seconds ago.
    Ago(i64),
}

/// A text that names no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be now, a position such as @42, a time ago such as -10m, or an RFC 3339 time")]
pub struct InvalidInstant;

impl FromStr for Instant {
    type Err = InvalidInstant;
    fn from_str(text: &str) -> Result<Self, InvalidInstant> {
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Some(digits) = text.strip_prefix('@') {
            return position(digits).map(Self::Position).ok_or(InvalidInstant);
        }
        if let Some(span) = text.strip_prefix('-') {
            return seconds(span).map(Self::Ago).ok_or(InvalidInstant);
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidInstant)?;
        time.timestamp_nanos_opt().map(|it| Self::Time(Timestamp(it))).ok_or(InvalidInstant)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Position(position) => write!(f, "@{position}"),
            Self::Time(time) => f.write_str(&rfc_3339(*time)),
            Self::Ago(seconds) => write!(f, "-{seconds}s"),
        }
    }
}

/// A position as people write it: `42` or `@42`.
pub(super) fn parse_position(text: &str) -> Result<Position, &'static str> {
    let digits = text.strip_prefix('@').unwrap_or(text);
    position(digits).ok_or("must be a position such as @42")
}

fn position(digits: &str) -> Option<Position> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok().map(Position)).flatten()
}

fn seconds(span: &str) -> Option<i64> {
    let unit_seconds = match span.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = span.get(..span.len() - 1)?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: i64 = if is_plain { digits.parse().ok()? } else { return None };
    count.checked_mul(unit_seconds)
}

fn rfc_3339(time: Timestamp) -> String {
    DateTime::from_timestamp_nanos(time.0).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

impl Instant {
    /// The instant as a time, where it is not a position or the present.
    pub(super) fn time(self) -> Option<Timestamp> {
        match self {
            Self::Now | Self::Position(_) => None,
            Self::Time(time) => Some(time),
            Self::Ago(seconds) => {
                let nanoseconds = seconds.saturating_mul(1_000_000_000);
                Some(Timestamp(Clock::default().now().0.saturating_sub(nanoseconds)))
            }
        }
    }

    /// Asks for a part of the world at this instant, as the answer's `world`.
    pub(super) async fn world(
        self,
        session: &Session,
        declared: &str,
        selection: &str,
        mut variables: Value,
    ) -> Result<Value, Error> {
        let (declared_at, field) = match self {
            Self::Now => ("", "now"),
            Self::Position(position) => {
                variables["position"] = json!(position.to_string());
                ("$position: Position!", "at(position: $position)")
            }
            Self::Time(_) | Self::Ago(_) => {
                variables["time"] = json!(self.time().map(rfc_3339));
                ("$time: Time!", "at(time: $time)")
            }
        };
        let declared: Vec<&str> =
            [declared, declared_at].into_iter().filter(|it| !it.is_empty()).collect();
        let arguments = match declared.join(", ") {
            none if none.is_empty() => none,
            some => format!("({some})"),
        };
        let document = format!("query{arguments} {{ world: {field} {{ position {selection} }} }}");
        Ok(session.client.query(&document, variables).await?)
    }

    /// The instant as the schema's `InstantInput`; the present by its position.
    pub(super) async fn input(self, session: &Session) -> Result<Value, Error> {
        match self {
            Self::Position(position) => Ok(json!({ "position": position.to_string() })),
            Self::Time(_) | Self::Ago(_) => Ok(json!({ "time": self.time().map(rfc_3339) })),
            Self::Now => {
                let answer = session.client.query("{ now { position } }", json!({})).await?;
                let position: String = session.client.part(&answer, "/now/position")?;
                Ok(json!({ "position": position }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_name_no_instant_are_refused() {
        for text in
            ["", "42", "@", "@-1", "@+1", "@18446744073709551616", "-", "-m", "-10", "-10w", "-+1m"]
        {
            assert_eq!(text.parse::<Instant>(), Err(InvalidInstant), "{text}");
        }
        for text in ["2026-01-31", "2026-01-31T12:00:00", "yesterday", "-9223372036854775807d"] {
            assert_eq!(text.parse::<Instant>(), Err(InvalidInstant), "{text}");
        }
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!("now".parse(), Ok(Instant::Now));
        assert_eq!("@42".parse(), Ok(Instant::Position(Position(42))));
        assert_eq!("-90s".parse(), Ok(Instant::Ago(90)));
        assert_eq!("-10m".parse(), Ok(Instant::Ago(600)));
        assert_eq!("-2h".parse(), Ok(Instant::Ago(7_200)));
        assert_eq!("-1d".parse(), Ok(Instant::Ago(86_400)));
        let time = "1970-01-01T02:00:00.000000001+02:00";
        assert_eq!(time.parse(), Ok(Instant::Time(Timestamp(1))));
        assert_eq!(parse_position("@7"), Ok(Position(7)));
        assert_eq!(parse_position("7"), Ok(Position(7)));
        assert!(parse_position("x").is_err());
    }
}
