//! Several nodes on one Postgres, in sum, against one node at the same number of clients.
//!
//! Each has a store, a connection and a bus of its own, as processes would; they share this
//! machine's processors, as they would in a process each.

use super::{
    Effort, Error, load,
    measure::{Goal, Report, Round, Row},
    place::{self, Place},
};

const CLIENTS: usize = 512;
const GOALS: [(usize, f64); 2] = [(2, 0.7), (4, 0.5)];

pub(super) async fn postgres(
    report: &mut Report,
    place: &Place,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants("nodes/postgres") {
        return Ok(());
    }
    report.progress("several nodes on one Postgres");
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let one = together(place, 1, effort).await?;
        let mut several = Vec::new();
        for (nodes, _) in GOALS {
            several.push(together(place, nodes, effort).await?);
        }
        rounds.push((one, several));
    }
    for (index, (nodes, goal)) in GOALS.into_iter().enumerate() {
        let figures: Vec<Round> = rounds
            .iter()
            .map(|(one, several)| Round {
                ours: several.get(index).copied().unwrap_or_default(),
                peer: Some(*one),
            })
            .collect();
        let row = Row {
            name: "nodes/postgres",
            size: format!("nodes={nodes}"),
            unit: "commands/s",
            goal: Goal::RatioAtLeast(goal),
        };
        report.add(row, &figures);
    }
    Ok(())
}

async fn together(place: &Place, nodes: usize, effort: Effort) -> Result<f64, Error> {
    let (location, _) = place.new_postgres()?;
    let mut logs = Vec::new();
    for _ in 0..nodes {
        logs.push(place::open_with_bus(&location).await?);
    }
    let buses: Vec<_> = logs.iter().map(|log| log.bus.clone()).collect();
    let figures = load::drive(&buses, CLIENTS / nodes, effort.load).await?;
    drop(buses);
    for log in logs {
        log.storage.close().await;
    }
    Ok(figures.per_second)
}
