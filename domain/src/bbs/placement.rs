//! Where a slot or a task was put: which container on which machine, and what it reserves there.

use serde::{Deserialize, Serialize};

use crate::{
    id::{CellId, InstanceGuid},
    log::{CellEpoch, PlacementEpoch},
    sealed::Digest,
    units::{Mebibytes, Milliseconds},
};

/// What a cell refused, or no cell took, is auctioned again after this pause (Diego's convergence
/// interval). A slot that no cell took waits for a change of the cells instead.
pub const RETRY_AFTER: Milliseconds = Milliseconds::from_seconds(30);

/// What a container reserves of its cell; with it, one of the cell's containers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Resources {
    /// Memory in mebibytes.
    pub memory_mb: Mebibytes,
    /// Disk in mebibytes.
    pub disk_mb: Mebibytes,
    /// Containers.
    pub containers: u32,
}

impl Resources {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            memory_mb: self.memory_mb.plus(other.memory_mb),
            disk_mb: self.disk_mb.plus(other.disk_mb),
            containers: self.containers.saturating_add(other.containers),
        }
    }

    /// What is left after taking `other` away, at least nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            memory_mb: self.memory_mb.minus(other.memory_mb),
            disk_mb: self.disk_mb.minus(other.disk_mb),
            containers: self.containers.saturating_sub(other.containers),
        }
    }

    /// The names of those amounts of which `wanted` is more than is here, in Diego's order.
    #[must_use]
    pub fn lacking(self, wanted: Self) -> Vec<&'static str> {
        let mut lacking = Vec::new();
        if wanted.containers > self.containers {
            lacking.push("containers");
        }
        if wanted.disk_mb > self.disk_mb {
            lacking.push("disk");
        }
        if wanted.memory_mb > self.memory_mb {
            lacking.push("memory");
        }
        lacking
    }
}

/// One placement of a slot or a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The container's guid: new for every placement.
    pub instance_guid: InstanceGuid,
    /// The cell.
    pub cell_id: CellId,
    /// Which registration of the cell.
    pub cell_epoch: CellEpoch,
    /// The position of the event that placed it.
    pub placement_epoch: PlacementEpoch,
    /// The definition that is to run, by digest.
    pub definition: Digest,
    /// What it reserves.
    pub resources: Resources,
}
