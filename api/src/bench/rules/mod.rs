//! `diario bench rules`: how fast the rules decide, without a log: what they cost on this machine.
//!
//! - `placing`: the auction; `converging`: the loops, lists and memory of what runs
//!
//! Only figures of the product's own pure functions; what is asked of them is made from seeds.

mod converging;
mod placing;

use std::time::Duration;

use clap::Args;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use super::{Error, measure::Report};

/// Options of `diario bench rules`.
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
    /// How many times a row is measured.
    rounds: usize,
    /// Sizes are so many times smaller.
    one_in: u32,
}

pub(super) const WHOLE: Effort = Effort { rounds: 5, one_in: 1 };
pub(super) const SMOKE: Effort = Effort { rounds: 1, one_in: 100 };

/// Measures every row.
pub(super) fn all(report: &mut Report, effort: Effort) -> Result<(), Error> {
    placing::all(report, effort)?;
    converging::all(report, effort)
}

/// What this thread has used of the processor for something.
fn processor_time<T>(what: impl FnOnce() -> T) -> Result<(T, Duration), Error> {
    let before = used()?;
    let done = what();
    Ok((done, used()?.saturating_sub(before)))
}

fn used() -> Result<Duration, Error> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).map_err(|source| Error::Io {
        what: "ask for the processor time",
        source: source.into(),
    })?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(microseconds).unwrap_or_default()))
}
