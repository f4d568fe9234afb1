//! Reading an export: batch by batch, with every check that needs no hash of the log's: form,
//! order, holes, end and digest.
//!
//! The hash chain is for whoever takes the batches: [`super::check`], [`super::import()`], or a
//! `verify` of any kind.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use domain::{log::Position, sealed::Digest};

use super::{
    Error, FORMAT_VERSION, Fault, Place,
    compact::{FrameReader, ZSTD_MAGIC},
    header::{End, Header},
    ndjson::LineReader,
};
use crate::event_store::{BATCH_BYTES_MAX, BatchRow, EVENTS_PER_BATCH_MAX, StoredBatch};

/// One part of an export, in either form.
pub(super) enum Record {
    Header(Header),
    Batch(StoredBatch),
    End(End),
}

/// Why no record came.
pub(super) enum Broken {
    Io(io::Error),
    Fault(Place, Box<Fault>),
}

/// Gives the records of a form.
pub(super) trait Records: Send {
    /// The next one; nothing where the file ends.
    fn next(&mut self) -> Result<Option<(Place, Record)>, Broken>;

    /// The digest of all records so far but the end.
    fn digest(&self) -> Digest;

    /// Where the last record ended, or broke.
    fn place(&self) -> Place;

    /// Where an event of a batch stands, by its ordinal from 0.
    fn place_of(&self, batch: Place, ordinal: u64) -> Place;

    /// The event of a batch that was looked for where it broke.
    fn looked_for(&self) -> Option<Position> {
        None
    }

    /// Whether an event stands anywhere in what is left, whatever is wrong there.
    fn rest_holds(&mut self, position: Position) -> bool;
}

pub(super) fn malformed(reason: impl Into<String>) -> Fault {
    Fault::Malformed { reason: reason.into() }
}

/// Before it is held in memory, whatever a file says of itself.
pub(super) fn batch_is_too_large(batch: &BatchRow, payload_bytes: usize) -> Option<Fault> {
    let is_too_long =
        usize::try_from(batch.count).map_or(true, |count| count > EVENTS_PER_BATCH_MAX);
    (is_too_long || payload_bytes > BATCH_BYTES_MAX)
        .then(|| malformed("a batch is larger than any that a log writes"))
}

/// An export that is read: an iterator over its batches, each with its rows.
///
/// After its last batch the iterator has checked the end; an error ends it.
pub struct Export {
    path: PathBuf,
    records: Box<dyn Records>,
    header: Header,
    end: Option<End>,
    next: Position,
    batches: u64,
    link: Digest,
    /// Where the batch given last stands, and its first position.
    last: (Place, Position),
    is_over: bool,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("path", &self.path).field("header", &self.header).finish()
    }
}

impl Export {
    /// Opens an export in either form, and reads its header.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::File`] when it is something else or of a newer form.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
        let is_compact = file.fill_buf().map_err(failed)?.starts_with(&ZSTD_MAGIC);
        let mut records: Box<dyn Records> = if is_compact {
            Box::new(FrameReader::new(file).map_err(failed)?)
        } else {
            Box::new(LineReader::new(file))
        };
        let file_fault = |place, fault| Error::File { path: path.to_owned(), place, fault };
        let first = records.next().map_err(|broken| match broken {
            Broken::Io(source) => failed(source),
            Broken::Fault(place, fault) => file_fault(place, fault),
        })?;
        let header = match first {
            Some((_, Record::Header(header))) => header,
            Some((place, Record::Batch(_) | Record::End(_))) => {
                return Err(file_fault(place, Box::new(Fault::NotAnExport)));
            }
            None => return Err(file_fault(records.place(), Box::new(Fault::NotAnExport))),
        };
        if header.format_version > FORMAT_VERSION {
            let (found, known) = (header.format_version, FORMAT_VERSION);
            let fault = Box::new(Fault::NewerFormat { found, known });
            return Err(file_fault(records.place(), fault));
        }
        let last = (records.place(), header.first);
        let (next, link) = (header.first, header.link_before);
        let path = path.to_owned();
        Ok(Self { path, records, header, end: None, next, batches: 0, link, last, is_over: false })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file's end, once all batches were read.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Blames a place in the file for a fault at a position of the batch given last.
    #[must_use]
    pub fn blame(&self, position: Position, fault: Fault) -> Error {
        self.fault(self.place_of(position), fault)
    }

