//! Taking an export into a log: read through once before anything is written, so that a file that
//! is not whole changes nothing, then batch by batch, each checked again by the store.
//!
//! An import that was broken off goes on where it ended: what is there already is compared.

use std::path::Path;

use domain::log::Position;

use super::{
    Error, Export, Fault, Progress,
    header::{End, Header},
};
use crate::event_store::{
    BATCH_BYTES_MAX, EventStore, Head, ImportError, ImportLog, StoredBatch,
    chain::{GENESIS, Verifier},
    readable,
};

/// How many events are written in one transaction, beyond which no batch is added.
const EVENTS_PER_WRITE: usize = 4096;

/// What an import has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The file's header.
    pub header: Header,
    /// The file's end.
    pub end: End,
    /// How many events were written; the others were there.
    pub written: u64,
    /// Where the log ends now.
    pub head: Head,
}

/// Reads an export through: form, digest, hash chain, and that this program can read each event.
///
/// # Errors
/// [`Error::File`] names the first wrong place.
pub fn check(path: &Path, progress: Progress<'_>) -> Result<(Header, End), Error> {
    let mut export = Export::open(path)?;
    let header = export.header().clone();
    let mut verifier = Verifier::new(header.before(), header.link_before.0);
    while let Some(stored) = export.next() {
        let StoredBatch { batch, rows } = stored?;
        verifier
            .batch(&batch, &rows, header.last)
            .map_err(|fault| export.blame(fault.position, Fault::Chain(fault)))?;
        for (row, _) in &rows {
            readable(row).map_err(|refused| blame(&export, refused, batch.first))?;
        }
        progress(batch.last().0.saturating_sub(header.before().0));
    }
    match export.end() {
        Some(end) => Ok((header, end.clone())),
        None => Err(export.blame(header.last, Fault::CutOff)),
    }
}

/// What a store's refusal means for the file.
fn blame(export: &Export, refused: ImportError, first: Position) -> Error {
    match refused {
        ImportError::Unreadable { position, source } => {
            export.blame(position, Fault::NewerEvent { position, source })
        }
        ImportError::Fault(fault) => export.blame(fault.position, Fault::Chain(fault)),
        ImportError::Malformed { position, .. } => {
            export.blame(position, Fault::Malformed { reason: refused.to_string() })
        }
        ImportError::NotContinuous { .. } | ImportError::TooLarge { .. } => {
            export.blame(first, Fault::Malformed { reason: refused.to_string() })
        }
        ImportError::OtherLog { expected, found } => Error::OtherLog { expected, found },
        ImportError::Failed(failure) => Error::Store(failure),
    }
}

/// Takes an export into a log: an empty one, or one that it continues. The whole file is checked
/// first; `progress` hears of both passes.
///
/// # Errors
/// [`Error::File`] before anything is written; [`Error::OtherLog`], [`Error::Diverged`],
/// [`Error::Gap`], [`Error::TargetAhead`] when it does not belong there.
pub async fn import(
    path: &Path,
    log: &dyn ImportLog,
    store: &dyn EventStore,
    progress: Progress<'_>,
) -> Result<Imported, Error> {
    let (header, end) = check(path, progress)?;
    let head = fitting_head(store, &header, &end).await?;
    let mut export = Export::open(path)?;
    let mut head_now = head;
    let mut pending = Vec::new();
    let (mut events, mut bytes) = (0, 0);
    while let Some(stored) = export.next() {
        let stored = stored?;
        let last = stored.batch.last();
        if last <= head.position {
            if last == head.position && stored.batch.link != head.link {
                return Err(Error::Diverged { position: head.position });
            }
            continue;
        }
        if stored.batch.first <= head.position {
            return Err(Error::Diverged { position: head.position });
        }
        events += stored.rows.len();
        bytes += stored.rows.iter().map(|(row, _)| row.payload.len()).sum::<usize>();
        pending.push(stored);
        if events >= EVENTS_PER_WRITE || bytes >= BATCH_BYTES_MAX {
            head_now = write(log, &export, std::mem::take(&mut pending)).await?;
            (events, bytes) = (0, 0);
            progress(head_now.position.0.saturating_sub(header.before().0));
        }
    }
    // An empty log takes the id of an empty export, too.
    if !pending.is_empty() || head_now.position == Position(0) {
        head_now = write(log, &export, pending).await?;
    }
    let written = head_now.position.0.saturating_sub(head.position.0);
    Ok(Imported { header, end, written, head: head_now })
}

async fn write(
    log: &dyn ImportLog,
    export: &Export,
    batches: Vec<StoredBatch>,
) -> Result<Head, Error> {
    let first = batches.first().map_or(Position(0), |stored| stored.batch.first);
    let log_id = export.header().log_id;
    log.import(log_id, batches).await.map_err(|refused| blame(export, refused, first))
}

/// The target's head, if the export can go on from it.
async fn fitting_head(store: &dyn EventStore, header: &Header, end: &End) -> Result<Head, Error> {
    let head = store.head().await?;
    let is_empty = head.position == Position(0) && head.link == GENESIS;
    let log_id = store.log_id().await?;
    if !is_empty && log_id != header.log_id {
        return Err(Error::OtherLog { expected: log_id, found: header.log_id });
    }
    if head.position < header.before() {
        return Err(Error::Gap { first: header.first, head: head.position });
    }
    if head.position > header.last {
        return Err(Error::TargetAhead { head: head.position, last: header.last });
    }
    let links = [(header.before(), header.link_before.0), (header.last, end.link.0)];
    if links.iter().any(|(position, link)| *position == head.position && *link != head.link) {
        return Err(Error::Diverged { position: head.position });
    }
    Ok(head)
}
