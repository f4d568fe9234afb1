//! What a backup holds: written last, read first.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use domain::{
    log::{Incarnation, Position},
    sealed::Digest,
    units::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Error, FORMAT_VERSION, MANIFEST_FILE};
use crate::event_store::{LogId, LogIdentity, chain::GENESIS};

/// The most bytes of a manifest: it has a few lines.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// See [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The program that wrote it.
    pub program_version: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The log.
    pub log_id: LogId,
    /// The life of the log that it was taken from.
    pub incarnation: Incarnation,
    /// What it begins behind, where the log was pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<FloorEntry>,
    /// The last event in it.
    pub position: Position,
    /// The link of its last batch.
    pub link: Digest,
    /// How many events it holds.
    pub events: u64,
    /// How many pieces of sealed evidence it holds.
    pub blobs: u64,
    /// How many wrapped data keys were there; they are in a file of their own.
    pub data_keys: u64,
    /// The files in its folder, but for this one and that of the keys.
    pub files: Vec<FileEntry>,
}

/// Where the log in a backup begins, when events before that were pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorEntry {
    /// The last event that was pruned.
    pub position: Position,
    /// The link of its batch.
    pub link: Digest,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of its bytes.
    pub sha256: Digest,
}

impl Manifest {
    /// The log that it is of.
    #[must_use]
    pub fn identity(&self) -> LogIdentity {
        LogIdentity { log_id: self.log_id, incarnation: self.incarnation }
    }

    /// The end and link of the batch before its log's first one.
    #[must_use]
    pub fn begin(&self) -> (Position, [u8; 32]) {
        self.floor.map_or((Position(0), GENESIS), |floor| (floor.position, floor.link.0))
    }

    /// Reads a backup's manifest.
    ///
    /// # Errors
    /// [`Error::NoBackup`], [`Error::NewerFormat`], [`Error::MalformedManifest`], [`Error::Read`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MANIFEST_FILE);
        let file = File::open(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                return Error::NoBackup { path: folder.to_owned() };
            }
            Error::Read { path: path.clone(), source }
        })?;
        let mut text = Vec::new();
        file.take(MANIFEST_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            format_version: u32,
        }
        let malformed = |source| Error::MalformedManifest { path: path.clone(), source };
        let version: Version = serde_json::from_slice(&text).map_err(malformed)?;
        if version.format_version > FORMAT_VERSION {
            let (found, known) = (version.format_version, FORMAT_VERSION);
            return Err(Error::NewerFormat { path, found, known });
        }
        serde_json::from_slice(&text).map_err(malformed)
    }

    /// Makes sure that every file is there.
    ///
    /// # Errors
    /// [`Error::FileMissing`] names the first one that is not.
    pub fn check_presence(&self, folder: &Path) -> Result<(), Error> {
        let path = |entry: &FileEntry| folder.join(entry.file_name());
        match self.files.iter().map(path).find(|path| !path.exists()) {
            Some(path) => Err(Error::FileMissing { path }),
            None => Ok(()),
        }
    }

    /// Compares every file in a backup's folder with its size and digest.
    ///
    /// # Errors
    /// [`Error::FileMissing`], [`Error::FileAltered`], [`Error::Read`] name the first wrong one.
    pub fn check_files(&self, folder: &Path) -> Result<(), Error> {
        for entry in &self.files {
            let path = folder.join(entry.file_name());
            let found = match FileEntry::of(&path) {
                Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::FileMissing { path });
                }
                found => found?,
            };
            if found.bytes != entry.bytes {
                let (expected, found) = (entry.bytes, found.bytes);
                return Err(Error::FileCutOff { path, expected, found });
            }
            if found.sha256 != entry.sha256 {
                return Err(Error::FileAltered { path });
            }
        }
        Ok(())
    }
}

impl FileEntry {
    /// A name with a folder in it would lead out of the backup.
    fn file_name(&self) -> &OsStr {
        Path::new(&self.name).file_name().unwrap_or_default()
    }

    /// A file as it is on the disk.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn of(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut bytes: u64 = 0;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => continue,
                Err(failure) => return Err(failed(failure)),
            };
            hasher.update(buffer.get(..read).unwrap_or_default());
            bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, bytes, sha256: Digest(hasher.finalize().into()) })
    }
}

/// How many bytes a folder's files have.
///
/// # Errors
/// [`Error::Read`].
pub fn folder_bytes(folder: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut bytes: u64 = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(failed)?;
        bytes = bytes.saturating_add(metadata.len());
    }
    Ok(bytes)
}
