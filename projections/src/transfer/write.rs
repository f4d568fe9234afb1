//! Writing an export: page by page up to a head that is fixed when it begins, so it is whole
//! while others append. Its hashes are checked on the way: a damaged log gives no file.

use std::{collections::VecDeque, io::Write, path::Path};

use domain::{log::Position, sealed::Digest, units::Timestamp};

use super::{
    Error, FORMAT_VERSION, Progress,
    compact::Frames,
    header::{End, Header},
    ndjson::Lines,
};
use crate::event_store::{
    EVENTS_PER_BATCH_MAX, EventStore, Head, Leaf, LogId, Row, StoredBatch,
    chain::{Fault, FaultKind, GENESIS, Verifier},
};

/// How many rows are read at a time: many small ones, or few large ones.
const PAGE_ROWS_MAX: usize = 1024;

/// About how many bytes of payload a page may hold.
const PAGE_BYTES: usize = 8 << 20;

/// How many batch boundaries are read at a time.
const PAGE_BATCHES: usize = 1024;

/// Which form an export has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Compressed records.
    Compact,
}

/// Which part of the log; whole batches, so that their links can be checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// Begins with the batch that holds this position; the log's first without one.
    pub from: Option<Position>,
    /// Ends with the batch that holds this position; the head without one.
    pub to: Option<Position>,
}

/// What an export's header tells of where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The log.
    pub log_id: LogId,
    /// The program that writes it.
    pub program_version: String,
    /// Now.
    pub created_at: Timestamp,
    /// The last event that the log has not any more, neither in the database nor in the archive
    /// that is read with it, and the link there.
    pub floor: (Position, [u8; 32]),
}

/// Where records go.
pub(super) trait Sink: Send {
    fn header(&mut self, header: &Header) -> std::io::Result<()>;
    fn batch(&mut self, stored: &StoredBatch) -> std::io::Result<()>;
    /// The digest of all that was written.
    fn digest(&self) -> Digest;
    fn end(&mut self, end: &End) -> std::io::Result<()>;
}

/// Writes a range of the log. `path` is only named in errors. Answers with the header and end
/// that were written.
///
/// # Errors
/// [`Error::Future`], [`Error::Backwards`], [`Error::LogDamaged`], [`Error::Write`],
/// [`Error::Store`].
pub async fn export(
    store: &dyn EventStore,
    origin: Origin,
    range: Range,
    format: Format,
    (path, into): (&Path, impl Write + Send),
    progress: Progress<'_>,
) -> Result<(Header, End), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let header = header(store, origin, range).await?;
    let mut sink: Box<dyn Sink + '_> = match format {
        Format::Ndjson => Box::new(Lines::new(into)),
        Format::Compact => Box::new(Frames::new(into).map_err(failed)?),
    };
    sink.header(&header).map_err(failed)?;
    let mut pages = Pages::new(store, header.before());
    let mut verifier = Verifier::new(header.before(), header.link_before.0);
    let (mut batches, mut link) = (0, header.link_before);
    let mut done = header.before();
    while done < header.last {
        let Some(stored) = pages.next().await? else { return Err(damaged(done, &header)) };
        verifier
            .batch(&stored.batch, &stored.rows, header.last)
            .map_err(|fault| Error::LogDamaged { fault })?;
        sink.batch(&stored).map_err(failed)?;
        (done, link) = (stored.batch.last(), Digest(stored.batch.link));
        batches += 1;
        progress(done.0.saturating_sub(header.before().0));
    }
    let end = End { events: header.events(), batches, link, sha256: sink.digest() };
    sink.end(&end).map_err(failed)?;
    Ok((header, end))
}

fn damaged(done: Position, header: &Header) -> Error {
    let kind = if done < header.last { FaultKind::CutOff } else { FaultKind::BatchAltered };
    Error::LogDamaged { fault: Fault { position: done.next(), kind } }
}

async fn header(store: &dyn EventStore, origin: Origin, range: Range) -> Result<Header, Error> {
    let head = store.head().await?;
    for asked in [range.from, range.to].into_iter().flatten() {
        if asked > head.position {
            return Err(Error::Future { asked, head: head.position });
        }
    }
    if let (Some(from), Some(to)) = (range.from, range.to)
        && to < from
    {
        return Err(Error::Backwards { from, to });
    }
    let (first, link_before) = start(store, range.from, origin.floor).await?;
    let last = end(store, &head, range.to).await?;
    Ok(Header {
        format_version: FORMAT_VERSION,
        program_version: origin.program_version,
        log_id: origin.log_id,
        incarnation: head.incarnation,
        first,
        last,
        link_before: Digest(link_before),
        created_at: origin.created_at,
    })
}

