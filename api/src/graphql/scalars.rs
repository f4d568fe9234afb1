//! The wire forms of positions, cursors, instants and large numbers.
//!
//! A position is a string: JavaScript's numbers end at 2^53.

use async_graphql::{InputValueError, InputValueResult, Number, Scalar, ScalarType, Value};
use chrono::{DateTime, SecondsFormat};
use domain::{
    log::{Cursor, Position},
    units::Timestamp,
};

/// A place in the log, in digits: "0" is before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PositionText(pub(super) Position);

impl PositionText {
    fn read(value: &Value) -> Option<Self> {
        let Value::String(text) = value else { return None };
        Self::of_text(text)
    }

    pub(super) fn of_text(text: &str) -> Option<Self> {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_plain { text.parse().ok().map(|number| Self(Position(number))) } else { None }
    }
}

/// A place in the log, as a string of digits; "0" is before the first event.
#[Scalar(name = "Position")]
impl ScalarType for PositionText {
    fn parse(value: Value) -> InputValueResult<Self> {
        Self::read(&value).ok_or_else(|| InputValueError::custom("must be digits in a string"))
    }

    fn is_valid(value: &Value) -> bool {
        Self::read(value).is_some()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// Where a reader of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CursorText(pub(super) Cursor);

impl CursorText {
    fn read(value: &Value) -> Option<Self> {
        let Value::String(text) = value else { return None };
        text.parse().ok().map(Self)
    }
}

/// Where a reader of the log is. Opaque: give back what was given, to go on behind it.
#[Scalar(name = "Cursor")]
impl ScalarType for CursorText {
    fn parse(value: Value) -> InputValueResult<Self> {
        Self::read(&value).ok_or_else(|| InputValueError::custom("must be a cursor given earlier"))
    }

    fn is_valid(value: &Value) -> bool {
        Self::read(value).is_some()
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Timestamp);

impl Time {
    fn read(value: &Value) -> Option<Self> {
        let Value::String(text) = value else { return None };
        let instant = DateTime::parse_from_rfc3339(text).ok()?;
        instant.timestamp_nanos_opt().map(|nanoseconds| Self(Timestamp(nanoseconds)))
    }
}

/// The instant in RFC 3339 with nanoseconds.
pub(super) fn time_text(instant: Timestamp) -> String {
    DateTime::from_timestamp_nanos(instant.0).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// An instant in RFC 3339, such as "2026-01-31T12:00:00.123456789Z"; answers are in UTC.
#[Scalar(name = "Time")]
impl ScalarType for Time {
    fn parse(value: Value) -> InputValueResult<Self> {
        Self::read(&value).ok_or_else(|| InputValueError::custom("must be an RFC 3339 instant"))
    }

    fn is_valid(value: &Value) -> bool {
        Self::read(value).is_some()
    }

    fn to_value(&self) -> Value {
        Value::String(time_text(self.0))
    }
}

/// A whole number that 32 bits cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BigInt(pub(super) u64);

/// A whole number from 0 on that may need more than the 32 bits of an Int, as a JSON number.
#[Scalar(name = "BigInt")]
impl ScalarType for BigInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) => number.as_u64().map(Self),
            Value::Null
            | Value::String(_)
            | Value::Boolean(_)
            | Value::Binary(_)
            | Value::Enum(_)
            | Value::List(_)
            | Value::Object(_) => None,
        }
        .ok_or_else(|| InputValueError::custom("must be a whole number from 0 on"))
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::Number(number) if number.is_u64())
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: ScalarType>(text: &str) -> Option<Value> {
        T::parse(Value::from(text)).ok().map(|scalar| scalar.to_value())
    }

    #[test]
    fn malformed_scalars_are_refused_and_others_read_back_what_they_print() {
        for text in ["", "-1", "+1", "1.0", " 1", "18446744073709551616"] {
            assert_eq!(read::<PositionText>(text), None, "{text}");
        }
        for text in ["", "2026-01-01", "2026-01-01T00:00:00", "9999-01-01T00:00:00Z"] {
            assert_eq!(read::<Time>(text), None, "{text}");
        }
        assert_eq!(read::<CursorText>("42"), None);

        let greatest = "18446744073709551615";
        assert_eq!(read::<PositionText>(greatest), Some(Value::from(greatest)));
        let time = read::<Time>("2026-01-31T14:00:00.000000001+02:00");
        assert_eq!(time, Some(Value::from("2026-01-31T12:00:00.000000001Z")));
        let cursor = "00000000000000000000000000000007.42";
        assert_eq!(read::<CursorText>(cursor), Some(Value::from(cursor)));
    }
}
