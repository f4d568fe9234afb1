//! Deciding in memory: commands one after another on a tentative state, to be committed as one
//! batch or undone. Sans-IO, so that the simulator drives the same code.
//!
//! A batch may be decided on top of one that is not durable yet: undone, the later one goes first.

use std::collections::VecDeque;

use domain::{
    aggregates::{Aggregate, Aggregates},
    command::{Envelope, ReportNumber},
    decide::{Decision, decide},
    event::Event,
    id::CommandId,
    log::{ActorKind, LeaseEpoch, Position, Recorded, Stamp, StreamId, StreamVersion},
    rejection::Rejection,
    units::Timestamp,
};
use foldhash::HashMap;
use projections::event_store::{
    BATCH_BYTES_MAX, EVENTS_PER_BATCH_MAX, Encoded, NewEvent, PAYLOAD_BYTES_MAX,
};

/// How many answers to users' commands are kept for repeated ones; older ones are in the log.
const ANSWERS_MAX: usize = 65_536;

/// Payloads beyond this many bytes go into the next batch.
const BATCH_BYTES: usize = BATCH_BYTES_MAX / 2;

/// A command was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The last event that it caused, or the head it was judged at when it changed nothing.
    pub position: Position,
    /// How many events it caused.
    pub events: usize,
}

/// What one command came to.
pub type Outcome = Result<Accepted, Rejection>;

/// The live aggregates with the head that they were folded to.
#[derive(Debug)]
pub struct Decider {
    aggregates: Aggregates,
    head: Stamp,
    lease: Option<LeaseEpoch>,
    answers: Answers,
}

/// Decided, and neither committed nor undone yet.
#[derive(Debug)]
pub struct Tentative {
    /// The head that it was decided on.
    pub decided_on: Position,
    /// The time of all its events.
    pub recorded_at: Timestamp,
    /// The lease that it rests on, when a loop's command is in it.
    pub lease: Option<LeaseEpoch>,
    /// What is to be appended; perhaps nothing.
    pub events: Vec<NewEvent>,
    /// What the first commands given came to, in their order; the rest found no room.
    pub outcomes: Vec<Outcome>,
    /// A command found no room: no other is taken into this batch.
    pub is_full: bool,
    bytes: usize,
    before: Stamp,
    undo: Vec<(StreamId, Option<Aggregate>)>,
    answered: Vec<CommandId>,
}

impl Decider {
    /// Starts from a fold of the log up to `head`.
    #[must_use]
    pub fn new(aggregates: Aggregates, head: Stamp, lease: Option<LeaseEpoch>) -> Self {
        Self { aggregates, head, lease, answers: Answers::default() }
    }

    /// Notes under which lease this node's loops act from now on; `None` while another has it.
    pub fn set_lease(&mut self, lease: Option<LeaseEpoch>) {
        self.lease = lease;
    }

    /// The head that the aggregates were folded to.
    #[must_use]
    pub fn head(&self) -> Stamp {
        self.head
    }

    /// The live aggregates.
    #[must_use]
    pub fn aggregates(&self) -> &Aggregates {
        &self.aggregates
    }

    /// Whether the answer to a command is still in memory.
    #[must_use]
    pub fn remembers(&self, command_id: &CommandId) -> bool {
        self.answers.by_id.contains_key(command_id)
    }

    /// Notes what the log says of a command that is no longer in memory.
    pub fn remember(&mut self, envelope: &Envelope, events: &[Recorded<Event>]) {
        let Some(last) = events.last() else { return };
        let accepted = Accepted { position: last.position, events: events.len() };
        let stream = events.first().map_or(&last.stream, |first| &first.stream).clone();
        self.answers.insert(envelope.command_id.clone(), Answer { stream, accepted });
    }

    /// Folds what another node wrote, and remembers which commands of users it took.
    pub fn fold(&mut self, recorded: &Recorded<Event>) {
        self.apply(recorded);
        if recorded.actor.kind == ActorKind::User {
            self.answers.fold(recorded);
        }
    }

    /// Folds an event.
    pub fn apply(&mut self, recorded: &Recorded<Event>) {
        self.aggregates.apply(recorded);
        self.head = recorded.stamp();
    }

