//! The whole cluster in virtual time, from a seed: the real decider, views, loops and plan of the
//! cells, over a log in memory, with cells, networks, stores and control planes that fail.
//!
//! One thread, no runtime, no wall clock: the same seed gives the same run, to the byte.
//! [`simulate`] runs one seed, [`run_seeds`] many.

mod agent;
mod chance;
mod cluster;
mod defect;
mod gateway;
mod invariants;
mod loops;
mod machine;
mod message;
mod plane;
mod settled;
mod steps;
#[cfg(test)]
mod tests;
mod users;
mod witness;
mod work;

use std::{fmt, time::Duration};

use domain::{log::Position, units::Milliseconds};

pub use defect::Defect;

use crate::clock::Stopwatch;
use chance::Chance;
use cluster::Cluster;
use witness::Violation;

/// What a simulation is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// All chance comes from it.
    pub seed: u64,
    /// How many cells there are at first.
    pub cells: u32,
    /// How many steps are taken before all faults end.
    pub steps: u32,
    /// How many process guids the users play with.
    pub lrps: u32,
    /// How many task guids they play with.
    pub tasks: u32,
    /// What may break.
    pub faults: Faults,
    /// How the cells break the protocol; `None` but for tests of the invariants.
    pub defect: Option<Defect>,
}

/// What may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Agents and machines end and return, as the same or as others.
    pub cells: bool,
    /// Messages are lost, doubled and late; machines are cut off.
    pub network: bool,
    /// Appends fail, have unknown outcomes, or come second.
    pub store: bool,
    /// The control plane starts anew from its log or a snapshot; two nodes' loops act at once.
    pub control_plane: bool,
}

impl Config {
    /// Three cells, a hundred steps, everything breaks.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let faults = Faults { cells: true, network: true, store: true, control_plane: true };
        Self { seed, cells: 3, steps: 100, lrps: 4, tasks: 8, faults, defect: None }
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Its seed.
    pub seed: u64,
    /// How many events there were.
    pub events: Position,
    /// The link of the last batch in the hash chain: the same run ends in the same link.
    pub link: [u8; 32],
    /// How much time passed in it.
    pub virtual_time: Milliseconds,
    /// How long it took until all was settled.
    pub settled_after: Milliseconds,
    /// The most events in one virtual second.
    pub busiest_second: u64,
    /// How many users' commands were promised.
    pub promises: usize,
    /// How many tasks were run.
    pub tasks_run: usize,
}

/// A run in which something was not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The step behind which it was seen; the number of steps when it was seen while settling.
    pub step: u32,
    /// What must hold.
    pub invariant: &'static str,
    /// How it did not.
    pub detail: String,
    /// What happened last, oldest first.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {} breaks \"{}\" at step {}", self.seed, self.invariant, self.step)?;
        writeln!(f, "  {}", self.detail)?;
        write!(
            f,
            "  again: DIARIO_FROM_SEED={} DIARIO_SEEDS=1 cargo test -p api --test simulation",
            self.seed
        )
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// The first thing that was not as it must be, with what led to it.
pub fn simulate(config: Config) -> Result<Summary, Box<Failure>> {
    // The words of a trace cost time: only a run that failed is run again for them.
    simulate_once(config, false)
        .or_else(|failure| simulate_once(config, true).map_or_else(Err, |_| Err(failure)))
}

fn simulate_once(config: Config, is_traced: bool) -> Result<Summary, Box<Failure>> {
    let mut cluster = Cluster::new(config, is_traced);
    let mut step = 0;
    let outcome = run(&mut cluster, &mut step);
    outcome.map_err(|Violation { invariant, detail }| {
        let trace = cluster.trace();
        Box::new(Failure { seed: config.seed, step, invariant, detail, trace })
    })
}

fn run(cluster: &mut Cluster, step: &mut u32) -> Result<Summary, Violation> {
    let Config { seed, steps, .. } = cluster.config;
    // Its own sequence, so that looking changes nothing.
    let mut looks = Chance::new(!seed);
    let looks = [looks.small(steps), looks.small(steps)];
    cluster.begin()?;
    while *step < steps {
        cluster.step()?;
        invariants::check(cluster)?;
        if looks.contains(step) {
            cluster.plane.check_replay()?;
        }
        *step += 1;
    }
    let settled_after = cluster.settle()?;
    cluster.users.check_promises(&cluster.plane.log)?;
    cluster.plane.check_replay()?;
    let head = cluster.plane.log.head();
    Ok(Summary {
        seed,
        events: head.position,
        link: head.link,
        virtual_time: cluster.virtual_time(),
        settled_after,
        busiest_second: cluster.busiest_second,
        promises: cluster.users.promises(),
        tasks_run: cluster.plane.witness.tasks_run(),
    })
}

/// What many runs came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// How long it took.
    pub took: Duration,
    /// How many seeds a minute.
    pub seeds_per_minute: u64,
    /// How many events there were in all runs that did not fail.
    pub events: u64,
    /// What failed.
    pub failures: Vec<Failure>,
}

/// Runs `count` seeds from `first` on; `progress` is told after each how many are done, and of a
/// failure at once.
pub fn run_seeds(
    first: u64,
    count: u64,
    config: Config,
    mut progress: impl FnMut(u64, Option<&Failure>),
) -> Report {
    let stopwatch = Stopwatch::start();
    let mut failures = Vec::new();
    let mut events = 0;
    for done in 0..count {
        let config = Config { seed: first.saturating_add(done), ..config };
        match simulate(config) {
            Ok(summary) => {
                events += summary.events.0;
                progress(done + 1, None);
            }
            Err(failure) => {
                progress(done + 1, Some(&failure));
                failures.push(*failure);
            }
        }
    }
    let took = stopwatch.elapsed();
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let seeds_per_minute = count.saturating_mul(60_000) / milliseconds;
    Report { seeds: count, took, seeds_per_minute, events, failures }
}
