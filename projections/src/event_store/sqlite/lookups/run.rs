//! A finished run in the database: rows of sorted hashes with their positions.

use domain::log::Position;
use rusqlite::{Connection, OptionalExtension as _};

use super::{
    super::{reader::Failure, rows},
    filter::Filter,
    segment::{Kind, Segment},
};
use crate::bytes::{Bytes, put, put_count};

/// A row is closed when it has so many bytes: four of them fill a page.
const ROW_BYTES: usize = 900;

/// A row of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: u8,
    pub(super) first_hash: i64,
    pub(super) entries: Vec<u8>,
}

/// A finished run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) last: Position,
    pub(super) filter: Filter,
}

impl Run {
    /// What a segment becomes.
    pub(super) fn of(segment: &Segment) -> (Self, Vec<Piece>) {
        let mut pieces = Vec::new();
        let mut commands = Vec::new();
        for kind in Kind::ALL {
            let mut hashes = Hashes::new(kind.number());
            let mut postings = segment.postings(kind).into_iter().peekable();
            while let Some((hash, first)) = postings.next() {
                let mut positions = vec![first];
                while let Some((_, next)) = postings.next_if(|(next, _)| *next == hash) {
                    positions.push(next);
                }
                if kind == Kind::Command {
                    commands.push(hash);
                }
                hashes.add(hash, &positions, &mut pieces);
            }
            hashes.close(&mut pieces);
        }
        (Self { last: segment.last, filter: Filter::of(&commands) }, pieces)
    }
}

/// Hashes on their way into rows: each as its distance from the one before, how many positions it
/// has, the first one, and the distances between them.
struct Hashes {
    kind: u8,
    /// The first hash of the open row.
    first: Option<i64>,
    last: i64,
    entries: Vec<u8>,
}

impl Hashes {
    fn new(kind: u8) -> Self {
        Self { kind, first: None, last: 0, entries: Vec::new() }
    }

    fn add(&mut self, hash: i64, positions: &[u64], pieces: &mut Vec<Piece>) {
        if self.entries.len() >= ROW_BYTES {
            self.close(pieces);
        }
        if self.first.is_none() {
            self.first = Some(hash);
            self.last = hash;
        }
        put(&mut self.entries, distance(self.last, hash));
        self.last = hash;
        put_count(&mut self.entries, positions.len());
        let mut before = 0;
        for position in positions {
            put(&mut self.entries, position.wrapping_sub(before));
            before = *position;
        }
    }

    fn close(&mut self, pieces: &mut Vec<Piece>) {
        if let Some(first_hash) = self.first.take() {
            let entries = std::mem::take(&mut self.entries);
            pieces.push(Piece { kind: self.kind, first_hash, entries });
        }
    }
}

fn distance(from: i64, to: i64) -> u64 {
    u64::from_ne_bytes(to.wrapping_sub(from).to_ne_bytes())
}

/// What a row of a run holds, by hash and in order; `None` when it is damaged.
pub(super) fn unpacked(first_hash: i64, entries: &[u8]) -> Option<Vec<(i64, Vec<u64>)>> {
    let (mut bytes, mut hash) = (Bytes(entries), first_hash);
    let mut found = Vec::new();
    while !bytes.is_empty() {
        hash = hash.wrapping_add(i64::from_ne_bytes(bytes.number()?.to_ne_bytes()));
        let count = bytes.count_of_rest()?;
        let mut positions = Vec::with_capacity(count);
        let mut position = 0_u64;
        for _ in 0..count {
            position = position.wrapping_add(bytes.number()?);
            positions.push(position);
        }
        found.push((hash, positions));
    }
    Some(found)
}

/// The positions of one hash in the row where it would be.
fn positions_in(first_hash: i64, entries: &[u8], wanted: i64) -> Option<Vec<u64>> {
    let (mut bytes, mut hash) = (Bytes(entries), first_hash);
    while !bytes.is_empty() {
        hash = hash.wrapping_add(i64::from_ne_bytes(bytes.number()?.to_ne_bytes()));
        if hash > wanted {
            break;
        }
        let count = bytes.count_of_rest()?;
        let mut positions = Vec::new();
        let mut position = 0_u64;
        for _ in 0..count {
            position = position.wrapping_add(bytes.number()?);
            if hash == wanted {
                positions.push(position);
            }
        }
        if hash == wanted {
            return Some(positions);
        }
    }
    Some(Vec::new())
}

