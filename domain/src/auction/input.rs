//! What an auction is decided from: the work that waits, the cells as they are, how to weigh them.

use std::collections::BTreeSet;

use super::Cells;
use crate::{
    bbs::{
        definition::{Definition, Rootfs},
        placement::Resources,
    },
    log::Position,
    rep::WorkKind,
};

/// Everything that one round is decided from.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// What waits for a cell, oldest first: of equals, the first one given is placed first.
    pub auctions: Vec<Auction>,
    /// The cells. They are only looked at: what the round reserves is kept beside them.
    pub cells: &'a Cells,
    /// How to weigh them.
    pub settings: Settings,
    /// Up to which event of the log all this is known.
    pub seen: Position,
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// Which cells it can be on at all.
    pub constraint: Constraint,
    /// What it reserves.
    pub resources: Resources,
}

/// What a cell must offer, whatever there is left of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constraint {
    /// The root file system.
    pub rootfs: Rootfs,
    /// The volume drivers.
    pub volume_drivers: BTreeSet<String>,
    /// The placement tags.
    pub placement_tags: BTreeSet<String>,
}

impl Demand {
    /// What a container of a definition needs.
    #[must_use]
    pub fn of<V>(definition: &Definition<V>) -> Self {
        Self {
            constraint: Constraint {
                rootfs: definition.rootfs.clone(),
                volume_drivers: definition.volume_drivers.iter().cloned().collect(),
                placement_tags: definition.placement_tags.iter().cloned().collect(),
            },
            resources: Resources {
                memory_mb: definition.memory_mb,
                disk_mb: definition.disk_mb,
                containers: 1,
            },
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