    /// Where an event of the batch given last stands.
    #[must_use]
    pub fn place_of(&self, position: Position) -> Place {
        let (batch, first) = self.last;
        self.records.place_of(batch, position.0.saturating_sub(first.0))
    }

    /// The event that belongs where the iterator ended.
    #[must_use]
    pub fn looked_for(&self) -> Position {
        self.records.looked_for().unwrap_or(self.next)
    }

    /// Whether an event stands anywhere in a file, whatever else is wrong with it.
    ///
    /// # Errors
    /// As [`Export::open`].
    pub fn holds(path: &Path, position: Position) -> Result<bool, Error> {
        Ok(Self::open(path)?.records.rest_holds(position))
    }

    fn fault(&self, place: Place, fault: Fault) -> Error {
        Error::File { path: self.path.clone(), place, fault: Box::new(fault) }
    }

    fn advance(&mut self) -> Result<Option<StoredBatch>, Error> {
        let record = self.records.next().map_err(|broken| match broken {
            Broken::Io(source) => Error::Read { path: self.path.clone(), source },
            Broken::Fault(place, fault) => Error::File { path: self.path.clone(), place, fault },
        })?;
        match record {
            None => Err(self.fault(self.records.place(), Fault::CutOff)),
            Some((place, Record::Header(_))) => {
                Err(self.fault(place, malformed("a second header stands here")))
            }
            Some((place, Record::Batch(stored))) => {
                self.check_batch(&stored.batch).map_err(|fault| self.fault(place, fault))?;
                self.next = stored.batch.last().next();
                self.batches = self.batches.saturating_add(1);
                self.link = Digest(stored.batch.link);
                self.last = (place, stored.batch.first);
                Ok(Some(stored))
            }
            Some((place, Record::End(end))) => {
                self.check_end(&end).map_err(|fault| self.fault(place, fault))?;
                self.check_nothing_follows()?;
                self.end = Some(end);
                Ok(None)
            }
        }
    }

    fn check_batch(&self, batch: &BatchRow) -> Result<(), Fault> {
        let first = batch.first;
        if first > self.next {
            return Err(Fault::Hole { position: self.next });
        }
        if first < self.next || batch.count == 0 {
            return Err(malformed(format!("no batch can begin at position {first} here")));
        }
        if batch.last() > self.header.last {
            let last = self.header.last;
            return Err(malformed(format!("position {last} is the last, says the header")));
        }
        Ok(())
    }

    fn check_end(&self, end: &End) -> Result<(), Fault> {
        if self.records.digest() != end.sha256 {
            return Err(Fault::Digest);
        }
        if self.next != self.header.last.next() {
            return Err(Fault::Hole { position: self.next });
        }
        let is_counted = end.batches == self.batches && end.events == self.header.events();
        if !is_counted || end.link != self.link {
            return Err(malformed("the end does not fit what stands before it"));
        }
        Ok(())
    }

    fn check_nothing_follows(&mut self) -> Result<(), Error> {
        match self.records.next() {
            Ok(None) => Ok(()),
            Ok(Some((place, _))) => Err(self.fault(place, Fault::Trailing)),
            Err(Broken::Fault(place, _)) => Err(self.fault(place, Fault::Trailing)),
            Err(Broken::Io(source)) => Err(Error::Read { path: self.path.clone(), source }),
        }
    }
}

impl Iterator for Export {
    type Item = Result<StoredBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let item = self.advance().transpose();
        self.is_over = !matches!(item, Some(Ok(_)));
        item
    }
}