/// The positions of a hash in a run, in order.
pub(super) fn positions(
    connection: &Connection,
    run: Position,
    kind: Kind,
    hash: i64,
) -> Result<Vec<u64>, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT first_hash, entries FROM lookups WHERE run = ?1 AND kind = ?2 \
         AND first_hash <= ?3 ORDER BY first_hash DESC LIMIT 1",
    )?;
    let key = (rows::column(run.0), kind.number(), hash);
    let found = select
        .query_row(key, |row| Ok(positions_in(row.get(0)?, row.get_ref(1)?.as_blob()?, hash)));
    match found.optional()? {
        None => Ok(Vec::new()),
        Some(Some(positions)) => Ok(positions),
        Some(None) => Err(Failure::Damaged(damaged(run))),
    }
}

/// What is said of a run that does not lead to its events.
pub(super) fn damaged(run: Position) -> String {
    format!("the look-ups up to position {run} do not lead to its events")
}

/// The last position that a finished run leads to; 0 when there is none.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Position> {
    let mut select = connection.prepare_cached("SELECT max(last_position) FROM lookup_runs")?;
    let last: Option<i64> = select.query_row((), |row| row.get(0))?;
    Ok(Position(last.map_or(0, rows::number)))
}

/// The finished runs behind a position, in order.
pub(super) fn behind(connection: &Connection, after: Position) -> rusqlite::Result<Vec<Run>> {
    let mut select = connection.prepare_cached(
        "SELECT last_position, filter FROM lookup_runs WHERE last_position > ?1 \
         ORDER BY last_position",
    )?;
    let found = select.query_map([rows::column(after.0)], |row| {
        let filter = Filter::from_bytes(row.get_ref(1)?.as_blob()?);
        Ok(Run { last: Position(rows::number(row.get(0)?)), filter })
    })?;
    found.collect()
}

/// Takes away what a run that was not finished has left.
pub(super) fn delete_unfinished(connection: &Connection) -> rusqlite::Result<()> {
    let newest = newest(connection)?;
    let mut delete = connection.prepare_cached("DELETE FROM lookups WHERE run > ?1")?;
    delete.execute([rows::column(newest.0)]).map(drop)
}

pub(super) fn insert(
    connection: &Connection,
    run: Position,
    pieces: &[Piece],
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO lookups (run, kind, first_hash, entries) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for piece in pieces {
        insert.execute((rows::column(run.0), piece.kind, piece.first_hash, &piece.entries))?;
    }
    Ok(())
}

/// How many rows stand under a run's name.
pub(super) fn count(connection: &Connection, run: Position) -> rusqlite::Result<usize> {
    let mut select = connection.prepare_cached("SELECT count(*) FROM lookups WHERE run = ?1")?;
    let count: i64 = select.query_row([rows::column(run.0)], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// From here on the run counts.
pub(super) fn finish(
    connection: &Connection,
    run: &Run,
    segment: &Segment,
) -> rusqlite::Result<()> {
    for (name, newest) in &segment.types {
        let mut upsert = connection.prepare_cached(
            "INSERT INTO newest_types (type, schema_version, position) VALUES (?1, ?2, ?3) \
             ON CONFLICT (type) DO UPDATE SET schema_version = excluded.schema_version, \
             position = excluded.position",
        )?;
        upsert.execute((name, newest.schema_version, rows::column(newest.position.0)))?;
    }
    let mut insert = connection
        .prepare_cached("INSERT INTO lookup_runs (last_position, filter) VALUES (?1, ?2)")?;
    insert.execute((rows::column(run.last.0), run.filter.as_bytes())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_back_what_was_put_in() {
        let mut pieces = Vec::new();
        let mut hashes = Hashes::new(2);
        let all: Vec<(i64, Vec<u64>)> = (-300..300)
            .map(|number| (number * (i64::MAX / 300), vec![7, 8, 300 + number.unsigned_abs()]))
            .collect();
        for (hash, positions) in &all {
            hashes.add(*hash, positions, &mut pieces);
        }
        hashes.close(&mut pieces);

        assert!(pieces.len() > 3);
        let mut found = Vec::new();
        for piece in &pieces {
            let unpacked = unpacked(piece.first_hash, &piece.entries).unwrap();
            for (hash, positions) in &unpacked {
                let one = positions_in(piece.first_hash, &piece.entries, *hash);
                assert_eq!(one.as_ref(), Some(positions));
            }
            assert_eq!(positions_in(piece.first_hash, &piece.entries, 5), Some(vec![]));
            found.extend(unpacked);
        }
        assert_eq!(found, all);
        let cut = &pieces[0].entries[..pieces[0].entries.len() - 1];
        assert_eq!(unpacked(pieces[0].first_hash, cut), None);
    }
}
