//! `diario cells`: the machines that hold containers, and moving everything off one of them.

use std::time::Duration;

use clap::{Args, Subcommand};
use domain::id::CellId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Error, Outcome,
    instant::Instant,
    table::{self, Table},
    target::{Print, Session, Target},
    wish::{self, Wish, WishOptions},
};

pub(super) const EXAMPLES: &str = "Examples:
  diario cells
  diario cells evacuate cell-1 --wait
  diario cells use cell-1
  diario cells rebalance-plan
Of the past: diario at -10m cells";

/// How often a waiting command looks again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The cells, or what becomes of one.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    verb: Option<Command>,
    #[command(flatten)]
    target: Target,
}

/// What can be done with a cell.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Moves everything off a cell, and places nothing more on it. Tasks run to their end there.
    #[command(after_help = "Example: diario cells evacuate cell-1 --timeout 600 --wait")]
    Evacuate(Evacuate),
    /// Uses a cell again; what still runs there stays.
    #[command(name = "use", after_help = "Example: diario cells use cell-1")]
    Use {
        /// Which.
        cell: CellId,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Shows which moves of running instances would even out the cells. Nothing is moved.
    #[command(after_help = "Example: diario cells rebalance-plan --moves-max 10")]
    RebalancePlan {
        /// The most moves.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=500))]
        moves_max: u32,
    },
}

/// How a cell is evacuated.
#[derive(Debug, Args)]
pub(super) struct Evacuate {
    /// Which.
    cell: CellId,
    /// After so many seconds, instances that are still there are stopped.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u32,
    /// Of one process, so many instances may be away from RUNNING at a time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    instances_away: u32,
    /// Wait until nothing is left on it, and show what is.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    wish: WishOptions,
}

pub(super) async fn run(options: Options, print: Print) -> Result<Outcome, Error> {
    let session = options.target.open(print)?;
    match options.verb {
        None => list(&session, Instant::Now).await?,
        Some(Command::Evacuate(evacuate)) => run_evacuate(&session, evacuate).await?,
        Some(Command::Use { cell, wish }) => {
            let arguments = [("cellId", "String!", json!(cell))];
            let cancel = Wish { mutation: "cancelEvacuation", arguments };
            let done = format!("cell {cell} takes work");
            wish::send(&session, &wish, cancel).await?.show(&session, &done)?;
        }
        Some(Command::RebalancePlan { moves_max }) => rebalance_plan(&session, moves_max).await?,
    }
    Ok(Outcome::Done)
}

