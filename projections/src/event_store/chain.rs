//! The hash chain over the log, and the check that finds what was changed behind our back.
//!
//! A leaf covers one row, and its payload only by its hash, so a payload can be left out of an
//! export while the rest is still proven. A link covers a batch and the link before it. The
//! core here is pure; what it cannot see is a log cut off together with its head row, for which
//! a remembered [`Head`] must be compared.

use std::fmt;

use domain::log::Position;
use sha2::{Digest, Sha256};

use super::{BatchRow, Error, EventStore, Head, Leaf, READ_EVENTS_MAX, Row};

/// The link before the first batch.
pub const GENESIS: [u8; 32] = [0; 32];

/// How far from its place a row is looked for before it is called altered, not moved.
const REORDER_DISTANCE_MAX: u64 = 10_000;

/// How the log differs from what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// A column or the payload of this event was changed.
    Altered,
    /// The event that stands here was written at another position.
    Reordered {
        /// Where it belongs.
        belongs_at: Position,
    },
    /// The event is not there, though later ones are.
    Missing,
    /// The log ends before this event, though it was written.
    CutOff,
    /// The batch that begins here has another boundary, time, id or link than was written.
    BatchAltered,
    /// The head row does not agree with the last batch.
    HeadAltered,
}

/// The first wrong place in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first position that is wrong.
    pub position: Position,
    /// How.
    pub kind: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.position;
        match self.kind {
            FaultKind::Altered => write!(f, "the event at position {position} was altered"),
            FaultKind::Reordered { belongs_at } => {
                write!(f, "the event at position {position} belongs at position {belongs_at}")
            }
            FaultKind::Missing => write!(f, "the event at position {position} is missing"),
            FaultKind::CutOff => write!(f, "the log is cut off before position {position}"),
            FaultKind::BatchAltered => {
                write!(f, "the batch that begins at position {position} was altered")
            }
            FaultKind::HeadAltered => {
                write!(f, "the head row does not agree with the log at position {position}")
            }
        }
    }
}

/// The hash of one row.
#[must_use]
pub fn leaf(row: &Row) -> Leaf {
    let metadata = Sha256::digest(row.metadata());
    let payload = Sha256::digest(&row.payload);
    Sha256::new().chain_update([0]).chain_update(metadata).chain_update(payload).finalize().into()
}

/// The root of a binary tree over a batch's leaves; an odd one moves up unpaired.
#[must_use]
pub fn root(leaves: &[Leaf]) -> [u8; 32] {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Sha256::new()
                    .chain_update([1])
                    .chain_update(left)
                    .chain_update(right)
                    .finalize()
                    .into(),
                other => other.first().copied().unwrap_or_default(),
            })
            .collect();
    }
    level.first().copied().unwrap_or_default()
}

/// The link of a batch behind another link. `batch.link` itself is not read.
#[must_use]
pub fn link(previous: &[u8; 32], root: &[u8; 32], batch: &BatchRow) -> [u8; 32] {
    Sha256::new()
        .chain_update([2])
        .chain_update(previous)
        .chain_update(root)
        .chain_update(batch.first.0.to_be_bytes())
        .chain_update(batch.count.to_be_bytes())
        .chain_update(batch.recorded_at.0.to_be_bytes())
        .chain_update(batch.id.0.as_bytes())
        .finalize()
        .into()
}

/// Checks batch after batch; remembers only the last position and link.
#[derive(Debug)]
pub struct Verifier {
    position: Position,
    link: [u8; 32],
}

impl Verifier {
    /// Begins behind a position whose link is trusted; `(0, GENESIS)` is the log's start.
    #[must_use]
    pub fn new(position: Position, link: [u8; 32]) -> Self {
        Self { position, link }
    }

