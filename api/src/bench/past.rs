//! The past of a large log, and a start on it: how long until the first answer.
//!
//! The snapshots are those that the product takes while such a log grows.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use domain::log::Position;
use projections::{
    history::{History, Instant, Snapshotter},
    projector::Now,
    storage::Location,
    world::World,
};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::{
    Effort, Error,
    measure::{self, Goal, Report, Round, Row},
    place::{self, OpenLog, Place},
    replay,
};
use crate::{clock::Stopwatch, output};

/// How many positions are asked about; every one is another world.
const QUESTIONS: usize = 30;
/// How long a start may take before it is given up.
const START_MAX: Duration = Duration::from_secs(300);
/// How often a starting node is asked.
const ASK_PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    if report.wants("past/cluster") {
        let location = place.large_log(report, effort).await?.clone();
        whole_cluster(report, &location, effort).await?;
    }
    if effort.starts_nodes && report.wants("start") {
        let location = place.large_log(report, effort).await?.clone();
        start(report, &location, effort).await?;
    }
    Ok(())
}

impl Place {
    /// A SQLite log of the largest size, with the snapshots of its growth; made once.
    pub(super) async fn large_log(
        &self,
        report: &Report,
        effort: Effort,
    ) -> Result<&Location, Error> {
        if let Some(location) = self.large.get() {
            return Ok(location);
        }
        let [_, _, events] = effort.events;
        report.progress(format!("a log of {events} events on SQLite, made once"));
        let location = self.new_sqlite()?;
        let started = Stopwatch::start();
        let storage = place::open(&location).await?;
        grow(&storage, events, effort).await?;
        storage.close().await;
        output::progress(format!("    made in {} s", started.elapsed().as_secs()));
        Ok(self.large.get_or_init(|| location))
    }
}

/// Fills a log while snapshots are taken as a node takes them.
async fn grow(storage: &OpenLog, events: u64, effort: Effort) -> Result<(), Error> {
    let now = Now::follow(std::sync::Arc::clone(&storage.store), World::empty());
    let snapshots = std::sync::Arc::clone(&storage.snapshots);
    let all_shards = projections::history::Dirty::all();
    let mut snapshotter = Snapshotter::new(now.clone(), snapshots, None, all_shards);
    let filled = async {
        replay::fill(storage.store.as_ref(), events, effort).await?;
        now.reach(Position(events)).await;
        Ok::<(), Error>(())
    };
    tokio::select! {
        filled = filled => filled?,
        () = snapshotter.run() => {}
    }
    snapshotter.save().await;
    Ok(())
}

async fn whole_cluster(
    report: &mut Report,
    location: &Location,
    effort: Effort,
) -> Result<(), Error> {
    let storage = place::open(location).await?;
    for events in effort.events {
        report.progress(format!("past/cluster: {events} events"));
        let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut slowest = Vec::new();
        for _ in 0..QUESTIONS {
            // A history of its own, so that no answer was kept from an earlier question.
            let snapshots = std::sync::Arc::clone(&storage.snapshots);
            let history = History::new(std::sync::Arc::clone(&storage.store), snapshots);
            let position = Position(dice.random_range(1..=events));
            let started = Stopwatch::start();
            let world = history.at(Instant::Position(position)).await?;
            let elapsed = started.elapsed();
            if world.position() != position {
                return Err(Error::Unexpected(format!("the past of {position} is another's")));
            }
            slowest.push(u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX));
        }
        let round = Round { ours: measure::p99_ms(slowest), peer: None };
        let row = Row {
            name: "past/cluster/p99",
            size: format!("events={events}"),
            unit: "ms",
            goal: Goal::AtMost(1000.0),
        };
        report.add(row, &[round]);
    }
    storage.close().await;
    Ok(())
}

/// A node of its own process, killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself is as gone.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Kills a node without a goodbye and starts it again, until it answers a question.
async fn start(report: &mut Report, location: &Location, effort: Effort) -> Result<(), Error> {
    report.progress("start after kill -9");
    let Location::Sqlite { file } = location else { return Ok(()) };
    let folder = file.parent().unwrap_or_else(|| Path::new("/"));
    let mut figures = Vec::new();
    // The first start is that of the log as it was left, and is not counted.
    for round in 0..=effort.rounds {
        let started = Stopwatch::start();
        let (process, position) = until_it_answers(folder).await?;
        let elapsed = started.elapsed();
        let [_, _, events] = effort.events;
        if position < events {
            return Err(Error::Unexpected(format!("a start answers with position {position}")));
        }
        if round > 0 {
            figures.push(Round { ours: elapsed.as_secs_f64(), peer: None });
        }
        drop(process);
    }
    let [_, _, events] = effort.events;
    let row =
        Row { name: "start", size: format!("events={events}"), unit: "s", goal: Goal::AtMost(3.0) };
    report.add(row, &figures);
    Ok(())
}

async fn until_it_answers(folder: &Path) -> Result<(Process, u64), Error> {
    let free = || -> std::io::Result<u16> {
        Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
    };
    let spawn = || -> std::io::Result<(Child, u16)> {
        let (port, router_port) = (free()?, free()?);
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--data-dir"])
            .arg(folder)
            .args(["--port", &port.to_string(), "--router-port", &router_port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok((child, port))
    };
    let (child, port) = spawn().map_err(|source| Error::Io { what: "start a node", source })?;
    let mut process = Process(child);
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{port}/graphql");
    let body = json!({ "query": "{ now { position } }" });
    let started = Stopwatch::start();
    while started.elapsed() < START_MAX {
        if let Ok(answer) = client.post(&url).json(&body).send().await
            && let Ok(answer) = answer.json::<Value>().await
            && let Some(position) = answer["data"]["now"]["position"].as_str()
            && let Ok(position) = position.parse()
        {
            return Ok((process, position));
        }
        if let Ok(Some(status)) = process.0.try_wait() {
            return Err(Error::Unexpected(format!("a node has ended with {status}")));
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    Err(Error::Unexpected("a node did not answer".to_owned()))
}
