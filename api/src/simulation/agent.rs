//! The agent's side of the protocol, as the real one keeps it: register, beat, follow the
//! assignment, report until acknowledged. What it does to containers is in `work.rs`.

use domain::{
    id::InstanceGuid,
    log::CellEpoch,
    rep::{Health, NumberedReport, Observed, ReportsAnswer, Wanted, WorkKind, WorkReference},
    units::Milliseconds,
};

use super::{
    Defect,
    machine::{Agent, AgentDeed, Deed, Doing, Effect, Machine, Stage},
    message::{Answer, Request, Token},
};
use crate::presence_watch::HEARTBEAT_INTERVAL;

/// How many reports one request may hold.
const REPORTS_MAX: usize = 100;
/// When a request without an answer is given up; longer than the control plane holds an
/// assignment back.
const PATIENCE: Milliseconds = Milliseconds::from_seconds(30);
const REPORTS_PATIENCE: Milliseconds = Milliseconds::from_seconds(5);
const RETRY_PAUSE: Milliseconds = Milliseconds::from_seconds(1);

impl Machine {
    /// An agent starts, and registers.
    pub(super) fn agent_starts(&mut self, doing: &mut Doing<'_>) {
        if !self.is_powered || self.is_scrapped || self.agent.is_some() {
            return;
        }
        self.agent = Some(Agent::default());
        self.register(doing);
    }

    /// Something that the living agent planned is due.
    pub(super) fn agent_does(&mut self, deed: AgentDeed, doing: &mut Doing<'_>) {
        match deed {
            AgentDeed::Register => self.register(doing),
            AgentDeed::Beat => self.beat(doing),
            AgentDeed::Poll => self.poll(doing),
            AgentDeed::Flush => self.flush(doing),
            AgentDeed::GiveUp(token) => self.hear(token, Answer::Failed, doing),
            AgentDeed::Room(guid, tries) => self.take_room(&guid, tries, doing),
            AgentDeed::Made(guid) => self.made(&guid, doing),
            AgentDeed::Exec(guid) => self.exec(&guid, doing),
            AgentDeed::Stopped(guid, killed_after) => self.stopped(&guid, killed_after, doing),
            AgentDeed::StartTimeout(guid) => self.start_timeout(&guid, doing),
        }
    }

    /// Whatever the agent planned and waits for is dropped with what it had in memory.
    fn begin_session(&mut self, epoch: Option<CellEpoch>) {
        self.lives += 1;
        self.agent = Some(Agent { life: self.lives, epoch, ..Agent::default() });
    }

    pub(super) fn agent_later(&self, span: Milliseconds, deed: AgentDeed, doing: &mut Doing<'_>) {
        if let Some(agent) = &self.agent {
            doing.later(span, Deed::Agent(agent.life, deed));
        }
    }

    fn send(&mut self, request: Request, patience: Milliseconds, doing: &mut Doing<'_>) -> Token {
        let Some(agent) = &mut self.agent else { return 0 };
        agent.last_token += 1;
        let token = agent.last_token;
        doing.effects.push(Effect::Send { token, request });
        self.agent_later(patience, AgentDeed::GiveUp(token), doing);
        token
    }

    fn register(&mut self, doing: &mut Doing<'_>) {
        self.begin_session(None);
        let token = self.send(Request::Register, REPORTS_PATIENCE, doing);
        if let Some(agent) = &mut self.agent {
            agent.registering = Some(token);
        }
    }

    fn beat(&mut self, doing: &mut Doing<'_>) {
        let Some(epoch) = self.agent.as_ref().and_then(|agent| agent.epoch) else { return };
        let is_unwell = !doing.is_calm && doing.chance.per_mille(10);
        let health = Health { failure: is_unwell.then(|| "no more veth".to_owned()) };
        self.send(Request::Heartbeat { epoch, health }, REPORTS_PATIENCE, doing);
        self.agent_later(HEARTBEAT_INTERVAL, AgentDeed::Beat, doing);
    }