    /// Decides commands in order, as many as one batch can hold; at least one.
    pub fn decide<'e>(
        &mut self,
        envelopes: impl IntoIterator<Item = &'e Envelope>,
        clock: Timestamp,
    ) -> Tentative {
        let mut tentative = self.begin(clock);
        self.decide_more(&mut tentative, envelopes);
        tentative
    }

    /// A batch without a command yet, behind all that was decided before.
    #[must_use]
    pub fn begin(&self, clock: Timestamp) -> Tentative {
        let before = self.head;
        Tentative {
            decided_on: before.position,
            recorded_at: clock.max(before.recorded_at),
            lease: None,
            events: Vec::new(),
            outcomes: Vec::new(),
            is_full: false,
            bytes: 0,
            before,
            undo: Vec::new(),
            answered: Vec::new(),
        }
    }

    /// Decides further commands into the batch that was begun last, as many as find room.
    pub fn decide_more<'e>(
        &mut self,
        tentative: &mut Tentative,
        envelopes: impl IntoIterator<Item = &'e Envelope>,
    ) {
        for envelope in envelopes {
            match self.judge(envelope, tentative.recorded_at) {
                Err(rejection) => tentative.outcomes.push(Err(rejection)),
                Ok(Judged::Repeated(accepted)) => tentative.outcomes.push(Ok(accepted)),
                Ok(Judged::Decided { events, bytes }) => {
                    let total = tentative.events.len() + events.len();
                    let total_bytes = tentative.bytes + bytes;
                    let is_full = total > EVENTS_PER_BATCH_MAX || total_bytes > BATCH_BYTES;
                    if is_full && !tentative.outcomes.is_empty() {
                        tentative.is_full = true;
                        return;
                    }
                    tentative.bytes = total_bytes;
                    self.take(envelope, events, tentative);
                }
            }
        }
    }

    fn judge(&self, envelope: &Envelope, now: Timestamp) -> Result<Judged, Rejection> {
        if let Some(seen) = envelope.seen
            && Some(seen.lease_epoch) != self.lease
        {
            return Err(Rejection::LeasePassed { lease_epoch: seen.lease_epoch });
        }
        if let Some(answer) = self.answers.by_id.get(&envelope.command_id) {
            if answer.stream != envelope.command.stream() {
                let command_id = envelope.command_id.clone();
                return Err(Rejection::CommandIdReused { command_id });
            }
            return Ok(Judged::Repeated(answer.accepted));
        }
        let mut decision = decide(&self.aggregates, envelope, now)?;
        if self.is_late_report(envelope) {
            decision = Decision::default();
        }
        let events = encoded(decision)?;
        let bytes = events.iter().map(|(_, event)| event.bytes()).sum();
        Ok(Judged::Decided { events, bytes })
    }

    /// A report that was judged before, and comes again after later ones, changes nothing.
    fn is_late_report(&self, envelope: &Envelope) -> bool {
        ReportNumber::of(&envelope.command_id).is_some_and(|(cell_id, number)| {
            self.aggregates.cell(&cell_id).is_some_and(|cell| {
                cell.cell_epoch == number.cell_epoch && number.sequence <= cell.reports_seen
            })
        })
    }

    fn take(
        &mut self,
        envelope: &Envelope,
        decided: Vec<(StreamId, Encoded)>,
        tentative: &mut Tentative,
    ) {
        let events = decided.len();
        if events > 0 {
            tentative.lease =
                tentative.lease.or_else(|| envelope.seen.map(|seen| seen.lease_epoch));
        }
        for (stream, event) in decided {
            let (event, payload) = event.into_parts();
            let recorded = Recorded {
                position: self.head.position.next(),
                stream: stream.clone(),
                // The store numbers the events of a stream; no rule reads that number.
                version: StreamVersion(0),
                recorded_at: tentative.recorded_at,
                actor: envelope.actor.clone(),
                command_id: envelope.command_id.clone(),
                causation: envelope.causation,
                correlation: envelope.correlation.clone(),
                event,
            };
            tentative.undo.push((stream.clone(), self.aggregates.get(&stream)));
            self.save_reporter(&recorded, &mut tentative.undo);
            self.apply(&recorded);
            tentative.events.push(NewEvent {
                stream,
                event: Encoded::of_parts(recorded.event, payload),
                actor: recorded.actor,
                command_id: recorded.command_id,
                causation: recorded.causation,
                correlation: recorded.correlation,
            });
        }
        let accepted = Accepted { position: self.head.position, events };
        // Also one that changed nothing: repeated later, it must not take effect then.
        if envelope.actor.kind == ActorKind::User {
            let stream = envelope.command.stream();
            self.answers.insert(envelope.command_id.clone(), Answer { stream, accepted });
            tentative.answered.push(envelope.command_id.clone());
        }
        tentative.outcomes.push(Ok(accepted));
    }

    /// A report's event also moves its cell's count of reports.
    fn save_reporter(
        &self,
        recorded: &Recorded<Event>,
        undo: &mut Vec<(StreamId, Option<Aggregate>)>,
    ) {
        if let Some((cell_id, _)) = ReportNumber::of(&recorded.command_id) {
            let stream = StreamId::Cell(cell_id);
            undo.push((stream.clone(), self.aggregates.get(&stream)));
        }
    }

    /// Puts everything back to what it was before a batch that was not written, the last one that
    /// was begun.
    pub fn undo(&mut self, tentative: Tentative) {
        for (stream, aggregate) in tentative.undo.into_iter().rev() {
            self.aggregates.put(&stream, aggregate);
        }
        for command_id in tentative.answered.iter().rev() {
            self.answers.remove_late(command_id);
        }
        self.head = tentative.before;
    }
}

