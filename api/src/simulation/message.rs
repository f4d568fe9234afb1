//! What cells and control plane say to each other in a simulation: the wire of `domain::rep`,
//! each exchange with a token, so that a late answer to a request that was given up is known.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    bbs::definition::Definition,
    command::Envelope,
    log::{CellEpoch, Position},
    rep::{Assignment, Health, NumberedReport, ReportsAnswer},
    sealed::Digest,
};

use super::cluster::{Loop, MachineIndex};

/// Which exchange of an agent's life.
pub(super) type Token = u64;

/// What a cell asks.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Register,
    Heartbeat { epoch: CellEpoch, health: Health },
    Assignment { after: Position, epoch: CellEpoch },
    Reports { epoch: CellEpoch, reports: Vec<NumberedReport> },
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

/// Who waits for the outcome of commands, and for what.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    User(Asked),
    Loop {
        which: Loop,
        seen: Position,
    },
    Cell {
        caller: Caller,
        then: Then,
    },
    /// Who noted what calls came to, with how many more tries.
    Calls {
        envelope: Box<Envelope>,
        tries: u32,
    },
}

/// A user's command on its way.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) envelope: Box<Envelope>,
    /// How often it is sent again without an answer.
    pub(super) tries: u32,
    /// It was sent after its user had been answered once.
    pub(super) is_repeated: bool,
}

/// One exchange of an agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) machine: MachineIndex,
    pub(super) life: u64,
    pub(super) token: Token,
}

/// What is done for a cell once its commands have their outcome.
#[derive(Debug, Clone)]
pub(super) enum Then {
    /// Its health is noted.
    Heard,
    /// It is registered.
    Registered,
    /// A lost one has returned, and is given what it asked for.
    Returned(Request),
    /// These reports are judged.
    Judged(Vec<u64>),
}
