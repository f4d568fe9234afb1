//! The wrapped data keys of a log in a file of their own, and the list of those that were
//! forgotten: what a backup must not bring back.
//!
//! One JSON object a line: which log, each key, and at the end their count and digest.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write},
    path::Path,
};

use domain::sealed::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Error, FORMAT_VERSION, beside::KeyRow};
use crate::event_store::{
    LogId,
    keys::{Forgotten, forgotten_list},
};

/// The most bytes of a line: a wrapped key has some 200.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// The most bytes of a list of forgotten keys: some 100 for each.
const FORGOTTEN_BYTES_MAX: u64 = 256 << 20;

/// What stands in a file of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A wrapped key.
    Key(KeyRow),
    /// Keys that were forgotten before the file was made.
    Forgotten(Forgotten),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    #[serde(rename = "diarioKeys", rename_all = "camelCase")]
    Header {
        format_version: u32,
        log_id: LogId,
    },
    Key(KeyRow),
    Forgotten(Forgotten),
    End {
        keys: u64,
        sha256: Digest,
    },
}

/// Writes a file of keys.
pub(super) struct Writer<W> {
    into: W,
    hasher: Sha256,
    keys: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(into: W, log_id: LogId) -> io::Result<Self> {
        let mut writer = Self { into, hasher: Sha256::new(), keys: 0 };
        writer.line(&Line::Header { format_version: FORMAT_VERSION, log_id })?;
        Ok(writer)
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.hasher.update(&bytes);
        self.into.write_all(&bytes)
    }

    pub(super) fn key(&mut self, key: KeyRow) -> io::Result<()> {
        self.keys = self.keys.saturating_add(1);
        self.line(&Line::Key(key))
    }

    pub(super) fn forgotten(&mut self, forgotten: Forgotten) -> io::Result<()> {
        self.line(&Line::Forgotten(forgotten))
    }

    /// Gives back what it wrote to, and how many keys were written.
    pub(super) fn end(mut self) -> io::Result<(W, u64)> {
        let sha256 = Digest(self.hasher.clone().finalize().into());
        self.line(&Line::End { keys: self.keys, sha256 })?;
        Ok((self.into, self.keys))
    }
}

/// Reads a file of keys.
pub(super) struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    hasher: Sha256,
    line: u64,
    keys: u64,
}

impl<'a> Reader<'a> {
    /// Opens the file of keys of a log.
    pub(super) fn open(path: &'a Path, log_id: LogId) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let file = BufReader::new(File::open(path).map_err(failed)?);
        let mut reader = Self { path, file, hasher: Sha256::new(), line: 0, keys: 0 };
        let Some(Line::Header { format_version: found, log_id: of }) = reader.read()? else {
            return Err(reader.malformed("this is no file of Diario's data keys"));
        };
        let path = path.to_owned();
        if found > FORMAT_VERSION {
            return Err(Error::NewerFormat { path, found, known: FORMAT_VERSION });
        }
        if of != log_id {
            return Err(Error::OtherKeys { path, expected: log_id, found: of });
        }
        Ok(reader)
    }

    fn malformed(&self, problem: impl Into<String>) -> Error {
        let path = self.path.to_owned();
        Error::MalformedKeys { path, line: self.line, problem: problem.into() }
    }

    fn read(&mut self) -> Result<Option<Line>, Error> {
        self.line = self.line.saturating_add(1);
        let mut bytes = Vec::new();
        (&mut self.file)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(|source| Error::Read { path: self.path.to_owned(), source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let line = match serde_json::from_slice(&bytes) {
            Ok(line) => line,
            // Without the text of it: a line may hold anything.
            Err(failure) => return Err(self.malformed(format!("{failure}"))),
        };
        if !matches!(line, Line::End { .. }) {
            self.hasher.update(&bytes);
        }
        Ok(Some(line))
    }

    /// The next entry; nothing once the end was seen and fits.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        match self.read()? {
            Some(Line::Key(key)) => {
                if hex::decode(&key.wrapped).is_err() {
                    return Err(self.malformed("a wrapped key must be hexadecimal"));
                }
                self.keys = self.keys.saturating_add(1);
                Ok(Some(Entry::Key(key)))
            }
            Some(Line::Forgotten(forgotten)) => Ok(Some(Entry::Forgotten(forgotten))),
            Some(Line::End { keys, sha256 }) => {
                let found = Digest(self.hasher.clone().finalize().into());
                if keys != self.keys || sha256 != found {
                    return Err(self.malformed("the digest does not fit: the file was altered"));
                }
                Ok(None)
            }
            Some(Line::Header { .. }) => Err(self.malformed("a second header stands here")),
            None => Err(self.malformed("the file is cut off here")),
        }
    }
}

/// Checks the whole file of keys of a log.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(path: &Path, log_id: LogId) -> Result<(), Error> {
    let mut reader = Reader::open(path, log_id)?;
    while reader.next()?.is_some() {}
    Ok(())
}

/// Reads what a list of forgotten keys holds of a log: the list that a control plane keeps, or a
/// JSON array, as `diario keys forgotten` prints it, which names no log.
///
/// # Errors
/// [`Error::Read`], [`Error::MalformedForgotten`], [`Error::Keys`].
pub fn read_forgotten(path: &Path, log_id: LogId) -> Result<Vec<Forgotten>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FORGOTTEN_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    if text.trim_ascii_start().first() != Some(&b'[') {
        return Ok(forgotten_list::read(path, log_id)?);
    }
    serde_json::from_slice(&text)
        .map_err(|source| Error::MalformedForgotten { path: path.to_owned(), source })
}
