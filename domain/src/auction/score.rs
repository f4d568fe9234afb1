//! How good a cell is for something: the lower, the better. Diego's formulas.
//!
//! Never asks whether it fits: [`super::schedule()`] leaves out cells that lack something.

use super::{CellState, Settings};
use crate::{bbs::placement::Resources, id::ProcessGuid};

/// What one thing of the same kind on the cell adds: more than all the rest together.
const LOCALITY_WEIGHT: f64 = 1000.0;

/// For one more instance of a process on a cell with this rank in its zone.
pub(super) fn for_lrp(
    cell: &CellState,
    rank: u32,
    process_guid: &ProcessGuid,
    resources: Resources,
    settings: &Settings,
) -> f64 {
    let locality = LOCALITY_WEIGHT * f64::from(cell.instances_of(process_guid));
    let index = settings.bin_pack_first_fit_weight * f64::from(rank);
    for_resources(cell, resources, settings) + locality + index
}

/// For one more task. Any tasks count, whosever they are.
pub(super) fn for_task(cell: &CellState, resources: Resources, settings: &Settings) -> f64 {
    let locality = LOCALITY_WEIGHT * f64::from(cell.task_count);
    for_resources(cell, resources, settings) + locality
}

/// The mean of the three used fractions after placing, and the weight of what is starting.
fn for_resources(cell: &CellState, resources: Resources, settings: &Settings) -> f64 {
    let remaining = cell.free.minus(resources);
    let total = cell.total;
    let used = used_fraction(remaining.memory_mb.0, total.memory_mb.0)
        + used_fraction(remaining.disk_mb.0, total.disk_mb.0)
        + used_fraction(remaining.containers, total.containers);
    let starting = f64::from(cell.starting_container_count) * settings.starting_container_weight;
    used / 3.0 + starting
}

/// A cell that has none of something has used none of it.
fn used_fraction(remaining: u32, total: u32) -> f64 {
    if total == 0 { 0.0 } else { 1.0 - f64::from(remaining) / f64::from(total) }
}
