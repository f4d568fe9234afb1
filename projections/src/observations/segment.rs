//! One segment file: `OBS3`, a header frame, record frames.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Error, Page, Query, READ_RECORDS_MAX, RecordNumber, Stored,
    frame::{self, Header, Record},
};

/// Another shape of the frames is another mark; a segment with an unknown one is not read.
const MAGIC: &[u8; 4] = b"OBS3";

/// A segment as the shelf knows it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// The place before its first record.
    pub(super) before: u64,
}

/// A segment that was read.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) header: Header,
    pub(super) records: Vec<Record>,
    /// How many bytes are whole frames.
    pub(super) whole_bytes: u64,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Segment { operation, path: path.to_owned(), source }
}

pub(super) fn file_name(before: u64) -> String {
    format!("{before:020}.segment")
}

/// Makes a segment.
pub(super) fn create(folder: &Path, header: &Header) -> Result<Segment, Error> {
    let path = folder.join(file_name(header.before));
    let mut start = MAGIC.to_vec();
    frame::write(&mut start, header)?;
    // One with this name holds no record, or the name would be a higher one.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(failed("create", &path))?;
    file.write_all(&start).map_err(failed("write", &path))?;
    let bytes = u64::try_from(start.len()).unwrap_or(u64::MAX);
    Ok(Segment { path, bytes, before: header.before })
}

/// Cuts off what is torn behind the segment's whole frames, and gives it open for appending.
pub(super) fn cut(segment: &Segment) -> Result<File, Error> {
    let path = &segment.path;
    let file = OpenOptions::new().append(true).open(path).map_err(failed("open", path))?;
    file.set_len(segment.bytes).map_err(failed("cut", path))?;
    Ok(file)
}

/// Appends frames in one write. Half a write that fails is cut off before the next one, or the
/// frames behind it would be lost.
pub(super) fn append(segment: &mut Segment, frames: &[u8]) -> Result<(), Error> {
    cut(segment)?.write_all(frames).map_err(failed("write", &segment.path))?;
    segment.bytes += u64::try_from(frames.len()).unwrap_or(u64::MAX);
    Ok(())
}

/// Reads a segment; `None` when it is gone or its beginning is not one of ours.
pub(super) fn load(segment: &Segment) -> Result<Option<Content>, Error> {
    let all = match std::fs::read(&segment.path) {
        Ok(all) => all,
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(failure) => return Err(failed("read", &segment.path)(failure)),
    };
    let Some((MAGIC, mut rest)) = all.split_first_chunk::<4>() else { return Ok(None) };
    let Some(header) = frame::read::<Header>(&mut rest) else { return Ok(None) };
    let mut records = Vec::new();
    while let Some(record) = frame::read::<Record>(&mut rest) {
        records.push(record);
    }
    let whole_bytes = u64::try_from(all.len() - rest.len()).unwrap_or(u64::MAX);
    Ok(Some(Content { header, records, whole_bytes }))
}

/// Removes a segment; one that is gone already is no error.
pub(super) fn remove(segment: &Segment) -> Result<(), Error> {
    match std::fs::remove_file(&segment.path) {
        Err(failure) if failure.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", &segment.path)(failure))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// An owner's segments at one instant: can be read while others append.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) segments: Vec<Segment>,
    /// The last place at that instant.
    pub(super) last: u64,
    pub(super) dropped: u64,
}

impl Segments {
    pub(super) fn read(&self, query: &Query) -> Result<Page, Error> {
        let found = match query.last {
            Some(last) => self.newest(query, last.min(READ_RECORDS_MAX))?,
            None => self.oldest(query)?,
        };
        let next = match (query.last, found.len() >= READ_RECORDS_MAX, found.last()) {
            (None, true, Some(stored)) => stored.number,
            (Some(_), _, _) | (None, false, _) | (None, _, None) => RecordNumber(self.last),
        };
        Ok(Page { records: found, next, dropped: self.dropped })
    }

    fn oldest(&self, query: &Query) -> Result<Vec<Stored>, Error> {
        let mut found = Vec::new();
        for (at, segment) in self.segments.iter().enumerate() {
            let end = self.segments.get(at + 1).map_or(self.last, |next| next.before);
            if end <= query.after.0 {
                continue;
            }
            found.extend(self.matching(segment, query)?);
            if found.len() >= READ_RECORDS_MAX {
                found.truncate(READ_RECORDS_MAX);
                break;
            }
        }
        Ok(found)
    }

    fn newest(&self, query: &Query, count: usize) -> Result<Vec<Stored>, Error> {
        let mut found: Vec<Stored> = Vec::new();
        for segment in self.segments.iter().rev() {
            if found.len() >= count {
                break;
            }
            let mut earlier = self.matching(segment, query)?;
            earlier.append(&mut found);
            found = earlier;
        }
        Ok(found.split_off(found.len().saturating_sub(count)))
    }

    fn matching(&self, segment: &Segment, query: &Query) -> Result<Vec<Stored>, Error> {
        // A segment that went meanwhile was dropped by the limits.
        let Some(content) = load(segment)? else { return Ok(Vec::new()) };
        let numbers = (segment.before + 1)..=self.last;
        let stored = numbers.zip(content.records).map(|(number, record)| Stored {
            number: RecordNumber(number),
            cell_id: record.cell_id,
            observation: record.observation,
        });
        Ok(stored.filter(|stored| query.lets_through(stored)).collect())
    }
}
