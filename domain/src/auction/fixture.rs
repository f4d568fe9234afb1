//! For the auction's tests: cells as plain values, from which an auction's input is made.

use std::{collections::BTreeSet, sync::Arc};

use super::{Auction, Cells, Change, Constraint, Demand, Offer, Outcome, PresentCell, Settings};
use crate::{
    bbs::{definition::Rootfs, placement::Resources},
    id::{CellId, ProcessGuid, Zone},
    log::{CellEpoch, Position},
    rep::WorkKind,
    units::Mebibytes,
};

/// A cell and all that is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CellState {
    pub(super) cell_id: CellId,
    pub(super) cell_epoch: CellEpoch,
    pub(super) zone: Zone,
    pub(super) total: Resources,
    pub(super) free: Resources,
    pub(super) starting_container_count: u32,
    pub(super) instances: Vec<(ProcessGuid, u32)>,
    pub(super) task_count: u32,
    pub(super) preloaded_rootfses: BTreeSet<String>,
    pub(super) placement_tags: BTreeSet<String>,
    pub(super) optional_placement_tags: BTreeSet<String>,
}

impl CellState {
    /// How many instances of a process it holds.
    pub(super) fn instances_of(&self, process_guid: &ProcessGuid) -> u32 {
        let of = |(guid, count): &(ProcessGuid, u32)| (guid == process_guid).then_some(*count);
        self.instances.iter().filter_map(of).sum()
    }

    /// Takes one placement into account.
    pub(super) fn reserve(&mut self, work: &WorkKind, resources: Resources) {
        self.free = self.free.minus(resources);
        self.starting_container_count += 1;
        match work {
            WorkKind::Lrp(key) => self.instances.push((key.process_guid.clone(), 1)),
            WorkKind::Task(_) => self.task_count += 1,
        }
    }
}

/// What a round is decided from, with plain cells.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) auctions: Vec<Auction>,
    pub(super) cells: Vec<CellState>,
    pub(super) settings: Settings,
}

/// The cells as a view keeps them.
pub(super) fn kept(states: &[CellState]) -> Cells {
    let mut cells = Cells::default();
    for state in states {
        let number = cells.number(&state.cell_id);
        let offer = Arc::new(Offer {
            zone: state.zone.clone(),
            preloaded_rootfses: state.preloaded_rootfses.clone(),
            placement_tags: state.placement_tags.clone(),
            optional_placement_tags: state.optional_placement_tags.clone(),
        });
        let CellState { cell_epoch, total, free, .. } = *state;
        cells.put(number, Some(PresentCell { cell_epoch, offer, total, free }));
        for _ in 0..state.starting_container_count {
            cells.count_starting(number, Change::OneMore);
        }
        for _ in 0..state.task_count {
            cells.count_task(number, Change::OneMore);
        }
        for (process_guid, count) in &state.instances {
            for _ in 0..*count {
                cells.count_instance(number, process_guid, Change::OneMore);
            }
        }
    }
    cells
}

/// One round on plain cells.
pub(super) fn schedule(input: Input) -> Outcome {
    let Input { auctions, cells, settings } = input;
    super::schedule(super::Input { auctions, cells: &kept(&cells), settings, seen: Position(7) })
}

pub(super) fn amounts(memory_mb: u32, disk_mb: u32, containers: u32) -> Resources {
    Resources { memory_mb: Mebibytes(memory_mb), disk_mb: Mebibytes(disk_mb), containers }
}

pub(super) fn tags(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

/// What an app of Diego's simulation asks for: one MiB of disk, and no tag.
pub(super) fn app_demand(memory_mb: u32) -> Demand {
    let rootfs = Rootfs::new("preloaded:linux").unwrap();
    Demand {
        constraint: Constraint { rootfs, placement_tags: BTreeSet::new() },
        resources: amounts(memory_mb, 1, 1),
    }
}