    fn poll(&mut self, doing: &mut Doing<'_>) {
        let Some(agent) = &self.agent else { return };
        let (Some(epoch), None) = (agent.epoch, agent.polling) else { return };
        let request = Request::Assignment { after: agent.seen, epoch };
        let token = self.send(request, PATIENCE, doing);
        if let Some(agent) = &mut self.agent {
            agent.polling = Some(token);
        }
    }

    fn flush(&mut self, doing: &mut Doing<'_>) {
        let Some(agent) = &self.agent else { return };
        let (Some(epoch), None) = (agent.epoch, agent.reporting) else { return };
        let reports: Vec<_> = self.disk.spool.iter().take(REPORTS_MAX).cloned().collect();
        if reports.is_empty() {
            return;
        }
        let token = self.send(Request::Reports { epoch, reports }, REPORTS_PATIENCE, doing);
        if let Some(agent) = &mut self.agent {
            agent.reporting = Some(token);
            agent.sent_to =
                self.disk.spool.iter().take(REPORTS_MAX).map(|it| it.sequence).max().unwrap_or(0);
        }
    }

    /// An answer arrives. One to a request that was given up is not looked at.
    pub(super) fn hear(&mut self, token: Token, answer: Answer, doing: &mut Doing<'_>) {
        let Some(agent) = &mut self.agent else { return };
        let is_registering = agent.registering.take_if(|waited| *waited == token).is_some();
        let is_polling = agent.polling.take_if(|waited| *waited == token).is_some();
        let is_reporting = agent.reporting.take_if(|waited| *waited == token).is_some();
        if matches!(answer, Answer::Failed) {
            // The next node is asked.
            self.peer += usize::from(is_registering || is_polling || is_reporting);
        }
        match answer {
            Answer::EpochPassed => self.register(doing),
            Answer::IdInUse if is_registering => self.end_for_good(doing),
            Answer::Failed if is_registering => {
                self.agent_later(RETRY_PAUSE, AgentDeed::Register, doing);
            }
            Answer::Failed if is_polling => self.agent_later(RETRY_PAUSE, AgentDeed::Poll, doing),
            Answer::Failed if is_reporting => {
                agent.unsure_to = agent.unsure_to.max(agent.sent_to);
                self.agent_later(RETRY_PAUSE, AgentDeed::Flush, doing);
            }
            Answer::Registered { epoch, reports_seen } if is_registering => {
                self.registered(epoch, reports_seen, doing);
            }
            Answer::Assigned { assignment, definitions } if is_polling => {
                self.assigned(assignment, definitions, doing);
            }
            Answer::Judged(judged) if is_reporting => self.judged(&judged, doing),
            Answer::Heard
            | Answer::Failed
            | Answer::IdInUse
            | Answer::Registered { .. }
            | Answer::Assigned { .. }
            | Answer::Judged(_) => {}
        }
    }

    /// Another machine is the cell now. What this one holds is nobody's, and a supervisor starts
    /// the agent again and again.
    fn end_for_good(&mut self, doing: &mut Doing<'_>) {
        self.destroy_all();
        self.kill_agent();
        doing.later(Milliseconds(5 * RETRY_PAUSE.0), Deed::AgentStarts);
    }

    fn registered(&mut self, epoch: CellEpoch, reports_seen: u64, doing: &mut Doing<'_>) {
        if self.disk.epoch != Some(epoch) {
            self.destroy_all();
            self.disk.epoch = Some(epoch);
        }
        self.disk.last_sequence = self.disk.last_sequence.max(reports_seen);
        self.begin_session(Some(epoch));
        self.recover(doing);
        self.beat(doing);
        self.poll(doing);
        self.flush(doing);
    }

