//! `diario bench rules`: how fast the rules decide: what they cost on this machine.
//!
//! - `placing`: the auction; `converging`: the loops, lists and memory of what runs
//! - `lost`: a cell that falls silent, in virtual time; `million`: a whole cluster, through the log
//!
//! Only figures of the product's own functions; what is asked of them is made from numbers.

mod converging;
mod lost;
mod million;
mod placing;

use std::time::Duration;

use clap::Args;
use domain::{
    bbs::{cell::Registration, placement::Resources, rootfs::RootfsProviders},
    id::{CellId, MachineId, Zone},
    units::Mebibytes,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use super::{Error, load::definition, measure::Report};

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
pub(super) async fn all(report: &mut Report, effort: Effort) -> Result<(), Error> {
    placing::all(report, effort)?;
    converging::all(report, effort)?;
    lost::all(report, effort)?;
    million::all(report, effort).await
}

/// A machine that has room for a thousand instances of [`definition`].
fn registration(number: u32) -> Result<Registration, Error> {
    let definition = definition();
    let times = |amount: Mebibytes| Mebibytes(amount.0.saturating_mul(1_000));
    Ok(Registration {
        machine_id: MachineId(uuid::Uuid::from_u128(number.into())),
        capacity: Resources {
            memory_mb: times(definition.memory_mb),
            disk_mb: times(definition.disk_mb),
            containers: 1_000,
        },
        zone: Zone::new(&format!("z{}", number % 2)).map_err(malformed)?,
        address: [10, 0, 0, 1].into(),
        rootfs_providers: RootfsProviders::preloaded(definition.rootfs.preloaded_name()),
        volume_drivers: Default::default(),
        placement_tags: Default::default(),
        optional_placement_tags: Default::default(),
    })
}

fn cell_id(number: u32) -> Result<CellId, Error> {
    CellId::new(&format!("cell-{number:05}")).map_err(malformed)
}

fn amounts(memory_mb: u32, disk_mb: u32, containers: u32) -> Resources {
    Resources { memory_mb: Mebibytes(memory_mb), disk_mb: Mebibytes(disk_mb), containers }
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Unexpected(format!("a name of the bench {error}"))
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
