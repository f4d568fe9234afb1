//! By what the events of a stretch of the log are found, in memory.

use std::collections::BTreeMap;

use domain::log::{Position, StreamVersion};
use foldhash::HashMap;

use super::{
    super::{
        super::{BatchRow, Row, packed},
        packed_batch::PackedBatch,
    },
    postings::Postings,
};

/// What a hash is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// The owner's text.
    Owner,
    /// The command's id.
    Command,
    /// The event's type.
    Type,
    /// The batch's id; leads to its first event.
    Batch,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Owner, Self::Command, Self::Type, Self::Batch];

    /// As the database has it.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Command => 1,
            Self::Type => 2,
            Self::Batch => 3,
        }
    }
}

/// The newest event of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) schema_version: i64,
    pub(super) position: Position,
}

/// The last event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Last {
    pub(in super::super) version: StreamVersion,
    /// Where its batch ends.
    pub(in super::super) position: Position,
}

/// A stretch of the log.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// The position before it.
    pub(super) after: Position,
    /// Its last position.
    pub(super) last: Position,
    /// Of each kind.
    postings: [Postings; Kind::ALL.len()],
    pub(super) streams: HashMap<String, Last>,
    pub(super) types: BTreeMap<String, Newest>,
}

impl Segment {
    pub(super) fn behind(after: Position) -> Self {
        Self { after, last: after, ..Self::default() }
    }

    /// How many positions it covers.
    pub(super) fn count(&self) -> u64 {
        self.last.0.saturating_sub(self.after.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last == self.after
    }

    /// Adds the batch behind its end.
    pub(super) fn add<'a>(&mut self, batch: &BatchRow, rows: impl Iterator<Item = &'a Row>) {
        rows.for_each(|row| self.add_event(row, batch.last()));
        self.end(batch.first, batch.last(), batch.id.0.as_bytes());
    }

    /// As [`Segment::add`], of a batch as it is stored. What cannot be read is found by nothing.
    pub(super) fn add_packed(&mut self, batch_id: &[u8], packed: &PackedBatch<'_>) {
        let last = packed.position(packed.len().saturating_sub(1));
        for index in 0..packed.len() {
            if let Some(Ok(stored)) = packed.get(index) {
                self.add_event(&stored.without_payload(), last);
            }
        }
        self.end(packed.position(0), last, batch_id);
    }

    fn end(&mut self, first: Position, last: Position, batch_id: &[u8]) {
        self.post(Kind::Batch, packed::hash_of(batch_id), first);
        self.last = self.last.max(last);
    }

    fn add_event(&mut self, row: &Row, batch_last: Position) {
        let position = row.position;
        self.post(Kind::Owner, packed::hash(&row.owner), position);
        self.post(Kind::Command, packed::hash(&row.command_id), position);
        self.post(Kind::Type, packed::hash(&row.type_name), position);
        let last = Last { version: row.version, position: batch_last };
        match self.streams.get_mut(&row.stream) {
            Some(known) => *known = last,
            None => drop(self.streams.insert(row.stream.clone(), last)),
        }
        let newest = Newest { schema_version: row.schema_version.into(), position };
        match self.types.get_mut(&row.type_name) {
            Some(known) => *known = newest,
            None => drop(self.types.insert(row.type_name.clone(), newest)),
        }
    }

    fn post(&mut self, kind: Kind, hash: i64, position: Position) {
        if let Some(postings) = self.postings.get_mut(usize::from(kind.number())) {
            postings.add(hash, position);
        }
    }

    /// All postings of a kind, by hash and in order.
    pub(super) fn postings(&self, kind: Kind) -> Vec<(i64, u64)> {
        self.postings.get(usize::from(kind.number())).map(Postings::sorted).unwrap_or_default()
    }

    /// The positions of a hash behind a position, in order.
    pub(super) fn positions(&self, kind: Kind, hash: i64, after: Position) -> Vec<u64> {
        let of_kind = self.postings.get(usize::from(kind.number()));
        of_kind.map(|postings| postings.of(hash, after)).unwrap_or_default()
    }
}
