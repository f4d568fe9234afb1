//! The whole cluster in virtual time: one schedule of what happens when, and what each happening
//! does. One thread, no runtime, no clock but the schedule.

use std::collections::{BTreeMap, VecDeque};

use domain::{
    auction::Settings,
    command::{Command, Envelope},
    log::Position,
    units::{Milliseconds, Timestamp},
};

use super::{
    Config,
    chance::Chance,
    machine::{Deed, Doing, Effect, Machine},
    message::{Answer, Request, Token},
    plane::{Fate, Plane, Unavailable},
    users::Users,
    witness::Violation,
};
use crate::command_bus::Outcome;

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
}

/// What is scheduled.
#[derive(Debug)]
pub(super) enum Happening {
    Request { machine: MachineIndex, life: u64, token: Token, request: Request },
    Answer { machine: MachineIndex, life: u64, token: Token, answer: Answer },
    Deed { machine: MachineIndex, deed: Deed },
    Wake(Loop),
    Submit { by: Option<Loop>, restarts: u64, envelopes: Vec<Envelope> },
    User { envelope: Box<Envelope>, tries: u32 },
    HoldEnds { machine: MachineIndex, token: Token },
    Reconnect { machine: MachineIndex },
}

/// A request for an assignment that is held back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) life: u64,
    pub(super) token: Token,
    pub(super) after: Position,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) config: Config,
    pub(super) settings: Settings,
    pub(super) chance: Chance,
    pub(super) now: Timestamp,
    /// How far the control plane's clock is from the others'.
    pub(super) clock_ahead: Milliseconds,
    /// No fault comes any more.
    pub(super) is_calm: bool,
    schedule: BTreeMap<(Timestamp, u64), Happening>,
    scheduled: u64,
    pub(super) plane: Plane,
    pub(super) restarts: u64,
    pub(super) held: BTreeMap<MachineIndex, Held>,
    /// When each loop wakes; none while its commands are under way.
    pub(super) wakes: BTreeMap<Loop, Timestamp>,
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
        let plane = Plane::new(chance.uuid(), Milliseconds(0));
        Self {
            settings: Settings { starting_container_count_maximum: limit, ..Settings::default() },
            now: START,
            clock_ahead: Milliseconds(0),
            is_calm: false,
            schedule: BTreeMap::new(),
            scheduled: 0,
            plane,
            restarts: 0,
            held: BTreeMap::new(),
            wakes: BTreeMap::new(),
            machines: Vec::new(),
            users: Users::new(config.lrps, config.tasks, config.cells),
            this_second: (0, 0),
            busiest_second: 0,
            trace: is_traced.then(VecDeque::new),
            chance,
            config,
        }
    }

    /// The control plane's clock.
    pub(super) fn clock(&self) -> Timestamp {
        self.now.plus(self.clock_ahead)
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let at = self.now.since(START).0;
        let line = format!("{:>9} ms @{} {}", at, self.plane.world.position(), line(self));
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
            Happening::Request { machine, life, token, request } => {
                self.request_arrives(machine, life, token, request)
            }
            Happening::Answer { machine, life, token, answer } => {
                self.answer_arrives(machine, life, token, answer)
            }
            Happening::Deed { machine, deed } => self.machine_does(machine, deed),
            Happening::Wake(which) => {
                self.wake(which);
                Ok(())
            }
            Happening::Submit { by, restarts, envelopes } => {
                self.loop_submits(by, restarts, &envelopes)
            }
            Happening::User { envelope, tries } => self.user_asks(&envelope, tries),
            Happening::HoldEnds { machine, token } => {
                if self.held.get(&machine).is_some_and(|held| held.token == token) {
                    self.answer_held(machine);
                }
                Ok(())
            }
            Happening::Reconnect { machine } => {
                if let Some(machine) = self.machines.get_mut(machine) {
                    machine.is_cut_off = false;
                }
                Ok(())
            }
        }
    }

    fn answer_arrives(
        &mut self,
        index: MachineIndex,
        life: u64,
        token: Token,
        answer: Answer,
    ) -> Result<(), Violation> {
        self.with_machine(index, |machine, doing| {
            if machine.is_life(life) && !machine.is_cut_off {
                machine.hear(token, answer, doing);
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
            Deed::Healthy(boot, guid) => {
                if machine.boot == boot {
                    machine.healthy(&guid, doing);
                }
            }
            Deed::Ends(boot, guid, status) => {
                if machine.boot == boot {
                    machine.process_ends(&guid, status, doing);
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
                    self.plane.witness.exec(&work)?;
                }
                Effect::Note(line) => self.note(|_| line),
            }
        }
        Ok(())
    }

    /// Submits to the bus; the store may fail. Wakes whoever follows the view.
    pub(super) fn submit(
        &mut self,
        envelopes: &[Envelope],
    ) -> Result<Result<Vec<Outcome>, Unavailable>, Violation> {
        let fate = self.draw_fate();
        let before = self.plane.world.position();
        let clock = self.clock();
        let outcomes = self.plane.submit(envelopes, clock, fate, &mut self.chance)?;
        for (envelope, outcome) in std::mem::take(&mut self.plane.other_node) {
            self.users.answered(&envelope, &outcome, &self.plane.log)?;
        }
        if self.plane.world.position() != before {
            self.count(self.plane.world.position().0 - before.0);
            self.world_moved();
        }
        Ok(outcomes)
    }

    fn count(&mut self, events: u64) {
        let second = self.virtual_time().0 / 1000;
        if self.this_second.0 != second {
            self.this_second = (second, 0);
        }
        self.this_second.1 += events;
        self.busiest_second = self.busiest_second.max(self.this_second.1);
    }

    fn draw_fate(&mut self) -> Fate {
        if self.is_calm || !self.config.faults.store {
            return Fate::Written;
        }
        match self.chance.small(50) {
            0 => Fate::Failed,
            1 => Fate::Unknown { is_written: true },
            2 => Fate::Unknown { is_written: false },
            3 => Fate::OtherFirst(Box::new(self.users.next(&mut self.chance))),
            _ => Fate::Written,
        }
    }

    fn user_asks(&mut self, envelope: &Envelope, tries: u32) -> Result<(), Violation> {
        let outcomes = self.submit(std::slice::from_ref(envelope))?;
        let told = told(&envelope.command);
        match outcomes {
            Err(Unavailable) => {
                self.note(|_| format!("user: {told}: unavailable"));
                self.user_tries_again(envelope, tries);
                Ok(())
            }
            Ok(outcomes) if self.is_answer_lost() => {
                self.note(|_| format!("user: {told}: {outcomes:?}, and the answer is lost"));
                self.user_tries_again(envelope, tries);
                Ok(())
            }
            Ok(outcomes) => {
                self.note(|_| format!("user: {told}: {outcomes:?}"));
                outcomes
                    .iter()
                    .try_for_each(|outcome| self.users.answered(envelope, outcome, &self.plane.log))
            }
        }
    }

    fn is_answer_lost(&mut self) -> bool {
        !self.is_calm && self.config.faults.network && self.chance.per_mille(50)
    }

    fn user_tries_again(&mut self, envelope: &Envelope, tries: u32) {
        if let Some(tries) = tries.checked_sub(1) {
            let pause = self.chance.span(10, 3000);
            let envelope = Box::new(envelope.clone());
            self.after(pause, Happening::User { envelope, tries });
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
