//! Files that are there whole or not at all, and readers and writers that hash what passes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use domain::sealed::Digest;
use sha2::{Digest as _, Sha256};

use crate::private_file::sync_folder_of;

/// Read and written by its owner only: a log holds what users told us.
const PRIVATE_FILE_MODE: u32 = 0o600;

/// A file on its way: written beside its place, and there only once it is whole and on the disk.
#[derive(Debug)]
pub struct NewFile {
    file: io::BufWriter<File>,
    partial: PathBuf,
    path: PathBuf,
    is_committed: bool,
}

impl NewFile {
    /// Begins a file for its owner alone. What an earlier try left behind is written over.
    ///
    /// # Errors
    /// When it cannot be made, or the place is taken.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.try_exists()? {
            let taken = "it is there already, and is not written over";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, taken));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE_FILE_MODE)
            .open(&partial)?;
        let file = io::BufWriter::with_capacity(1 << 16, file);
        Ok(Self { file, partial, path: path.to_owned(), is_committed: false })
    }

    /// Puts the whole file in its place; durable when answered.
    ///
    /// # Errors
    /// When it cannot be written to the disk.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.is_committed = true;
        sync_folder_of(&self.path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_committed {
            // What is left when this fails is written over by the next try.
            fs::remove_file(&self.partial).ok();
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Hashes what is written through it.
#[derive(Debug)]
pub(super) struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> HashingWriter<W> {
    /// Nothing is hashed yet.
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// The digest of all that was written so far.
    pub(super) fn digest(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }

    /// What it writes to.
    pub(super) fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes what is read through it, record by record: a record counts only once it is known that
/// it is not the last one, which holds the digest.
#[derive(Debug)]
pub(super) struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: BufRead> HashingReader<R> {
    /// Nothing is hashed yet.
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// The digest of all that was counted.
    pub(super) fn digest(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }

    /// Counts bytes that were read.
    pub(super) fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Reads up to and with the next line feed, at most `bytes_max`.
    pub(super) fn line(&mut self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.inner).take(bytes_max).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// Fills a buffer as far as there is something; the answer says how far.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) => break,
                Ok(read) => filled = filled.saturating_add(read),
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(filled)
    }
}
