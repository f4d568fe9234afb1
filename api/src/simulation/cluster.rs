//! The whole cluster in virtual time: one schedule of what happens when, and what each happening
//! does. One thread, no runtime, no clock but the schedule.

use std::collections::{BTreeMap, VecDeque};

use domain::{
    auction::Settings,
    command::{Command, Envelope},
    units::{Milliseconds, Timestamp},
};
use projections::{
    event_store::{Batch, BatchId},
    leases::LeaseState,
};

use super::{
    Config,
    bus::{Outcomes, Unavailable},
    callbacks::{Called, Calling},
    chance::Chance,
    invariants,
    machine::{Deed, Doing, Effect, Machine},
    message::{Answer, Asked, Caller, Reply, Request, Token},
    network::{Cut, Way},
    node::{Node, NodeIndex},
    store::{Store, Told},
    users::Users,
    witness::Violation,
};

/// When every simulation begins.
const START: Timestamp = Timestamp(1_700_000_000_000_000_000);
/// How many lines of the trace are kept.
const TRACE_LINES: usize = 80;

/// One cell, as an index into the machines.
pub(super) type MachineIndex = usize;

/// A loop of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loop {
    Auctioneer,
    Converger,
    PresenceWatch,
    RouteWithdrawal,
    TaskCallbacks,
}

/// What is scheduled.
#[derive(Debug)]
pub(super) enum Happening {
    Request { node: NodeIndex, caller: Caller, request: Request },
    Answer { caller: Caller, answer: Answer },
    Deed { machine: MachineIndex, deed: Deed },
    User { node: NodeIndex, asked: Asked },
    Wake { node: NodeIndex, life: u64, which: Loop },
    Submit { node: NodeIndex, life: u64, which: Loop, envelopes: Vec<Envelope> },
    HoldEnds { node: NodeIndex, life: u64, machine: MachineIndex, token: Token },
    Call { node: NodeIndex, life: u64, calling: Calling },
    Called { node: NodeIndex, life: u64, calling: Calling, called: Called },
    NoteCalls { node: NodeIndex, life: u64, envelope: Box<Envelope>, tries: u32 },
    Append { node: NodeIndex, life: u64, batch: Batch, way: Way },
    Appended { node: NodeIndex, life: u64, batch: BatchId, told: Told },
    LookUp { node: NodeIndex, life: u64, batch: BatchId },
    Follow { node: NodeIndex },
    Tick { node: NodeIndex, life: u64 },
    LeaseAsked { node: NodeIndex, life: u64, asked: Timestamp },
    LeaseAnswered { node: NodeIndex, life: u64, asked: Timestamp, state: LeaseState },
    Mended(Mended),
}

/// What a cut-off ends for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mended {
    Machine(MachineIndex),
    NodeToStore(NodeIndex),
    NodeToOthers(NodeIndex),
}

/// Everything.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) config: Config,
    pub(super) settings: Settings,
    pub(super) chance: Chance,
    pub(super) now: Timestamp,
    /// No fault comes any more.
    pub(super) is_calm: bool,
    schedule: BTreeMap<(Timestamp, u64), Happening>,
    scheduled: u64,
    pub(super) store: Store,
    pub(super) nodes: Vec<Node>,
    pub(super) machines: Vec<Machine>,
    pub(super) users: Users,
    /// The virtual second that is counted, and its events.
    this_second: (u64, u64),
    pub(super) busiest_second: u64,
    trace: Option<VecDeque<String>>,
}

