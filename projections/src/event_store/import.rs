//! Batches that another log has written, taken as they are: same positions, versions, times and
//! hashes. Pure checks, the same for every store; nothing that does not continue the log's chain,
//! or that this program could not read again, gets past them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use domain::{
    event::{Event, UnreadableEvent},
    log::{Position, Recorded, StreamId, StreamVersion},
};

use super::{
    BATCH_BYTES_MAX, BatchRow, EVENTS_PER_BATCH_MAX, Error, Head, Leaf, LogId, Row,
    chain::{Fault, Verifier},
    commit::Commit,
};

/// A batch as a log stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its boundary and link.
    pub batch: BatchRow,
    /// Its events in order, each with its leaf.
    pub rows: Vec<(Row, Leaf)>,
}

/// Why a batch of another log was not taken. Nothing of the call was written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// They are of another log.
    #[error("the batches are of log {found}, this is log {expected}")]
    OtherLog {
        /// This one.
        expected: LogId,
        /// Theirs.
        found: LogId,
    },
    /// It does not begin where the log ends.
    #[error("the batch begins at position {first}, but the log ends at position {head}")]
    NotContinuous {
        /// Where it begins.
        first: Position,
        /// Where the log ends.
        head: Position,
    },
    /// Its hashes do not continue the log's chain.
    #[error("{0}")]
    Fault(Fault),
    /// An event cannot be read by this program.
    #[error("cannot read the event at position {position}")]
    Unreadable {
        /// Where it is.
        position: Position,
        /// Why not.
        source: UnreadableEvent,
    },
    /// A column could not be kept as it is.
    #[error("the {column} of the event at position {position} is malformed")]
    Malformed {
        /// Where it is.
        position: Position,
        /// Which column.
        column: &'static str,
    },
    /// It is larger than any batch that a log writes.
    #[error("the batch that begins at position {first} is larger than any that a log writes")]
    TooLarge {
        /// Where it begins.
        first: Position,
    },
    /// The store failed.
    #[error("cannot import into the log")]
    Failed(#[source] Error),
}

/// A log that takes batches as another log wrote them. Only for a log that no node runs on: its
/// subscriptions hear nothing of them.
#[async_trait]
pub trait ImportLog: Send + Sync + std::fmt::Debug {
    /// Writes batches of a log behind the head, all or nothing; durable when answered. Answers
    /// with the new head. An empty log becomes the log that they are of, under its own
    /// incarnation; any other takes only its own batches.
    async fn import(&self, log_id: LogId, batches: Vec<StoredBatch>) -> Result<Head, ImportError>;
}

/// Checks batches against the head that they are to continue. `versions` holds the last version
/// of each of their streams; a stream that is not in it is new.
pub(super) fn place(
    mut head: Head,
    mut versions: BTreeMap<StreamId, StreamVersion>,
    batches: Vec<StoredBatch>,
) -> Result<Vec<Commit>, ImportError> {
    let mut commits = Vec::with_capacity(batches.len());
    for stored in batches {
        let commit = place_one(&head, &versions, stored)?;
        head = commit.head;
        versions.extend(commit.versions.clone());
        commits.push(commit);
    }
    Ok(commits)
}

fn place_one(
    head: &Head,
    known: &BTreeMap<StreamId, StreamVersion>,
    stored: StoredBatch,
) -> Result<Commit, ImportError> {
    let StoredBatch { batch, rows } = stored;
    check_size(&batch, &rows)?;
    if batch.first != head.position.next() {
        return Err(ImportError::NotContinuous { first: batch.first, head: head.position });
    }
    Verifier::new(head.position, head.link)
        .batch(&batch, &rows, batch.last())
        .map_err(ImportError::Fault)?;
    if batch.recorded_at < head.recorded_at {
        return Err(ImportError::Malformed { position: batch.first, column: "recorded_at" });
    }
    let mut versions = BTreeMap::new();
    let mut events = Vec::with_capacity(rows.len());
    for (row, _) in &rows {
        let event = readable(row)?;
        let before = versions.get(&event.stream).or_else(|| known.get(&event.stream));
        let version = before.copied().unwrap_or_default().0.saturating_add(1);
        if event.version.0 != version {
            return Err(ImportError::Malformed { position: row.position, column: "version" });
        }
        versions.insert(event.stream.clone(), event.version);
        events.push(event);
    }
    let (position, recorded_at, link) = (batch.last(), batch.recorded_at, batch.link);
    let head = Head { position, recorded_at, incarnation: head.incarnation, link };
    Ok(Commit { events, rows, versions, batch, head })
}

