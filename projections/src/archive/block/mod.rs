//! A block: whole batches, column by column, compressed; it can be read and proven by itself.
//!
//! Texts that recur are kept once; positions, times of events, owners and leaves are not kept,
//! because they follow from the rest.

mod decode;
mod encode;

use std::ops::Range;

use domain::{
    event::{Event, Reader, UnreadableEvent},
    id::CommandId,
    log::{Actor, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};

use crate::event_store::{BatchRow, Error, Leaf, Row, RowRef, actor_kind_text, chain};

pub(super) use decode::decode;
pub(super) use encode::encode;

/// A block is closed when it holds as many events, or as many bytes of payload.
pub(super) const BLOCK_EVENTS: usize = 2_048;
pub(super) const BLOCK_BYTES: usize = 2 << 20;

/// A command id is 16 bytes beside, or a text.
const AS_UUID: u8 = 0;
const AS_TEXT: u8 = 1;

/// Batches on their way into a block.
pub(super) type Batches = [(BatchRow, Vec<Row>)];

/// Where a text is among those of a block.
type TextRange = Range<usize>;

#[derive(Debug)]
struct Stream {
    text: TextRange,
    id: StreamId,
    owner: TextRange,
}

#[derive(Debug)]
struct EventType {
    name: String,
    schema_version: u16,
    /// `None` for a type that is unknown here.
    reader: Option<Reader>,
}

/// One event's place in the dictionaries.
#[derive(Debug, Clone)]
struct Entry {
    type_place: usize,
    actor: usize,
    stream: usize,
    version: u64,
    command: usize,
    correlation: usize,
    causation: Option<Position>,
    recorded_at: Timestamp,
    payload: Range<usize>,
}

/// A block that was read.
#[derive(Debug)]
pub(super) struct Block {
    first: Position,
    batches: Vec<BatchRow>,
    types: Vec<EventType>,
    actors: Vec<Actor>,
    streams: Vec<Stream>,
    commands: Vec<CommandId>,
    entries: Vec<Entry>,
    payloads: Vec<u8>,
    /// The texts of streams and owners, one behind the other: a block has thousands.
    texts: String,
}
/// The leaf of a row; `metadata` is room that is used again and again.
pub(super) fn leaf(row: &RowRef<'_>, metadata: &mut Vec<u8>) -> Leaf {
    metadata.clear();
    row.metadata_into(metadata);
    chain::leaf_of(metadata, row.payload)
}

impl Block {
    pub(super) fn batches(&self) -> &[BatchRow] {
        &self.batches
    }

    pub(super) fn first(&self) -> Position {
        self.first
    }

    pub(super) fn last(&self) -> Position {
        let count = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        Position(self.first.0.saturating_add(count).saturating_sub(1))
    }

    fn position(&self, index: usize) -> Position {
        Position(self.first.0.saturating_add(u64::try_from(index).unwrap_or(u64::MAX)))
    }

    /// The events behind a position, by their index.
    pub(super) fn behind(&self, after: Position) -> Range<usize> {
        let skipped = after.next().0.saturating_sub(self.first.0);
        usize::try_from(skipped).unwrap_or(usize::MAX).min(self.entries.len())..self.entries.len()
    }

    /// A row with its texts borrowed.
    pub(super) fn row(&self, index: usize) -> Option<RowRef<'_>> {
        let entry = self.entries.get(index)?;
        let event_type = self.types.get(entry.type_place)?;
        let actor = self.actors.get(entry.actor)?;
        let stream = self.streams.get(entry.stream)?;
        Some(RowRef {
            position: self.position(index),
            stream: self.texts.get(stream.text.clone())?,
            version: StreamVersion(entry.version),
            owner: self.texts.get(stream.owner.clone())?,
            type_name: &event_type.name,
            schema_version: event_type.schema_version,
            recorded_at: entry.recorded_at,
            actor_kind: actor_kind_text(actor.kind),
            actor_name: &actor.name,
            actor_via: &actor.via,
            command_id: self.commands.get(entry.command)?.as_str(),
            causation: entry.causation,
            correlation: self.commands.get(entry.correlation)?.as_str(),
            payload: self.payloads.get(entry.payload.clone())?,
        })
    }

    /// An event of this block, typed.
    pub(super) fn event(&self, index: usize) -> Result<Recorded<Event>, Error> {
        let position = self.position(index);
        let malformed = |column| Error::Malformed { position, column };
        let entry = self.entries.get(index).ok_or_else(|| malformed("position"))?;
        let event_type = self.types.get(entry.type_place).ok_or_else(|| malformed("type"))?;
        let payload =
            self.payloads.get(entry.payload.clone()).ok_or_else(|| malformed("payload"))?;
        let read = match event_type.reader {
            Some(reader) => reader.event(payload),
            None => Err(UnreadableEvent::UnknownType { type_name: event_type.name.clone() }),
        };
        let event = read.map_err(|source| Error::Unreadable { position, source })?;
        let command = |place: usize, column| {
            self.commands.get(place).cloned().ok_or_else(|| malformed(column))
        };
        Ok(Recorded {
            position,
            stream: self.stream(index).ok_or_else(|| malformed("stream"))?.clone(),
            version: StreamVersion(entry.version),
            recorded_at: entry.recorded_at,
            actor: self.actor(index).ok_or_else(|| malformed("actor_kind"))?.clone(),
            command_id: command(entry.command, "command_id")?,
            causation: entry.causation,
            correlation: command(entry.correlation, "correlation")?,
            event,
        })
    }

    pub(super) fn stream(&self, index: usize) -> Option<&StreamId> {
        self.streams.get(self.entries.get(index)?.stream).map(|stream| &stream.id)
    }

    pub(super) fn owner(&self, index: usize) -> Option<&str> {
        let stream = self.streams.get(self.entries.get(index)?.stream)?;
        self.texts.get(stream.owner.clone())
    }

    pub(super) fn version(&self, index: usize) -> Option<StreamVersion> {
        self.entries.get(index).map(|entry| StreamVersion(entry.version))
    }

    pub(super) fn type_name(&self, index: usize) -> Option<&str> {
        self.types.get(self.entries.get(index)?.type_place).map(|it| it.name.as_str())
    }

    pub(super) fn actor(&self, index: usize) -> Option<&Actor> {
        self.actors.get(self.entries.get(index)?.actor)
    }

    pub(super) fn command(&self, index: usize) -> Option<&CommandId> {
        self.commands.get(self.entries.get(index)?.command)
    }
}
