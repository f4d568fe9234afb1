//! The cells' edge of a node in a simulation: does with the wire what the real gateway does over
//! HTTP.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    bbs::{cell, definition::Definition},
    command::{Command, Envelope, ReportNumber},
    id::{CellId, CommandId},
    log::{Actor, ActorKind, CellEpoch, Position},
    rejection::Rejection,
    rep::{Assignment, Health, NumberedReport, RefusedReport, ReportsAnswer, WorkKind},
    sealed::Digest,
    units::Milliseconds,
};
use projections::world::World;

use super::{
    bus::{Outcomes, Unavailable},
    cluster::{Cluster, Happening, MachineIndex},
    message::{Answer, Caller, Reply, Request, Then, Token},
    network::Cut,
    node::{Held, NodeIndex},
    witness::Violation,
};
use crate::presence_watch;

/// How long an unchanged assignment is held back.
const HOLD: Milliseconds = Milliseconds::from_seconds(20);

impl Cluster {
    /// A cell sends to the node that it asks at present.
    pub(super) fn send_request(
        &mut self,
        machine: MachineIndex,
        life: u64,
        token: Token,
        request: Request,
    ) {
        let Some(found) = self.machines.get(machine) else { return };
        if found.cut.is_some_and(Cut::stops_sending) {
            return;
        }
        let node = found.peer % self.nodes.len().max(1);
        let caller = Caller { machine, life, token };
        for span in self.deliveries() {
            let request = request.clone();
            self.after(span, Happening::Request { node, caller, request });
        }
    }

    fn send_answer(&mut self, caller: Caller, answer: Answer) {
        for span in self.deliveries() {
            let answer = answer.clone();
            self.after(span, Happening::Answer { caller, answer });
        }
    }

    pub(super) fn request_arrives(
        &mut self,
        node: NodeIndex,
        caller: Caller,
        request: Request,
    ) -> Result<(), Violation> {
        let machine = self.machines.get(caller.machine);
        let is_heard = machine.is_some_and(|it| !it.cut.is_some_and(Cut::stops_sending));
        if !is_heard || self.nodes.get(node).is_none_or(|node| node.is_edge_cut) {
            return Ok(());
        }
        if self.nodes.get(node).is_none_or(|node| !node.is_up) {
            // Nobody listens there.
            self.send_answer(caller, Answer::Failed);
            return Ok(());
        }
        match request {
            Request::Register => self.register(node, caller),
            Request::Heartbeat { epoch, .. }
            | Request::Assignment { epoch, .. }
            | Request::Reports { epoch, .. } => self.hear(node, caller, epoch, request),
        }
    }

    fn register(&mut self, index: NodeIndex, caller: Caller) -> Result<(), Violation> {
        let Some(machine) = self.machines.get(caller.machine) else { return Ok(()) };
        let cell_id = machine.cell_id.clone();
        let registration = Box::new(machine.registration.clone());
        let Some(node) = self.nodes.get(index) else { return Ok(()) };
        if presence_watch::is_voice_of(&node.world, &cell_id, &registration) {
            self.note_presence(index, &cell_id);
        }
        let command = cell::Command::Register { cell_id: cell_id.clone(), registration };
        self.submit_for(index, caller, &cell_id, command, Then::Registered)
    }

    /// Notes that a cell was heard, and gives it what it asks for; a lost one returns first.
    fn hear(
        &mut self,
        index: NodeIndex,
        caller: Caller,
        epoch: CellEpoch,
        request: Request,
    ) -> Result<(), Violation> {
        let Some(cell_id) = self.cell_id(caller) else { return Ok(()) };
        let known = |cluster: &Self| {
            let cell = cluster.nodes.get(index)?.world.aggregates().cell(&cell_id)?;
            (cell.cell_epoch == epoch).then(|| cell.is_present())
        };
        let mut is_present = known(self);
        if is_present.is_none() {
            // This node may not have seen yet what the cell did at another.
            if !self.reaches_store(index) {
                self.send_answer(caller, Answer::Failed);
                return Ok(());
            }
            self.follow(index)?;
            is_present = known(self);
        }
        let Some(is_present) = is_present else {
            self.send_answer(caller, Answer::EpochPassed);
            return Ok(());
        };
        self.note_presence(index, &cell_id);
        if is_present {
            return self.serve_cell(index, caller, &cell_id, request);
        }
        let command = cell::Command::Return { cell_id: cell_id.clone(), cell_epoch: epoch };
        self.submit_for(index, caller, &cell_id, command, Then::Returned(request))
    }

