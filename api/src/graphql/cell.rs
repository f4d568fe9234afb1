//! A cell as clients see it: what it offers, what is left of it, and whether it is there.

use std::{collections::BTreeMap, fmt::Display};

use async_graphql::{Enum, SimpleObject};
use domain::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::InstancePresence,
        cell::{self, Presence},
        placement::{Placement, Resources},
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
    /// What moves everything off it, while something does.
    evacuation: Option<Evacuation>,
    /// Why it cannot make containers, as it found out with one of its own; absent when it can.
    /// Nothing is placed on it while there is a reason.
    failure: Option<String>,
    /// Its last event.
    position: PositionText,
}

/// What moves everything off a cell.
#[derive(SimpleObject)]
pub(super) struct Evacuation {
    /// Since when.
    started_at: Time,
    /// When instances that are still there are stopped.
    ends_at: Time,
    /// When nothing was left.
    evacuated_at: Option<Time>,
    /// Of one process guid, so many instances may be away from RUNNING at a time.
    instances_away_max: u32,
    /// How many containers were there when it began.
    containers: u32,
    /// How many of them are gone.
    done: u32,
    /// How many are left.
    left: u32,
    /// What is left, and what each waits for: the first hundred.
    waiting: Vec<Waiting>,
}

/// Something that is left on a cell under evacuation.
#[derive(Clone, SimpleObject)]
pub(super) struct Waiting {
    /// `<process guid>/<index>`, or the task's guid.
    key: String,
    /// What it waits for, in words.
    why: String,
}

/// How much of what is left on a cell is told one by one.
const WAITING_MAX: usize = 100;

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
    let instances = aggregates.slots().flat_map(|slot| slot.instances());
    let instances = count(instances.map(|instance| &instance.placement.cell_id));
    let placed = aggregates.tasks().filter_map(|task| task.placement());
    let tasks = count(placed.map(|placement| &placement.cell_id));
    let of = |counts: &BTreeMap<&CellId, u32>, cell: &cell::Cell| {
        counts.get(&cell.cell_id).copied().unwrap_or(0)
    };
    let is_evacuating = aggregates.cells().any(|cell| cell.evacuation.is_some());
    let waiting = if is_evacuating { waiting(aggregates) } else { BTreeMap::new() };
    aggregates
        .cells()
        .map(|cell| Cell {
            evacuation: evacuation_of(aggregates, cell, &waiting),
            ..shown(cell, aggregates.free_on(cell), of(&instances, cell), of(&tasks, cell))
        })
        .collect()
}

/// What is left on the cells that are being evacuated, and what it waits for.
fn waiting(aggregates: &Aggregates) -> BTreeMap<&CellId, Vec<Waiting>> {
    let mut waiting: BTreeMap<&CellId, Vec<Waiting>> = BTreeMap::new();
    let mut add = |placement: &'_ Placement, key: &dyn Display, why: &str| {
        let cell = aggregates.cell(&placement.cell_id).filter(|it| it.evacuation.is_some());
        let Some(cell) = cell else { return };
        let of_cell = waiting.entry(&cell.cell_id).or_default();
        if of_cell.len() < WAITING_MAX {
            of_cell.push(Waiting { key: key.to_string(), why: why.to_owned() });
        }
    };
    for slot in aggregates.slots() {
        for instance in slot.instances() {
            let why = match (instance.presence, instance.running) {
                _ if instance.is_stopping => "being stopped",
                (InstancePresence::Leaving, _) => "being stopped",
                (InstancePresence::Evacuating, _) => "runs on until its replacement is healthy",
                (InstancePresence::Suspect, _) => "its cell is lost",
                (InstancePresence::Ordinary, Some(_)) => {
                    "moves once the other instances of its process run"
                }
                (InstancePresence::Ordinary, None) => "to be placed anew",
            };
            add(instance.placement, &slot.key, why);
        }
    }
    for task in aggregates.tasks() {
        if let Some(placement) = task.placement() {
            add(placement, &task.task_guid, "a task runs to its end; cancel it to go on without");
        }
    }
    waiting
}

fn evacuation_of(
    aggregates: &Aggregates,
    cell: &cell::Cell,
    waiting: &BTreeMap<&CellId, Vec<Waiting>>,
) -> Option<Evacuation> {
    let evacuation = cell.evacuation?;
    let left = aggregates.reserved_on(&cell.cell_id).containers;
    Some(Evacuation {
        started_at: Time(evacuation.started_at),
        ends_at: Time(evacuation.ends_at),
        evacuated_at: evacuation.evacuated_at.map(Time),
        instances_away_max: evacuation.instances_away_max,
        containers: evacuation.containers,
        done: evacuation.containers.saturating_sub(left),
        left,
        waiting: waiting.get(&cell.cell_id).cloned().unwrap_or_default(),
    })
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
        evacuation: None,
        failure: cell.failure.clone(),
        position: PositionText(cell.last_position),
    }
}
