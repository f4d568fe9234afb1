//! A cell as clients see it: what it offers, what is left of it, and whether it is there.

use std::collections::BTreeMap;

use async_graphql::{Enum, SimpleObject};
use domain::{
    bbs::{
        cell::{self, Presence},
        placement::Resources,
    },
    id::CellId,
};
use projections::world::World;

use super::scalars::{BigInt, PositionText, Time};

/// Whether a cell is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum CellPresence {
    /// It is heard.
    Present,
    /// It was not heard for a whole presence time to live.
    Lost,
}

/// A machine that holds containers.
#[derive(SimpleObject)]
pub(super) struct Cell {
    /// Its id.
    cell_id: String,
    /// Which registration: higher when the machine is another one.
    epoch: BigInt,
    /// Its availability zone.
    zone: String,
    /// Its address as the router sees it.
    address: String,
    /// Whether it is there.
    presence: CellPresence,
    /// Since when.
    since: Time,
    /// All that it can hold.
    capacity: Capacity,
    /// What is left of it.
    free: Capacity,
    /// Its preloaded root file systems.
    rootfses: Vec<String>,
    /// Tags that a definition must carry to be placed here.
    placement_tags: Vec<String>,
    /// Tags that a definition may carry to be placed here.
    optional_placement_tags: Vec<String>,
    /// How many instances of LRPs are placed here.
    instances: u32,
    /// How many tasks are placed here.
    tasks: u32,
    /// Its last event.
    position: PositionText,
}

/// What a cell can hold, or what is left of it.
#[derive(SimpleObject)]
pub(super) struct Capacity {
    /// Memory in mebibytes.
    memory_mb: u32,
    /// Disk in mebibytes.
    disk_mb: u32,
    /// Containers.
    containers: u32,
}

impl From<Resources> for Capacity {
    fn from(resources: Resources) -> Self {
        Self {
            memory_mb: resources.memory_mb.0,
            disk_mb: resources.disk_mb.0,
            containers: resources.containers,
        }
    }
}

/// All cells that ever registered, by id.
pub(super) fn cells(world: &World) -> Vec<Cell> {
    let aggregates = world.aggregates();
    let slots = aggregates.slots().filter_map(|slot| slot.placement());
    let instances = count(slots.map(|placement| &placement.cell_id));
    let placed = aggregates.tasks().filter_map(|task| task.placement());
    let tasks = count(placed.map(|placement| &placement.cell_id));
    let of = |counts: &BTreeMap<&CellId, u32>, cell: &cell::Cell| {
        counts.get(&cell.cell_id).copied().unwrap_or(0)
    };
    aggregates
        .cells()
        .map(|cell| shown(cell, aggregates.free_on(cell), of(&instances, cell), of(&tasks, cell)))
        .collect()
}

fn count<'w>(cell_ids: impl Iterator<Item = &'w CellId>) -> BTreeMap<&'w CellId, u32> {
    let mut counts = BTreeMap::new();
    for cell_id in cell_ids {
        *counts.entry(cell_id).or_insert(0) += 1;
    }
    counts
}

fn shown(cell: &cell::Cell, free: Resources, instances: u32, tasks: u32) -> Cell {
    let registration = &cell.registration;
    let (presence, since) = match cell.presence {
        Presence::Present { since } => (CellPresence::Present, since),
        Presence::Lost { since } => (CellPresence::Lost, since),
    };
    Cell {
        cell_id: cell.cell_id.to_string(),
        epoch: BigInt(cell.cell_epoch.0),
        zone: registration.zone.to_string(),
        address: registration.address.to_string(),
        presence,
        since: Time(since),
        capacity: registration.capacity.into(),
        free: free.into(),
        rootfses: registration.rootfs_providers.preloaded_names(),
        placement_tags: registration.placement_tags.iter().cloned().collect(),
        optional_placement_tags: registration.optional_placement_tags.iter().cloned().collect(),
        instances,
        tasks,
        position: PositionText(cell.last_position),
    }
}
