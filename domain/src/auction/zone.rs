//! The cells by availability zone, and in which order zones are tried for an LRP: those with the
//! fewest of its instances first, so that losing a zone loses as little of it as can be.

use std::collections::BTreeMap;

use super::CellState;
use crate::id::{ProcessGuid, Zone};

/// Cells of one zone.
#[derive(Debug, Clone)]
pub(super) struct ZoneCells {
    /// Which zone, by its place in the order of the zones' names.
    pub(super) zone: usize,
    /// Its cells, by id.
    pub(super) cells: Vec<RankedCell>,
}

/// A cell with its place in its zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct RankedCell {
    /// Its place among all cells.
    pub(super) cell: usize,
    /// Its place among the cells of its zone, from 0, before any filter.
    pub(super) rank: u32,
}

/// The cells, which come sorted by id, by zone.
pub(super) fn zones(cells: &[CellState]) -> Vec<ZoneCells> {
    let mut by_name: BTreeMap<&Zone, Vec<RankedCell>> = BTreeMap::new();
    for (cell, state) in cells.iter().enumerate() {
        let zone = by_name.entry(&state.zone).or_default();
        let rank = u32::try_from(zone.len()).unwrap_or(u32::MAX);
        zone.push(RankedCell { cell, rank });
    }
    let numbered = by_name.into_values().enumerate();
    numbered.map(|(zone, cells)| ZoneCells { zone, cells }).collect()
}

/// The compatible zones in groups of equal count of a process's instances, fewest first.
///
/// The instances on cells that are not compatible count too: they would be lost with the zone.
pub(super) fn groups_for_lrp<'a>(
    zones: &[ZoneCells],
    compatible: &'a [ZoneCells],
    cells: &[CellState],
    process_guid: &ProcessGuid,
) -> Vec<Vec<&'a ZoneCells>> {
    let mut groups: BTreeMap<u64, Vec<&ZoneCells>> = BTreeMap::new();
    for filtered in compatible {
        let whole = zones.get(filtered.zone).map_or(&[][..], |zone| &zone.cells);
        let instances = whole
            .iter()
            .map(|ranked| u64::from(cells[ranked.cell].instances_of(process_guid)))
            .sum();
        groups.entry(instances).or_default().push(filtered);
    }
    groups.into_values().collect()
}
