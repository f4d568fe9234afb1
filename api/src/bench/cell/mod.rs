//! `diario bench cell`: how fast instances start, start again, move and idle, through the whole
//! platform: a control plane with its router and cells, each a process of its own on this machine.
//!
//! - `platform`: the processes; `apps`: the apps that run on it, as a client sees them
//! - `starting`, `ending`, `idle`: the rows
//!
//! Real containers, so root is needed; nothing of them is left afterwards.

mod apps;
mod ending;
mod idle;
mod platform;
mod starting;

use std::time::Duration;

use clap::Args;

use super::{Error, measure::Report, place::Place};

/// Options of `diario bench cell`.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object a line, a row each, instead of a table.
    #[arg(long)]
    pub(super) json: bool,
    /// Only the rows whose names begin with this, or with one of several with commas between.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) only: String,
    /// Only see whether every row can be measured: tiny sizes, figures without meaning.
    #[arg(long)]
    pub(super) smoke: bool,
}

/// How much is done for each row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// How many instances are started one after another.
    starts: u32,
    /// How many clients start instances at once, and for how long.
    together: (u32, Duration),
    /// How many processes are killed one after another.
    kills: u32,
    /// How many instances a cell has when it is lost.
    lost: u32,
    /// How many instances idle, and for how long they are watched.
    idle: (u32, Duration),
}

pub(super) const WHOLE: Effort = Effort {
    starts: 100,
    together: (8, Duration::from_secs(20)),
    kills: 40,
    lost: 50,
    idle: (250, Duration::from_secs(60)),
};
pub(super) const SMOKE: Effort = Effort {
    starts: 3,
    together: (2, Duration::from_secs(1)),
    kills: 2,
    lost: 2,
    idle: (3, Duration::from_secs(1)),
};

/// Measures every row.
pub(super) async fn all(report: &mut Report, effort: Effort) -> Result<(), Error> {
    let place = Place::new()?;
    starting::one_at_a_time(report, &place, effort).await?;
    starting::together(report, &place, effort).await?;
    ending::killed(report, &place, effort).await?;
    ending::cell_lost(report, &place, effort).await?;
    idle::all(report, &place, effort).await
}
