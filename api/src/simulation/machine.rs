//! A simulated machine: what survives its agent (the disk, the containers) and the agent itself.
//!
//! Nothing here knows the control plane's state; it is told by answers only.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
};

use domain::{
    bbs::{cell::Registration, definition::Definition, placement::Resources},
    exit::ExitStatus,
    id::{CellId, InstanceGuid},
    labels::Labels,
    log::{CellEpoch, Position},
    rep::{Assignment, Held, NumberedReport, Observed, Phase, Report, WorkReference},
    sealed::Digest,
    units::Milliseconds,
};

use super::{
    Defect,
    chance::Chance,
    message::{Request, Token},
    network::Cut,
};

/// One machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) cell_id: CellId,
    pub(super) registration: Registration,
    /// Off: nothing on it runs. It may come back with its disk.
    pub(super) is_powered: bool,
    /// Replaced by another machine and never seen again.
    pub(super) is_scrapped: bool,
    /// In which direction nothing gets through.
    pub(super) cut: Option<Cut>,
    /// Which node it asks.
    pub(super) peer: usize,
    /// How often it was powered on; a container's deeds of an earlier boot never happen.
    pub(super) boot: u64,
    /// How many agents it has had; an agent's deeds end with it.
    pub(super) lives: u64,
    pub(super) disk: Disk,
    pub(super) containers: BTreeMap<InstanceGuid, Container>,
    pub(super) agent: Option<Agent>,
    pub(super) defect: Option<Defect>,
}

/// What outlives agent and power.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) epoch: Option<CellEpoch>,
    pub(super) book: BTreeMap<InstanceGuid, Entry>,
    pub(super) spool: VecDeque<NumberedReport>,
    pub(super) last_sequence: u64,
    pub(super) addresses_given: u32,
}

/// One container in the cell's book.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) reference: WorkReference,
    pub(super) resources: Resources,
    pub(super) address: Ipv4Addr,
    pub(super) stage: Stage,
    pub(super) is_told_healthy: bool,
    /// What was told of its readiness last; it is taken for ready before.
    pub(super) is_told_ready: bool,
}

/// How far a container in the book has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for room. In memory only.
    Waiting,
    Making,
    /// A task's container is there, and its cell asked whether the process may run.
    Asking,
    /// It may, and that it is started is on disk; the process is not there yet.
    Recorded,
    /// The process was run.
    Running,
    Ended,
}

/// A container as the kernel has it: it does not care whether an agent is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) process: Process,
    pub(super) is_healthy: bool,
    /// It may take requests.
    pub(super) is_ready: bool,
}

/// The main process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    NotYet,
    Runs,
    Exited(ExitStatus),
}

/// The agent's memory, gone with it.
#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) life: u64,
    pub(super) epoch: Option<CellEpoch>,
    pub(super) assignment: Option<Assignment>,
    pub(super) definitions: BTreeMap<Digest, Arc<Definition>>,
    pub(super) seen: Position,
    /// What instances are labelled with.
    pub(super) labels: BTreeMap<InstanceGuid, Arc<Labels>>,
    /// What is being stopped, and whether the control plane knows nothing of it any more.
    pub(super) stopping: BTreeMap<InstanceGuid, bool>,
    /// The last report in the request under way.
    pub(super) sent_to: u64,
    /// Reports up to this one may have been judged without the cell's hearing of it.
    pub(super) unsure_to: u64,
    pub(super) last_token: Token,
    pub(super) registering: Option<Token>,
    pub(super) polling: Option<Token>,
    pub(super) reporting: Option<Token>,
}

/// What happens on a machine later.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// An agent starts.
    AgentStarts,
    /// Of the agent of a life:
    Agent(u64, AgentDeed),
    /// Of the process in a container, in a boot:
    Process(u64, InstanceGuid, ProcessDeed),
}

/// What a process does by itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum ProcessDeed {
    /// Its checks pass for the first time.
    Healthy,
    /// They fail from now on.
    Unhealthy,
    /// It may take requests from now on, or may not.
    Ready(bool),
    Ends(ExitStatus),
}

/// What an agent does later.
#[derive(Debug, Clone)]
pub(super) enum AgentDeed {
    Register,
    Beat,
    Poll,
    Flush,
    GiveUp(Token),
    /// Is there room by now? With how many more tries.
    Room(InstanceGuid, u32),
    Made(InstanceGuid),
    Exec(InstanceGuid),
    /// By itself, or by SIGKILL after a grace.
    Stopped(InstanceGuid, Option<Milliseconds>),
    StartTimeout(InstanceGuid),
}

/// What follows at once from what an agent did.
#[derive(Debug)]
pub(super) enum Effect {
    Send {
        token: Token,
        request: Request,
    },
    Later(Milliseconds, Deed),
    /// A process was run in the container of this work.
    Exec(WorkReference),
    /// One that did not end in its grace was killed.
    Kill(InstanceGuid),
    /// The report of a kill was accepted for the first time.
    KillTold(InstanceGuid),
    /// The cell's list does not hold this work any more, and its container is stopped.
    Unlisted(WorkReference),
    Note(String),
}

