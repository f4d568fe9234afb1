//! Many seeds of the simulation: `DIARIO_SEEDS` of them (60 by default) from `DIARIO_FROM_SEED`
//! (0 by default) on. A seed that fails is made small, printed with what led to it and how to run
//! it again, and kept in `simulation_kept.jsonl`, whose runs are run again by every test.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fs,
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use api::simulation::{Config, Faults, run_seeds, shrink, simulate};

const SEEDS: u64 = 60;

#[expect(clippy::disallowed_methods, reason = "the test's own settings")]
fn setting(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a number, but is {text:?}"))
}

/// Tests run in their crate's folder.
fn kept_file() -> PathBuf {
    Path::new("tests/simulation_kept.jsonl").to_owned()
}

fn kept() -> Vec<Config> {
    let text = fs::read_to_string(kept_file()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn seeds_that_failed_once_hold() {
    for config in kept() {
        if let Err(failure) = simulate(&config) {
            panic!("{failure}\n  again: diario simulate {}", config.arguments(Faults::default()));
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "who waits for many seeds wants to see them go by")]
fn simulation() {
    let (first, count) = (setting("DIARIO_FROM_SEED", 0), setting("DIARIO_SEEDS", SEEDS));
    let config = Config::new(first);

    let report = run_seeds(&config, count, |done, failure| {
        if let Some(failure) = failure {
            eprintln!("seed {} fails: {}", failure.seed, failure.invariant);
        }
        if done % 1000 == 0 {
            eprintln!("{done} of {count} seeds");
        }
        if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });

    // Not by a macro, whose output a passing test would hide.
    let told = writeln!(
        std::io::stderr(),
        "{} seeds from {first} on in {:.1} s: {} a minute, {} events (3 nodes, 5 cells, 200 steps)",
        report.seeds,
        report.took.as_secs_f64(),
        report.seeds_per_minute,
        report.events,
    );
    told.unwrap();
    if let Some(failure) = report.failures.first() {
        let shrunk = shrink(&Config { seed: failure.seed, ..config }, failure);
        let line = serde_json::to_string(&shrunk.config).unwrap();
        let mut kept = fs::OpenOptions::new().append(true).open(kept_file()).unwrap();
        writeln!(kept, "{line}").unwrap();
        eprintln!(
            "{}\n  again: diario simulate {}",
            shrunk.failure,
            shrunk.config.arguments(Faults::default())
        );
    }
    let failed: Vec<u64> = report.failures.iter().map(|failure| failure.seed).collect();
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}