/// The versions that unknown streams had where a pruned log begins, as its own events tell: their
/// earlier events were pruned, and the chain proves the version of the first one that is left.
///
/// # Errors
/// As [`streams`].
pub(super) fn versions_at_floor(
    batches: &[StoredBatch],
    known: &BTreeMap<StreamId, StreamVersion>,
) -> Result<BTreeMap<StreamId, StreamVersion>, ImportError> {
    let mut found = BTreeMap::new();
    for (row, _) in batches.iter().flat_map(|stored| &stored.rows) {
        let stream = stream_of(row)?;
        if row.version.0 > 0 && !known.contains_key(&stream) {
            found.entry(stream).or_insert(StreamVersion(row.version.0 - 1));
        }
    }
    found.retain(|_, version| version.0 > 0);
    Ok(found)
}

fn stream_of(row: &Row) -> Result<StreamId, ImportError> {
    let malformed = ImportError::Malformed { position: row.position, column: "stream" };
    row.stream.parse().map_err(|_| malformed)
}

/// The streams that batches write to.
///
/// # Errors
/// [`ImportError::Malformed`] names the first row whose stream is none.
pub(super) fn streams(batches: &[StoredBatch]) -> Result<BTreeSet<StreamId>, ImportError> {
    let rows = batches.iter().flat_map(|stored| &stored.rows);
    rows.map(|(row, _)| stream_of(row)).collect()
}

/// Whether a log with a head may take batches of a log.
pub(super) fn check_log(head: &Head, own: LogId, found: LogId) -> Result<(), ImportError> {
    if head.position == Position(0) || own == found {
        return Ok(());
    }
    Err(ImportError::OtherLog { expected: own, found })
}

fn check_size(batch: &BatchRow, rows: &[(Row, Leaf)]) -> Result<(), ImportError> {
    let bytes: usize = rows.iter().map(|(row, _)| row.payload.len()).sum();
    let events_max = u64::try_from(EVENTS_PER_BATCH_MAX).unwrap_or(u64::MAX);
    if batch.count > events_max || bytes > BATCH_BYTES_MAX {
        return Err(ImportError::TooLarge { first: batch.first });
    }
    Ok(())
}

/// Decodes a row, and makes sure that every column can be kept: stores derive some columns from
/// others, so a row whose columns do not agree would not come back as it was.
///
/// # Errors
/// [`ImportError::Unreadable`] or [`ImportError::Malformed`].
pub fn readable(row: &Row) -> Result<Recorded<Event>, ImportError> {
    let position = row.position;
    let event = row.clone().decode().map_err(|error| {
        if let Error::Malformed { position, column } = error {
            return ImportError::Malformed { position, column };
        }
        if let Error::Unreadable { position, source } = error {
            return ImportError::Unreadable { position, source };
        }
        ImportError::Failed(error)
    })?;
    let columns = [
        ("stream", event.stream.to_string() == row.stream),
        ("owner", event.stream.owner().to_string() == row.owner),
        ("command_id", event.command_id.as_str() == row.command_id),
        ("correlation", event.correlation.as_str() == row.correlation),
    ];
    match columns.into_iter().find(|(_, is_kept)| !is_kept) {
        Some((column, _)) => Err(ImportError::Malformed { position, column }),
        None => Ok(event),
    }
}