/// What an agent acts with.
pub(super) struct Doing<'a> {
    pub(super) chance: &'a mut Chance,
    /// No fault comes any more: containers behave.
    pub(super) is_calm: bool,
    pub(super) effects: Vec<Effect>,
}

impl Doing<'_> {
    pub(super) fn later(&mut self, span: Milliseconds, deed: Deed) {
        self.effects.push(Effect::Later(span, deed));
    }
}

impl Machine {
    pub(super) fn new(cell_id: CellId, registration: Registration, defect: Option<Defect>) -> Self {
        Self {
            cell_id,
            registration,
            is_powered: true,
            is_scrapped: false,
            cut: None,
            peer: 0,
            boot: 1,
            lives: 0,
            disk: Disk::default(),
            containers: BTreeMap::new(),
            agent: None,
            defect,
        }
    }

    /// Nothing on this machine is anybody's any more: it goes at once, and nothing is said of it.
    pub(super) fn destroy_all(&mut self) {
        self.containers.clear();
        self.disk.book.clear();
        self.disk.spool.clear();
        self.disk.last_sequence = 0;
    }

    /// Kills the agent. What it held in memory is gone, what is on disk and what runs is not.
    pub(super) fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// The power fails: processes are gone too.
    pub(super) fn power_off(&mut self) {
        self.agent = None;
        self.containers.clear();
        self.is_powered = false;
    }

    pub(super) fn power_on(&mut self) {
        self.is_powered = true;
        self.boot += 1;
    }

    pub(super) fn is_life(&self, life: u64) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.life == life)
    }

    /// What the book's entries that are not ended reserve.
    pub(super) fn reserved(&self) -> Resources {
        let alive = self.disk.book.values().filter(|entry| entry.stage != Stage::Ended);
        alive.fold(Resources::default(), |sum, entry| sum.plus(entry.resources))
    }

    /// The book as the plan reads it.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = self.disk.book.values().map(|entry| Held {
            reference: entry.reference.clone(),
            phase: match entry.stage {
                Stage::Ended => Phase::Ended,
                Stage::Waiting
                | Stage::Making
                | Stage::Asking
                | Stage::Recorded
                | Stage::Running => {
                    let guid = &entry.reference.instance_guid;
                    if self.is_stopping(guid) { Phase::Stopping } else { Phase::Alive }
                }
            },
        });
        held.collect()
    }

    pub(super) fn is_stopping(&self, guid: &InstanceGuid) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.stopping.contains_key(guid))
    }

    pub(super) fn stage(&self, guid: &InstanceGuid) -> Option<Stage> {
        self.disk.book.get(guid).map(|entry| entry.stage)
    }

    pub(super) fn set_stage(&mut self, guid: &InstanceGuid, stage: Stage) {
        if let Some(entry) = self.disk.book.get_mut(guid) {
            entry.stage = stage;
        }
    }

    /// Puts a report on disk, numbered; it is sent soon.
    pub(super) fn spool(
        &mut self,
        work: &WorkReference,
        observed: Observed,
        doing: &mut Doing<'_>,
    ) {
        let is_hidden =
            matches!(observed, Observed::Ended(_)) && self.defect == Some(Defect::HidesEnds);
        if is_hidden {
            return;
        }
        doing.effects.push(Effect::Note(format!(
            "{} spools {} of {:?} {}",
            self.cell_id,
            self.disk.last_sequence + 1,
            work.kind,
            observed_name(&observed)
        )));
        self.disk.last_sequence += 1;
        let report = Report { work: work.clone(), observed };
        self.disk.spool.push_back(NumberedReport { sequence: self.disk.last_sequence, report });
        if let Some(agent) = &self.agent {
            let flush = Deed::Agent(agent.life, AgentDeed::Flush);
            let pause = doing.chance.span(0, 20);
            doing.later(pause, flush);
        }
    }

    /// A container address that no earlier container of this disk had.
    pub(super) fn new_address(&mut self) -> Ipv4Addr {
        if self.defect != Some(Defect::SharesAnAddress) {
            self.disk.addresses_given += 1;
        }
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 255, 0, 2).to_bits() + self.disk.addresses_given)
    }
}

fn observed_name(observed: &Observed) -> &'static str {
    match observed {
        Observed::Refused(_) => "refused",
        Observed::Claimed => "claimed",
        Observed::Healthy { .. } => "healthy",
        Observed::Readiness(_) => "readiness",
        Observed::MayStart => "may start?",
        Observed::Ended(_) => "ended",
        Observed::Gone => "gone",
        Observed::Killed(_) => "killed",
    }
}
