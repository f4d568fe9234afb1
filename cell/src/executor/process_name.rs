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
    /// A Run step of the monitor, by its number in the recipe: once in each look.
    Monitor { number: u32, look: Look },
}

/// One look of a monitor at its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    /// Whether the container was seen healthy before.
    pub(super) was_healthy: bool,
    /// Which of these.
    pub(super) round: u32,
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
            Self::Monitor { number, look: Look { was_healthy: false, round } } => {
                format!("startup-monitor-{number}-{round}")
            }
            Self::Monitor { number, look: Look { was_healthy: true, round } } => {
                format!("liveness-monitor-{number}-{round}")
            }
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
                "startup-monitor" => Some(Self::monitor(number, false, last)),
                "liveness-monitor" => Some(Self::monitor(number, true, last)),
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

    /// Whether there is one such process after another as long as the container lives.
    pub(super) fn is_fleeting(self) -> bool {
        match self {
            Self::Run(_) | Self::Startup(_) | Self::Liveness(_) => false,
            Self::UntilReady { .. } | Self::Readiness { .. } | Self::Monitor { .. } => true,
        }
    }

    fn monitor(number: u32, was_healthy: bool, round: u32) -> Self {
        Self::Monitor { number, look: Look { was_healthy, round } }
    }
}
