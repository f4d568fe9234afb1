//! The hash chain over the log, and the check that finds what was changed behind our back.
//!
//! A leaf covers one row, and its payload only by its hash, so a payload can be left out of an
//! export while the rest is still proven. A link covers a batch and the link before it. The
//! core here is pure; what it cannot see is a log cut off together with its head row, or written
//! anew from some place on: signed checkpoints show that.

use std::fmt;

use domain::{log::Position, units::Timestamp};
use sha2::{Digest, Sha256};

use super::{BatchRow, EVENTS_PER_BATCH_MAX, Error, EventStore, Head, Leaf, READ_EVENTS_MAX, Row};

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
    /// The event is not at its place in a file, but at another one.
    Misplaced,
    /// What stands in a file where this event belongs is not of the file's form.
    Malformed {
        /// How.
        reason: String,
    },
    /// The events of a file hold up to this one, its last, but what stands around them does not.
    FileAltered {
        /// How.
        reason: String,
    },
    /// The log ends before this event, though it was written.
    CutOff,
    /// The batch that begins here has another boundary, time, id or link than was written.
    BatchAltered,
    /// The head row does not agree with the last batch.
    HeadAltered,
    /// A column that is computed from others, and that the hashes leave out, does not fit them.
    ColumnAltered {
        /// Which.
        column: &'static str,
    },
    /// The last version of a stream, kept beside the log, is not that of its last event.
    StreamAltered,
    /// A row stands where the log has no place.
    Surplus,
    /// The row that says where the log begins does not agree with its first batch.
    FloorAltered,
    /// The signature of the checkpoint at this position does not hold.
    CheckpointAltered,
    /// The checkpoint at this position was signed by a key that is not trusted.
    CheckpointForeign,
    /// A checkpoint was signed at this position, and is not there.
    CheckpointMissing,
    /// The state that a pruned log begins with was signed by a key that is not trusted.
    BaseForeign,
    /// The log up to this position is not the one that was signed: it was written anew somewhere
    /// behind `trusted`.
    Rewritten {
        /// The last position that is known to be as it was.
        trusted: Position,
    },
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
        match &self.kind {
            FaultKind::Altered => write!(f, "the event at position {position} was altered"),
            FaultKind::Reordered { belongs_at } => {
                write!(f, "the event at position {position} belongs at position {belongs_at}")
            }
            FaultKind::Missing => write!(f, "the event at position {position} is missing"),
            FaultKind::Misplaced => write!(
                f,
                "the event at position {position} is not at its place, but elsewhere in the file: \
                 its events were reordered"
            ),
            FaultKind::Malformed { reason } => {
                write!(f, "what stands for position {position} was altered: {reason}")
            }
            FaultKind::FileAltered { reason } => write!(
                f,
                "every event up to position {position} holds, but the file was altered: {reason}"
            ),
            FaultKind::CutOff => write!(f, "the log is cut off before position {position}"),
            FaultKind::BatchAltered => {
                write!(f, "the batch that begins at position {position} was altered")
            }
            FaultKind::HeadAltered => {
                write!(f, "the head row does not agree with the log at position {position}")
            }
            FaultKind::ColumnAltered { column } => {
                write!(f, "the column {column} of the event at position {position} was altered")
            }
            FaultKind::StreamAltered => write!(
                f,
                "the stored version of a stream does not agree with its event at position {position}"
            ),
            FaultKind::Surplus => {
                write!(f, "a row that the log never wrote stands at position {position}")
            }
            FaultKind::FloorAltered => {
                write!(f, "the floor row does not agree with the log at position {position}")
            }
            FaultKind::CheckpointAltered => {
                write!(f, "the checkpoint at position {position} was altered")
            }
            FaultKind::CheckpointForeign => {
                write!(f, "the checkpoint at position {position} was signed by an unknown key")
            }
            FaultKind::CheckpointMissing => {
                write!(f, "the checkpoint at position {position} is missing")
            }
            FaultKind::BaseForeign => write!(
                f,
                "the state up to position {position}, with which the log begins, was signed by an \
                 unknown key"
            ),
            FaultKind::Rewritten { trusted } => write!(
                f,
                "the log was written anew between positions {} and {position}",
                trusted.next()
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// The hash of one row.
#[must_use]
pub fn leaf(row: &Row) -> Leaf {
    leaf_of(&row.metadata(), &row.payload)
}

/// The hash of a row from its metadata as hashed, and its payload.
pub(crate) fn leaf_of(metadata: &[u8], payload: &[u8]) -> Leaf {
    let metadata = Sha256::digest(metadata);
    let payload = Sha256::digest(payload);
    Sha256::new().chain_update([0]).chain_update(metadata).chain_update(payload).finalize().into()
}

/// The root of a binary tree over a batch's leaves; an odd one moves up unpaired.
#[must_use]
pub fn root(leaves: &[Leaf]) -> [u8; 32] {
    root_of(leaves.to_vec())
}

fn root_of(mut level: Vec<Leaf>) -> [u8; 32] {
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
    /// Of the last batch; `None` before the first one.
    recorded_at: Option<Timestamp>,
}

impl Verifier {
    /// Begins behind a position whose link is trusted; `(0, GENESIS)` is the log's start.
    #[must_use]
    pub fn new(position: Position, link: [u8; 32]) -> Self {
        Self { position, link, recorded_at: None }
    }

    /// The last position that was checked.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The link of the last batch that was checked.
    #[must_use]
    pub fn link(&self) -> [u8; 32] {
        self.link
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
        if batch.first != self.position.next() || !is_a_count(batch.count) {
            return Err(fault(self.position.next(), FaultKind::BatchAltered));
        }
        let mut found = rows.iter();
        for position in batch.first.0..=batch.last().0 {
            match found.next() {
                Some((row, leaf)) if row.position.0 == position => check_row(row, leaf)?,
                Some(_) | None => return Err(absent(Position(position), log_end)),
            }
        }
        if rows.iter().any(|(row, _)| row.recorded_at != batch.recorded_at) {
            return Err(fault(batch.first, FaultKind::BatchAltered));
        }
        let leaves: Vec<Leaf> = rows.iter().map(|(_, leaf)| *leaf).collect();
        self.leaves(batch, leaves)
    }

    /// Checks the next batch with leaves that were just computed of its rows.
    ///
    /// # Errors
    /// [`FaultKind::BatchAltered`].
    pub fn leaves(&mut self, batch: &BatchRow, leaves: Vec<Leaf>) -> Result<(), Fault> {
        let is_next = batch.first == self.position.next()
            && u64::try_from(leaves.len()) == Ok(batch.count)
            && is_a_count(batch.count);
        if !is_next {
            return Err(fault(self.position.next(), FaultKind::BatchAltered));
        }
        if link(&self.link, &root_of(leaves), batch) != batch.link {
            return Err(fault(batch.first, FaultKind::BatchAltered));
        }
        let recorded_at = Some(batch.recorded_at);
        *self = Self { position: batch.last(), link: batch.link, recorded_at };
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
        let is_other_time = self.recorded_at.is_some_and(|time| time != head.recorded_at);
        let is_other = head.link != self.link || is_other_time;
        if head.position < self.position || is_other || log_end > self.position {
            return Err(fault(head.position.min(self.position), FaultKind::HeadAltered));
        }
        Ok(())
    }
}

/// Whether a batch may hold so many events.
pub(crate) fn is_a_count(count: u64) -> bool {
    (1..=u64::try_from(EVENTS_PER_BATCH_MAX).unwrap_or(u64::MAX)).contains(&count)
}

pub(crate) fn fault(position: Position, kind: FaultKind) -> Fault {
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
    verify_behind(store, (Position(0), GENESIS)).await
}

/// Checks a log behind the end and link of a batch that are known. Answers as [`verify`].
///
/// # Errors
/// As [`verify`].
pub async fn verify_behind(
    store: &dyn EventStore,
    (position, link): (Position, [u8; 32]),
) -> Result<Option<Fault>, Error> {
    let head = store.head().await?;
    let log_end = last_row(store, head.position).await?;
    let mut verifier = Verifier::new(position, link);
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
pub(crate) async fn last_row(store: &dyn EventStore, head: Position) -> Result<Position, Error> {
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
