//! Which cells may take something at all: its root file system first, then its placement tags.
//!
//! Never looks at amounts: those change while a round goes on, these do not.

use std::collections::BTreeSet;

use super::{CellState, Demand, PlacementError, zone::ZoneCells};

/// The zones with the cells that may take it; zones without any are left out.
///
/// The error is the one that got furthest in any zone.
pub(super) fn compatible(
    zones: &[ZoneCells],
    cells: &[CellState],
    demand: &Demand,
) -> Result<Vec<ZoneCells>, PlacementError> {
    let mut any_has_rootfs = false;
    let mut kept = Vec::new();
    for (zone_index, zone) in zones.iter().enumerate() {
        let with_rootfs: Vec<_> =
            zone.cells.iter().filter(|ranked| has_rootfs(&cells[ranked.cell], demand)).collect();
        any_has_rootfs |= !with_rootfs.is_empty();
        let fitting: Vec<_> = with_rootfs
            .into_iter()
            .filter(|ranked| fits_tags(&cells[ranked.cell], &demand.placement_tags))
            .copied()
            .collect();
        if !fitting.is_empty() {
            kept.push(ZoneCells { zone: zone_index, cells: fitting });
        }
    }
    if !kept.is_empty() {
        return Ok(kept);
    }
    if any_has_rootfs {
        return Err(PlacementError::PlacementTags(demand.placement_tags.clone()));
    }
    Err(PlacementError::Rootfs)
}

fn has_rootfs(cell: &CellState, demand: &Demand) -> bool {
    cell.preloaded_rootfses.contains(demand.rootfs.preloaded_name())
}

/// All that the cell requires is there, and nothing that it neither requires nor allows.
fn fits_tags(cell: &CellState, tags: &BTreeSet<String>) -> bool {
    cell.placement_tags.is_subset(tags)
        && tags.iter().all(|tag| {
            cell.placement_tags.contains(tag) || cell.optional_placement_tags.contains(tag)
        })
}
