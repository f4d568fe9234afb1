//! Which kills, and in which order: evenly spread over their kinds, shuffled by a seed.

use std::fmt;

use domain::workload::Dice;
use projections::failpoint::Step;

/// Where a node's life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// By itself, at a step.
    At(Step),
    /// By itself, at a step of the stop that it was asked for.
    AtStop(Step),
    /// From outside, while the database's server has just written this table of an append; the
    /// server goes on with it later.
    InDatabase(&'static str),
    /// At a step of an operator's command that moves events to an archive.
    Archiving(Step),
    /// From outside, whenever.
    AnyTime,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(step) | Self::AtStop(step) | Self::Archiving(step) => step.fmt(f),
            Self::InDatabase(table) => write!(f, "server-wrote-{table}"),
            Self::AnyTime => f.write_str("any-time"),
        }
    }
}

/// So many kills: each kind as often as any other, or once more.
pub(super) fn plan(kinds: &[Kill], kills: usize, seed: u64) -> Vec<Kill> {
    let mut dice = Dice::new(seed);
    let mut plan = Vec::new();
    while plan.len() < kills {
        // Shuffled before it is cut, so that no kind is always the one that is left out.
        let mut round = kinds.to_vec();
        dice.shuffle(&mut round);
        round.truncate(kills - plan.len());
        plan.extend(round);
    }
    plan
}

#[test]
fn kills_are_spread_evenly_and_the_same_for_the_same_seed() {
    let kinds = [Kill::At(Step::Committed), Kill::AnyTime, Kill::InDatabase("events")];

    let kills = plan(&kinds, 200, 7);

    assert_eq!(kills.len(), 200);
    for kind in kinds {
        let count = kills.iter().filter(|kill| **kill == kind).count();
        assert!((66..=67).contains(&count), "{kind}: {count}");
    }
    assert_eq!(kills, plan(&kinds, 200, 7));
    assert_ne!(kills, plan(&kinds, 200, 8));
}
