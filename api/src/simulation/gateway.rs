//! The cells' edge of a simulation: does with the wire what the real gateway does over HTTP, and
//! loses, doubles and delays what it carries.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    bbs::{cell, definition::Definition},
    command::{Command, Envelope, ReportNumber},
    id::{CellId, CommandId},
    log::{Actor, ActorKind, CellEpoch},
    rejection::Rejection,
    rep::{Assignment, NumberedReport, RefusedReport, ReportsAnswer, WorkKind},
    sealed::Digest,
    units::Milliseconds,
};
use projections::world::World;

use super::{
    cluster::{Cluster, Happening, Held, MachineIndex},
    message::{Answer, Request, Token},
    plane::Unavailable,
    witness::Violation,
};
use crate::presence_watch;

/// How long an unchanged assignment is held back.
const HOLD: Milliseconds = Milliseconds::from_seconds(20);

impl Cluster {
    pub(super) fn send_request(
        &mut self,
        machine: MachineIndex,
        life: u64,
        token: Token,
        request: Request,
    ) {
        if self.machines.get(machine).is_none_or(|machine| machine.is_cut_off) {
            return;
        }
        for span in self.deliveries() {
            let request = request.clone();
            self.after(span, Happening::Request { machine, life, token, request });
        }
    }

    fn send_answer(&mut self, machine: MachineIndex, life: u64, token: Token, answer: Answer) {
        for span in self.deliveries() {
            let answer = answer.clone();
            self.after(span, Happening::Answer { machine, life, token, answer });
        }
    }

    /// When what is sent now arrives: once as a rule, never, twice, or late.
    fn deliveries(&mut self) -> Vec<Milliseconds> {
        let soon = self.chance.span(1, 20);
        if self.is_calm || !self.config.faults.network {
            return vec![soon];
        }
        match self.chance.small(100) {
            0..3 => Vec::new(),
            3..6 => vec![soon, self.chance.span(1, 10_000)],
            6..10 => vec![self.chance.span(20, 20_000)],
            _ => vec![soon],
        }
    }

    pub(super) fn request_arrives(
        &mut self,
        index: MachineIndex,
        life: u64,
        token: Token,
        request: Request,
    ) -> Result<(), Violation> {
        let Some(machine) = self.machines.get(index).filter(|machine| !machine.is_cut_off) else {
            return Ok(());
        };
        let cell_id = machine.cell_id.clone();
        let name = request.name();
        let answer = match request {
            Request::Register => Some(self.register(index, &cell_id)?),
            Request::Heartbeat { epoch } => {
                Some(self.hear(&cell_id, epoch)?.unwrap_or(Answer::Heard))
            }
            Request::Assignment { after, epoch } => match self.hear(&cell_id, epoch)? {
                Some(refusal) => Some(refusal),
                None => {
                    self.held.insert(index, Held { life, token, after });
                    self.answer_if_moved(index);
                    self.after(HOLD, Happening::HoldEnds { machine: index, token });
                    None
                }
            },
            Request::Reports { epoch, reports } => match self.hear(&cell_id, epoch)? {
                Some(refusal) => Some(refusal),
                None => Some(self.judge(&cell_id, epoch, reports)?),
            },
        };
        if let Some(answer) = answer {
            if !matches!(answer, Answer::Heard | Answer::IdInUse) {
                self.note(|_| format!("machine {index} {name}: {}", answer_told(&answer)));
            }
            self.send_answer(index, life, token, answer);
        }
        Ok(())
    }

    fn register(&mut self, index: MachineIndex, cell_id: &CellId) -> Result<Answer, Violation> {
        let Some(machine) = self.machines.get(index) else { return Ok(Answer::Failed) };
        let registration = Box::new(machine.registration.clone());
        if presence_watch::is_voice_of(&self.plane.world, cell_id, &registration) {
            self.note_presence(cell_id);
        }
        let command = cell::Command::Register { cell_id: cell_id.clone(), registration };
        match self.submit_for(cell_id, command)? {
            Err(Unavailable) => return Ok(Answer::Failed),
            Ok(Err(Rejection::CellIdInUse { .. })) => return Ok(Answer::IdInUse),
            Ok(Err(_)) => return Ok(Answer::Failed),
            Ok(Ok(_)) => {}
        }
        let known = self.plane.world.aggregates().cell(cell_id);
        Ok(known.map_or(Answer::Failed, |cell| Answer::Registered {
            epoch: cell.cell_epoch,
            reports_seen: cell.reports_seen,
        }))
    }

    /// Notes that a cell was heard; a lost one has returned. `Some` is a refusal.
    fn hear(&mut self, cell_id: &CellId, epoch: CellEpoch) -> Result<Option<Answer>, Violation> {
        let known = self.plane.world.aggregates().cell(cell_id);
        let Some(cell) = known.filter(|cell| cell.cell_epoch == epoch) else {
            return Ok(Some(Answer::EpochPassed));
        };
        let is_present = cell.is_present();
        self.note_presence(cell_id);
        if is_present {
            return Ok(None);
        }
        let command = cell::Command::Return { cell_id: cell_id.clone(), cell_epoch: epoch };
        Ok(match self.submit_for(cell_id, command)? {
            Ok(Ok(_)) => None,
            Ok(Err(_)) => Some(Answer::EpochPassed),
            Err(Unavailable) => Some(Answer::Failed),
        })
    }

