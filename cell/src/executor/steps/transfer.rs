//! What downloads and uploads have in common: their texts.
//!
//! Pure.

/// How long the text of an error may be in the log, as in Diego.
const ERROR_BYTES_MAX: usize = 1024;
const TRUNCATED: &str = " (error truncated)";
const UNITS: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];

/// An amount as Diego tells it: `12.3M`, `1K`, `17B`.
pub(in super::super) fn size_text(bytes: u64) -> String {
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes}B");
    };
    let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
    match tenths % 10 {
        0 => format!("{}{name}", tenths / 10),
        rest => format!("{}.{rest}{name}", tenths / 10),
    }
}

/// The text of an error as it is told in the log.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX - TRUNCATED.len()));
        text.push_str(TRUNCATED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_with_one_decimal_at_most() {
        for (bytes, told) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (12_897_485, "12.3M"),
            (3 << 30, "3G"),
        ] {
            assert_eq!(size_text(bytes), told);
        }
    }

    #[test]
    fn a_long_error_is_cut_and_says_so() {
        let told = cut("ä".repeat(1000));

        assert!(told.len() <= ERROR_BYTES_MAX && told.ends_with("ä (error truncated)"), "{told}");
        assert_eq!(cut("short".to_owned()), "short");
    }
}
