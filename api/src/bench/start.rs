//! A start on a large log after `kill -9`: how long until the first answer.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use projections::storage::Location;
use serde_json::{Value, json};

use super::{
    Effort, Error,
    measure::{Goal, Report, Round, Row},
    place::Place,
};
use crate::clock::Stopwatch;

/// How long a start may take before it is given up.
const START_MAX: Duration = Duration::from_secs(300);
/// How often a starting node is asked.
const ASK_PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    if effort.starts_nodes && report.wants("start") {
        let location = place.large_log(report, effort).await?.clone();
        start(report, &location, effort).await?;
    }
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
