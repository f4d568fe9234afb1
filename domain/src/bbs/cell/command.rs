//! What may be asked of a cell's record: by the cell itself (register) and by the presence watch.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    bbs::{placement::Resources, rootfs::RootfsProviders},
    id::{CellId, MachineId, Zone},
    log::CellEpoch,
    units::Timestamp,
};

/// What may be asked of a cell's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A machine takes the id, or says anew what it offers.
    Register {
        /// The id.
        cell_id: CellId,
        /// What it is and offers.
        registration: Box<Registration>,
    },
    /// It was not heard for a whole presence time to live. The presence watch's.
    Lose {
        /// Which.
        cell_id: CellId,
        /// When it was last heard.
        last_heard_at: Timestamp,
        /// The node that heard it.
        heard_by: String,
    },
    /// A lost cell was heard again. The gateway's.
    Return {
        /// Which.
        cell_id: CellId,
        /// Which registration of it.
        cell_epoch: CellEpoch,
    },
}

/// What a cell is and offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The machine behind the id.
    pub machine_id: MachineId,
    /// All that it can hold.
    pub capacity: Resources,
    /// Its availability zone.
    pub zone: Zone,
    /// Its address as the router sees it.
    pub address: IpAddr,
    /// The root file systems that it has.
    pub rootfs_providers: RootfsProviders,
    /// The volume drivers that it has.
    pub volume_drivers: BTreeSet<String>,
    /// Tags that a definition must carry to be placed here.
    pub placement_tags: BTreeSet<String>,
    /// Tags that a definition may carry to be placed here.
    pub optional_placement_tags: BTreeSet<String>,
}

impl Command {
    /// Which cell it concerns.
    #[must_use]
    pub fn cell_id(&self) -> &CellId {
        match self {
            Self::Register { cell_id, .. }
            | Self::Lose { cell_id, .. }
            | Self::Return { cell_id, .. } => cell_id,
        }
    }
}
