//! The past of a large log: one app and the whole cluster at random positions, and playback from
//! there on.
//!
//! The snapshots are those that the product takes while such a log grows.

use std::sync::Arc;

use domain::log::{Owner, Position};
use projections::history::{History, Instant};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{
    Effort, Error,
    measure::{self, Goal, Report, Round, Row},
    place::{self, OpenLog, Place},
    replay::on_one_core,
};
use crate::clock::Stopwatch;

/// How many positions the whole cluster is asked about; every one is another world.
const CLUSTER_QUESTIONS: usize = 30;
/// How many apps are asked about, each at a position of its own.
const APP_QUESTIONS: usize = 300;
/// How many events are played.
const PLAYED_EVENTS_MAX: u64 = 500_000;

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    if !["past/app", "past/cluster", "playback"].iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let location = place.large_log(report, effort).await?.clone();
    let storage = place::open(&location).await?;
    for events in effort.events {
        if report.wants("past/app") {
            one_app(report, &storage, events).await?;
        }
        if report.wants("past/cluster") {
            whole_cluster(report, &storage, events).await?;
        }
    }
    storage.close().await;
    if report.wants("playback") {
        for events in effort.events {
            playback(report, &location, events, effort).await?;
        }
    }
    Ok(())
}

/// A history of its own for every question, so that no answer was kept from an earlier one.
fn history(storage: &OpenLog) -> History {
    History::new(Arc::clone(&storage.store), Arc::clone(&storage.snapshots))
}

fn row(name: &'static str, events: u64, goal_ms: f64) -> Row {
    let (size, goal) = (format!("events={events}"), Goal::AtMost(goal_ms));
    Row { name, size, unit: "ms", goal }
}

async fn one_app(report: &mut Report, storage: &OpenLog, events: u64) -> Result<(), Error> {
    report.progress(format!("past/app: {events} events"));
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    let mut latencies_us = Vec::new();
    while latencies_us.len() < APP_QUESTIONS {
        let position = Position(dice.random_range(1..=events));
        // An app that was there by then.
        let before = Position(dice.random_range(0..position.0));
        let found = storage.store.read_all(before, 1).await?;
        let Some(owner) = found.first().map(|recorded| recorded.stream.owner()) else { continue };
        let Owner::Process(process_guid) = &owner else { continue };
        let history = history(storage);
        let started = Stopwatch::start();
        let world = history.owner_at(&owner, Instant::Position(position)).await?;
        latencies_us.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        let others = world.aggregates().desired_lrps();
        if world.position() != position
            || others.filter(|lrp| lrp.process_guid != *process_guid).count() > 0
        {
            return Err(Error::Unexpected(format!("the past of {owner} is another's")));
        }
    }
    let round = Round { ours: measure::p99_ms(latencies_us), peer: None };
    report.add(row("past/app/p99", events, 50.0), &[round]);
    Ok(())
}

async fn whole_cluster(report: &mut Report, storage: &OpenLog, events: u64) -> Result<(), Error> {
    report.progress(format!("past/cluster: {events} events"));
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let mut latencies_us = Vec::new();
    for _ in 0..CLUSTER_QUESTIONS {
        let history = history(storage);
        let position = Position(dice.random_range(1..=events));
        let started = Stopwatch::start();
        let world = history.at(Instant::Position(position)).await?;
        latencies_us.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        if world.position() != position {
            return Err(Error::Unexpected(format!("the past of {position} is another's")));
        }
    }
    let round = Round { ours: measure::p99_ms(latencies_us), peer: None };
    report.add(row("past/cluster/p99", events, 1000.0), &[round]);
    Ok(())
}

/// From the middle of the log on, on one core, with every view kept up at every event.
async fn playback(
    report: &mut Report,
    location: &projections::storage::Location,
    events: u64,
    effort: Effort,
) -> Result<(), Error> {
    report.progress(format!("playback: {events} events"));
    let mut figures = Vec::new();
    for _ in 0..effort.rounds {
        let location = location.clone();
        let play = move || async move {
            let storage = place::open(&location).await?;
            let from = Instant::Position(Position(events / 2));
            let mut playback = history(&storage).playback(from).await?;
            // Views are filled when one is asked for, and kept up from then on.
            playback.world().fill_views();
            let count = (events - events / 2).min(PLAYED_EVENTS_MAX);
            let started = Stopwatch::start();
            for _ in 0..count {
                if playback.step().await?.is_none() {
                    return Err(Error::Unexpected("the log ended too early".to_owned()));
                }
            }
            let elapsed = started.elapsed();
            drop(playback);
            storage.close().await;
            Ok(measure::per_second(count, elapsed))
        };
        figures.push(Round { ours: on_one_core(play).await?, peer: None });
    }
    let (size, goal) = (format!("events={events}"), Goal::AtLeast(100_000.0));
    report.add(Row { name: "playback", size, unit: "events/s", goal }, &figures);
    Ok(())
}
