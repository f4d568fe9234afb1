//! Spans of time in Go's words, as Diego's texts and arguments have them.
//!
//! Pure; shared by those who write them and those who read them back.

use std::time::Duration;

/// A span of time as Go prints it, rounded down to milliseconds: `1m0s`, `1.5s`, `20ms`, `0s`.
pub(crate) fn text(span: Duration) -> String {
    let milliseconds = span.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match rest {
        0 => String::new(),
        rest => format!(".{rest:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, minutes) => format!("{minutes}m{seconds}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_printed_as_go_does() {
        for (milliseconds, wanted) in [
            (0, "0s"),
            (20, "20ms"),
            (1500, "1.5s"),
            (2000, "2s"),
            (60_000, "1m0s"),
            (61_050, "1m1.05s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(text(Duration::from_millis(milliseconds)), wanted);
        }
    }
}
