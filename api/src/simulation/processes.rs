//! What the processes in simulated containers do by themselves, and what an agent sees of it.

use domain::{
    bbs::actual_lrp::NetInfo,
    exit::{ExitStatus, ProcessExit},
    id::InstanceGuid,
    rep::{Ended, Evidence, Observed},
    units::Milliseconds,
};

use super::{
    agent::is_task,
    machine::{AgentDeed, Deed, Doing, Machine, Process, ProcessDeed, Stage},
};

/// How long an instance may take until it is healthy for the first time.
const START_TIMEOUT: Milliseconds = Milliseconds::from_seconds(60);

impl Machine {
    fn process_later(
        &self,
        span: Milliseconds,
        guid: &InstanceGuid,
        deed: ProcessDeed,
        doing: &mut Doing<'_>,
    ) {
        doing.later(span, Deed::Process(self.boot, guid.clone(), deed));
    }

    /// A task ends by itself, soon.
    pub(super) fn run_task(&self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let span = doing.chance.span(10, 60_000);
        let status = ExitStatus::Exited(i32::from(doing.chance.per_mille(200)));
        self.process_later(span, guid, ProcessDeed::Ends(status), doing);
    }

    /// Most instances become healthy and stay; some end soon, some later, some never get healthy or
    /// are not any more after a while, and some cannot take requests for a while.
    pub(super) fn run_lrp(&self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_good = doing.is_calm || doing.chance.per_mille(750);
        if !is_good && doing.chance.per_mille(600) {
            let span = doing.chance.span(0, 60_000);
            let ends = match doing.chance.small(4) {
                0 => ProcessDeed::Unhealthy,
                1 => ProcessDeed::Ends(ExitStatus::Exited(0)),
                _ => ProcessDeed::Ends(ExitStatus::Exited(1)),
            };
            self.process_later(span, guid, ends, doing);
        }
        if is_good || doing.chance.per_mille(600) {
            let span = doing.chance.span(10, 5000);
            self.process_later(span, guid, ProcessDeed::Healthy, doing);
        }
        if !doing.is_calm && doing.chance.per_mille(200) {
            let unready = doing.chance.span(10, 30_000);
            let ready = Milliseconds(unready.0 + doing.chance.span(0, 40_000).0);
            self.process_later(unready, guid, ProcessDeed::Ready(false), doing);
            self.process_later(ready, guid, ProcessDeed::Ready(true), doing);
        }
        self.agent_later(START_TIMEOUT, AgentDeed::StartTimeout(guid.clone()), doing);
    }

    /// Something happens inside a container. A process that only an earlier boot knew does nothing.
    pub(super) fn process_does(
        &mut self,
        guid: &InstanceGuid,
        deed: ProcessDeed,
        doing: &mut Doing<'_>,
    ) {
        let is_task = self.disk.book.get(guid).is_some_and(|entry| is_task(&entry.reference.kind));
        let Some(container) = self.containers.get_mut(guid) else { return };
        if container.process != Process::Runs {
            return;
        }
        let behaves = doing.is_calm && !is_task;
        match deed {
            ProcessDeed::Healthy => {
                container.is_healthy = true;
                self.report_healthy(guid, doing);
            }
            ProcessDeed::Unhealthy if !behaves => {
                container.is_healthy = false;
                self.see_health(guid, doing);
            }
            ProcessDeed::Ready(is_ready) if is_ready || !behaves => {
                container.is_ready = is_ready;
                self.report_readiness(guid, doing);
            }
            ProcessDeed::Ends(status) if !behaves => {
                container.process = Process::Exited(status);
                self.see_end(guid, doing);
            }
            ProcessDeed::Unhealthy | ProcessDeed::Ready(_) | ProcessDeed::Ends(_) => {}
        }
    }

    /// Whether an agent is there and registered: one that is not looks at nothing.
    fn sees(&self, guid: &InstanceGuid) -> bool {
        let in_session = self.agent.as_ref().is_some_and(|agent| agent.epoch.is_some());
        in_session && !self.is_stopping(guid) && self.stage(guid) == Some(Stage::Running)
    }

    pub(super) fn report_healthy(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_healthy = self.containers.get(guid).is_some_and(|container| container.is_healthy);
        if !is_healthy || !self.sees(guid) {
            return;
        }
        let Some(entry) = self.disk.book.get_mut(guid).filter(|entry| !entry.is_told_healthy)
        else {
            return;
        };
        let is_ready = self.containers.get(guid).is_some_and(|container| container.is_ready);
        (entry.is_told_healthy, entry.is_told_ready) = (true, is_ready);
        let (reference, instance_address) = (entry.reference.clone(), entry.address);
        let net_info = NetInfo { instance_address, ports: vec![8080] };
        self.spool(&reference, Observed::Healthy { net_info, is_ready }, doing);
    }

    /// Told of healthy instances only.
    pub(super) fn report_readiness(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let Some(is_ready) = self.containers.get(guid).map(|container| container.is_ready) else {
            return;
        };
        if !self.sees(guid) {
            return;
        }
        let Some(entry) = self.disk.book.get_mut(guid).filter(|entry| entry.is_told_healthy) else {
            return;
        };
        if entry.is_told_ready != is_ready {
            entry.is_told_ready = is_ready;
            let reference = entry.reference.clone();
            self.spool(&reference, Observed::Readiness(is_ready), doing);
        }
    }

    /// A check fails of what was healthy.
    pub(super) fn see_health(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let was_healthy = self.disk.book.get(guid).is_some_and(|entry| entry.is_told_healthy);
        let is_healthy = self.containers.get(guid).is_some_and(|container| container.is_healthy);
        if was_healthy && !is_healthy && self.sees(guid) {
            self.end_in_words(guid, "Instance became unhealthy", doing);
        }
    }

    pub(super) fn see_end(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        if !self.sees(guid) {
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

    pub(super) fn watch_start(&self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        self.agent_later(START_TIMEOUT, AgentDeed::StartTimeout(guid.clone()), doing);
    }

    pub(super) fn start_timeout(&mut self, guid: &InstanceGuid, doing: &mut Doing<'_>) {
        let is_healthy = self.containers.get(guid).is_none_or(|container| container.is_healthy);
        if self.stage(guid) == Some(Stage::Running) && !is_healthy && !self.is_stopping(guid) {
            self.end_in_words(guid, "never healthy", doing);
        }
    }

    pub(super) fn end_in_words(
        &mut self,
        guid: &InstanceGuid,
        reason: &str,
        doing: &mut Doing<'_>,
    ) {
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
}
