//! What a process already has on the cells and in the zones, for the time of a round: zones with
//! the fewest instances are tried first, so that losing a zone loses as little as can be.

use super::{
    CellNumber,
    order::{Order, index},
};

/// The instances of one process on cells that are there.
#[derive(Debug, Clone)]
pub(super) struct Siblings {
    /// By place of the cell.
    held: Vec<(u32, u32)>,
    /// By zone.
    zones: Vec<InZone>,
}

/// When no more cells of a zone than these have the fewest instances, they are listed.
const FEW: u32 = 32;

/// The instances of one process in one zone.
#[derive(Debug, Clone, Default)]
struct InZone {
    instances: u64,
    holders: u32,
    /// The fewest that any cell of the zone has, and how many cells have just so many.
    fewest: u32,
    cells_with_fewest: u32,
    /// Which cells have just so many, where these are few: with many instances of one process they
    /// lie anywhere in the order.
    few: Option<Vec<u32>>,
}

impl Siblings {
    pub(super) fn new(held: &[(CellNumber, u32)], order: &Order) -> Self {
        let present = held.iter().filter_map(|(cell, count)| Some((order.place(*cell)?, *count)));
        let mut on_present: Vec<(u32, u32)> = Vec::with_capacity(held.len());
        on_present.extend(present);
        let mut held = on_present;
        held.sort_unstable();
        let mut zones = vec![InZone { fewest: u32::MAX, ..InZone::default() }; order.zones.len()];
        for (place, count) in &held {
            let zone = zone_of(*place, order);
            if let Some(in_zone) = zones.get_mut(index(zone)) {
                in_zone.note(*count);
            }
        }
        for (in_zone, cells) in zones.iter_mut().zip(&order.zones) {
            in_zone.note_without(*cells);
        }
        let mut siblings = Self { held, zones };
        for zone in (0..).take(order.zones.len()) {
            siblings.list_few(zone, order);
        }
        siblings
    }

    /// How many are on a cell.
    pub(super) fn on(&self, place: u32) -> u32 {
        match self.held.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => self.held.get(at).map_or(0, |(_, count)| *count),
            Err(_) => 0,
        }
    }

    /// How many are in a zone.
    pub(super) fn in_zone(&self, zone: u32) -> u64 {
        self.zones.get(index(zone)).map_or(0, |zone| zone.instances)
    }

    /// The fewest that any cell of a zone has.
    pub(super) fn fewest_on_a_cell(&self, zone: u32) -> u32 {
        self.zones.get(index(zone)).map_or(0, |zone| zone.fewest)
    }

    /// Which cells of a zone have the fewest, where these are few.
    pub(super) fn few_with_fewest(&self, zone: u32) -> Option<&[u32]> {
        self.zones.get(index(zone)).and_then(|zone| zone.few.as_deref())
    }

    /// Counts one more on a cell of a zone.
    pub(super) fn add(&mut self, place: u32, zone: u32, order: &Order) {
        let before = match self.held.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => self.held.get_mut(at).map_or(0, |(_, count)| {
                *count += 1;
                *count - 1
            }),
            Err(at) => {
                self.held.insert(at, (place, 1));
                0
            }
        };
        let Some(in_zone) = self.zones.get_mut(index(zone)) else { return };
        in_zone.instances += 1;
        if before == in_zone.fewest {
            in_zone.cells_with_fewest = in_zone.cells_with_fewest.saturating_sub(1);
            if let Some(few) = &mut in_zone.few {
                few.retain(|few| *few != place);
            }
            if in_zone.cells_with_fewest == 0 {
                self.recount(zone, order);
            }
            self.list_few(zone, order);
        }
    }

    fn recount(&mut self, zone: u32, order: &Order) {
        let mut counted = InZone { fewest: u32::MAX, ..InZone::default() };
        for (_, count) in self.held.iter().filter(|(place, _)| zone_of(*place, order) == zone) {
            counted.note(*count);
        }
        counted.note_without(order.zones.get(index(zone)).copied().unwrap_or_default());
        if let Some(in_zone) = self.zones.get_mut(index(zone)) {
            *in_zone = counted;
        }
    }
}

impl Siblings {
    fn list_few(&mut self, zone: u32, order: &Order) {
        let Some(in_zone) = self.zones.get(index(zone)) else { return };
        if in_zone.few.is_some() || in_zone.cells_with_fewest > FEW {
            return;
        }
        let fewest = in_zone.fewest;
        let has_fewest = |place: &u32| zone_of(*place, order) == zone && self.on(*place) == fewest;
        let few = if fewest == 0 {
            (0..).take(order.cells.len()).filter(has_fewest).collect()
        } else {
            self.held.iter().map(|(place, _)| *place).filter(has_fewest).collect()
        };
        if let Some(in_zone) = self.zones.get_mut(index(zone)) {
            in_zone.few = Some(few);
        }
    }
}

/// The zone of a cell.
pub(super) fn zone_of(place: u32, order: &Order) -> u32 {
    let group = order.cell(place).and_then(|cell| order.group(cell.group));
    group.map_or(u32::MAX, |group| group.zone)
}

impl InZone {
    /// Counts a cell with so many.
    fn note(&mut self, count: u32) {
        self.holders += 1;
        self.instances += u64::from(count);
        self.note_count(count, 1);
    }

    /// Counts those of the zone's cells that were not counted: they have none.
    fn note_without(&mut self, cells: u32) {
        let without = cells.saturating_sub(self.holders);
        if without > 0 {
            self.note_count(0, without);
        }
    }

    fn note_count(&mut self, count: u32, cells: u32) {
        if count < self.fewest {
            (self.fewest, self.cells_with_fewest) = (count, 0);
        }
        if count == self.fewest {
            self.cells_with_fewest += cells;
        }
    }
}
