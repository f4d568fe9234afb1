//! How a process ended: its exit status or signal, and the kernel's word when memory ran out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is said of a process that left with status 0 by itself.
pub const CLEAN_EXIT: &str = "Exited with status 0";

/// The longest reason that an event keeps, in bytes (Diego's limit).
pub const REASON_BYTES_MAX: usize = 1024;

/// The status a process left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It ended by itself with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signalled(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// The kernel killed for want of memory within the container's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemory {
    /// The container's limit in bytes.
    pub limit_bytes: u64,
    /// The most it ever used, in bytes.
    pub peak_bytes: u64,
    /// How many processes the kernel killed.
    pub kills: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// The status it left.
    pub status: ExitStatus,
    /// The kernel's word, when memory ran out.
    pub out_of_memory: Option<OutOfMemory>,
}

/// Cuts a reason to [`REASON_BYTES_MAX`], marking the cut as Diego does.
#[must_use]
pub fn cut_reason(reason: &str) -> String {
    const MARK: &str = "(truncated)";
    if reason.len() < REASON_BYTES_MAX {
        return reason.to_owned();
    }
    let mut kept = String::with_capacity(REASON_BYTES_MAX);
    for character in reason.chars() {
        if kept.len() + character.len_utf8() > REASON_BYTES_MAX - MARK.len() {
            break;
        }
        kept.push(character);
    }
    kept + MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_on_a_character_and_says_so() {
        let cut = cut_reason(&"ü".repeat(2000));

        assert!(cut.len() <= REASON_BYTES_MAX);
        assert!(cut.ends_with("ü(truncated)"));
        assert_eq!(cut_reason("short"), "short");
    }

    #[test]
    fn a_signal_is_told_with_its_name() {
        assert_eq!(ExitStatus::Signalled(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(ExitStatus::Exited(3).to_string(), "exit status 3");
    }
}
