//! Taking a backup beside a running node: the log up to the head that is found first, then what
//! stands beside it, which may only be newer. All or nothing: the folder gets its name last.

use std::{
    fs::{self, DirBuilder, File},
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use domain::log::Position;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    BASE_FILE, BLOBS_FILE, Beside, CHECKPOINTS_FILE, Error, FORMAT_VERSION, KEYS_FILE, LOG_FILE,
    MANIFEST_FILE, STREAMS_FILE, floor, key_file,
    manifest::{FileEntry, Manifest},
    records,
};
use crate::{
    archive::Archive,
    checkpoint::{self, Checkpoint, Previous, PublicKey},
    event_store::{EventStore, HotLog, keys::KeyStore},
    private_file::sync_folder_of,
    transfer::{self, Format, NewFile, Progress, Range, write::Origin},
};

/// How many keys or pieces of evidence are read at a time.
const PAGE: u32 = 64;

/// How many checkpoints are read at a time.
const CHECKPOINTS_PAGE: usize = 1_000;

/// What a backup is taken from.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// The log.
    pub store: &'a dyn EventStore,
    /// Its checkpoints.
    pub hot: &'a dyn HotLog,
    /// Keys and evidence.
    pub beside: &'a dyn Beside,
    /// What was forgotten.
    pub keys: &'a dyn KeyStore,
    /// The archive that the log begins with, where it has one.
    pub archive: Option<&'a Archive>,
}

/// A checkpoint as a backup holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    position: Position,
    incarnation: domain::log::Incarnation,
    link: [u8; 32],
    signed_at: domain::units::Timestamp,
    key: [u8; 32],
    signature: Vec<u8>,
    previous: Option<Vec<u8>>,
}

impl std::convert::From<Checkpoint> for CheckpointRecord {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            position: checkpoint.position,
            incarnation: checkpoint.incarnation,
            link: checkpoint.link,
            signed_at: checkpoint.signed_at,
            key: checkpoint.key.0,
            signature: checkpoint.signature.to_vec(),
            previous: checkpoint.previous.map(Previous::to_bytes),
        }
    }
}

impl CheckpointRecord {
    /// Nothing when the signature has no signature's length.
    pub(crate) fn checkpoint(self) -> Option<Checkpoint> {
        Some(Checkpoint {
            position: self.position,
            incarnation: self.incarnation,
            link: self.link,
            signed_at: self.signed_at,
            key: PublicKey(self.key),
            signature: self.signature.try_into().ok()?,
            previous: self.previous.as_deref().map(Previous::from_bytes),
        })
    }
}

/// Writes a backup into a new folder.
///
/// # Errors
/// [`Error::FolderTaken`], [`Error::Write`], or why the database cannot be read. The folder is not
/// there then.
pub async fn take(
    from: From<'_>,
    origin: Origin,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<Manifest, Error> {
    if folder.exists() {
        return Err(Error::FolderTaken { path: folder.to_owned() });
    }
    let partial = Partial::make(folder)?;
    let path = |name: &str| partial.0.join(name);
    let floor = floor::write(from, &partial.0).await?;
    // Of a pruned log all that there is; of any other one all.
    let range = Range { from: floor.map(|floor| floor.position.next()), to: None };
    let (program_version, created_at, log_id) =
        (origin.program_version.clone(), origin.created_at, origin.log_id);
    let (header, end) = write(&path(LOG_FILE), async |file, path| {
        let into = (path, file);
        Ok(transfer::export(from.store, origin, range, Format::Compact, into, progress).await?)
    })
    .await?;
    let last = header.last;
    let blobs = write(&path(BLOBS_FILE), async |file, path| blobs(from, file, path).await).await?;
    write(&path(CHECKPOINTS_FILE), async |file, path| checkpoints(from, last, file, path).await)
        .await?;
    let data_keys = write(&path(KEYS_FILE), async |file, path| {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let mut writer = key_file::Writer::begin(file, log_id).map_err(failed)?;
        let mut after = (String::new(), Uuid::nil());
        loop {
            let page = from.beside.keys_after(&after, PAGE).await?;
            let Some(newest) = page.last() else { break };
            after = (newest.owner.clone(), newest.key_id);
            for key in page {
                writer.key(key).map_err(failed)?;
            }
        }
        // Last, so that no key is here that was forgotten meanwhile and is not on the list.
        for forgotten in from.keys.forgotten().await? {
            writer.forgotten(forgotten).map_err(failed)?;
        }
        writer.end().map(|(_, keys)| keys).map_err(failed)
    })
    .await?;
    let mut names = vec![LOG_FILE, BLOBS_FILE, CHECKPOINTS_FILE];
    names.extend(floor.iter().flat_map(|_| [BASE_FILE, STREAMS_FILE]));
    let files = names.into_iter().map(|name| FileEntry::of(&path(name)));
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        program_version,
        created_at,
        log_id,
        incarnation: header.incarnation,
        floor,
        position: header.last,
        link: end.link,
        events: end.events,
        blobs,
        data_keys,
        files: files.collect::<Result<_, _>>()?,
    };
    write(&path(MANIFEST_FILE), async |file, path| {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|source| failed(source.into()))?;
        file.write_all(&text).map_err(failed)
    })
    .await?;
    partial.finish(folder)?;
    Ok(manifest)
}

async fn blobs(from: From<'_>, file: &mut NewFile, path: &Path) -> Result<u64, Error> {
    let mut after = None;
    let mut count: u64 = 0;
    loop {
        let page = from.beside.blobs_after(after, PAGE).await?;
        let Some(newest) = page.last() else { return Ok(count) };
        after = Some(newest.digest);
        for blob in page {
            records::write(file, &blob)
                .map_err(|source| Error::Write { path: path.to_owned(), source })?;
            count = count.saturating_add(1);
        }
    }
}

async fn checkpoints(
    from: From<'_>,
    last: Position,
    file: &mut NewFile,
    path: &Path,
) -> Result<(), Error> {
    let mut after = Position(0);
    loop {
        let page = from.hot.checkpoints(after, CHECKPOINTS_PAGE).await?;
        let Some(newest) = page.last() else { return Ok(()) };
        after = checkpoint::advanced(after, newest)?;
        for checkpoint in page {
            // One that was signed meanwhile speaks of events that this backup does not hold.
            if checkpoint.position > last {
                return Ok(());
            }
            records::write(file, &CheckpointRecord::from(checkpoint))
                .map_err(|source| Error::Write { path: path.to_owned(), source })?;
        }
    }
}

/// Writes one file whole.
pub(super) async fn write<T>(
    path: &Path,
    fill: impl AsyncFnOnce(&mut NewFile, &Path) -> Result<T, Error>,
) -> Result<T, Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut file = NewFile::create(path).map_err(failed)?;
    let filled = fill(&mut file, path).await?;
    file.commit().map_err(failed)?;
    Ok(filled)
}

/// A folder on its way; gone when it is not finished.
struct Partial(PathBuf);

impl Partial {
    fn make(folder: &Path) -> Result<Self, Error> {
        let mut name = folder.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        let failed = |source| Error::Write { path: path.clone(), source };
        if path.exists() {
            // Of an earlier try that was killed: nobody else makes such names.
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        Ok(Self(path))
    }

    fn finish(self, folder: &Path) -> Result<(), Error> {
        let failed = |source| Error::Write { path: folder.to_owned(), source };
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(failed)?;
        fs::rename(&self.0, folder).map_err(failed)?;
        sync_folder_of(folder).map_err(failed)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing of that name; what cannot be removed now is removed by
        // the next try.
        fs::remove_dir_all(&self.0).ok();
    }
}