    fn note_presence(&mut self, cell_id: &CellId) {
        let (monotonic, wall) = (self.virtual_time(), self.clock());
        self.plane.presence.heard(cell_id, monotonic, wall);
    }

    fn submit_for(
        &mut self,
        cell_id: &CellId,
        command: cell::Command,
    ) -> Result<Result<Result<(), Rejection>, Unavailable>, Violation> {
        let command_id = CommandId::from_uuid(self.chance.uuid());
        let envelope = cell_envelope(cell_id, command_id, Command::Cell(command));
        Ok(self.submit(&[envelope])?.map(|outcomes| {
            outcomes.into_iter().next().map_or(Ok(()), |outcome| outcome.map(|_| ()))
        }))
    }

    fn judge(
        &mut self,
        cell_id: &CellId,
        cell_epoch: CellEpoch,
        reports: Vec<NumberedReport>,
    ) -> Result<Answer, Violation> {
        let mut sequences = Vec::new();
        let mut envelopes = Vec::new();
        for NumberedReport { sequence, report } in reports {
            let number = ReportNumber { cell_epoch, sequence };
            let causation = report.work.placement_epoch.0;
            let command = report.into_command(cell_id.clone(), cell_epoch, None);
            if let (Some(command), Ok(command_id)) = (command, number.command_id(cell_id)) {
                let envelope = cell_envelope(cell_id, command_id, command);
                envelopes.push(Envelope { causation: Some(causation), ..envelope });
                sequences.push(sequence);
            }
        }
        let Ok(outcomes) = self.submit(&envelopes)? else { return Ok(Answer::Failed) };
        let acknowledged = sequences.last().copied().unwrap_or(0);
        let refused = sequences.into_iter().zip(outcomes).filter_map(|(sequence, outcome)| {
            let rejection = outcome.err()?;
            let code = rejection.code().to_owned();
            Some(RefusedReport { sequence, code, message: rejection.to_string() })
        });
        Ok(Answer::Judged(ReportsAnswer { acknowledged, refused: refused.collect() }))
    }

    /// Answers those whose lists have changed.
    pub(super) fn answer_moved(&mut self) {
        let waiting: Vec<MachineIndex> = self.held.keys().copied().collect();
        for index in waiting {
            self.answer_if_moved(index);
        }
    }

    fn answer_if_moved(&mut self, index: MachineIndex) {
        let Some(held) = self.held.get(&index) else { return };
        let Some(machine) = self.machines.get(index) else { return };
        let changed_at = self.plane.world.cell_assignments().changed_at(&machine.cell_id);
        if changed_at > held.after {
            self.answer_held(index);
        }
    }

    pub(super) fn answer_held(&mut self, index: MachineIndex) {
        let Some(held) = self.held.remove(&index) else { return };
        let Some(machine) = self.machines.get(index) else { return };
        let world = &self.plane.world;
        let assignment = world.cell_assignments().of(world.aggregates(), &machine.cell_id);
        let Some(assignment) = assignment else { return };
        let definitions = definitions(world, &assignment);
        self.send_answer(
            index,
            held.life,
            held.token,
            Answer::Assigned { assignment, definitions },
        );
    }

    /// Connections break: what was held back is not answered.
    pub(super) fn cut_connections(&mut self) {
        for (index, held) in std::mem::take(&mut self.held) {
            self.send_answer(index, held.life, held.token, Answer::Failed);
        }
    }
}

fn cell_envelope(cell_id: &CellId, command_id: CommandId, command: Command) -> Envelope {
    let actor =
        Actor { kind: ActorKind::Cell, name: cell_id.as_str().into(), via: "gateway".into() };
    let correlation = command_id.clone();
    Envelope { command_id, actor, seen: None, causation: None, correlation, command }
}

/// The definitions that a cell can fetch for its list.
fn definitions(world: &World, assignment: &Assignment) -> BTreeMap<Digest, Arc<Definition>> {
    let aggregates = world.aggregates();
    let found = assignment.work.iter().filter_map(|work| {
        let definition = match &work.reference.kind {
            WorkKind::Lrp(key) => aggregates.desired_lrp(&key.process_guid)?.definition.shared(),
            WorkKind::Task(task_guid) => &aggregates.task(task_guid)?.definition,
        };
        (definition.digest() == work.definition).then(|| (work.definition, Arc::clone(definition)))
    });
    found.collect()
}

fn answer_told(answer: &Answer) -> String {
    match answer {
        Answer::Registered { epoch, .. } => format!("registered in epoch {}", epoch.0),
        Answer::Heard => "heard".to_owned(),
        Answer::Assigned { assignment, .. } => format!("{} pieces of work", assignment.work.len()),
        Answer::Judged(judged) => {
            format!("judged to {}, {} refused", judged.acknowledged, judged.refused.len())
        }
        Answer::EpochPassed => "epoch passed".to_owned(),
        Answer::IdInUse => "id in use".to_owned(),
        Answer::Failed => "failed".to_owned(),
    }
}