impl Cluster {
    /// A cluster before its first event; `is_traced` keeps what happened last in words.
    pub(super) fn new(config: Config, is_traced: bool) -> Self {
        let mut chance = Chance::new(config.seed);
        // Now and then few containers may be starting at once.
        let limit = if chance.per_mille(200) { 2 } else { 0 };
        let store = Store::new(chance.uuid());
        Self {
            settings: Settings { starting_container_count_maximum: limit, ..Settings::default() },
            now: START,
            is_calm: false,
            schedule: BTreeMap::new(),
            scheduled: 0,
            store,
            nodes: (0..usize::from(config.nodes)).map(Node::new).collect(),
            machines: Vec::new(),
            users: Users::new(&config),
            this_second: (0, 0),
            busiest_second: 0,
            trace: is_traced.then(VecDeque::new),
            chance,
            config,
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let at = self.now.since(START).0;
        let line = format!("{:>9} ms @{} {}", at, self.store.world.position(), line(self));
        if let Some(trace) = &mut self.trace {
            if trace.len() >= TRACE_LINES {
                trace.pop_front();
            }
            trace.push_back(line);
        }
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.trace.iter().flatten().cloned().collect()
    }

    pub(super) fn virtual_time(&self) -> Milliseconds {
        self.now.since(START)
    }

    pub(super) fn after(&mut self, span: Milliseconds, happening: Happening) {
        self.scheduled += 1;
        self.schedule.insert((self.now.plus(span), self.scheduled), happening);
    }

    /// Time passes, and everything due happens in its order.
    pub(super) fn advance(&mut self, span: Milliseconds) -> Result<(), Violation> {
        let until = self.now.plus(span);
        while let Some(entry) = self.schedule.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            self.happen(happening)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Request { node, caller, request } => {
                return self.request_arrives(node, caller, request);
            }
            Happening::Answer { caller, answer } => return self.answer_arrives(caller, answer),
            Happening::Deed { machine, deed } => return self.machine_does(machine, deed),
            Happening::User { node, asked } => return self.user_asks(node, asked),
            Happening::Wake { node, life, which } => self.wake(node, life, which),
            Happening::Submit { node, life, which, envelopes } => {
                return self.loop_submits(node, life, which, envelopes);
            }
            Happening::HoldEnds { node, life, machine, token } => {
                self.hold_ends(node, life, machine, token);
            }
            Happening::Call { node, life, calling } => return self.call(node, life, calling),
            Happening::Called { node, life, calling, called } => {
                return self.called(node, life, calling, called);
            }
            Happening::NoteCalls { node, life, envelope, tries } => {
                return self.note_calls(node, life, envelope, tries);
            }
            Happening::Append { node, life, batch, way } => {
                return self.append_arrives(node, life, batch, way);
            }
            Happening::Appended { node, life, batch, told } => {
                return self.append_answered(node, life, batch, told);
            }
            Happening::LookUp { node, life, batch } => return self.look_up(node, life, batch),
            Happening::Follow { node } => return self.follow(node),
            Happening::Tick { node, life } => return self.tick(node, life),
            Happening::LeaseAsked { node, life, asked } => self.lease_asked(node, life, asked),
            Happening::LeaseAnswered { node, life, asked, state } => {
                self.lease_answered(node, life, asked, &state);
            }
            Happening::Mended(what) => self.mend(what),
        }
        Ok(())
    }

    fn mend(&mut self, what: Mended) {
        match what {
            Mended::Machine(index) => {
                if let Some(machine) = self.machines.get_mut(index) {
                    machine.cut = None;
                }
            }
            Mended::NodeToStore(index) => {
                if let Some(node) = self.nodes.get_mut(index) {
                    node.store_cut = None;
                }
            }
            Mended::NodeToOthers(index) => {
                if let Some(node) = self.nodes.get_mut(index) {
                    node.is_edge_cut = false;
                }
            }
        }
    }

    fn answer_arrives(&mut self, caller: Caller, answer: Answer) -> Result<(), Violation> {
        self.with_machine(caller.machine, |machine, doing| {
            let is_heard = !machine.cut.is_some_and(Cut::stops_hearing);
            if machine.is_life(caller.life) && is_heard {
                machine.hear(caller.token, answer, doing);
            }
        })
    }

    fn machine_does(&mut self, index: MachineIndex, deed: Deed) -> Result<(), Violation> {
        self.with_machine(index, |machine, doing| match deed {
            Deed::AgentStarts => machine.agent_starts(doing),
            Deed::Agent(life, deed) => {
                if machine.is_life(life) {
                    machine.agent_does(deed, doing);
                }
            }
            Deed::Process(boot, guid, deed) => {
                if machine.boot == boot {
                    machine.process_does(&guid, deed, doing);
                }
            }
        })
    }