/// The first position of the batch that holds one, and the link before it.
async fn start(
    store: &dyn EventStore,
    from: Option<Position>,
    floor: (Position, [u8; 32]),
) -> Result<(Position, [u8; 32]), Error> {
    let from = from.unwrap_or(Position(1)).max(Position(1));
    if from <= floor.0 {
        return Err(Error::BelowFloor { from, first: floor.0.next() });
    }
    // What is known to stand before the first batch that is looked at.
    let mut before = None;
    let mut found = None;
    for batch in batches_around(store, from).await? {
        if batch.first > from && (found.is_some() || batch.first.0 > 1) {
            break;
        }
        before = match batch.first {
            Position(1) => Some(GENESIS),
            first if first == floor.0.next() => Some(floor.1),
            _ => before,
        };
        found = before.map(|before| (batch.first, before));
        before = Some(batch.link);
    }
    match found {
        Some(found) => Ok(found),
        None if store.head().await?.position == Position(0) => Ok((Position(1), GENESIS)),
        None => {
            let batches = store.read_batches(Position(0), 1).await?;
            let first = batches.first().map_or_else(|| floor.0.next(), |batch| batch.first);
            Err(Error::BelowFloor { from, first })
        }
    }
}

/// The last position of the batch that holds one.
async fn end(store: &dyn EventStore, head: &Head, to: Option<Position>) -> Result<Position, Error> {
    let Some(to) = to.filter(|to| *to < head.position) else { return Ok(head.position) };
    let around = batches_around(store, to).await?;
    let holding = around.iter().find(|batch| batch.first <= to && to <= batch.last());
    Ok(holding.map_or(Position(0), |batch| batch.last().min(head.position)))
}

/// The batch that holds a position, the one before it, and some more.
async fn batches_around(
    store: &dyn EventStore,
    position: Position,
) -> Result<Vec<crate::event_store::BatchRow>, Error> {
    // No batch is longer, so two full ones reach back to the one before.
    let reach = u64::try_from(2 * EVENTS_PER_BATCH_MAX).unwrap_or(u64::MAX);
    let after = Position(position.0.saturating_sub(reach)).max(store.pruned());
    let reach = usize::try_from(reach).unwrap_or(usize::MAX);
    Ok(store.read_batches(after, reach).await?)
}

/// A log's batches with their rows, in order, a bounded page of each at a time.
pub struct Pages<'a> {
    store: &'a dyn EventStore,
    batches: VecDeque<crate::event_store::BatchRow>,
    rows: VecDeque<(Row, Leaf)>,
    batches_after: Position,
    rows_after: Position,
    page_rows: usize,
}

impl std::fmt::Debug for Pages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("batches_after", &self.batches_after).finish()
    }
}

impl<'a> Pages<'a> {
    /// The batches that begin behind a batch's last position.
    #[must_use]
    pub fn new(store: &'a dyn EventStore, after: Position) -> Self {
        Self {
            store,
            batches: VecDeque::new(),
            rows: VecDeque::new(),
            batches_after: after,
            rows_after: after,
            page_rows: 64,
        }
    }

    /// The next batch with the rows found at its positions; nothing behind the last one.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn next(&mut self) -> Result<Option<StoredBatch>, Error> {
        if self.batches.is_empty() {
            let page = self.store.read_batches(self.batches_after, PAGE_BATCHES).await?;
            self.batches = page.into();
        }
        let Some(batch) = self.batches.pop_front() else { return Ok(None) };
        self.batches_after = batch.last().max(batch.first);
        let mut rows = Vec::new();
        while let Some(row) = self.row_up_to(batch.last()).await? {
            rows.push(row);
            // A boundary changed by hand may span the whole log.
            if rows.len() > EVENTS_PER_BATCH_MAX {
                break;
            }
        }
        Ok(Some(StoredBatch { batch, rows }))
    }

    async fn row_up_to(&mut self, last: Position) -> Result<Option<(Row, Leaf)>, Error> {
        if self.rows.is_empty() && self.rows_after < last {
            let page = self.store.read_rows(self.rows_after, self.page_rows).await?;
            let bytes: usize = page.iter().map(|(row, _)| row.payload.len()).sum();
            let fitting = PAGE_BYTES.saturating_mul(page.len().max(1)) / bytes.max(1);
            self.page_rows = fitting.clamp(16, PAGE_ROWS_MAX);
            self.rows_after = page.last().map_or(last, |(row, _)| row.position);
            self.rows = page.into();
        }
        let is_within = self.rows.front().is_some_and(|(row, _)| row.position <= last);
        Ok(if is_within { self.rows.pop_front() } else { None })
    }
}
