//! Taking a backup into an empty database: every file is checked before anything is written, and
//! what was written is checked again. Keys that were forgotten since are left out.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use domain::log::Position;
use uuid::Uuid;

use super::{
    BLOBS_FILE, Beside, CHECKPOINTS_FILE, Error, KEYS_FILE, LOG_FILE,
    beside::{BlobRow, KeyRow},
    floor,
    key_file::{self, Entry},
    manifest::Manifest,
    records::Records,
    take::CheckpointRecord,
};
use crate::{
    archive::{self, Place},
    event_store::{
        EventStore, Head, HotLog, ImportLog, chain,
        keys::{Forgotten, KeyStore},
    },
    transfer::{self, Progress},
};

/// How many rows are written in one transaction.
const ROWS_PER_WRITE: usize = 64;

/// What a backup is restored into.
#[derive(Debug, Clone, Copy)]
pub struct Into<'a> {
    /// The log.
    pub store: &'a dyn EventStore,
    /// The same log, to be written as it was.
    pub log: &'a dyn ImportLog,
    /// Its checkpoints.
    pub hot: &'a dyn HotLog,
    /// Keys and evidence.
    pub beside: &'a dyn Beside,
    /// What was forgotten.
    pub keys: &'a dyn KeyStore,
    /// A new archive for the state that a pruned log begins with; nothing else needs one.
    pub archive: Option<&'a Place>,
}

/// Where the wrapped keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// From the backup's own folder.
    Beside,
    /// From a file that was kept elsewhere.
    File(PathBuf),
    /// From nowhere: every secret is given up.
    GivenUp,
}

/// What a restore has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Where the log ends now, under its new incarnation.
    pub head: Head,
    /// How many data keys were put back.
    pub data_keys: u64,
    /// How many data keys were left out because they were forgotten since.
    pub keys_forgotten: u64,
    /// How many owners those were of.
    pub owners_forgotten: u64,
}

/// Checks a backup without restoring it: files, log, keys.
///
/// # Errors
/// [`Error`] names the first wrong thing.
pub fn check(folder: &Path, keys: &Keys, progress: Progress<'_>) -> Result<Manifest, Error> {
    let manifest = Manifest::read(folder)?;
    manifest.check_files(folder)?;
    let path = folder.join(LOG_FILE);
    let (header, end) = transfer::check(&path, progress)?;
    let is_of = header.log_id == manifest.log_id && header.last == manifest.position;
    let is_whole = (header.before(), header.link_before.0) == manifest.begin();
    if !is_of || !is_whole || end.link != manifest.link {
        return Err(Error::Mixed { path });
    }
    floor::read(folder, &manifest)?;
    if let Some(path) = keys_path(folder, keys, &manifest)? {
        key_file::check(&path, manifest.log_id)?;
    }
    Ok(manifest)
}

fn keys_path(folder: &Path, keys: &Keys, manifest: &Manifest) -> Result<Option<PathBuf>, Error> {
    let beside = folder.join(KEYS_FILE);
    match keys {
        Keys::GivenUp => Ok(None),
        Keys::File(path) => Ok(Some(path.clone())),
        Keys::Beside if beside.exists() => Ok(Some(beside)),
        Keys::Beside if manifest.data_keys == 0 => Ok(None),
        Keys::Beside => Err(Error::KeysMissing { data_keys: manifest.data_keys }),
    }
}

