//! What cells and control plane say to each other in a simulation: the wire of `domain::rep`,
//! each exchange with a token, so that a late answer to a request that was given up is known.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    bbs::definition::Definition,
    log::{CellEpoch, Position},
    rep::{Assignment, NumberedReport, ReportsAnswer},
    sealed::Digest,
};

/// Which exchange of an agent's life.
pub(super) type Token = u64;

/// What a cell asks.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Register,
    Heartbeat { epoch: CellEpoch },
    Assignment { after: Position, epoch: CellEpoch },
    Reports { epoch: CellEpoch, reports: Vec<NumberedReport> },
}

impl Request {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Assignment { .. } => "assignment",
            Self::Reports { .. } => "reports",
        }
    }
}

/// What it is answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Registered {
        epoch: CellEpoch,
        reports_seen: u64,
    },
    Heard,
    Assigned {
        assignment: Assignment,
        definitions: BTreeMap<Digest, Arc<Definition>>,
    },
    Judged(ReportsAnswer),
    /// Another registration has passed it.
    EpochPassed,
    /// Another live machine has the id.
    IdInUse,
    /// The log could not be written, or the connection was cut.
    Failed,
}
