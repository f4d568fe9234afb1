//! The whole cluster in virtual time, from a seed: several nodes with the real decider, views and
//! loops on one log in memory, cells with their real plan, users; and all of them, the network
//! between them and the store fail.
//!
//! One thread, no runtime, no wall clock: the same seed gives the same run, to the byte.
//! [`simulate`] runs one seed, [`run_seeds`] many.

mod agent;
mod bus;
mod callbacks;
mod chance;
mod clients;
mod cluster;
mod defect;
mod evacuations;
mod faults;
mod gateway;
mod invariants;
mod loops;
mod machine;
mod manifest;
mod message;
mod network;
mod node;
mod processes;
mod restarts;
mod runs;
mod settled;
mod shrink;
mod step_set;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod users;
mod wishes;
mod witness;
mod work;

use std::{collections::BTreeMap, fmt, sync::Arc};

use domain::{log::Position, units::Milliseconds};
use serde::{Deserialize, Serialize};

pub use defect::Defect;
pub use faults::Faults;
pub use manifest::{CellSpec, Manifest, Spec as ManifestSpec};
pub use runs::{Report, run_seeds};
pub use shrink::{Shrunk, shrink};
pub use step_set::{STEPS_MAX, StepSet};

use chance::Chance;
use cluster::Cluster;
use witness::Violation;

/// What a simulation is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// All chance comes from it.
    pub seed: u64,
    /// How many control-plane nodes there are.
    pub nodes: u8,
    /// How many cells there are at first.
    pub cells: u32,
    /// How many steps are taken before all faults end.
    pub steps: u32,
    /// Steps that are left out.
    #[serde(default)]
    pub left_out: StepSet,
    /// How many process guids the users play with.
    pub lrps: u32,
    /// How many task guids they play with.
    pub tasks: u32,
    /// What may break.
    pub faults: Faults,
    /// What runs; random apps and tasks when absent.
    #[serde(skip)]
    pub manifest: Option<Arc<Manifest>>,
    /// How the cells break the protocol; `None` but for tests of the invariants.
    #[serde(skip)]
    pub defect: Option<Defect>,
}

impl Config {
    /// The arguments of `diario simulate` that run the same again, beside those that name the
    /// faults that it began with and the manifest.
    #[must_use]
    pub fn arguments(&self, began_with: Faults) -> String {
        let Self { seed, nodes, cells, steps, left_out, lrps, tasks, faults, .. } = self;
        let mut text = format!(
            "--from-seed {seed} --seeds 1 --nodes {nodes} --cells {cells} --steps {steps} --lrps {lrps} \
             --tasks {tasks}"
        );
        let without = began_with.missing_in(*faults);
        if !without.is_empty() {
            text.push_str(&format!(" --without {}", without.join(",")));
        }
        if !left_out.0.is_empty() {
            text.push_str(&format!(" --left-out {left_out}"));
        }
        text
    }

    /// Three nodes, five cells, two hundred steps, everything breaks.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            cells: 5,
            steps: 200,
            left_out: StepSet::default(),
            lrps: 4,
            tasks: 8,
            faults: Faults::default(),
            manifest: None,
            defect: None,
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its seed.
    pub seed: u64,
    /// How many events there were.
    pub events: Position,
    /// How many of each type.
    pub by_type: BTreeMap<&'static str, u64>,
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
    /// How many instances ran in the end.
    pub running: u64,
    /// How many waited, by what for.
    pub waiting: BTreeMap<String, u64>,
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
        write!(f, "  {}", self.detail)
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// The first thing that was not as it must be, with what led to it.
pub fn simulate(config: &Config) -> Result<Summary, Box<Failure>> {
    // The words of a trace cost time: only a run that failed is run again for them.
    simulate_once(config, false)
        .or_else(|failure| simulate_once(config, true).map_or_else(Err, |_| Err(failure)))
}

fn simulate_once(config: &Config, is_traced: bool) -> Result<Summary, Box<Failure>> {
    let mut cluster = Cluster::new(config.clone(), is_traced);
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
        if !cluster.config.left_out.0.contains(step) {
            cluster.step(*step)?;
            invariants::check(cluster)?;
            if looks.contains(step) {
                cluster.check_replay()?;
            }
        }
        *step += 1;
    }
    let settled_after = cluster.settle()?;
    cluster.users.check_promises(&cluster.store.log)?;
    cluster.check_replay()?;
    let head = cluster.store.log.head();
    Ok(Summary {
        seed,
        events: head.position,
        by_type: cluster.store.witness.by_type().clone(),
        link: head.link,
        virtual_time: cluster.virtual_time(),
        settled_after,
        busiest_second: cluster.busiest_second,
        promises: cluster.users.promises(),
        tasks_run: cluster.store.witness.tasks_run(),
        running: cluster.running(),
        waiting: cluster.waiting(),
    })
}