/// Restores a backup into an empty database, which keeps its own, new incarnation.
///
/// # Errors
/// What is wrong with the backup or the database; nothing was written then, unless the error says
/// that the restored log is not to be used.
pub async fn restore(
    folder: &Path,
    keys: &Keys,
    forgotten: &[Forgotten],
    into: Into<'_>,
    progress: Progress<'_>,
) -> Result<Restored, Error> {
    must_be_empty(into).await?;
    let manifest = check(folder, keys, progress)?;
    let base = floor::read(folder, &manifest)?;
    if let Some(floor) = manifest.floor.filter(|_| into.archive.is_none()) {
        return Err(Error::NoArchive { floor: floor.position });
    }
    let begins = base.as_ref().zip(into.archive);
    if let Some((base, place)) = begins {
        archive::begin_with(place, manifest.identity(), base).await?;
    }
    into.hot.begin_restore().await?;
    if let Some((base, place)) = begins {
        floor::begin(folder, base.floor(place), &manifest, into).await?;
    }
    put_blobs(folder, into).await?;
    let ids: BTreeSet<Uuid> =
        forgotten.iter().flat_map(|forgotten| forgotten.key_ids.iter().copied()).collect();
    let mut put = PutKeys::default();
    if let Some(path) = keys_path(folder, keys, &manifest)? {
        put = put_keys(&path, &manifest, &ids, into).await?;
    }
    let mut noted = put.noted;
    noted.extend_from_slice(forgotten);
    into.keys.reapply_forgotten(noted).await?;
    let imported = transfer::import(&folder.join(LOG_FILE), into.log, into.store, progress).await?;
    let mut checkpoints = Records::open(&folder.join(CHECKPOINTS_FILE))?;
    while let Some(record) = checkpoints.next::<CheckpointRecord>()? {
        if let Some(checkpoint) = record.checkpoint() {
            into.hot.save_checkpoint(&checkpoint).await?;
        }
    }
    check_restored(&manifest, &imported.head, into).await?;
    into.hot.end_restore().await?;
    Ok(Restored {
        manifest,
        head: imported.head,
        data_keys: put.put,
        keys_forgotten: put.left_out,
        owners_forgotten: u64::try_from(put.owners_left_out.len()).unwrap_or(u64::MAX),
    })
}

async fn must_be_empty(into: Into<'_>) -> Result<(), Error> {
    let head = into.store.head().await?.position;
    if head != Position(0) {
        return Err(Error::TargetNotEmpty { head });
    }
    let keys = into.beside.keys_after(&(String::new(), Uuid::nil()), 1).await?;
    let blobs = into.beside.blobs_after(None, 1).await?;
    if !keys.is_empty() || !blobs.is_empty() {
        return Err(Error::TargetHasKeys);
    }
    Ok(())
}

async fn put_blobs(folder: &Path, into: Into<'_>) -> Result<(), Error> {
    let mut records = Records::open(&folder.join(BLOBS_FILE))?;
    let mut page = Vec::new();
    while let Some(blob) = records.next::<BlobRow>()? {
        page.push(blob);
        if page.len() >= ROWS_PER_WRITE {
            into.beside.add_blobs(std::mem::take(&mut page)).await?;
        }
    }
    into.beside.add_blobs(page).await?;
    Ok(())
}

#[derive(Debug, Default)]
struct PutKeys {
    put: u64,
    left_out: u64,
    owners_left_out: BTreeSet<String>,
    /// Forgotten before the backup.
    noted: Vec<Forgotten>,
}

async fn put_keys(
    path: &Path,
    manifest: &Manifest,
    forgotten: &BTreeSet<Uuid>,
    into: Into<'_>,
) -> Result<PutKeys, Error> {
    let mut done = PutKeys::default();
    let mut reader = key_file::Reader::open(path, manifest.log_id)?;
    let mut page: Vec<KeyRow> = Vec::new();
    while let Some(entry) = reader.next()? {
        let key = match entry {
            Entry::Key(key) => key,
            Entry::Forgotten(forgotten) => {
                done.noted.push(forgotten);
                continue;
            }
        };
        if forgotten.contains(&key.key_id) {
            done.left_out = done.left_out.saturating_add(1);
            done.owners_left_out.insert(key.owner);
            continue;
        }
        done.put = done.put.saturating_add(1);
        page.push(key);
        if page.len() >= ROWS_PER_WRITE {
            into.beside.add_keys(std::mem::take(&mut page)).await?;
        }
    }
    into.beside.add_keys(page).await?;
    Ok(done)
}

async fn check_restored(manifest: &Manifest, head: &Head, into: Into<'_>) -> Result<(), Error> {
    if let Some(fault) = chain::verify_behind(into.store, manifest.begin()).await? {
        return Err(Error::RestoredDamaged(fault));
    }
    let log_id = into.store.log_id().await?;
    let is_same = head.position == manifest.position
        && head.link == manifest.link.0
        && log_id == manifest.log_id;
    if is_same {
        return Ok(());
    }
    let fault = format!("it ends at position {} of log {log_id}", head.position);
    Err(Error::RestoredDiffers { fault })
}
