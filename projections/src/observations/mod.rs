//! The observation store: log lines and metrics that cells push. Not events, and never the
//! ground of a decision.
//!
//! One folder per owner, segments of framed records in it, bounded per owner and in total: the
//! oldest segment goes first, and how many records went is kept. Records survive a crash of the
//! process; a power cut may take the last seconds (they are not fsynced), which is why crash
//! evidence is a sealed blob beside the log and not read from here.

mod error;
mod follow;
mod frame;
mod owner_log;
mod segment;
mod shelf;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    id::CellId,
    log::{CellEpoch, Owner},
    observation::{Observation, ObservationRecord},
    units::Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use error::Error;
pub use follow::Follow;
use shelf::Shelf;

/// The most records that one push may hold.
pub const PUSH_RECORDS_MAX: usize = 1_000;

/// The most records that one read answers with.
pub const READ_RECORDS_MAX: usize = 10_000;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one owner.
    pub owner_bytes_max: u64,
    /// Bytes of all owners together.
    pub total_bytes_max: u64,
    /// Bytes after which a new segment begins: what is dropped at once.
    pub segment_bytes_max: u64,
}

impl Default for Limits {
    /// 16 MiB an owner, 1 GiB in all, 1 MiB a segment.
    fn default() -> Self {
        Self { owner_bytes_max: 16 << 20, total_bytes_max: 1 << 30, segment_bytes_max: 1 << 20 }
    }
}

/// What a cell pushes: its observations in order, numbered in its registration from 1 without
/// gaps.
#[derive(Debug, Clone)]
pub struct Push {
    /// Which cell.
    pub cell_id: CellId,
    /// Its registration, in which the sequences count.
    pub cell_epoch: CellEpoch,
    /// The sequence of the first observation.
    pub first_sequence: u64,
    /// At most [`PUSH_RECORDS_MAX`].
    pub observations: Vec<Observation>,
}

/// The place of a record among its owner's, from 1. 0 is before the first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RecordNumber(pub u64);

/// One observation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place among its owner's records.
    pub number: RecordNumber,
    /// The cell that saw it.
    pub cell_id: CellId,
    /// What it saw.
    pub observation: Observation,
}

/// Which kind of record is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Lines of output.
    Lines,
    /// Metrics.
    Metrics,
}

/// Which of an owner's records are asked for. A field that is `None` asks nothing.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only behind this place.
    pub after: RecordNumber,
    /// Only of this slot.
    pub index: Option<u32>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only what was seen at this instant or later, by the cells' clocks.
    pub since: Option<Timestamp>,
    /// Only what was seen at this instant or earlier, by the cells' clocks.
    pub until: Option<Timestamp>,
    /// Only the newest so many; without it the oldest [`READ_RECORDS_MAX`].
    pub last: Option<usize>,
}

impl Query {
    fn lets_through(&self, stored: &Stored) -> bool {
        let observation = &stored.observation;
        let (kind, at) = match &observation.record {
            ObservationRecord::Line(line) => (Kind::Lines, line.at),
            ObservationRecord::Metrics(sample) => (Kind::Metrics, sample.at),
        };
        stored.number > self.after
            && self.index.is_none_or(|index| observation.index == Some(index))
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
    }
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// In the order in which they arrived.
    pub records: Vec<Stored>,
    /// Where to go on: the last place that was looked at.
    pub next: RecordNumber,
    /// How many of the owner's records were dropped so far to stay within the limits.
    pub dropped: u64,
}

/// A cheap handle on the observation store.
#[derive(Debug, Clone)]
pub struct Observations {
    shelf: Arc<Mutex<Shelf>>,
}

impl Observations {
    /// Opens the store in a folder, which is made if it is missing. A record that a crash left
    /// half written is cut off when its owner is first used. Blocks on files: call it at start.
    ///
    /// # Errors
    /// [`Error::Folder`] when the folder cannot be made or listed.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        let shelf = Shelf::open(folder, limits)?;
        Ok(Self { shelf: Arc::new(Mutex::new(shelf)) })
    }

    /// Keeps what a cell pushes; what was kept before is skipped, so a push may be repeated.
    /// Answers with the sequence up to which everything is kept.
    ///
    /// # Errors
    /// [`Error::PushTooLarge`], or a file's error; what was kept before it stays kept.
    pub async fn append(&self, push: Push) -> Result<u64, Error> {
        self.blocking(move |shelf| shelf.append(push)).await
    }

    /// The records of an owner that a query asks for.
    ///
    /// # Errors
    /// A file's error.
    pub async fn read(&self, owner: &Owner, query: Query) -> Result<Page, Error> {
        let owner = owner.clone();
        let segments = self.blocking(move |shelf| shelf.segments(&owner)).await?;
        // Read outside the lock: a push must not wait for a reader.
        run_blocking(move || segments.read(&query)).await
    }

    /// Follows an owner's records from the query's place on; its `last` counts only once, at the
    /// beginning.
    ///
    /// # Errors
    /// A file's error.
    pub async fn follow(&self, owner: &Owner, query: Query) -> Result<Follow, Error> {
        let of = owner.clone();
        let appended: watch::Receiver<RecordNumber> =
            self.blocking(move |shelf| shelf.watch(&of)).await?;
        Ok(Follow::new(self.clone(), owner.clone(), query, appended))
    }

    async fn blocking<T, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&mut Shelf) -> Result<T, Error> + Send + 'static,
    {
        let shelf = self.shelf.clone();
        // A panic between two file operations leaves at worst a frame that a read cuts off.
        run_blocking(move || work(&mut shelf.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

async fn run_blocking<T, W>(work: W) -> Result<T, Error>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)?
}

#[cfg(test)]
mod tests;
