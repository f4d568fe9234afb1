//! Many seeds, on all processors.

use std::{
    collections::BTreeMap,
    num::NonZero,
    ops::ControlFlow,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{Config, Failure, Summary, simulate};
use crate::clock::Stopwatch;

/// What many runs came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// How long it took.
    pub took: Duration,
    /// How many seeds a minute.
    pub seeds_per_minute: u64,
    /// How many events there were in all runs that did not fail.
    pub events: u64,
    /// How many of each type.
    pub by_type: BTreeMap<&'static str, u64>,
    /// How many instances waited in the end, by what they waited for.
    pub waiting: BTreeMap<String, u64>,
    /// How many instances ran in the end.
    pub running: u64,
    /// What failed, by seed.
    pub failures: Vec<Failure>,
}

impl Report {
    fn add(&mut self, outcome: Result<Summary, Box<Failure>>) {
        self.seeds += 1;
        match outcome {
            Ok(summary) => {
                self.events += summary.events.0;
                self.running += summary.running;
                for (name, count) in summary.by_type {
                    *self.by_type.entry(name).or_default() += count;
                }
                for (why, count) in summary.waiting {
                    *self.waiting.entry(why).or_default() += count;
                }
            }
            Err(failure) => self.failures.push(*failure),
        }
    }
}

/// Runs `count` seeds from the config's own on; `progress` is told after each how many are done,
/// and of a failure at once. No further seed is begun once it breaks off.
pub fn run_seeds(
    config: &Config,
    count: u64,
    mut progress: impl FnMut(u64, Option<&Failure>) -> ControlFlow<()>,
) -> Report {
    let stopwatch = Stopwatch::start();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicU64::new(0);
    let (done, outcomes) = mpsc::channel();
    let mut report = Report::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = config.seed.saturating_add(number);
                    let outcome = simulate(&Config { seed, ..config.clone() });
                    if done.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for outcome in outcomes {
            report.add(outcome.clone());
            if progress(report.seeds, outcome.as_ref().err().map(AsRef::as_ref)).is_break() {
                next.store(count, Ordering::Relaxed);
            }
        }
    });
    report.failures.sort_by_key(|failure| failure.seed);
    report.took = stopwatch.elapsed();
    let milliseconds = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX).max(1);
    report.seeds_per_minute = report.seeds.saturating_mul(60_000) / milliseconds;
    report
}
