//! How good a cell is for something: the lower, the better. Diego's formulas, in Diego's arithmetic
//! (`f64`, in this order of operations), so that the same cell wins.
//!
//! Never asks whether it fits.

use super::Settings;
use crate::bbs::placement::Resources;

/// What one thing of the same kind on the cell adds: more than all the rest together.
pub(super) const LOCALITY_WEIGHT: f64 = 1000.0;

/// Of a cell, all that its score for anything comes from, but for what it holds of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    pub(super) total: Resources,
    pub(super) free: Resources,
    pub(super) starting: u32,
}

/// For one more instance of a process that has so many on the cell, whose place in its zone is
/// `rank`.
pub(super) fn for_lrp(
    cell: &Standing,
    rank: u32,
    instances: u32,
    wanted: Resources,
    settings: &Settings,
) -> f64 {
    let locality = LOCALITY_WEIGHT * f64::from(instances);
    let index = settings.bin_pack_first_fit_weight * f64::from(rank);
    for_resources(cell, wanted, settings) + locality + index
}

/// For one more task on a cell with so many. Any tasks count, whosever they are.
pub(super) fn for_task(cell: &Standing, tasks: u32, wanted: Resources, settings: &Settings) -> f64 {
    let locality = LOCALITY_WEIGHT * f64::from(tasks);
    for_resources(cell, wanted, settings) + locality
}

/// The mean of the three used fractions after placing, and the weight of what is starting.
fn for_resources(cell: &Standing, wanted: Resources, settings: &Settings) -> f64 {
    let remaining = cell.free.minus(wanted);
    let total = cell.total;
    let used = used_fraction(remaining.memory_mb.0, total.memory_mb.0)
        + used_fraction(remaining.disk_mb.0, total.disk_mb.0)
        + used_fraction(remaining.containers, total.containers);
    let starting = f64::from(cell.starting) * settings.starting_container_weight;
    used / 3.0 + starting
}

/// A cell that has none of something has used none of it.
fn used_fraction(remaining: u32, total: u32) -> f64 {
    if total == 0 { 0.0 } else { 1.0 - f64::from(remaining) / f64::from(total) }
}

/// What something adds to the score of a cell that has this much in all, where it fits: the less,
/// the more the cell has.
pub(super) fn added(wanted: Resources, total: Resources) -> f64 {
    let part = |wanted: u32, total: u32| {
        if total == 0 { 0.0 } else { f64::from(wanted) / f64::from(total) }
    };
    (part(wanted.memory_mb.0, total.memory_mb.0)
        + part(wanted.disk_mb.0, total.disk_mb.0)
        + part(wanted.containers, total.containers))
        / 3.0
}
