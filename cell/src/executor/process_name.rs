//! What the processes of a container are called, so that the next agent knows them again.
//!
//! The Run steps of a recipe are numbered in the order in which they would run, setup first.

use crate::garden::ProcessId;

/// A process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProcessName {
    /// A Run step, by its number in the recipe.
    Run(u32),
    /// The check of that number, until it passes for the first time.
    Startup(u32),
    /// The check of that number, until it fails.
    Liveness(u32),
}

impl ProcessName {
    /// The name as the garden knows it.
    pub(super) fn id(self) -> ProcessId {
        let text = match self {
            Self::Run(number) => format!("run-{number}"),
            Self::Startup(number) => format!("startup-healthcheck-{number}"),
            Self::Liveness(number) => format!("liveness-healthcheck-{number}"),
        };
        ProcessId::parse(&text).expect("a word and a number are a process id")
    }

    /// Reads a name back; `None` if it is none of ours.
    pub(super) fn parse(id: &ProcessId) -> Option<Self> {
        let (word, number) = id.as_str().rsplit_once('-')?;
        let number = number.parse().ok()?;
        match word {
            "run" => Some(Self::Run(number)),
            "startup-healthcheck" => Some(Self::Startup(number)),
            "liveness-healthcheck" => Some(Self::Liveness(number)),
            _ => None,
        }
    }
}
