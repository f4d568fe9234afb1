//! Whether the runs are what their events make: each is made again and compared.

use std::collections::BTreeMap;

use domain::log::Position;
use rusqlite::Connection;

use super::{
    super::{reader::Failure, rows, statements},
    newest_types_of_runs, read_into,
    run::{self, Piece, Run},
    segment::{Newest, Segment},
};

/// A hash of a kind with its positions.
type Entry = (u8, i64, Vec<u64>);

/// Fails with the first run that does not lead to its events. What was written of a run that is not
/// finished counts for nobody.
pub(in super::super) fn check(connection: &Connection) -> Result<(), Failure> {
    let floor = statements::floor(connection)?;
    let mut newest = BTreeMap::new();
    let mut before = Position(0);
    for run in run::behind(connection, Position(0))? {
        let last = run.last;
        let is_right = if last <= floor {
            // Its events have moved to an archive, and all that led to them is gone.
            let kept = pieces(connection, before, last)?;
            run.filter.as_bytes().is_empty() && kept.is_some_and(|kept| kept.is_empty())
        } else {
            let mut segment = Segment::behind(before.max(floor));
            read_into(&mut segment, connection, last, u64::MAX)?;
            segment.last = last;
            newest.extend(segment.types.iter().map(|(name, newest)| (name.clone(), *newest)));
            is_of(connection, &run, &segment, before)?
        };
        if !is_right {
            return Err(Failure::Damaged(run::damaged(last)));
        }
        before = last;
    }
    let is_right = |(name, kept): (&String, &Newest)| {
        newest.get(name).map_or(kept.position <= floor, |newest| newest == kept)
    };
    let kept = newest_types_of_runs(connection)?;
    if !kept.iter().all(is_right) || newest.keys().any(|name| !kept.contains_key(name)) {
        return Err(Failure::Damaged(
            "the newest events of the types are not the log's".to_owned(),
        ));
    }
    Ok(())
}

/// Whether a run is of a segment. `before`: where the run begins; the segment may begin later.
fn is_of(
    connection: &Connection,
    run: &Run,
    segment: &Segment,
    before: Position,
) -> Result<bool, Failure> {
    let (expected, made) = Run::of(segment);
    let Some(kept) = pieces(connection, before, run.last)? else { return Ok(false) };
    if segment.after == before {
        return Ok(kept == made && run.filter == expected.filter);
    }
    // It leads to events too that have moved to an archive since.
    let (Some(mut kept), Some(made)) = (entries(&kept), entries(&made)) else { return Ok(false) };
    for (.., positions) in &mut kept {
        positions.retain(|position| *position > segment.after.0);
    }
    kept.retain(|(.., positions)| !positions.is_empty());
    Ok(kept == made)
}

fn entries(pieces: &[Piece]) -> Option<Vec<Entry>> {
    let mut all = Vec::new();
    for piece in pieces {
        let entries = run::unpacked(piece.first_hash, &piece.entries)?;
        all.extend(entries.into_iter().map(|(hash, positions)| (piece.kind, hash, positions)));
    }
    Some(all)
}

/// The rows of a run, in order; `None` when others stand between it and the run before it.
fn pieces(
    connection: &Connection,
    before: Position,
    last: Position,
) -> rusqlite::Result<Option<Vec<Piece>>> {
    let mut select = connection.prepare_cached(
        "SELECT run, kind, first_hash, entries FROM lookups WHERE run > ?1 AND run <= ?2 \
         ORDER BY run, kind, first_hash",
    )?;
    let found = select.query_map((rows::column(before.0), rows::column(last.0)), |row| {
        let is_of_run = row.get::<_, i64>(0)? == rows::column(last.0);
        let piece = Piece { kind: row.get(1)?, first_hash: row.get(2)?, entries: row.get(3)? };
        Ok(is_of_run.then_some(piece))
    })?;
    found.collect()
}
