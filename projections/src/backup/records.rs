//! A file of length-prefixed postcard records, read one at a time.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::Error;

/// The most bytes of one record.
const RECORD_BYTES_MAX: usize = 4 << 20;

/// Writes one record.
pub(super) fn write(into: &mut impl Write, record: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    into.write_all(&length.to_le_bytes())?;
    into.write_all(&bytes)
}

/// Reads records in order.
pub(crate) struct Records {
    path: PathBuf,
    file: BufReader<File>,
}

impl Records {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file =
            File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file) })
    }

    /// The next record; nothing behind the last one.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let failed = |source| Error::Read { path: self.path.clone(), source };
        let altered = || Error::FileAltered { path: self.path.clone() };
        let mut length = Vec::new();
        (&mut self.file).take(4).read_to_end(&mut length).map_err(failed)?;
        if length.is_empty() {
            return Ok(None);
        }
        let length: [u8; 4] = length.try_into().map_err(|_| altered())?;
        let size = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if size > RECORD_BYTES_MAX {
            return Err(altered());
        }
        let mut bytes = vec![0; size];
        self.file.read_exact(&mut bytes).map_err(failed)?;
        postcard::from_bytes(&bytes).map(Some).map_err(|_| altered())
    }
}
