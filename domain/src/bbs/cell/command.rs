//! What may be asked of a cell's record: by the cell itself (register), by loops (lose, end an
//! evacuation) and by an operator (evacuate).

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    bbs::{placement::Resources, rootfs::RootfsProviders},
    id::{CellId, MachineId, Zone},
    log::CellEpoch,
    units::{Milliseconds, Timestamp},
};

/// How long an evacuation may take, unless it is said otherwise (Diego's `evacuation_timeout`).
pub const EVACUATION_TIMEOUT: Milliseconds = Milliseconds::from_seconds(600);
/// The longest that an evacuation may take: a week.
pub const EVACUATION_TIMEOUT_MAX: Milliseconds = Milliseconds::from_seconds(7 * 86_400);
/// How many instances of one process guid an evacuation may keep away from RUNNING at a time,
/// unless it is said otherwise.
pub const INSTANCES_AWAY_MAX: u32 = 1;

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
    /// Move everything off it and place nothing more on it. An operator's.
    Evacuate {
        /// Which.
        cell_id: CellId,
        /// After this span instances that are still there are stopped.
        timeout: Milliseconds,
        /// Of one process guid, so many instances may be away from RUNNING at a time.
        instances_away_max: u32,
    },
    /// Use it again. An operator's.
    CancelEvacuation {
        /// Which.
        cell_id: CellId,
    },
    /// Note whether it can make containers. The gateway's, as the cell says it.
    NoteHealth {
        /// Which.
        cell_id: CellId,
        /// Which registration of it.
        cell_epoch: CellEpoch,
        /// Why it cannot; absent when it can.
        failure: Option<String>,
    },
    /// Note that nothing is left on it. The converger's.
    EndEvacuation {
        /// Which.
        cell_id: CellId,
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
            | Self::Return { cell_id, .. }
            | Self::Evacuate { cell_id, .. }
            | Self::CancelEvacuation { cell_id }
            | Self::NoteHealth { cell_id, .. }
            | Self::EndEvacuation { cell_id } => cell_id,
        }
    }
}
