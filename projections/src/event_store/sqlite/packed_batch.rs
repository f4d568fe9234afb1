//! The events of a batch as one value: what a row of this file's log holds of them.
//!
//! One record after another, each whole by itself, with a table of their ends in front: one event
//! of a large batch is found without reading the others. What is read may be damaged: an event that
//! cannot be read is refused, or given as a row that no hash fits, never guessed.

use domain::log::Position;

use super::super::{EVENTS_PER_BATCH_MAX, Error, Leaf, Row, packed, stored::Stored};
use crate::{
    bytes::{Bytes, put, put_count, put_text},
    event_store::columns::column,
};

/// The bytes of one end in the table.
const END: usize = 4;

/// How long a record's columns without its payload mostly are at most.
const RECORD_ROOM: usize = 320;

/// The leaf, before the payload.
const LEAF: usize = 32;

/// Packs the events of a batch.
pub(super) fn pack(rows: &[(Row, Leaf)]) -> Vec<u8> {
    let payloads: usize = rows.iter().map(|(row, _)| row.payload.len()).sum();
    let mut records = Vec::with_capacity(payloads + rows.len() * RECORD_ROOM);
    let mut ends = Vec::with_capacity(rows.len());
    for (row, leaf) in rows {
        put_record(&mut records, row, leaf);
        ends.push(u32::try_from(records.len()).unwrap_or(u32::MAX));
    }
    let mut bytes = Vec::with_capacity(records.len() + ends.len() * END + END);
    put_count(&mut bytes, rows.len());
    ends.iter().for_each(|end| bytes.extend_from_slice(&end.to_le_bytes()));
    bytes.extend_from_slice(&records);
    bytes
}

fn put_record(records: &mut Vec<u8>, row: &Row, leaf: &Leaf) {
    let (command_id, correlation) = packed::ids(row);
    put(records, row.version.0);
    put(records, u64::from(row.schema_version));
    // 0 says none.
    put(records, row.causation.map_or(0, |cause| cause.0.saturating_add(1)));
    for text in [&row.stream, &row.type_name, &row.actor_kind, &row.actor_name, &row.actor_via] {
        put_text(records, text);
    }
    put_bytes(records, &command_id);
    // Nothing packs to no bytes.
    put_bytes(records, correlation.as_deref().unwrap_or_default());
    records.extend_from_slice(leaf);
    records.extend_from_slice(&row.payload);
}

fn put_bytes(records: &mut Vec<u8>, bytes: &[u8]) {
    put_count(records, bytes.len());
    records.extend_from_slice(bytes);
}

/// The events of a batch, read one by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedBatch<'a> {
    first: Position,
    recorded_at: i64,
    count: usize,
    /// `None` when the table of ends is damaged: then no event can be read.
    table: Option<Table<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    ends: &'a [u8],
    records: &'a [u8],
}

impl<'a> PackedBatch<'a> {
    /// `event_count`: as the batch's row tells it, for a value that does not.
    pub(super) fn of(first: Position, recorded_at: i64, event_count: i64, bytes: &'a [u8]) -> Self {
        if let Some((count, table)) = Table::of(bytes) {
            return Self { first, recorded_at, count, table: Some(table) };
        }
        let count = usize::try_from(event_count).unwrap_or(0).min(EVENTS_PER_BATCH_MAX);
        Self { first, recorded_at, count, table: None }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn position(&self, index: usize) -> Position {
        Position(self.first.0.saturating_add(u64::try_from(index).unwrap_or(u64::MAX)))
    }

    /// The index of a position, past the end for one that is not here.
    pub(super) fn index(&self, position: Position) -> usize {
        let behind = position.0.checked_sub(self.first.0);
        behind.and_then(|behind| usize::try_from(behind).ok()).unwrap_or(usize::MAX)
    }

    /// One event; `None` behind the last one.
    pub(super) fn get(&self, index: usize) -> Option<Result<Stored<'a>, Error>> {
        if index >= self.count {
            return None;
        }
        let record = self.table.and_then(|table| table.record(index));
        let position = self.position(index);
        let stored = record.and_then(|record| stored(position, self.recorded_at, record));
        Some(stored.ok_or(Error::Malformed { position, column: "record" }))
    }

    /// One event as a row; one that cannot be read is a row that its leaf does not fit, which
    /// `verify` finds.
    pub(super) fn row(&self, index: usize) -> Option<(Row, Leaf)> {
        Some(match self.get(index)? {
            Ok(stored) => stored.row(),
            Err(_) => unreadable(self.position(index), self.recorded_at).row(),
        })
    }
}

impl<'a> Table<'a> {
    fn of(bytes: &'a [u8]) -> Option<(usize, Self)> {
        let mut bytes = Bytes(bytes);
        let count = bytes.count().filter(|count| *count <= EVENTS_PER_BATCH_MAX)?;
        let ends = bytes.take(count.checked_mul(END)?)?;
        let table = Self { ends, records: bytes.0 };
        // Nothing stands behind the last record.
        let end = count.checked_sub(1).map_or(Some(0), |last| table.end(last))?;
        (end == table.records.len()).then_some((count, table))
    }

