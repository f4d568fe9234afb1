//! Cells and all that runs on them under faults: agents, control planes, shims and apps killed,
//! stopped and late, networks cut, at each step of an instance's life.
//!
//! After each, what is wished runs again by itself, once each, on the machines as in the log; a
//! task ran at most once; every view is what the log says. Here a share; `tests/run --long
//! cell-faults` does it all and prints how long each took.

mod cluster;
mod full_disk;
mod harm;
mod prober;
mod relay;

use std::time::Duration;

use projections::testing::postgres::{self, Settings};

use self::{
    cluster::{Cluster, INSTANCES, Place},
    harm::{Case, Harm, Step, Victim},
};
use crate::{
    harness::{tell, until},
    pg_faults::{seed, setting},
};

/// What CI tries of it.
const SHARE: [Case; 3] = [
    Case::new(Step::Claimed, Victim::Agent, Harm::Killed),
    Case::new(Step::Started, Victim::ControlPlane, Harm::Killed),
    Case::new(Step::Running, Victim::Shim, Harm::Killed),
];

/// What one case came to.
struct Recovery {
    case: Case,
    /// From the end of the harm until all was as wished.
    took: Duration,
    /// The longest time in which nobody answered for the app.
    gap: Duration,
}

#[test]
fn what_is_wished_runs_again_once_each_whatever_is_killed_stopped_or_cut() {
    let one = Place { options: Vec::new(), nodes: 1 };
    if setting("DIARIO_CELL_FAULTS", 0) == 0 {
        return endure(one, &SHARE);
    }
    endure(one, &sampled(setting("DIARIO_CELL_FAULTS", 0)));
}

#[test]
fn two_control_planes_on_one_postgres_keep_the_same_promise() {
    let cluster = postgres::Cluster::start(&Settings::default());
    let options = vec!["--database-url".to_owned(), cluster.fresh_database()];
    let two = Place { options, nodes: 2 };
    match setting("DIARIO_CELL_FAULTS", 0) {
        0 => endure(two, &[Case::new(Step::Claimed, Victim::ControlPlane, Harm::Killed)]),
        hundredths => endure(two, &sampled(hundredths)),
    }
}

/// So many of all cases in a hundred, by the seed.
fn sampled(hundredths: u64) -> Vec<Case> {
    use rand::{SeedableRng as _, seq::SliceRandom as _};
    let seed = seed();
    tell(&format!("cases of seed {seed} (DIARIO_SEED)"));
    let mut all = Case::all();
    let count = (all.len() * usize::try_from(hundredths).unwrap()).div_ceil(100).min(all.len());
    if count < all.len() {
        all.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
        all.truncate(count);
    }
    all
}

fn endure(place: Place, cases: &[Case]) {
    let mut cluster = Cluster::start(place);
    let mut recoveries = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let recovery = tried(&mut cluster, number, *case);
        tell(&line(&recovery));
        recoveries.push(recovery);
    }
    cluster.verify();
    cluster.verify_chain();
    let mut slowest: Vec<_> = recoveries.iter().map(|it| it.took).collect();
    slowest.sort();
    let middle = slowest.get(slowest.len() / 2).copied().unwrap_or_default();
    let last = slowest.last().copied().unwrap_or_default();
    tell(&format!(
        "{} cases: as wished again after {:.1} s in the middle, {:.1} s at most",
        recoveries.len(),
        middle.as_secs_f64(),
        last.as_secs_f64()
    ));
}

fn line(Recovery { case, took, gap }: &Recovery) -> String {
    let Case { step, victim, harm } = case;
    let (took, gap) = (took.as_secs_f64(), gap.as_secs_f64());
    format!("| {step:?} | {victim:?} | {harm:?} | {took:.1} s | {gap:.2} s |")
}

fn tried(cluster: &mut Cluster, number: usize, case: Case) -> Recovery {
    let task = format!("once-{number}");
    cluster.control_plane().text(&[
        "task",
        "run",
        "--guid",
        &task,
        "--rootfs",
        "preloaded:diario",
        "--memory-mb",
        "32",
        "--disk-mb",
        "16",
        "--",
        "/bin/diario",
        "--version",
    ]);
    cluster.prober().longest_gap();
    let took = harm::inflict(cluster, case);
    let gap = cluster.prober().longest_gap();
    harm::undo(cluster, case);
    cluster.settle(INSTANCES);
    ran_at_most_once(cluster, &task);
    Recovery { case, took, gap }
}

/// A task ends, and its process was started once or never.
fn ran_at_most_once(cluster: &Cluster, task: &str) {
    let server = cluster.control_plane();
    until("the task to end", || {
        let shown = server.json(&["task", "show", task]);
        (shown["state"] == "COMPLETED").then_some(())
    });
    let lines = server.text(&["logs", task, "--task"]);
    let runs = lines.lines().filter(|line| line.contains("OUT diario ")).count();
    assert!(runs <= 1, "{task} ran {runs} times: {lines}");
}
