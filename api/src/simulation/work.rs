//! What a simulated agent does to containers, driven by the real `domain::rep::plan`.

use domain::{
    auction::Demand,
    bbs::{definition::Definition, placement::Resources},
    id::InstanceGuid,
    rep::{Evidence, Killed, Observed, Operation, Work, WorkReference, plan},
    units::Milliseconds,
};

use super::{
    Defect,
    agent::is_task,
    machine::{AgentDeed, Container, Doing, Effect, Entry, Machine, Process, Stage},
};

const GRACE: Milliseconds = Milliseconds::from_seconds(10);
/// How long a start waits for others to leave: 10 s.
const ROOM_PAUSE: Milliseconds = Milliseconds(200);
const ROOM_TRIES: u32 = 50;

impl Machine {
    /// Compares assignment and book, and acts.
    pub(super) fn act(&mut self, doing: &mut Doing<'_>) {
        let Some(assignment) = self.agent.as_ref().and_then(|agent| agent.assignment.clone())
        else {
            return;
        };
        for operation in plan(&assignment.work, &self.held()) {
            match operation {
                Operation::Start(work) => self.start(work, doing),
                Operation::Stop(reference) => {
                    doing.effects.push(Effect::Unlisted(reference.clone()));
                    if self.defect != Some(Defect::NeverStops) {
                        self.stop(&reference.instance_guid, false, doing);
                    }
                }
                Operation::ReportGone(reference) => {
                    self.enter(&reference, Stage::Ended);
                    self.spool(&reference, Observed::Gone, doing);
                }
                Operation::Forget(reference) => {
                    self.disk.book.remove(&reference.instance_guid);
                }
            }
        }
    }

    fn enter(&mut self, reference: &WorkReference, stage: Stage) {
        let entry = Entry {
            reference: reference.clone(),
            resources: Resources::default(),
            address: self.new_address(),
            stage,
            is_told_healthy: false,
            is_told_ready: true,
        };
        self.disk.book.insert(reference.instance_guid.clone(), entry);
    }

    fn start(&mut self, work: Work, doing: &mut Doing<'_>) {
        self.enter(&work.reference, Stage::Waiting);
        self.take_room(&work.reference.instance_guid, ROOM_TRIES, doing);
    }

    /// Takes room for a container; waits for it while others are leaving.
    pub(super) fn take_room(&mut self, guid: &InstanceGuid, tries: u32, doing: &mut Doing<'_>) {
        if self.stage(guid) != Some(Stage::Waiting) || self.is_stopping(guid) {
            return;
        }
        let Some(resources) = self.demand(guid) else {
            return self.refuse(guid, "its definition is not known any more".to_owned(), doing);
        };
        let free = self.registration.capacity.minus(self.reserved());
        let lacking = free.lacking(resources);
        let is_leaving = self.agent.as_ref().is_some_and(|agent| !agent.stopping.is_empty());
        let is_unwilling = !doing.is_calm && doing.chance.per_mille(20);
        match (lacking.is_empty(), tries.checked_sub(1)) {
            (true, _) if is_unwilling => self.refuse(guid, "its disk is slow".to_owned(), doing),
            (true, _) => self.make(guid, resources, doing),
            (false, Some(tries)) if is_leaving => {
                self.agent_later(ROOM_PAUSE, AgentDeed::Room(guid.clone(), tries), doing);
            }
            (false, _) => {
                let reason = format!("insufficient resources: {}", lacking.join(", "));
                self.refuse(guid, reason, doing);
            }
        }
    }

    /// What a container of the assignment needs, if its definition is known.
    fn demand(&self, guid: &InstanceGuid) -> Option<Resources> {
        self.definition(guid).map(|it| Demand::of(it).resources)
    }

    fn definition(&self, guid: &InstanceGuid) -> Option<&Definition> {
        let agent = self.agent.as_ref()?;
        let mut work = agent.assignment.as_ref()?.work.iter();
        let work = work.find(|work| work.reference.instance_guid == *guid)?;
        agent.definitions.get(&work.definition).map(AsRef::as_ref)
    }

    fn refuse(&mut self, guid: &InstanceGuid, reason: String, doing: &mut Doing<'_>) {
        self.set_stage(guid, Stage::Ended);
        if let Some(entry) = self.disk.book.get(guid) {
            let reference = entry.reference.clone();
            self.spool(&reference, Observed::Refused(reason), doing);
        }
    }

    fn make(&mut self, guid: &InstanceGuid, resources: Resources, doing: &mut Doing<'_>) {
        let Some(entry) = self.disk.book.get_mut(guid) else { return };
        entry.resources = resources;
        entry.stage = Stage::Making;
        let reference = entry.reference.clone();
        if !is_task(&reference.kind) {
            self.spool(&reference, Observed::Claimed, doing);
        }
        let span = doing.chance.span(20, 2000);
        self.agent_later(span, AgentDeed::Made(reference.instance_guid), doing);
    }

    /// The container is there.
    pub(super) fn made(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        if self.stage(guid) != Some(Stage::Making) || self.is_stopping(guid) {
            return;
        }
        let Some(reference) = self.disk.book.get(guid).map(|entry| entry.reference.clone()) else {
            return;
        };
        let container = Container { process: Process::NotYet, is_healthy: false, is_ready: true };
        self.containers.insert(guid.clone(), container);
        if !is_task(&reference.kind) {
            return self.exec(guid, doing);
        }
        if self.defect == Some(Defect::ExecsWithoutAsking) {
            self.set_stage(guid, Stage::Recorded);
            return self.exec(guid, doing);
        }
        self.set_stage(guid, Stage::Asking);
        self.spool(&reference, Observed::MayStart, doing);
    }

