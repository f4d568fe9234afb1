//! What an auction is decided from: the work that waits and the cells as they are. A view fills it.

use std::collections::BTreeSet;

use crate::{
    bbs::{
        definition::{Definition, Rootfs},
        placement::Resources,
    },
    hash_index::HashIndex,
    id::{CellId, ProcessGuid, Zone},
    log::CellEpoch,
    rep::WorkKind,
};

/// Everything that one round is decided from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Input {
    /// What waits for a cell, oldest first: of equals, the first one given is placed first.
    pub auctions: Vec<Auction>,
    /// The cells that are there, in any order.
    pub cells: Vec<CellState>,
    /// How to weigh them.
    pub settings: Settings,
}

/// One slot or task that waits for a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auction {
    /// Which.
    pub work: WorkKind,
    /// What it needs.
    pub demand: Demand,
}

/// What a container needs of its cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Its root file system.
    pub rootfs: Rootfs,
    /// What it reserves.
    pub resources: Resources,
    /// Its placement tags.
    pub placement_tags: BTreeSet<String>,
}

impl Demand {
    /// What a container of a definition needs.
    #[must_use]
    pub fn of<V>(definition: &Definition<V>) -> Self {
        Self {
            rootfs: definition.rootfs.clone(),
            resources: Resources {
                memory_mb: definition.memory_mb,
                disk_mb: definition.disk_mb,
                containers: 1,
            },
            placement_tags: definition.placement_tags.iter().cloned().collect(),
        }
    }
}

/// A cell as the auction sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellState {
    /// Its id.
    pub cell_id: CellId,
    /// Which registration of it.
    pub cell_epoch: CellEpoch,
    /// Its availability zone.
    pub zone: Zone,
    /// All that it can hold.
    pub total: Resources,
    /// What is left of it.
    pub free: Resources,
    /// How many of its containers are placed and neither running nor gone yet.
    pub starting_container_count: u32,
    /// How many instances of each process it holds.
    pub instances: HashIndex<ProcessGuid, u32>,
    /// How many tasks it holds.
    pub task_count: u32,
    /// The names of its preloaded root file systems.
    pub preloaded_rootfses: BTreeSet<String>,
    /// Tags that a definition must carry to be placed here.
    pub placement_tags: BTreeSet<String>,
    /// Tags that a definition may carry to be placed here.
    pub optional_placement_tags: BTreeSet<String>,
}

impl CellState {
    /// How many instances of a process it holds.
    #[must_use]
    pub fn instances_of(&self, process_guid: &ProcessGuid) -> u32 {
        self.instances.get(process_guid).copied().unwrap_or(0)
    }

    /// Takes one placement into account.
    pub fn reserve(&mut self, work: &WorkKind, resources: Resources) {
        self.free = self.free.minus(resources);
        self.starting_container_count = self.starting_container_count.saturating_add(1);
        match work {
            WorkKind::Lrp(key) => {
                let count = self.instances.get_or_insert_with(key.process_guid.clone(), || 0);
                *count = count.saturating_add(1);
            }
            WorkKind::Task(_) => self.task_count = self.task_count.saturating_add(1),
        }
    }
}

/// How cells are weighed. The defaults are Diego's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What one starting container adds to a cell's score.
    pub starting_container_weight: f64,
    /// The most containers that may be starting on all cells together; 0 is without limit.
    pub starting_container_count_maximum: u32,
    /// What a cell's place in its zone adds to its score; 0 spreads, more fills cell by cell.
    pub bin_pack_first_fit_weight: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            starting_container_weight: 0.25,
            starting_container_count_maximum: 0,
            bin_pack_first_fit_weight: 0.0,
        }
    }
}
