//! Sample events and batches for the suite and for stores' own tests.

use domain::{
    bbs::{cell, freshness_domain},
    event::Event,
    id::{CellId, CommandId, FreshnessDomainName},
    log::{Actor, ActorKind, Incarnation, Owner, Position, Recorded, StreamId},
    secrets,
    units::Timestamp,
};
use uuid::Uuid;

use super::super::{Batch, BatchId, EventStore, NewEvent};

/// The incarnation of every log under test.
pub const INCARNATION: Incarnation = Incarnation(Uuid::from_u128(0xd1a));

/// Before the first event.
pub const START: Position = Position(0);

/// An actor of the suite.
#[must_use]
pub fn actor(name: &str) -> Actor {
    Actor { kind: ActorKind::User, name: name.into(), via: "suite".into() }
}

/// A command id of the suite.
///
/// # Panics
/// When the text is no command id.
#[must_use]
pub fn command(id: &str) -> CommandId {
    CommandId::new(id).expect("a command id")
}

/// The stream of a cell.
///
/// # Panics
/// When the text is no cell id.
#[must_use]
pub fn cell_stream(cell_id: &str) -> StreamId {
    StreamId::Cell(CellId::new(cell_id).expect("a cell id"))
}

/// A cell was lost; `heard_by` fills the payload.
#[must_use]
pub fn lost(cell_id: &str, heard_by: &str) -> NewEvent {
    let event = cell::Lost { last_heard_at: Timestamp(5), heard_by: heard_by.to_owned() };
    new_event(cell_stream(cell_id), cell::Event::from(event).into())
}

/// A freshness domain was vouched for.
///
/// # Panics
/// When the text is no name.
#[must_use]
pub fn upserted(name: &str) -> NewEvent {
    let stream = StreamId::FreshnessDomain(FreshnessDomainName::new(name).expect("a name"));
    let event = freshness_domain::Upserted { fresh_until: None };
    new_event(stream, freshness_domain::Event::from(event).into())
}

/// An owner's secrets were forgotten.
#[must_use]
pub fn forgotten(owner: &Owner) -> NewEvent {
    let event = secrets::Forgotten { key_ids: vec![Uuid::from_u128(7)] };
    new_event(StreamId::Secrets(owner.clone()), secrets::Event::from(event).into())
}

fn new_event(stream: StreamId, event: Event) -> NewEvent {
    NewEvent {
        stream,
        event: event.into(),
        actor: actor("somebody"),
        command_id: command("command-1"),
        causation: None,
        correlation: command("command-0"),
    }
}

/// A batch with an id and a time of its own.
#[must_use]
pub fn batch(id: u128, decided_on: Position, seconds: i64, events: Vec<NewEvent>) -> Batch {
    let recorded_at = Timestamp(seconds.saturating_mul(1_000_000_000));
    Batch { id: BatchId(Uuid::from_u128(id)), decided_on, recorded_at, lease: None, events }
}

/// Appends batches of the given sizes behind the head, over a few streams, one second apart.
///
/// # Panics
/// When the store refuses one.
pub async fn fill(store: &dyn EventStore, sizes: &[usize]) -> Vec<Recorded<Event>> {
    let mut written = Vec::new();
    for size in sizes {
        let head = store.head().await.expect("a head");
        let events = (0..*size).map(|number| lost(&format!("cell-{}", number % 3), "node-1"));
        let seconds = head.recorded_at.0 / 1_000_000_000 + 1;
        let id = 1_000 + u128::from(head.position.0);
        let batch = batch(id, head.position, seconds, events.collect());
        written.extend(store.append(batch).await.expect("an append"));
    }
    written
}