    /// The user's process is run.
    pub(super) fn exec(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_stopping = self.is_stopping(guid);
        let Some(entry) = self.disk.book.get_mut(guid).filter(|_| !is_stopping) else { return };
        let may_exec = match entry.stage {
            Stage::Recorded => true,
            Stage::Making => !is_task(&entry.reference.kind),
            Stage::Waiting | Stage::Asking | Stage::Running | Stage::Ended => false,
        };
        let Some(container) = self.containers.get_mut(guid).filter(|_| may_exec) else { return };
        container.process = Process::Runs;
        entry.stage = Stage::Running;
        let reference = entry.reference.clone();
        if is_task(&reference.kind) {
            self.run_task(guid, doing);
            if self.defect == Some(Defect::ExecsTwice) {
                doing.effects.push(Effect::Exec(reference.clone()));
            }
        } else {
            self.run_lrp(guid, doing);
        }
        doing.effects.push(Effect::Exec(reference));
    }

    /// Begins a graceful stop; of what is disowned nothing is said afterwards.
    pub(super) fn stop(&mut self, guid: &InstanceGuid, is_disowned: bool, doing: &mut Doing<'_>) {
        let Some(stage) = self.stage(guid).filter(|stage| *stage != Stage::Ended) else { return };
        let Some(agent) = self.agent.as_mut().filter(|it| !it.stopping.contains_key(guid)) else {
            return;
        };
        agent.stopping.insert(guid.clone(), is_disowned);
        let grace = self.grace(guid);
        let is_running = stage == Stage::Running;
        let must_be_killed = is_running && doing.chance.per_mille(100);
        let span = match (must_be_killed, is_running) {
            (true, _) => grace,
            (false, true) => doing.chance.span(0, grace.0),
            (false, false) => doing.chance.span(0, 200),
        };
        let killed_after = must_be_killed.then_some(grace);
        self.agent_later(span, AgentDeed::Stopped(guid.clone(), killed_after), doing);
    }

    /// How long a container may take to end once it is asked to.
    fn grace(&self, guid: &InstanceGuid) -> Milliseconds {
        let own = self.definition(guid).and_then(|definition| definition.graceful_stop_ms);
        own.unwrap_or(GRACE)
    }

    pub(super) fn stopped(
        &mut self,
        guid: &InstanceGuid,
        killed_after: Option<Milliseconds>,
        doing: &mut Doing<'_>,
    ) {
        let Some(agent) = &mut self.agent else { return };
        let is_disowned = agent.stopping.remove(guid).unwrap_or(false);
        let Some(entry) = self.disk.book.get_mut(guid) else { return };
        entry.stage = Stage::Ended;
        let reference = entry.reference.clone();
        self.containers.remove(guid);
        if killed_after.is_some() {
            doing.effects.push(Effect::Kill(guid.clone()));
        }
        if !is_disowned {
            let evidence = Evidence::default();
            let killed = |grace| Observed::Killed(Box::new(Killed { grace, evidence }));
            let observed = killed_after.map_or(Observed::Gone, killed);
            self.spool(&reference, observed, doing);
        }
        self.act(doing);
    }

    /// A new session takes up what the one before left, by the book and by what runs.
    pub(super) fn recover(&mut self, doing: &mut Doing<'_>) {
        // Nothing is kept that is in no book.
        self.containers.retain(|guid, _| self.disk.book.contains_key(guid));
        let entries: Vec<_> =
            self.disk.book.iter().map(|(guid, entry)| (guid.clone(), entry.clone())).collect();
        for (guid, entry) in entries {
            let is_task = is_task(&entry.reference.kind);
            match entry.stage {
                Stage::Ended => {}
                Stage::Asking | Stage::Making if is_task => {
                    self.end_in_words(&guid, "agent restarted before it was started", doing);
                }
                // Begun anew when it is still wanted.
                Stage::Waiting | Stage::Making | Stage::Asking => {
                    self.containers.remove(&guid);
                    self.disk.book.remove(&guid);
                }
                Stage::Recorded | Stage::Running => {
                    if is_task && self.defect == Some(Defect::ForgetsStarts) {
                        self.ask_again(&guid, &entry, doing);
                    } else {
                        self.adopt(&guid, doing);
                    }
                }
            }
        }
    }

    fn adopt(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        match self.containers.get(guid).map(|container| container.process) {
            None => self.end_in_words(guid, "missing garden container", doing),
            // Started by the record, and the container knows that nothing ever ran in it.
            Some(Process::NotYet) => {
                let pause = doing.chance.span(0, 20);
                self.agent_later(pause, AgentDeed::Exec(guid.clone()), doing);
            }
            Some(Process::Exited(_)) => self.see_end(guid, doing),
            Some(Process::Runs) => {
                self.report_healthy(guid, doing);
                self.report_readiness(guid, doing);
                self.watch_start(guid, doing);
                self.see_health(guid, doing);
            }
        }
    }

    fn ask_again(&mut self, guid: &InstanceGuid, entry: &Entry, doing: &mut Doing<'_>) {
        if self.containers.contains_key(guid) {
            self.set_stage(guid, Stage::Asking);
            self.spool(&entry.reference, Observed::MayStart, doing);
        }
    }
}
