//! The harness: a story of events and commands over the live aggregates, on a log of its own.

use crate::{
    aggregates::Aggregates,
    bbs::{actual_lrp::InstanceReference, cell::Cell, placement::Placement, task::TaskReference},
    command::{Command, Envelope},
    decide::{Decision, decide},
    event::Event,
    id::{ActualLrpKey, CellId, CommandId, TaskGuid},
    log::{Actor, ActorKind, Position, Recorded, Stamp, StreamId, StreamVersion},
    rejection::Rejection,
    units::{Milliseconds, Timestamp},
};

/// When every story begins.
pub const START: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// What happened so far.
#[derive(Debug, Clone)]
pub struct Story {
    /// The live aggregates.
    pub aggregates: Aggregates,
    /// The events, in order.
    pub recorded: Vec<Recorded<Event>>,
    /// The instant of the next command or event.
    pub now: Timestamp,
}

/// A story in which these events happened at [`START`].
#[must_use]
pub fn given(events: impl IntoIterator<Item = (StreamId, Event)>) -> Story {
    let mut story = Story { aggregates: Aggregates::default(), recorded: Vec::new(), now: START };
    for (stream, event) in events {
        story.record(stream, event);
    }
    story
}

impl Story {
    /// The last event's place.
    #[must_use]
    pub fn head(&self) -> Stamp {
        let start = Stamp { position: Position(0), recorded_at: START };
        self.recorded.last().map_or(start, Recorded::stamp)
    }

    /// Time passes.
    #[must_use]
    pub fn later(mut self, span: Milliseconds) -> Self {
        self.now = self.now.plus(span);
        self
    }

    /// Another event happens, unjudged.
    #[must_use]
    pub fn and(mut self, (stream, event): (StreamId, Event)) -> Self {
        self.record(stream, event);
        self
    }

    /// A command is accepted.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn after(mut self, command: impl Into<Command>) -> Self {
        let command = command.into();
        let told = format!("{command:?}");
        let accepted = self.submit(command);
        assert!(accepted.is_ok(), "{told} was refused: {accepted:?}");
        self
    }

    /// A command is judged.
    #[must_use]
    pub fn when(mut self, command: impl Into<Command>) -> When {
        let outcome = self.submit(command.into());
        When { story: self, outcome }
    }

    /// Judges a command and records what follows.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn submit(&mut self, command: Command) -> Result<Decision, Rejection> {
        let decision = decide(&self.aggregates, &envelope(command, self.head()), self.now)?;
        for (stream, event) in &decision.events {
            self.record(stream.clone(), event.clone());
        }
        Ok(decision)
    }

    /// How a slot's cell names its present instance.
    ///
    /// # Panics
    /// When the slot has none.
    #[must_use]
    pub fn instance(&self, key: &ActualLrpKey) -> InstanceReference {
        let slot = self.aggregates.slot(key);
        let placement = slot.and_then(|slot| slot.placement()).expect("a placed slot");
        reference_of(key, placement)
    }

    /// How the cells of a slot's instances name them: the ordinary one's, and those beside it.
    #[must_use]
    pub fn instances(&self, key: &ActualLrpKey) -> Vec<InstanceReference> {
        let slot = self.aggregates.slot(key);
        let instances = slot.into_iter().flat_map(|slot| slot.instances());
        instances.map(|instance| reference_of(key, instance.placement)).collect()
    }

    /// How a task's cell names its present placement.
    ///
    /// # Panics
    /// When the task has none.
    #[must_use]
    pub fn task(&self, task_guid: &TaskGuid) -> TaskReference {
        let task = self.aggregates.task(task_guid);
        let placement = task.and_then(|task| task.placement()).expect("a placed task").clone();
        let Placement { instance_guid, cell_id, cell_epoch, placement_epoch, .. } = placement;
        let task_guid = task_guid.clone();
        TaskReference { task_guid, instance_guid, placement_epoch, cell_id, cell_epoch }
    }

    /// A cell's record.
    ///
    /// # Panics
    /// When it never registered.
    #[must_use]
    pub fn cell(&self, cell_id: &CellId) -> &Cell {
        self.aggregates.cell(cell_id).expect("a registered cell")
    }

    fn record(&mut self, stream: StreamId, event: Event) {
        let position = self.head().position.next();
        let command_id = command_id(self.head());
        let recorded = Recorded {
            position,
            stream,
            version: StreamVersion(0),
            recorded_at: self.now,
            actor: actor(),
            correlation: command_id.clone(),
            command_id,
            causation: None,
            event,
        };
        self.aggregates.apply(&recorded);
        self.recorded.push(recorded);
    }
}

fn reference_of(key: &ActualLrpKey, placement: &Placement) -> InstanceReference {
    let Placement { instance_guid, cell_id, cell_epoch, placement_epoch, .. } = placement.clone();
    InstanceReference { key: key.clone(), instance_guid, placement_epoch, cell_id, cell_epoch }
}

fn envelope(command: Command, head: Stamp) -> Envelope {
    let command_id = command_id(head);
    let correlation = command_id.clone();
    Envelope { command_id, actor: actor(), seen: None, causation: None, correlation, command }
}

fn command_id(head: Stamp) -> CommandId {
    CommandId::new(&format!("test/{}", head.position)).expect("letters, digits and '/'")
}

fn actor() -> Actor {
    Actor { kind: ActorKind::User, name: "test".into(), via: "test".into() }
}

/// What a command came to.
#[derive(Debug)]
pub struct When {
    story: Story,
    outcome: Result<Decision, Rejection>,
}

impl When {
    /// It was answered by just these events; the story goes on behind them.
    ///
    /// # Panics
    /// When it was not.
    pub fn then(self, events: impl IntoIterator<Item = (StreamId, Event)>) -> Story {
        let events: Vec<_> = events.into_iter().collect();
        assert_eq!(self.outcome, Ok(Decision { events }));
        self.story
    }

    /// It was accepted and changed nothing.
    ///
    /// # Panics
    /// When it was refused or changed something.
    pub fn then_nothing(self) -> Story {
        self.then([])
    }

    /// It was refused with this code; nothing changed.
    ///
    /// # Panics
    /// When it was accepted, or refused with another code.
    pub fn then_rejected(self, code: &str) -> Story {
        let found = self.outcome.as_ref().map_err(Rejection::code);
        assert_eq!(found, Err(code));
        self.story
    }
}
