//! What is offered to the log: events without a place yet, in a batch with limits.

use domain::{
    event::Event,
    id::CommandId,
    log::{Actor, LeaseEpoch, Position, StreamId},
    units::Timestamp,
};

/// The most events in one batch. More than any command causes, and one transaction stays short.
pub const EVENTS_PER_BATCH_MAX: usize = 4096;

/// The most bytes of one event's payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The most payload bytes in one batch.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// A batch's id, drawn by its writer, by which it is found after an unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub uuid::Uuid);

impl std::fmt::Display for BatchId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The JSON bytes of an event: made once, where it is decided and measured; the store writes the
/// same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(
    /// `None` when the event cannot be encoded, which is a defect that the store tells.
    Option<Vec<u8>>,
);

impl Payload {
    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        self.0
    }
}

/// An event with its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    event: Event,
    payload: Payload,
}

impl Encoded {
    /// How many bytes its payload has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.0.as_ref().map_or(0, Vec::len)
    }

    /// The event and its payload apart.
    #[must_use]
    pub fn into_parts(self) -> (Event, Payload) {
        (self.event, self.payload)
    }

    /// An event and its own payload.
    #[must_use]
    pub fn of_parts(event: Event, payload: Payload) -> Self {
        Self { event, payload }
    }

    pub(super) fn of_bytes(event: Event, payload: Vec<u8>) -> Self {
        Self { event, payload: Payload(Some(payload)) }
    }
}

impl From<Event> for Encoded {
    fn from(event: Event) -> Self {
        let payload = Payload(event.payload().ok());
        Self { event, payload }
    }
}

/// An event on its way into the log; position and version are given by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// What happened.
    pub event: Encoded,
    /// Who caused it.
    pub actor: Actor,
    /// The command that it answers.
    pub command_id: CommandId,
    /// The event that made the command's sender act, where there is one.
    pub causation: Option<Position>,
    /// The first command of the chain that led here.
    pub correlation: CommandId,
}

/// Events that are written together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Drawn by the writer.
    pub id: BatchId,
    /// The head that the batch was decided on: the append is refused on any other.
    pub decided_on: Position,
    /// The time of all its events; not earlier than the head's.
    pub recorded_at: Timestamp,
    /// The lease that its loops' commands act under: the append is refused when it has passed to
    /// another node. `None` in a batch without commands of loops.
    pub lease: Option<LeaseEpoch>,
    /// At least one, at most [`EVENTS_PER_BATCH_MAX`].
    pub events: Vec<NewEvent>,
}

/// Why a batch can never be written as it is: the writer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It holds no event.
    #[error("a batch must hold at least one event")]
    Empty,
    /// It holds more than [`EVENTS_PER_BATCH_MAX`] events.
    #[error("a batch may hold at most {EVENTS_PER_BATCH_MAX} events, but holds {0}")]
    TooManyEvents(usize),
    /// One event's payload is larger than [`PAYLOAD_BYTES_MAX`].
    #[error(
        "the payload of an event of {stream} may have at most {PAYLOAD_BYTES_MAX} bytes, \
         but has {bytes}"
    )]
    PayloadTooLarge {
        /// The event's stream.
        stream: StreamId,
        /// Its payload's size.
        bytes: usize,
    },
    /// The payloads together are larger than [`BATCH_BYTES_MAX`].
    #[error("a batch may have at most {BATCH_BYTES_MAX} bytes of payload, but has {0}")]
    TooManyBytes(usize),
    /// Its time is before the head's.
    #[error(
        "a batch may not be recorded at {} ns, before the log's head at {} ns",
        given.0, head.0
    )]
    TimeWentBack {
        /// The batch's time.
        given: Timestamp,
        /// The head's time.
        head: Timestamp,
    },
}
