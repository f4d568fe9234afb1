//! Counts commands by their kind and by what came of them.

use domain::command::Command;

use crate::command_bus::{Error, Outcome};

/// How many commands of which kind ended in which way.
pub(super) const TOTAL: &str = "diario_commands_total";

/// The kinds of some commands, noted before they are given away.
#[derive(Debug)]
pub struct Kinds(Vec<&'static str>);

impl Kinds {
    /// Notes the kinds of commands that are about to be submitted.
    #[must_use]
    pub fn of<'c>(commands: impl Iterator<Item = &'c Command>) -> Self {
        Self(commands.map(Command::kind).collect())
    }

    /// The first one's, as an attribute of the span of all.
    #[must_use]
    pub fn first(&self) -> &'static str {
        self.0.first().copied().unwrap_or("none")
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Counts them by what came of each; an error is that of all.
    pub fn count_outcomes(&self, result: &Result<Vec<Outcome>, Error>) {
        match result {
            Ok(outcomes) => {
                for (kind, outcome) in self.0.iter().zip(outcomes) {
                    count(kind, of_outcome(outcome));
                }
            }
            Err(failure) => {
                for kind in &self.0 {
                    count(kind, of_error(failure));
                }
            }
        }
    }
}

fn count(kind: &'static str, outcome: &'static str) {
    metrics::counter!(TOTAL, "kind" => kind, "outcome" => outcome).increment(1);
}

fn of_outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(accepted) if accepted.events == 0 => "unchanged",
        Ok(_) => "accepted",
        Err(rejection) => rejection.code(),
    }
}

fn of_error(failure: &Error) -> &'static str {
    match failure {
        Error::Rejected(rejection) => rejection.code(),
        Error::Busy => "BUSY",
        Error::Unavailable { .. } => "UNAVAILABLE",
        Error::OutcomeUnknown => "OUTCOME_UNKNOWN",
        Error::Closed => "CLOSED",
    }
}