    fn serve_cell(
        &mut self,
        index: NodeIndex,
        caller: Caller,
        cell_id: &CellId,
        request: Request,
    ) -> Result<(), Violation> {
        match request {
            // Never asked of one that is heard under its epoch.
            Request::Register => Ok(()),
            Request::Heartbeat { epoch, health } => {
                let Health { failure } = health;
                let known = self.nodes.get(index).and_then(|node| {
                    node.world.aggregates().cell(cell_id).map(|cell| cell.failure == failure)
                });
                if known != Some(false) {
                    self.send_answer(caller, Answer::Heard);
                    return Ok(());
                }
                let cell_id = cell_id.clone();
                let command = cell::Command::NoteHealth {
                    cell_id: cell_id.clone(),
                    cell_epoch: epoch,
                    failure,
                };
                self.submit_for(index, caller, &cell_id, command, Then::Heard)
            }
            Request::Assignment { after, .. } => self.hold(index, caller, after),
            Request::Reports { epoch, reports } => {
                self.submit_reports(index, caller, cell_id, epoch, reports)
            }
        }
    }

    fn hold(&mut self, index: NodeIndex, caller: Caller, after: Position) -> Result<(), Violation> {
        let is_behind = |cluster: &Self| {
            cluster.nodes.get(index).is_none_or(|node| node.world.position() < after)
        };
        if is_behind(self) {
            self.follow(index)?;
        }
        if is_behind(self) {
            self.send_answer(caller, Answer::Failed);
            return Ok(());
        }
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let Caller { machine, life, token } = caller;
        node.held.insert(machine, Held { life, token, after });
        let node_life = node.life;
        self.answer_if_moved(index, machine);
        self.after(HOLD, Happening::HoldEnds { node: index, life: node_life, machine, token });
        Ok(())
    }

    fn note_presence(&mut self, index: NodeIndex, cell_id: &CellId) {
        let (monotonic, now) = (self.virtual_time(), self.now);
        if let Some(node) = self.nodes.get_mut(index) {
            let wall = node.clock(now);
            node.presence.heard(cell_id, monotonic, wall);
        }
    }

    fn submit_for(
        &mut self,
        node: NodeIndex,
        caller: Caller,
        cell_id: &CellId,
        command: cell::Command,
        then: Then,
    ) -> Result<(), Violation> {
        let command_id = CommandId::from_uuid(self.chance.uuid());
        let envelope = cell_envelope(cell_id, command_id, Command::Cell(command));
        self.submit(node, vec![envelope], Reply::Cell { caller, then })
    }

    fn submit_reports(
        &mut self,
        node: NodeIndex,
        caller: Caller,
        cell_id: &CellId,
        cell_epoch: CellEpoch,
        reports: Vec<NumberedReport>,
    ) -> Result<(), Violation> {
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
        self.submit(node, envelopes, Reply::Cell { caller, then: Then::Judged(sequences) })
    }

    /// A cell's commands have their outcome.
    pub(super) fn cell_goes_on(
        &mut self,
        index: NodeIndex,
        caller: Caller,
        then: Then,
        outcomes: Outcomes,
    ) -> Result<(), Violation> {
        let Ok(outcomes) = outcomes else {
            self.note(|_| format!("machine {}: unavailable", caller.machine));
            self.send_answer(caller, Answer::Failed);
            return Ok(());
        };
        let Some(cell_id) = self.cell_id(caller) else { return Ok(()) };
        let is_refused = outcomes.iter().any(Result::is_err);
        let answer = match then {
            Then::Registered => self.registered(index, caller, outcomes.first())?,
            Then::Heard if is_refused => Answer::EpochPassed,
            Then::Heard => Answer::Heard,
            Then::Returned(_) if is_refused => Answer::EpochPassed,
            Then::Returned(request) => return self.serve_cell(index, caller, &cell_id, request),
            Then::Judged(sequences) => {
                let acknowledged = sequences.last().copied().unwrap_or(0);
                let refused = sequences.into_iter().zip(outcomes).filter_map(|(sequence, it)| {
                    let rejection = it.err()?;
                    let code = rejection.code().to_owned();
                    Some(RefusedReport { sequence, code, message: rejection.to_string() })
                });
                Answer::Judged(ReportsAnswer { acknowledged, refused: refused.collect() })
            }
        };
        self.note(|_| format!("machine {}: {}", caller.machine, answer_told(&answer)));
        self.send_answer(caller, answer);
        Ok(())
    }

