//! Whole pages of the log: a replay reads every event there is.
//!
//! A batch may be longer than a page, and to read a part of it costs as much as to read it all: the
//! batch that a page ends in is kept for the next one.

use std::sync::{Arc, Mutex, PoisonError};

use domain::{
    event::Event,
    log::{Position, Recorded},
};
use rusqlite::{Connection, OptionalExtension as _};

use super::{
    super::{Error, Leaf, READ_EVENTS_MAX, Row, stored::Actors},
    packed_batch::PackedBatch,
    reader::Failure,
    rows,
};

/// The batches from the one on that holds a position: it may begin before it.
pub(super) const SELECT_FROM: &str = "SELECT first_position, event_count, recorded_at, events, \
     link FROM batches WHERE first_position >= coalesce( \
     (SELECT max(first_position) FROM batches WHERE first_position <= ?1), 0) \
     ORDER BY first_position";

/// A batch with its bytes.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) first: Position,
    pub(super) recorded_at: i64,
    pub(super) count: i64,
    pub(super) events: Vec<u8>,
}

impl Held {
    pub(super) fn packed(&self) -> PackedBatch<'_> {
        PackedBatch::of(self.first, self.recorded_at, self.count, &self.events)
    }

    pub(super) fn has(&self, position: Position) -> bool {
        let packed = self.packed();
        packed.index(position) < packed.len()
    }
}

/// Whoever asks for fewer events does not go on behind them.
const PAGE_EVENTS: usize = 100;

/// The batch that the last page ended in, where it has more events.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Option<Linked>>>);

/// A batch with its link in the chain.
type Linked = (Held, Vec<u8>);

impl Kept {
    /// Takes the batch, if it holds a position and still stands in the log.
    fn take(&self, connection: &Connection, position: Position) -> Result<Option<Linked>, Failure> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = kept.take_if(|(batch, _)| batch.has(position));
        drop(kept);
        let Some((batch, link)) = taken else { return Ok(None) };
        let mut select =
            connection.prepare_cached("SELECT link FROM batches WHERE first_position = ?1")?;
        let found = select.query_row([rows::column(batch.first.0)], |row| row.get(0)).optional()?;
        Ok((found.as_ref() == Some(&link)).then_some((batch, link)))
    }

    fn put(&self, batch: Linked) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(batch);
    }
}

/// A page on its way.
struct Page<T, D> {
    after: Position,
    limit: usize,
    decode: D,
    found: Vec<T>,
}

impl<T, D> Page<T, D>
where
    D: FnMut(&PackedBatch<'_>, usize) -> Option<Result<T, Error>>,
{
    /// Takes a batch's events behind the position, and says whether the batch has more of them.
    fn add(&mut self, packed: &PackedBatch<'_>) -> Result<bool, Failure> {
        let skipped = packed.index(self.after.next().max(packed.position(0))).min(packed.len());
        let wanted = (packed.len() - skipped).min(self.limit - self.found.len());
        self.found.reserve(wanted);
        for index in skipped..skipped + wanted {
            self.found.extend((self.decode)(packed, index).transpose()?);
        }
        let last = packed.position(skipped + wanted).0.saturating_sub(1);
        self.after = self.after.max(Position(last));
        Ok(skipped + wanted < packed.len())
    }
}

/// The events behind a position, each as `decode` makes it.
fn behind<T>(
    connection: &Connection,
    kept: Option<&Kept>,
    after: Position,
    limit: usize,
    decode: impl FnMut(&PackedBatch<'_>, usize) -> Option<Result<T, Error>>,
) -> Result<Vec<T>, Failure> {
    let limit = limit.min(READ_EVENTS_MAX);
    let mut page = Page { after, limit, decode, found: Vec::new() };
    if let Some(kept) = kept
        && let Some((batch, link)) = kept.take(connection, after.next())?
        && page.add(&batch.packed())?
    {
        kept.put((batch, link));
    }
    let mut select = connection.prepare_cached(SELECT_FROM)?;
    let mut found = select.query([rows::column(page.after.next().0)])?;
    while page.found.len() < limit
        && let Some(row) = found.next()?
    {
        let first = Position(rows::number(row.get(0)?));
        let (count, recorded_at) = (row.get(1)?, row.get(2)?);
        let events = row.get_ref(3)?.as_blob()?;
        let has_more = page.add(&PackedBatch::of(first, recorded_at, count, events))?;
        if let Some(kept) = kept.filter(|_| has_more) {
            let events = events.to_owned();
            kept.put((Held { first, recorded_at, count, events }, row.get(4)?));
        }
    }
    Ok(page.found)
}

pub(super) fn all(
    connection: &Connection,
    kept: &Kept,
    after: Position,
    limit: usize,
) -> Result<Vec<Recorded<Event>>, Failure> {
    let mut actors = Actors::default();
    let kept = Some(kept).filter(|_| limit >= PAGE_EVENTS);
    behind(connection, kept, after, limit, |packed, index| {
        packed.get(index).map(|stored| stored?.event_by(&mut actors))
    })
}

/// Always what stands in the log: whoever asks for rows looks for what was changed there.
pub(super) fn rows(
    connection: &Connection,
    after: Position,
    limit: usize,
) -> Result<Vec<(Row, Leaf)>, Failure> {
    let decode = |packed: &PackedBatch<'_>, index| packed.row(index).map(Ok);
    behind(connection, None, after, limit, decode)
}