/// A decision's events as they are stored. Refuses here what the store would refuse together with
/// everybody else's commands.
fn encoded(decision: Decision) -> Result<Vec<(StreamId, Encoded)>, Rejection> {
    let mut events = Vec::with_capacity(decision.events.len());
    let mut total: usize = 0;
    for (stream, event) in decision.events {
        let event = Encoded::from(event);
        let bytes = event.bytes();
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(too_large(kind(&stream), bytes, PAYLOAD_BYTES_MAX));
        }
        total = total.saturating_add(bytes);
        events.push((stream, event));
    }
    match events.first() {
        Some((stream, _)) if total > BATCH_BYTES_MAX => {
            Err(too_large(kind(stream), total, BATCH_BYTES_MAX))
        }
        Some(_) | None => Ok(events),
    }
}

fn too_large(what: &'static str, bytes: usize, bytes_max: usize) -> Rejection {
    Rejection::TooLarge { what, bytes, bytes_max }
}

fn kind(stream: &StreamId) -> &'static str {
    match stream {
        StreamId::DesiredLrp(_) => "desired LRP",
        StreamId::ActualLrp(_) => "actual LRP",
        StreamId::Task(_) => "task",
        StreamId::Cell(_) => "cell",
        StreamId::FreshnessDomain(_) => "freshness domain",
        StreamId::Secrets(_) => "owner's secrets",
    }
}

enum Judged {
    Repeated(Accepted),
    Decided { events: Vec<(StreamId, Encoded)>, bytes: usize },
}

#[derive(Debug, Clone)]
struct Answer {
    stream: StreamId,
    accepted: Accepted,
}

/// The newest answers to users' commands, bounded.
#[derive(Debug, Default)]
struct Answers {
    by_id: HashMap<CommandId, Answer>,
    oldest_first: VecDeque<CommandId>,
}

impl Answers {
    /// The events of a command come in order, so the last one tells its answer.
    fn fold(&mut self, recorded: &Recorded<Event>) {
        let position = recorded.position;
        match self.by_id.get_mut(&recorded.command_id) {
            // Here a command with this id changed nothing: the one that did is what it names.
            Some(answer) if answer.accepted.events == 0 => {
                let accepted = Accepted { position, events: 1 };
                *answer = Answer { stream: recorded.stream.clone(), accepted };
            }
            Some(Answer { accepted, .. }) if accepted.position < position => {
                *accepted = Accepted { position, events: accepted.events + 1 };
            }
            Some(_) => {}
            None => {
                let accepted = Accepted { position, events: 1 };
                let stream = recorded.stream.clone();
                self.insert(recorded.command_id.clone(), Answer { stream, accepted });
            }
        }
    }

    fn insert(&mut self, command_id: CommandId, answer: Answer) {
        if self.oldest_first.len() >= ANSWERS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        if self.by_id.insert(command_id.clone(), answer).is_none() {
            self.oldest_first.push_back(command_id);
        }
    }

    /// Takes one away that was inserted lately.
    fn remove_late(&mut self, command_id: &CommandId) {
        self.by_id.remove(command_id);
        if let Some(index) = self.oldest_first.iter().rposition(|id| id == command_id) {
            self.oldest_first.remove(index);
        }
    }
}
