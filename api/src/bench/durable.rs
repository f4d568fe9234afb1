//! Durable commands, from the command bus to the acknowledgement: on Postgres beside pgbench, on
//! SQLite beside its own library. Peer and ours take turns, so that both meet the same disk.

use std::collections::BTreeMap;

use projections::peers::{pgbench::Pgbench, sqlite};

use super::{
    Effort, Error, load,
    measure::{self, Goal, Report, Round, Row},
    place::{self, Place},
};
use crate::clock::Stopwatch;

/// The client counts of ours, and how many times the peer each must reach.
const POSTGRES: [(usize, f64); 4] = [(1, 0.7), (16, 2.0), (64, 4.0), (512, 8.0)];
/// From this many clients on the latency is held to the peer's at the same count.
const LATENCY_FROM: usize = 64;
const SQLITE: [(usize, f64); 3] = [(1, 0.8), (16, 3.0), (64, 8.0)];

/// A round's figures by client count: commands a second, and the latency's p99 in milliseconds.
type ByClients = BTreeMap<usize, (f64, f64)>;

pub(super) async fn postgres(
    report: &mut Report,
    place: &Place,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants("durable/postgres") {
        return Ok(());
    }
    report.progress("durable commands on Postgres beside pgbench");
    let server = place.server()?;
    let mut peer = Pgbench::new(server, load::payload())?;
    // pgbench knows whole seconds only.
    let seconds = effort.load.as_secs().max(1);
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let mut peers = ByClients::new();
        for clients in peer_clients(effort) {
            let run = tokio::task::block_in_place(|| peer.run(clients, seconds))?;
            peers.insert(clients, (run.per_second, measure::p99_ms(run.latencies_us)));
        }
        let (location, _) = place.new_postgres()?;
        rounds.push((ours(&location, &POSTGRES, effort).await?, peers));
    }
    for (clients, goal) in POSTGRES {
        let of_round = |(ours, peers): &(ByClients, ByClients)| {
            let best = effort.peer_clients.iter().filter_map(|clients| peers.get(clients));
            let best = best.map(|(per_second, _)| *per_second).fold(0.0, f64::max);
            let single = peers.get(&1).map_or(0.0, |(per_second, _)| *per_second);
            let peer = if clients == 1 { single } else { best };
            Round { ours: rate(ours, clients), peer: Some(peer) }
        };
        let figures: Vec<Round> = rounds.iter().map(of_round).collect();
        let row = Row {
            name: "durable/postgres",
            size: format!("clients={clients}"),
            unit: "commands/s",
            goal: Goal::RatioAtLeast(goal),
        };
        report.add(row, &figures);
        let figures: Vec<Round> = rounds
            .iter()
            .map(|(ours, peers)| Round {
                ours: latency(ours, clients),
                // Without a transaction there is no latency.
                peer: peers.get(&clients).map(|(_, p99)| *p99).filter(|p99| *p99 > 0.0),
            })
            .collect();
        let goal = if clients >= LATENCY_FROM { Goal::RatioAtMost(0.5) } else { Goal::None };
        let size = format!("clients={clients}");
        report.add(Row { name: "durable/postgres/p99", size, unit: "ms", goal }, &figures);
    }
    Ok(())
}

fn peer_clients(effort: Effort) -> impl Iterator<Item = usize> {
    let ours = POSTGRES.iter().map(|(clients, _)| *clients);
    let all: std::collections::BTreeSet<usize> =
        ours.chain(effort.peer_clients.iter().copied()).collect();
    all.into_iter()
}

pub(super) async fn sqlite(
    report: &mut Report,
    place: &Place,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants("durable/sqlite") {
        return Ok(());
    }
    report.progress("durable commands on SQLite beside its own library");
    let payload = load::payload();
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let file = place.path().join(format!("{}.db", place.new_name()));
        let started = Stopwatch::start();
        let inserted = tokio::task::block_in_place(|| {
            sqlite::insert_while(&file, payload.as_bytes(), || started.elapsed() < effort.load)
        })?;
        let peer = measure::per_second(inserted, started.elapsed());
        let location = place.new_sqlite()?;
        rounds.push((ours(&location, &SQLITE, effort).await?, peer));
    }
    for (clients, goal) in SQLITE {
        let of_round = |(ours, peer): &(ByClients, f64)| Round {
            ours: rate(ours, clients),
            peer: Some(*peer),
        };
        let figures: Vec<Round> = rounds.iter().map(of_round).collect();
        let row = Row {
            name: "durable/sqlite",
            size: format!("clients={clients}"),
            unit: "commands/s",
            goal: Goal::RatioAtLeast(goal),
        };
        report.add(row, &figures);
        let figures: Vec<Round> = rounds
            .iter()
            .map(|(ours, _)| Round { ours: latency(ours, clients), peer: None })
            .collect();
        let size = format!("clients={clients}");
        let row = Row { name: "durable/sqlite/p99", size, unit: "ms", goal: Goal::None };
        report.add(row, &figures);
    }
    Ok(())
}

async fn ours(
    location: &projections::storage::Location,
    goals: &[(usize, f64)],
    effort: Effort,
) -> Result<ByClients, Error> {
    let log = place::open_with_bus(location).await?;
    let mut figures = ByClients::new();
    for (clients, _) in goals {
        let buses = std::slice::from_ref(&log.bus);
        let load = load::drive(buses, *clients, effort.load).await?;
        figures.insert(*clients, (load.per_second, load.p99_ms));
    }
    log.storage.close().await;
    Ok(figures)
}

fn rate(figures: &ByClients, clients: usize) -> f64 {
    figures.get(&clients).map_or(0.0, |(per_second, _)| *per_second)
}

fn latency(figures: &ByClients, clients: usize) -> f64 {
    figures.get(&clients).map_or(0.0, |(_, p99)| *p99)
}
