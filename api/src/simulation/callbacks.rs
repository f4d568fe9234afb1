//! The calls that a node makes once it has resolved a task, as the real callback loop makes them: up
//! to three in a row, then what they came to is noted, whoever has the lease by then.

use domain::{
    bbs::task::{self, CallbackOutcome, Calls, KICK_AFTER},
    command::{Command, Envelope},
    id::{CommandId, TaskGuid},
    log::{Actor, ActorKind, Position},
    units::{Milliseconds, Timestamp},
};

use super::{
    bus::{Outcomes, Unavailable},
    cluster::{Cluster, Happening},
    message::Reply,
    node::NodeIndex,
    witness::Violation,
};

/// How often a client is called in a row.
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// How much earlier than the demotion of its task a run of calls ends.
const MARGIN: Milliseconds = Milliseconds::from_seconds(1);
/// How long one call may take.
const TIMEOUT: Milliseconds = Milliseconds::from_seconds(10);
/// How often it is tried to note what calls came to, and how long apart.
const NOTES_MAX: u32 = 40;
const RETRY_PAUSE: Milliseconds = Milliseconds(500);

/// A run of calls for one resolved task.
#[derive(Debug, Clone)]
pub(super) struct Calling {
    pub(super) task_guid: TaskGuid,
    /// The event by which it was resolving.
    pub(super) resolving: Position,
    /// How often the client was called.
    pub(super) attempts: u32,
    /// When no further call is made.
    until: Timestamp,
}

/// What one call comes to.
#[derive(Debug, Clone)]
pub(super) enum Called {
    Final(CallbackOutcome),
    /// It may be tried again at once.
    Passing,
}

impl Cluster {
    /// Tasks that a node has resolved are called for.
    pub(super) fn begin_calls(
        &mut self,
        node: NodeIndex,
        envelopes: &[Envelope],
        outcomes: &Outcomes,
    ) {
        let Some(life) = self.nodes.get(node).map(|node| node.life) else { return };
        for (envelope, outcome) in envelopes.iter().zip(outcomes.iter().flatten()) {
            if let (Command::Task(task::Command::Resolve { task_guid }), Ok(accepted)) =
                (&envelope.command, outcome)
            {
                let calling = Calling {
                    task_guid: task_guid.clone(),
                    resolving: accepted.position,
                    attempts: 0,
                    until: self.now.plus(Milliseconds(KICK_AFTER.0 - MARGIN.0)),
                };
                let soon = self.chance.span(0, 20);
                self.after(soon, Happening::Call { node, life, calling });
            }
        }
    }

    /// A client is called.
    pub(super) fn call(
        &mut self,
        node: NodeIndex,
        life: u64,
        mut calling: Calling,
    ) -> Result<(), Violation> {
        if !self.nodes.get(node).is_some_and(|node| node.is_life(life)) {
            return Ok(());
        }
        calling.attempts += 1;
        let (span, called) = self.client_answers();
        let Calling { task_guid, resolving, attempts, .. } = &calling;
        self.note(|_| format!("node {node} calls for {task_guid} of {resolving}: {called:?}"));
        self.store.witness.clients.call((node, life), task_guid, *resolving, *attempts, &called)?;
        let left = calling.until.since(self.now);
        self.after(span.min(left), Happening::Called { node, life, calling, called });
        Ok(())
    }

    /// Most clients answer; some are busy, some hear it and do not answer in time, some are gone.
    fn client_answers(&mut self) -> (Milliseconds, Called) {
        let soon = self.chance.span(1, 200);
        let throw = if self.is_calm { 0 } else { self.chance.small(100) };
        match throw {
            0..55 => (soon, Called::Final(CallbackOutcome::Delivered(200))),
            55..65 => (soon, Called::Final(CallbackOutcome::Delivered(500))),
            65..80 => (soon, Called::Passing),
            80..90 => (TIMEOUT, Called::Passing),
            _ => (soon, Called::Final(CallbackOutcome::Failed("cannot connect".to_owned()))),
        }
    }

    /// A call has ended: another one follows, or what they came to is noted.
    pub(super) fn called(
        &mut self,
        index: NodeIndex,
        life: u64,
        calling: Calling,
        called: Called,
    ) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(index).filter(|node| node.is_life(life)) else {
            return Ok(());
        };
        let Calling { task_guid, resolving, attempts, until } = calling.clone();
        let outcome = match called {
            Called::Final(outcome) => outcome,
            Called::Passing if attempts < ATTEMPTS_MAX && self.now < until => {
                return self.call(index, life, calling);
            }
            Called::Passing => CallbackOutcome::Failed("no answer".to_owned()),
        };
        let actor = Actor {
            kind: ActorKind::Loop,
            name: "task callbacks".into(),
            via: node.name.as_str().into(),
        };
        let calls = Calls { attempts, outcome };
        let command_id = CommandId::from_uuid(self.chance.uuid());
        let envelope = Envelope {
            correlation: command_id.clone(),
            command_id,
            actor,
            seen: None,
            causation: Some(resolving),
            command: task::Command::NoteCallback { task_guid, resolving, calls }.into(),
        };
        let envelope = Box::new(envelope);
        self.note_calls(index, life, envelope, NOTES_MAX)
    }

    /// What calls came to is offered to the log.
    pub(super) fn note_calls(
        &mut self,
        node: NodeIndex,
        life: u64,
        envelope: Box<Envelope>,
        tries: u32,
    ) -> Result<(), Violation> {
        let is_there = self.nodes.get(node).is_some_and(|node| node.is_life(life));
        let Some(tries) = tries.checked_sub(1).filter(|_| is_there) else { return Ok(()) };
        let envelopes = vec![envelope.as_ref().clone()];
        self.submit(node, envelopes, Reply::Calls { envelope, tries })
    }

    /// It is offered again while the log cannot be written.
    pub(super) fn calls_noted(
        &mut self,
        node: NodeIndex,
        envelope: Box<Envelope>,
        tries: u32,
        outcomes: &Outcomes,
    ) {
        let Some(life) = self.nodes.get(node).map(|node| node.life) else { return };
        match outcomes {
            Err(Unavailable) => {
                self.after(RETRY_PAUSE, Happening::NoteCalls { node, life, envelope, tries });
            }
            Ok(outcomes) => self.note(|_| format!("node {node} notes calls: {outcomes:?}")),
        }
    }
}
