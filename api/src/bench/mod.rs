//! `diario bench log`: how fast the log is, beside peers in the same run, on the user's machine.
//! `diario bench rules`: how fast the rules decide. `diario bench cell`: how fast machines are.
//!
//! - `measure`: rows, goals, medians; `load`: clients and their latencies; `place`: logs to bench;
//!   `large`: the large one
//! - `rules`, `cell`: the rows of these benches; the other files each fill some rows of the log's
//!
//! Works only in a temporary folder of its own, which it removes. Every figure is of the product's
//! own parts: the command bus, the stores, the views, a real node.

mod archived;
mod cell;
mod durable;
mod large;
mod load;
mod measure;
mod past;
mod place;
mod replay;
mod rules;
mod several_nodes;
mod size;
mod start;
mod subscribers;
#[cfg(test)]
mod tests;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use projections::{archive, event_store, history, peers};

use crate::{command_bus, node, output};
use measure::Report;
use place::Place;

/// Benches that users can run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How fast the log is, beside pgbench and SQLite's library, in about 20 minutes.
    #[command(after_help = EXAMPLES)]
    Log(Options),
    /// How fast the rules decide, in about 10 minutes.
    #[command(after_help = RULES_EXAMPLES)]
    Rules(rules::Options),
    /// How fast instances start, start again, move and idle, in about 5 minutes. Needs root.
    #[command(after_help = CELL_EXAMPLES)]
    Cell(cell::Options),
}

const CELL_EXAMPLES: &str = "Examples:
  diario bench cell
  diario bench cell --only start,killed --json
Rows: start/one (from a wish to the first 200 through the router), start/together (8 clients),
killed (from kill -9 of an app to the first 200 of its next instance), lost (a cell's agent is
killed, until its 50 instances run elsewhere), idle (250 instances with a check each 30 s).
Makes real containers, which needs root. Use a release build.";

const RULES_EXAMPLES: &str = "Examples:
  diario bench rules
  diario bench rules --only place/250000 --json
Rows: decision/empty, decision/running, decision/alike (the second against the first), place/8200,
place/20000, place/50000, place/250000, memory/lrp, converge/tick, converge/audit, list/actual,
list/desired, lost (from a cell's last sign of life until its 250 LRPs are placed again, in virtual
time), million (1,000,000 LRPs on 10,000 simulated cells through a SQLite log, which runs once and
needs some GB of the temporary folder's disk).
Use a release build. Times but those of million are of the processor, so that other load on the
machine counts little.";

const EXAMPLES: &str = "Examples:
  diario bench log
  diario bench log --only durable/sqlite --json
  diario bench log --only past,start --events 1000000
Rows: durable/postgres, durable/sqlite, nodes/postgres, bytes, replay, past, playback, start,
subscribers, verify.
Needs the Debian package postgresql for the rows of Postgres; the bench starts a server of its own.
Use a release build. Figures swing with the disk; ratios against the peer of the same run hold.";

/// Options of `diario bench log`.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object a line, a row each, instead of a table.
    #[arg(long)]
    json: bool,
    /// Only the rows whose names begin with this, or with one of several with commas between.
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// How many events the large log has, which takes minutes to make.
    #[arg(long, value_name = "N", default_value_t = LARGE_EVENTS, value_parser = clap::value_parser!(u64).range(10_000..))]
    events: u64,
    /// Only see whether every row can be measured: tiny sizes, figures without meaning.
    #[arg(long)]
    smoke: bool,
}