    fn end(&self, index: usize) -> Option<usize> {
        let end = self.ends.get(index.checked_mul(END)?..)?.first_chunk::<END>()?;
        usize::try_from(u32::from_le_bytes(*end)).ok()
    }

    fn record(&self, index: usize) -> Option<&'a [u8]> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.end(before))?;
        self.records.get(start..self.end(index)?)
    }
}

fn stored(position: Position, recorded_at: i64, record: &[u8]) -> Option<Stored<'_>> {
    let mut bytes = Bytes(record);
    let version = column(bytes.number()?);
    let schema_version = i64::from(u16::try_from(bytes.number()?).ok()?);
    let causation = bytes.number()?.checked_sub(1).map(column);
    let (stream, type_name) = (bytes.text()?, bytes.text()?);
    let (actor_kind, actor_name, actor_via) = (bytes.text()?, bytes.text()?, bytes.text()?);
    let command_id = take(&mut bytes)?;
    let correlation = Some(take(&mut bytes)?).filter(|packed| !packed.is_empty());
    let leaf = bytes.take(LEAF)?;
    Some(Stored {
        position: column(position.0),
        version,
        recorded_at,
        causation,
        hashes: None,
        schema_version,
        stream,
        type_name,
        actor_kind,
        actor_name,
        actor_via,
        command_id,
        correlation,
        leaf,
        payload: bytes.0,
    })
}

fn take<'a>(bytes: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let count = bytes.count()?;
    bytes.take(count)
}

fn unreadable(position: Position, recorded_at: i64) -> Stored<'static> {
    Stored {
        position: column(position.0),
        version: 0,
        recorded_at,
        causation: None,
        hashes: None,
        schema_version: 0,
        stream: "",
        type_name: "",
        actor_kind: "",
        actor_name: "",
        actor_via: "",
        command_id: &[],
        correlation: None,
        leaf: &[],
        payload: &[],
    }
}

#[cfg(test)]
mod tests {
    use domain::{log::StreamVersion, units::Timestamp};

    use super::*;
    use crate::event_store::chain;

    fn row(position: u64, correlation: &str) -> Row {
        Row {
            position: Position(position),
            stream: "cell/one".to_owned(),
            version: StreamVersion(position * 200),
            owner: "cell/one".to_owned(),
            type_name: "cell.lost".to_owned(),
            schema_version: 3,
            recorded_at: Timestamp(77),
            actor_kind: "user".to_owned(),
            actor_name: "é".to_owned(),
            actor_via: String::new(),
            command_id: "3d4f1cc4-5a3b-4c57-9a3e-2a35ffbd4f3c".to_owned(),
            causation: (position > 8).then(|| Position(position - 8)),
            correlation: correlation.to_owned(),
            payload: vec![b'{'; usize::try_from(position).unwrap() * 50],
        }
    }

    fn rows() -> Vec<(Row, Leaf)> {
        let rows = [row(7, "3d4f1cc4-5a3b-4c57-9a3e-2a35ffbd4f3c"), row(8, "first"), row(9, "x")];
        rows.map(|row| (row.clone(), chain::leaf(&row))).to_vec()
    }

    #[test]
    fn what_is_packed_is_read_again_one_by_one() {
        let bytes = pack(&rows());

        let batch = PackedBatch::of(Position(7), 77, 3, &bytes);

        assert_eq!(batch.len(), 3);
        for (index, expected) in rows().into_iter().enumerate() {
            assert_eq!(batch.row(index), Some(expected));
        }
        assert!(batch.row(3).is_none() && batch.get(3).is_none());
        assert_eq!((batch.index(Position(9)), batch.index(Position(6))), (2, usize::MAX));
    }

    #[test]
    fn damage_is_seen_in_the_event_that_it_is_in() {
        let whole = pack(&rows());
        for at in 0..whole.len() {
            for bytes in [whole[..at].to_vec(), {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x55;
                flipped
            }] {
                let batch = PackedBatch::of(Position(7), 77, 3, &bytes);
                let read: Vec<_> = (0..batch.len()).filter_map(|index| batch.row(index)).collect();
                let is_fit = |(row, leaf): &(Row, Leaf)| chain::leaf(row) == *leaf;
                let fit: Vec<_> = read.iter().filter(|it| is_fit(it)).collect();
                assert!(fit.len() < 3, "byte {at}");
                assert!(fit.iter().all(|it| rows().contains(it)), "byte {at}");
            }
        }
        let longer = [whole, vec![0]].concat();
        assert!(PackedBatch::of(Position(7), 77, 3, &longer).get(0).is_some_and(|it| it.is_err()));
    }
}