    fn assigned(
        &mut self,
        assignment: domain::rep::Assignment,
        definitions: std::collections::BTreeMap<
            domain::sealed::Digest,
            std::sync::Arc<domain::bbs::definition::Definition>,
        >,
        doing: &mut Doing<'_>,
    ) {
        let Some(agent) = &mut self.agent else { return };
        // A list for another registration is not obeyed.
        if agent.epoch != Some(assignment.cell_epoch) {
            return self.register(doing);
        }
        if agent.assignment.is_none() || assignment.position != agent.seen {
            agent.seen = assignment.position;
            agent.assignment = Some(assignment);
            agent.definitions = definitions;
            if self.defect == Some(Defect::ForgetsItsBook) && doing.chance.per_mille(300) {
                self.disk.book.clear();
            }
            self.act(doing);
            self.label();
        }
        self.poll(doing);
    }

    fn judged(&mut self, judged: &ReportsAnswer, doing: &mut Doing<'_>) {
        while let Some(numbered) =
            self.disk.spool.pop_front_if(|numbered| numbered.sequence <= judged.acknowledged)
        {
            let sequence = numbered.sequence;
            let refused = judged.refused.iter().find(|refused| refused.sequence == sequence);
            let guid = numbered.report.work.instance_guid.clone();
            match refused {
                Some(refused) => {
                    doing.effects.push(Effect::Note(format!(
                        "{} is refused {sequence}: {}",
                        self.cell_id, refused.code
                    )));
                    let is_disowned = matches!(
                        refused.code.as_str(),
                        "PLACEMENT_MOVED"
                            | "NOT_FOUND"
                            | "CELL_EPOCH_PASSED"
                            | "RUNNING_ON_DIFFERENT_CELL"
                    );
                    self.stop(&guid, is_disowned, doing);
                }
                None => self.accepted(numbered, doing),
            }
        }
        self.flush(doing);
    }

    /// What is to be stopped keeps the labels that it had.
    fn label(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let work = agent.assignment.iter().flat_map(|assignment| &assignment.work);
        for work in work.filter(|work| work.wanted == Wanted::Run) {
            let guid = work.reference.instance_guid.clone();
            match work.labels.clone() {
                Some(labels) => agent.labels.insert(guid, labels),
                None => agent.labels.remove(&guid),
            };
        }
    }

    fn accepted(&mut self, numbered: NumberedReport, doing: &mut Doing<'_>) {
        let unsure_to = self.agent.as_ref().map_or(0, |agent| agent.unsure_to);
        let is_first = numbered.sequence > unsure_to;
        let WorkReference { kind, instance_guid, .. } = numbered.report.work;
        match numbered.report.observed {
            Observed::MayStart => self.may_exec(instance_guid, is_first, doing),
            Observed::Killed(_) if is_first && !is_task(&kind) => {
                doing.effects.push(Effect::KillTold(instance_guid));
            }
            Observed::Killed(_)
            | Observed::Refused(_)
            | Observed::Claimed
            | Observed::Healthy { .. }
            | Observed::Readiness(_)
            | Observed::Ended(_)
            | Observed::Gone => {}
        }
    }

    /// That a task is started is on disk before its process runs. An acceptance counts only as
    /// the answer to the first sending.
    fn may_exec(&mut self, guid: InstanceGuid, is_first: bool, doing: &mut Doing<'_>) {
        if self.stage(&guid) != Some(Stage::Asking) || self.is_stopping(&guid) {
            return;
        }
        if !is_first {
            if let Some(entry) = self.disk.book.get(&guid) {
                let reference = entry.reference.clone();
                self.spool(&reference, Observed::MayStart, doing);
            }
            return;
        }
        self.set_stage(&guid, Stage::Recorded);
        let pause = doing.chance.span(0, 20);
        self.agent_later(pause, AgentDeed::Exec(guid), doing);
    }
}

/// Whether work is a task's.
pub(super) fn is_task(kind: &WorkKind) -> bool {
    match kind {
        WorkKind::Task(_) => true,
        WorkKind::Lrp(_) => false,
    }
}