/// Why a bench cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A peer cannot run.
    #[error(transparent)]
    Peer(#[from] peers::Error),
    /// A log failed.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// A batch was not written.
    #[error("cannot append to the bench's log")]
    Append(#[from] event_store::AppendError),
    /// A command that must be accepted was not.
    #[error("a command of the bench was not accepted")]
    Bus(#[from] command_bus::Error),
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The past cannot be shown.
    #[error(transparent)]
    History(#[from] history::Error),
    /// A node does not start.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// A folder or a process of the bench cannot be used.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that must happen did not.
    #[error("{0}")]
    Unexpected(String),
}

/// How much is done for each row.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// How many times a row is measured.
    rounds: usize,
    /// How long a load lasts.
    load: Duration,
    /// The client counts among which the peer's best is looked for.
    peer_clients: &'static [usize],
    /// The sizes of the large logs, in events, ten-fold apart.
    events: [u64; 3],
    /// How many events there are to one LRP in a large log.
    events_per_lrp: u64,
    /// How many subscribers follow one app each, and how many follow everything.
    subscribers: (usize, usize),
    /// How many events a second those are shown.
    subscribed_per_second: u64,
    /// How long one more subscriber reads nothing, which is longer than a node waits for it.
    slow_for: Option<Duration>,
    /// Whether this program may be started as a node, which a test's program is not.
    starts_nodes: bool,
}

const LARGE_EVENTS: u64 = 10_000_000;

const WHOLE: Effort = Effort {
    rounds: 5,
    load: Duration::from_secs(2),
    peer_clients: &[16, 32, 64, 128],
    events: [LARGE_EVENTS / 100, LARGE_EVENTS / 10, LARGE_EVENTS],
    events_per_lrp: 40,
    subscribers: (1_000, 20),
    subscribed_per_second: 2_000,
    slow_for: Some(Duration::from_secs(20)),
    starts_nodes: true,
};

const SMOKE: Effort = Effort {
    rounds: 1,
    load: Duration::from_millis(200),
    peer_clients: &[16],
    events: [100, 1_000, 10_000],
    events_per_lrp: 40,
    subscribers: (10, 2),
    subscribed_per_second: 100,
    slow_for: None,
    starts_nodes: true,
};

/// Runs a bench: 0 when every goal was met, 1 when one was missed.
///
/// # Errors
/// Why a row could not be measured.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let options = match command {
        Command::Log(options) => options,
        Command::Rules(options) => return run_rules(&options).await,
        Command::Cell(options) => return run_cell(&options).await,
    };
    let mut report = Report::new(options.json, &options.only);
    let events = [options.events / 100, options.events / 10, options.events];
    let effort = if options.smoke { SMOKE } else { Effort { events, ..WHOLE } };
    // Ctrl-C drops what runs: servers and folders go with it.
    tokio::select! {
        done = log(&mut report, effort) => done?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("the bench was interrupted")
        }
    }
    finish(&report, &options.only, options.smoke)
}

async fn run_rules(options: &rules::Options) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(options.json, &options.only);
    warn_of_debug_build();
    let effort = if options.smoke { rules::SMOKE } else { rules::WHOLE };
    rules::all(&mut report, effort).await?;
    finish(&report, &options.only, options.smoke)
}

async fn run_cell(options: &cell::Options) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(options.json, &options.only);
    warn_of_debug_build();
    let effort = if options.smoke { cell::SMOKE } else { cell::WHOLE };
    // Ctrl-C drops what runs: processes, containers and folders go with it.
    tokio::select! {
        done = cell::all(&mut report, effort) => done?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("the bench was interrupted")
        }
    }
    finish(&report, &options.only, options.smoke)
}

fn finish(report: &Report, only: &str, is_smoke: bool) -> anyhow::Result<ExitCode> {
    if report.rows() == 0 {
        anyhow::bail!("no row's name begins with {only:?}; see --help for the names");
    }
    report.finish();
    let is_met = is_smoke || report.is_met();
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn warn_of_debug_build() {
    if cfg!(debug_assertions) {
        output::progress("This is not a release build: its figures say little.");
    }
}

async fn log(report: &mut Report, effort: Effort) -> Result<(), Error> {
    warn_of_debug_build();
    let place = Place::new()?;
    durable::sqlite(report, &place, effort).await?;
    durable::postgres(report, &place, effort).await?;
    several_nodes::postgres(report, &place, effort).await?;
    size::hot(report, &place, effort).await?;
    replay::all(report, &place, effort).await?;
    past::all(report, &place, effort).await?;
    start::all(report, &place, effort).await?;
    subscribers::all(report, &place, effort).await?;
    archived::all(report, &place, effort).await?;
    Ok(())
}
