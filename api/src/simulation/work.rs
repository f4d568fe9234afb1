//! What a simulated agent does to containers, driven by the real `domain::rep::plan`.

use domain::{
    auction::Demand,
    bbs::{actual_lrp::NetInfo, placement::Resources},
    exit::{ExitStatus, ProcessExit},
    id::InstanceGuid,
    rep::{Ended, Evidence, Observed, Operation, Work, WorkReference, plan},
    units::Milliseconds,
};

use super::{
    Defect,
    agent::is_task,
    machine::{AgentDeed, Container, Deed, Doing, Effect, Entry, Machine, Process, Stage},
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
        match (lacking.is_empty(), tries.checked_sub(1)) {
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
        let agent = self.agent.as_ref()?;
        let work = agent.assignment.as_ref()?.work.iter();
        let work = work.into_iter().find(|work| work.reference.instance_guid == *guid)?;
        agent.definitions.get(&work.definition).map(|it| Demand::of(it.as_ref()).resources)
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
        let container = Container { process: Process::NotYet, is_healthy: false };
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
            let span = doing.chance.span(10, 60_000);
            let status = i32::from(doing.chance.per_mille(200));
            let ends = Deed::Ends(self.boot, guid.clone(), ExitStatus::Exited(status));
            doing.later(span, ends);
            if self.defect == Some(Defect::ExecsTwice) {
                doing.effects.push(Effect::Exec(reference.clone()));
            }
        } else {
            self.run_lrp(guid, doing);
        }
        doing.effects.push(Effect::Exec(reference));
    }

    /// Most instances become healthy and stay; some end soon, some later, some never get healthy.
    fn run_lrp(&self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_good = doing.is_calm || doing.chance.per_mille(750);
        let ends = Deed::Ends(self.boot, guid.clone(), ExitStatus::Exited(1));
        if !is_good && doing.chance.per_mille(600) {
            let span = doing.chance.span(0, 60_000);
            doing.later(span, ends);
        }
        if is_good || doing.chance.per_mille(600) {
            let span = doing.chance.span(10, 5000);
            doing.later(span, Deed::Healthy(self.boot, guid.clone()));
        }
        self.agent_later(
            Milliseconds::from_seconds(60),
            AgentDeed::StartTimeout(guid.clone()),
            doing,
        );
    }

    /// A check passes inside the container.
    pub(super) fn healthy(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let Some(container) = self.containers.get_mut(guid) else { return };
        container.is_healthy = container.process == Process::Runs;
        self.report_healthy(guid, doing);
    }

    fn report_healthy(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_healthy = self.containers.get(guid).is_some_and(|container| container.is_healthy);
        let is_seen = self.in_session() && !self.is_stopping(guid);
        let Some(entry) = self.disk.book.get_mut(guid) else { return };
        if !is_seen || entry.stage != Stage::Running || !is_healthy || entry.is_told_healthy {
            return;
        }
        entry.is_told_healthy = true;
        let (reference, instance_address) = (entry.reference.clone(), entry.address);
        let net_info = NetInfo { instance_address, ports: vec![8080] };
        self.spool(&reference, Observed::Healthy(net_info), doing);
    }

    /// The process ends by itself; the agent sees it when there is one.
    pub(super) fn process_ends(
        &mut self,
        guid: &InstanceGuid,
        status: ExitStatus,
        doing: &mut Doing<'_>,
    ) {
        let Some(container) = self.containers.get_mut(guid) else { return };
        let is_task = self.disk.book.get(guid).is_some_and(|entry| is_task(&entry.reference.kind));
        if container.process != Process::Runs || (doing.is_calm && !is_task) {
            return;
        }
        container.process = Process::Exited(status);
        self.see_end(guid, doing);
    }

    /// Whether an agent is there and registered: one that is not looks at nothing.
    fn in_session(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.epoch.is_some())
    }

    fn see_end(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_seen = self.in_session() && !self.is_stopping(guid);
        if !is_seen || self.stage(guid) != Some(Stage::Running) {
            return;
        }
        let Some(Process::Exited(status)) = self.containers.get(guid).map(|found| found.process)
        else {
            return;
        };
        let failure_reason = match status {
            ExitStatus::Exited(0) => None,
            ExitStatus::Exited(_) | ExitStatus::Signalled(_) => Some(format!("Exited: {status}")),
        };
        let exit = Some(ProcessExit { status, out_of_memory: None });
        let (evidence, result) = (Evidence::default(), String::new());
        self.end(guid, Ended { failure_reason, exit, evidence, result }, doing);
    }

    pub(super) fn start_timeout(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_healthy = self.containers.get(guid).is_none_or(|container| container.is_healthy);
        if self.stage(guid) == Some(Stage::Running) && !is_healthy && !self.is_stopping(guid) {
            self.end_in_words(guid, "never healthy", doing);
        }
    }

    fn end_in_words(&mut self, guid: &InstanceGuid, reason: &str, doing: &mut Doing<'_>) {
        let failure_reason = Some(reason.to_owned());
        let (evidence, result) = (Evidence::default(), String::new());
        let ended = Ended { failure_reason, exit: None, evidence, result };
        self.end(guid, ended, doing);
    }

    /// The container is removed, and its end is told.
    fn end(&mut self, guid: &InstanceGuid, ended: Ended, doing: &mut Doing<'_>) {
        self.containers.remove(guid);
        self.set_stage(guid, Stage::Ended);
        let Some(entry) = self.disk.book.get(guid) else { return };
        let reference = entry.reference.clone();
        self.spool(&reference, Observed::Ended(Box::new(ended)), doing);
        self.act(doing);
    }

    /// Begins a graceful stop; of what is disowned nothing is said afterwards.
    pub(super) fn stop(&mut self, guid: &InstanceGuid, is_disowned: bool, doing: &mut Doing<'_>) {
        let Some(stage) = self.stage(guid).filter(|stage| *stage != Stage::Ended) else { return };
        let Some(agent) = self.agent.as_mut().filter(|it| !it.stopping.contains_key(guid)) else {
            return;
        };
        agent.stopping.insert(guid.clone(), is_disowned);
        let span_max = if stage == Stage::Running { GRACE.0 } else { 200 };
        let span = doing.chance.span(0, span_max);
        self.agent_later(span, AgentDeed::Stopped(guid.clone()), doing);
    }

    pub(super) fn stopped(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let Some(agent) = &mut self.agent else { return };
        let is_disowned = agent.stopping.remove(guid).unwrap_or(false);
        let Some(entry) = self.disk.book.get_mut(guid) else { return };
        entry.stage = Stage::Ended;
        let reference = entry.reference.clone();
        self.containers.remove(guid);
        if !is_disowned {
            self.spool(&reference, Observed::Gone, doing);
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
            None => self.end_in_words(guid, "container vanished", doing),
            // Started by the record, and the container knows that nothing ever ran in it.
            Some(Process::NotYet) => {
                let pause = doing.chance.span(0, 20);
                self.agent_later(pause, AgentDeed::Exec(guid.clone()), doing);
            }
            Some(Process::Exited(_)) => self.see_end(guid, doing),
            Some(Process::Runs) => {
                self.report_healthy(guid, doing);
                let timeout = AgentDeed::StartTimeout(guid.clone());
                self.agent_later(Milliseconds::from_seconds(60), timeout, doing);
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
