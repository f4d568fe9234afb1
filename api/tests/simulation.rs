//! Many seeds of the simulation: `DIARIO_SEEDS` of them (200 by default) from `DIARIO_FROM_SEED`
//! (0 by default) on. A seed that fails is printed with what led to it and how to run it again.

use std::io::Write as _;

use api::simulation::{Config, run_seeds};

const SEEDS: u64 = 200;

#[expect(clippy::disallowed_methods, reason = "the test's own settings")]
fn setting(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a number, but is {text:?}"))
}

#[test]
#[expect(clippy::print_stderr, reason = "who waits for many seeds wants to see them go by")]
fn simulation() {
    let (first, count) = (setting("DIARIO_FROM_SEED", 0), setting("DIARIO_SEEDS", SEEDS));

    let report = run_seeds(first, count, Config::new(first), |done, failure| {
        if let Some(failure) = failure {
            eprintln!("{failure}\n");
        }
        if done % 1000 == 0 {
            eprintln!("{done} of {count} seeds");
        }
    });

    // Not by a macro, whose output a passing test would hide.
    let told = writeln!(
        std::io::stderr(),
        "{} seeds from {first} on in {:.1} s: {} a minute, {} events (3 cells, 100 steps)",
        report.seeds,
        report.took.as_secs_f64(),
        report.seeds_per_minute,
        report.events,
    );
    told.unwrap();
    let failed: Vec<u64> = report.failures.iter().map(|failure| failure.seed).collect();
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}
