//! The log of a model: commands are judged by the real rules, and what follows is folded.

use domain::{
    aggregates::Aggregates,
    command::{Command, Envelope},
    convergence::{self, Discrepancies},
    decide::{Decision, decide},
    id::CommandId,
    log::{Actor, ActorKind, Position, Recorded, StreamVersion},
    rejection::Rejection,
    units::Timestamp,
};

/// Changes what the rules decided: a bug in them that a model must find.
pub(crate) type Bug = fn(&mut Decision);

/// The log and what it folds to.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) aggregates: Aggregates,
    pub(crate) now: Timestamp,
    discrepancies: Discrepancies,
    head: Position,
    command_id: CommandId,
    actor: Actor,
    bug: Option<Bug>,
}

impl Log {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self {
            aggregates: Aggregates::default(),
            now: domain::testing::START,
            discrepancies: Discrepancies::default(),
            head: Position(0),
            command_id: CommandId::new("model").unwrap(),
            actor: Actor { kind: ActorKind::Loop, name: "model".into(), via: "model".into() },
            bug,
        }
    }

    /// What the converger would submit.
    pub(crate) fn planned(&self) -> Vec<Command> {
        convergence::plan(&self.discrepancies, &self.aggregates, self.now)
    }

    /// Judges a command and folds what follows; says whether that was anything.
    pub(crate) fn submit(&mut self, command: impl Into<Command>) -> Result<bool, Rejection> {
        let envelope = Envelope {
            command_id: self.command_id.clone(),
            actor: self.actor.clone(),
            seen: None,
            causation: None,
            correlation: self.command_id.clone(),
            command: command.into(),
        };
        let mut decision = decide(&self.aggregates, &envelope, self.now)?;
        if let Some(bug) = self.bug {
            bug(&mut decision);
        }
        let is_something = !decision.events.is_empty();
        for (stream, event) in decision.events {
            self.head = self.head.next();
            let recorded = Recorded {
                position: self.head,
                stream,
                version: StreamVersion(0),
                recorded_at: self.now,
                actor: self.actor.clone(),
                command_id: self.command_id.clone(),
                causation: None,
                correlation: self.command_id.clone(),
                event,
            };
            self.aggregates.apply(&recorded);
            self.discrepancies.touch(&self.aggregates, &recorded.stream);
        }
        Ok(is_something)
    }
}