    fn registered(
        &mut self,
        index: NodeIndex,
        caller: Caller,
        outcome: Option<&crate::command_bus::Outcome>,
    ) -> Result<Answer, Violation> {
        match outcome {
            Some(Ok(_)) => {}
            Some(Err(Rejection::CellIdInUse { .. })) => return Ok(Answer::IdInUse),
            Some(Err(_)) | None => return Ok(Answer::Failed),
        }
        self.follow(index)?;
        let session = self.machines.get(caller.machine).and_then(|machine| {
            let node = self.nodes.get(index)?;
            presence_watch::session_of(&node.world, &machine.cell_id, &machine.registration)
        });
        Ok(session.map_or(Answer::EpochPassed, |(epoch, reports_seen)| Answer::Registered {
            epoch,
            reports_seen,
        }))
    }

    fn cell_id(&self, caller: Caller) -> Option<CellId> {
        self.machines.get(caller.machine).map(|machine| machine.cell_id.clone())
    }

    /// Answers those whose lists have changed.
    pub(super) fn answer_moved(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.get(index) else { return };
        let waiting: Vec<MachineIndex> = node.held.keys().copied().collect();
        for machine in waiting {
            self.answer_if_moved(index, machine);
        }
    }

    fn answer_if_moved(&mut self, index: NodeIndex, machine: MachineIndex) {
        let Some(node) = self.nodes.get(index) else { return };
        let Some(held) = node.held.get(&machine) else { return };
        let Some(found) = self.machines.get(machine) else { return };
        if node.world.cell_assignments().changed_at(&found.cell_id) > held.after {
            self.answer_held(index, machine);
        }
    }

    /// A held request has waited long enough.
    pub(super) fn hold_ends(
        &mut self,
        index: NodeIndex,
        life: u64,
        machine: MachineIndex,
        token: Token,
    ) {
        let Some(node) = self.nodes.get(index).filter(|node| node.is_life(life)) else { return };
        if node.held.get(&machine).is_some_and(|held| held.token == token) {
            self.answer_held(index, machine);
        }
    }

    fn answer_held(&mut self, index: NodeIndex, machine: MachineIndex) {
        let Some(node) = self.nodes.get_mut(index) else { return };
        let Some(Held { life, token, .. }) = node.held.remove(&machine) else { return };
        let Some(found) = self.machines.get(machine) else { return };
        let world = &node.world;
        let assignment = world.cell_assignments().of(world.aggregates(), &found.cell_id);
        let Some(assignment) = assignment else { return };
        let definitions = definitions(world, &assignment);
        let caller = Caller { machine, life, token };
        self.send_answer(caller, Answer::Assigned { assignment, definitions });
    }

    /// A node died: connections break, and what was held back is not answered. What was asked of
    /// it in a transaction may be done all the same.
    pub(super) fn connections_break(&mut self, held: BTreeMap<MachineIndex, Held>) {
        for (machine, Held { life, token, .. }) in held {
            self.send_answer(Caller { machine, life, token }, Answer::Failed);
        }
    }

    /// What was asked of a node that died has no answer.
    pub(super) fn nobody_answers(&mut self, reply: Reply) -> Result<(), Violation> {
        match reply {
            Reply::User(asked) => self.user_hears(&asked, &Err(Unavailable)),
            Reply::Cell { caller, .. } => {
                self.send_answer(caller, Answer::Failed);
                Ok(())
            }
            Reply::Loop { .. } | Reply::Calls { .. } => Ok(()),
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