async fn run_evacuate(session: &Session, evacuate: Evacuate) -> Result<(), Error> {
    let Evacuate { cell, timeout, instances_away, wait, wish } = evacuate;
    let arguments = [
        ("cellId", "String!", json!(cell)),
        ("timeoutSeconds", "Int", json!(timeout)),
        ("instancesAwayMax", "Int", json!(instances_away)),
    ];
    let wanted = Wish { mutation: "evacuateCell", arguments };
    let done = format!("cell {cell} is being evacuated");
    wish::send(session, &wish, wanted).await?.show(session, &done)?;
    if wait { wait_until_evacuated(session, &cell).await } else { Ok(()) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    moves: Vec<Move>,
    gain: String,
    imbalance_before: String,
    imbalance_after: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Move {
    process_guid: String,
    index: u32,
    from: String,
    to: String,
    gain: String,
}

async fn rebalance_plan(session: &Session, moves_max: u32) -> Result<(), Error> {
    let selection = "rebalancePlan(movesMax: $movesMax) { \
        moves { processGuid index from to gain } gain imbalanceBefore imbalanceAfter }";
    let variables = json!({ "movesMax": moves_max });
    let answer = Instant::Now.world(session, "$movesMax: Int!", selection, variables).await?;
    let plan: Plan = session.client.part(&answer, "/world/rebalancePlan")?;
    session.show(&answer["world"], || plan_lines(&plan))
}

fn plan_lines(plan: &Plan) -> Vec<String> {
    let Plan { moves, gain, imbalance_before, imbalance_after } = plan;
    let mut table = Table::new(&["INSTANCE", "FROM", "TO", "GAIN"]);
    for Move { process_guid, index, from, to, gain } in moves {
        table.row([format!("{process_guid}/{index}"), from.clone(), to.clone(), gain.clone()]);
    }
    let mut lines = table.lines("nothing would be better elsewhere");
    lines.push(match moves.len() {
        0 => format!("imbalance {imbalance_before}"),
        moves => format!(
            "{moves} moves gain {gain}; imbalance {imbalance_before}, then {imbalance_after}; \
             nothing was moved (`diario lrp restart` lets an instance be placed anew)"
        ),
    });
    lines
}

/// Shows what is left whenever that changes, until nothing is.
async fn wait_until_evacuated(session: &Session, cell_id: &CellId) -> Result<(), Error> {
    let mut shown = None;
    loop {
        let answer = Instant::Now.world(session, "", SELECTION, json!({})).await?;
        let cells: Vec<Cell> = session.client.part(&answer, "/world/cells")?;
        let found = cells.into_iter().find(|it| it.cell_id == cell_id.as_str());
        let Some(evacuation) = found.and_then(|cell| cell.evacuation) else {
            return Err(Error::EvacuationCancelled { cell_id: cell_id.clone() });
        };
        if shown.as_ref() != Some(&evacuation) {
            session.show(&json!(evacuation), || evacuation_lines(&evacuation))?;
        }
        if evacuation.evacuated_at.is_some() {
            return Ok(());
        }
        shown = Some(evacuation);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn evacuation_lines(evacuation: &Evacuation) -> Vec<String> {
    let Evacuation { done, left, waiting, ends_at, .. } = evacuation;
    let ends_at = table::time(ends_at);
    let mut lines = vec![match left {
        0 => format!("{done} moved, nothing is left"),
        _ => format!("{done} moved, {left} left; instances are stopped at {ends_at}"),
    }];
    lines.extend(waiting.iter().map(|Waiting { key, why }| format!("  {key}  {why}")));
    lines
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cell {
    cell_id: String,
    zone: String,
    presence: String,
    since: String,
    capacity: Amounts,
    free: Amounts,
    instances: u32,
    tasks: u32,
    evacuation: Option<Evacuation>,
    failure: Option<String>,
}

#[derive(PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Evacuation {
    ends_at: String,
    evacuated_at: Option<String>,
    done: u32,
    left: u32,
    waiting: Vec<Waiting>,
}

#[derive(PartialEq, Eq, Deserialize, Serialize)]
struct Waiting {
    key: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Amounts {
    memory_mb: u32,
    disk_mb: u32,
    containers: u32,
}

const SELECTION: &str = "cells { cellId epoch zone address presence since \
    capacity { memoryMb diskMb containers } free { memoryMb diskMb containers } \
    rootfses placementTags optionalPlacementTags instances tasks position failure \
    evacuation { startedAt endsAt evacuatedAt containers done left waiting { key why } } }";

/// Lists the cells at an instant.
pub(super) async fn list(session: &Session, instant: Instant) -> Result<(), Error> {
    let answer = instant.world(session, "", SELECTION, json!({})).await?;
    let cells: Vec<Cell> = session.client.part(&answer, "/world/cells")?;
    session.show(&answer["world"], || {
        let mut table = Table::new(&[
            "CELL",
            "ZONE",
            "PRESENCE",
            "SINCE",
            "LRPS",
            "TASKS",
            "FREE MEMORY",
            "FREE DISK",
            "FREE CONTAINERS",
        ]);
        for cell in &cells {
            let Cell { capacity, free, .. } = cell;
            table.row([
                cell.cell_id.clone(),
                cell.zone.clone(),
                presence_text(cell),
                table::time(&cell.since),
                cell.instances.to_string(),
                cell.tasks.to_string(),
                format!("{} of {} MiB", free.memory_mb, capacity.memory_mb),
                format!("{} of {} MiB", free.disk_mb, capacity.disk_mb),
                format!("{} of {}", free.containers, capacity.containers),
            ]);
        }
        table.lines("no cells; `diario cell --help` shows how to start one")
    })
}

/// Whether it is there, and whether it takes work.
fn presence_text(cell: &Cell) -> String {
    let presence = match &cell.failure {
        None => table::lower(&cell.presence),
        Some(failure) => {
            let failure = table::printable(failure);
            format!("{}, unhealthy: {failure}", table::lower(&cell.presence))
        }
    };
    match &cell.evacuation {
        None => presence,
        Some(evacuation) if evacuation.evacuated_at.is_some() => format!("{presence}, evacuated"),
        Some(evacuation) => format!("{presence}, evacuating, {} left", evacuation.left),
    }
}
