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
    signal_words(signal).map(|(name, _)| name)
}

/// A signal's name and what it means where nobody sent it on purpose.
fn signal_words(signal: i32) -> Option<(&'static str, &'static str)> {
    Some(match signal {
        1 => ("SIGHUP", "its terminal went away"),
        2 => ("SIGINT", "it was interrupted"),
        3 => ("SIGQUIT", "it was told to quit"),
        4 => ("SIGILL", "it ran an instruction that the processor does not know"),
        5 => ("SIGTRAP", "it ran into a breakpoint"),
        6 => ("SIGABRT", "it gave up by itself"),
        7 => ("SIGBUS", "it touched memory that is not behind its file"),
        8 => ("SIGFPE", "it divided by zero or the like"),
        9 => ("SIGKILL", "it was killed"),
        11 => ("SIGSEGV", "it touched memory that is not its own"),
        13 => ("SIGPIPE", "it wrote to somebody who does not read any more"),
        14 => ("SIGALRM", "its own alarm went off"),
        15 => ("SIGTERM", "it was told to end"),
        24 => ("SIGXCPU", "its limit of processor time was reached"),
        25 => ("SIGXFSZ", "its limit of a file's size was reached"),
        31 => ("SIGSYS", "it made a system call that is forbidden"),
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

impl ProcessExit {
    /// What it means, in words for people.
    #[must_use]
    pub fn meaning(&self) -> String {
        if let Some(word) = self.out_of_memory {
            let OutOfMemory { limit_bytes, peak_bytes, kills } = word;
            return format!(
                "memory ran out: the limit is {limit_bytes} bytes, the peak was {peak_bytes}, \
                 the kernel killed {kills}"
            );
        }
        match self.status {
            ExitStatus::Exited(0) => "it ended by itself, without an error".to_owned(),
            ExitStatus::Exited(126) => {
                "its command was found and could not be run: is it executable, and for this \
                 machine?"
                    .to_owned()
            }
            ExitStatus::Exited(127) => "its command was not found".to_owned(),
            // A shell tells so how its own child ended.
            ExitStatus::Exited(status @ 129..=192) => match signal_words(status - 128) {
                Some((name, meaning)) => {
                    format!("a child of its shell ended by {name}: {meaning}")
                }
                None => format!("a child of its shell ended by signal {}", status - 128),
            },
            ExitStatus::Exited(_) => "it ended by itself, with an error".to_owned(),
            ExitStatus::Signalled(signal) => match signal_words(signal) {
                Some((name, meaning)) => format!("{name}: {meaning}"),
                None => format!("signal {signal} ended it"),
            },
        }
    }
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
    fn an_end_is_told_with_its_meaning() {
        let meaning = |status| ProcessExit { status, out_of_memory: None }.meaning();
        let word = OutOfMemory { limit_bytes: 64, peak_bytes: 60, kills: 1 };
        let starved =
            ProcessExit { status: ExitStatus::Signalled(9), out_of_memory: Some(word) }.meaning();

        assert_eq!(meaning(ExitStatus::Exited(127)), "its command was not found");
        assert!(meaning(ExitStatus::Exited(126)).contains("could not be run"));
        assert!(meaning(ExitStatus::Exited(3)).contains("with an error"));
        assert!(meaning(ExitStatus::Exited(137)).contains("SIGKILL"));
        assert!(meaning(ExitStatus::Signalled(11)).starts_with("SIGSEGV: "));
        assert_eq!(meaning(ExitStatus::Signalled(40)), "signal 40 ended it");
        assert!(starved.contains("the limit is 64 bytes, the peak was 60"), "{starved}");
    }

    #[test]
    fn a_signal_is_told_with_its_name() {
        assert_eq!(ExitStatus::Signalled(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(ExitStatus::Exited(3).to_string(), "exit status 3");
    }
}