    /// Lets a machine act, and does what follows from it.
    pub(super) fn with_machine(
        &mut self,
        index: MachineIndex,
        act: impl FnOnce(&mut Machine, &mut Doing<'_>),
    ) -> Result<(), Violation> {
        let Some(machine) = self.machines.get_mut(index) else { return Ok(()) };
        let mut doing =
            Doing { chance: &mut self.chance, is_calm: self.is_calm, effects: Vec::new() };
        act(machine, &mut doing);
        let life = machine.agent.as_ref().map_or(0, |agent| agent.life);
        for effect in doing.effects {
            match effect {
                Effect::Later(span, deed) => {
                    self.after(span, Happening::Deed { machine: index, deed });
                }
                Effect::Send { token, request } => self.send_request(index, life, token, request),
                Effect::Exec(work) => {
                    self.note(|_| format!("machine {index} runs {}", work.instance_guid));
                    self.store.witness.exec(&work)?;
                }
                Effect::Kill(guid) => self.store.witness.kill(guid),
                Effect::KillTold(guid) => self.store.witness.check_kill_told(&guid)?,
                Effect::Unlisted(work) => invariants::check_unlisted(self, index, &work)?,
                Effect::Note(line) => self.note(|_| line),
            }
        }
        Ok(())
    }

    /// Counts events by virtual seconds.
    pub(super) fn count(&mut self, events: u64) {
        let second = self.virtual_time().0 / 1000;
        if self.this_second.0 != second {
            self.this_second = (second, 0);
        }
        self.this_second.1 += events;
        self.busiest_second = self.busiest_second.max(self.this_second.1);
    }

    /// A user's command reaches a node, or nobody.
    fn user_asks(&mut self, node: NodeIndex, asked: Asked) -> Result<(), Violation> {
        let is_open = self.nodes.get(node).is_some_and(|node| node.is_up && !node.is_edge_cut);
        if !is_open {
            self.user_tries_again(&asked);
            return Ok(());
        }
        let envelopes = vec![asked.envelope.as_ref().clone()];
        self.submit(node, envelopes, Reply::User(asked))
    }

    /// A user is answered, unless the answer is lost.
    pub(super) fn user_hears(
        &mut self,
        asked: &Asked,
        outcomes: &Outcomes,
    ) -> Result<(), Violation> {
        let told = told(&asked.envelope.command);
        match outcomes {
            Err(Unavailable) => {
                self.note(|_| format!("user: {told}: unavailable"));
                self.user_tries_again(asked);
                Ok(())
            }
            Ok(outcomes) if self.is_answer_lost() => {
                self.note(|_| format!("user: {told}: {outcomes:?}, and the answer is lost"));
                self.user_tries_again(asked);
                Ok(())
            }
            Ok(outcomes) => {
                self.note(|_| format!("user: {told}: {outcomes:?}"));
                outcomes
                    .iter()
                    .try_for_each(|outcome| self.users.answered(asked, outcome, &self.store.log))
            }
        }
    }

    fn is_answer_lost(&mut self) -> bool {
        !self.is_calm && self.chance.per_mille(self.config.faults.message_lost)
    }

    /// A user sends a command, to whichever node.
    pub(super) fn user_sends(&mut self, envelope: Box<Envelope>, tries: u32, pause: Milliseconds) {
        let nodes = u64::try_from(self.nodes.len()).unwrap_or(1);
        let node = usize::try_from(self.chance.below(nodes)).unwrap_or(0);
        let is_repeated = self.users.is_promised(&envelope.command_id);
        let asked = Asked { envelope, tries, is_repeated };
        self.after(pause, Happening::User { node, asked });
    }

    fn user_tries_again(&mut self, asked: &Asked) {
        if let Some(tries) = asked.tries.checked_sub(1) {
            let pause = self.chance.span(10, 3000);
            self.user_sends(asked.envelope.clone(), tries, pause);
        }
    }
}

/// A command in one short line.
pub(super) fn told(command: &Command) -> String {
    let text = match command {
        Command::DesiredLrp(command) => format!("{command:?}"),
        Command::ActualLrp(command) => format!("{command:?}"),
        Command::Task(command) => format!("{command:?}"),
        Command::Cell(command) => format!("{command:?}"),
        Command::FreshnessDomain(command) => format!("{command:?}"),
        Command::Secrets(command) => format!("{command:?}"),
    };
    text.chars().take(160).collect()
}
