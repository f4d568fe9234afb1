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
    /// The readiness check of that number, until it passes: once in each round.
    UntilReady { number: u32, round: u32 },
    /// The readiness check of that number, from then until it fails.
    Readiness { number: u32, round: u32 },
}

impl ProcessName {
    /// The name as the garden knows it.
    pub(super) fn id(self) -> ProcessId {
        let text = match self {
            Self::Run(number) => format!("run-{number}"),
            Self::Startup(number) => format!("startup-healthcheck-{number}"),
            Self::Liveness(number) => format!("liveness-healthcheck-{number}"),
            Self::UntilReady { number, round } => {
                format!("until-ready-healthcheck-{number}-{round}")
            }
            Self::Readiness { number, round } => format!("readiness-healthcheck-{number}-{round}"),
        };
        ProcessId::parse(&text).expect("a word and a number are a process id")
    }

    /// Reads a name back; `None` if it is none of ours.
    pub(super) fn parse(id: &ProcessId) -> Option<Self> {
        let (word, last) = id.as_str().rsplit_once('-')?;
        let last: u32 = last.parse().ok()?;
        if let Some((word, number)) = word.rsplit_once('-')
            && let Ok(number) = number.parse()
        {
            return match word {
                "until-ready-healthcheck" => Some(Self::UntilReady { number, round: last }),
                "readiness-healthcheck" => Some(Self::Readiness { number, round: last }),
                _ => None,
            };
        }
        let number = last;
        match word {
            "run" => Some(Self::Run(number)),
            "startup-healthcheck" => Some(Self::Startup(number)),
            "liveness-healthcheck" => Some(Self::Liveness(number)),
            _ => None,
        }
    }
}