    /// Checks the next batch with the rows found at its positions, in order of position.
    /// `log_end` is the last position of any row in the log.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn batch(
        &mut self,
        batch: &BatchRow,
        rows: &[(Row, Leaf)],
        log_end: Position,
    ) -> Result<(), Fault> {
        if batch.first != self.position.next() || batch.count == 0 {
            return Err(fault(self.position.next(), FaultKind::BatchAltered));
        }
        let mut found = rows.iter();
        for position in batch.first.0..=batch.last().0 {
            match found.next() {
                Some((row, leaf)) if row.position.0 == position => check_row(row, leaf)?,
                Some(_) | None => return Err(absent(Position(position), log_end)),
            }
        }
        let leaves: Vec<Leaf> = rows.iter().map(|(_, leaf)| *leaf).collect();
        let expected = link(&self.link, &root(&leaves), batch);
        let is_one_time = rows.iter().all(|(row, _)| row.recorded_at == batch.recorded_at);
        if expected != batch.link || !is_one_time {
            return Err(fault(batch.first, FaultKind::BatchAltered));
        }
        *self = Self { position: batch.last(), link: batch.link };
        Ok(())
    }

    /// Compares what was checked with the head. `log_end` as in [`Verifier::batch`].
    ///
    /// # Errors
    /// The [`Fault`] behind the last batch.
    pub fn finish(&self, head: &Head, log_end: Position) -> Result<(), Fault> {
        let next = self.position.next();
        if head.position > self.position {
            let kind = if log_end > self.position {
                // Events are there, the batch that holds them is not.
                FaultKind::BatchAltered
            } else {
                FaultKind::CutOff
            };
            return Err(fault(next, kind));
        }
        if head.position < self.position || head.link != self.link || log_end > self.position {
            return Err(fault(head.position.min(self.position), FaultKind::HeadAltered));
        }
        Ok(())
    }
}

fn fault(position: Position, kind: FaultKind) -> Fault {
    Fault { position, kind }
}

fn absent(position: Position, log_end: Position) -> Fault {
    let kind = if log_end > position { FaultKind::Missing } else { FaultKind::CutOff };
    fault(position, kind)
}

fn check_row(row: &Row, stored: &Leaf) -> Result<(), Fault> {
    if leaf(row) == *stored {
        return Ok(());
    }
    // A row that was moved still has the leaf of its true position.
    let position = row.position;
    let nearest = position.0.saturating_sub(REORDER_DISTANCE_MAX).max(1);
    let mut moved = row.clone();
    for candidate in nearest..=position.0.saturating_add(REORDER_DISTANCE_MAX) {
        moved.position = Position(candidate);
        if leaf(&moved) == *stored {
            return Err(fault(position, FaultKind::Reordered { belongs_at: moved.position }));
        }
    }
    Err(fault(position, FaultKind::Altered))
}

/// Checks a whole log. Answers the first fault, or `None` when every hash holds.
///
/// # Errors
/// [`Error`] when the log cannot be read at all.
pub async fn verify(store: &dyn EventStore) -> Result<Option<Fault>, Error> {
    let head = store.head().await?;
    let log_end = last_row(store, head.position).await?;
    let mut verifier = Verifier::new(Position(0), GENESIS);
    loop {
        let batches = store.read_batches(verifier.position, 256).await?;
        for batch in &batches {
            // Another writer may be ahead of the head that was read first.
            if batch.first > head.position {
                return Ok(verifier.finish(&head, log_end).err());
            }
            let Some(rows) = rows_of(store, batch).await? else {
                return Ok(Some(fault(batch.first, FaultKind::BatchAltered)));
            };
            if let Err(fault) = verifier.batch(batch, &rows, log_end) {
                return Ok(Some(fault));
            }
        }
        if batches.is_empty() {
            return Ok(verifier.finish(&head, log_end).err());
        }
    }
}

/// The rows that stand at a batch's positions; `None` when its count is beyond any batch's.
pub(super) async fn rows_of(
    store: &dyn EventStore,
    batch: &BatchRow,
) -> Result<Option<Vec<(Row, Leaf)>>, Error> {
    let Some(count) = usize::try_from(batch.count).ok().filter(|count| *count <= READ_EVENTS_MAX)
    else {
        return Ok(None);
    };
    let before = Position(batch.first.0.saturating_sub(1));
    let mut rows = store.read_rows(before, count).await?;
    rows.retain(|(row, _)| row.position <= batch.last());
    Ok(Some(rows))
}

/// The last position up to and behind the head at which a row stands.
async fn last_row(store: &dyn EventStore, head: Position) -> Result<Position, Error> {
    let before = Position(head.0.saturating_sub(1));
    if store.read_rows(before, 1).await?.iter().any(|(row, _)| row.position == head) {
        return Ok(head);
    }
    // The head's row is gone: halve the log until the last row that is left is found.
    let (mut low, mut high) = (0, head.0);
    while low < high {
        let middle = low + (high - low) / 2;
        match store.read_rows(Position(middle), 1).await?.first() {
            Some((row, _)) => low = row.position.0,
            None => high = middle,
        }
    }
    Ok(Position(low))
}
