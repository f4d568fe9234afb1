//! The book: every container that this cell holds or held, until its assignment drops it.
//!
//! One file per container, whole or not there, on the disk before the next thing is done. Holds
//! no secret: the definitions in it are without their values.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::bbs::definition::Definition;
use domain::bbs::placement::Resources;
use domain::id::InstanceGuid;
use domain::rep::WorkReference;
use domain::sealed::Digest;
use serde::{Deserialize, Serialize};

use super::{StorageError, handle_of};
use crate::durable_file::{self, Survives};
use crate::executor::Redacted;

/// One container in the book.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) reference: WorkReference,
    pub(super) definition: Digest,
    /// What it reserves while it has a container.
    pub(super) resources: Resources,
    pub(super) stage: Stage,
    /// What it runs; absent while that is being fetched, and when it was refused.
    pub(super) recipe: Option<Arc<Definition<Redacted>>>,
}

/// How far a container's story has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Its container is being made, or was, and nothing ran in it.
    Creating,
    /// Its process may have run. For a task this is the started-record.
    Started,
    /// It was reported healthy.
    Healthy,
    /// Its end was reported, or need not be. Its container may still be there.
    Ended,
}

/// The book.
#[derive(Debug)]
pub(crate) struct Book {
    folder: PathBuf,
    entries: Mutex<BTreeMap<InstanceGuid, Entry>>,
}

impl Book {
    /// Reads the book of an earlier agent, or begins one.
    ///
    /// # Errors
    /// A file of it cannot be read: nothing is guessed.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, StorageError> {
        durable_file::create_folder(&folder)
            .map_err(StorageError::new("make the folder", &folder))?;
        let files = fs::read_dir(&folder).and_then(|files| files.collect::<io::Result<Vec<_>>>());
        let files = files.map_err(StorageError::new("read the folder", &folder))?;
        let mut entries = BTreeMap::new();
        for path in files.into_iter().map(|file| file.path()) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let entry: Option<Entry> = durable_file::read_json(&path)
                .map_err(StorageError::new("read the record of a container", &path))?;
            if let Some(entry) = entry {
                entries.insert(entry.reference.instance_guid.clone(), entry);
            }
        }
        Ok(Self { folder, entries: Mutex::new(entries) })
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, instance_guid: &InstanceGuid) -> Option<Entry> {
        self.lock().get(instance_guid).cloned()
    }

    /// Notes an entry in memory only: it need not outlive the agent yet.
    pub(super) fn note(&self, entry: Entry) {
        self.lock().insert(entry.reference.instance_guid.clone(), entry);
    }

    /// Keeps an entry; once this returns, it survives the machine's death.
    ///
    /// # Errors
    /// It could not be written; the entry that was there still is.
    pub(super) async fn keep(&self, entry: Entry) -> Result<(), StorageError> {
        let path = self.path(&entry.reference.instance_guid);
        let bytes = serde_json::to_vec(&entry).map_err(io::Error::other);
        let (target, failed) =
            (path.clone(), StorageError::new("write the record of a container", &path));
        let written = off_runtime(move || durable_file::write(&target, &bytes?, Survives::Machine));
        written.await.map_err(failed)?;
        self.note(entry);
        Ok(())
    }

    /// Strikes an entry out.
    ///
    /// # Errors
    /// Its file could not be removed; the entry stays.
    pub(super) async fn remove(&self, instance_guid: &InstanceGuid) -> Result<(), StorageError> {
        let path = self.path(instance_guid);
        let failed = StorageError::new("remove the record of a container", &path);
        off_runtime(move || durable_file::remove(&path)).await.map_err(failed)?;
        self.lock().remove(instance_guid);
        Ok(())
    }

    /// Strikes everything out.
    ///
    /// # Errors
    /// A file could not be removed.
    pub(super) async fn clear(&self) -> Result<(), StorageError> {
        for entry in self.entries() {
            self.remove(&entry.reference.instance_guid).await?;
        }
        Ok(())
    }

    fn path(&self, instance_guid: &InstanceGuid) -> PathBuf {
        self.folder.join(format!("{}.json", handle_of(instance_guid)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceGuid, Entry>> {
        // Every change is one insertion or removal: what is there is whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something that waits for the disk without holding up the runtime.
pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Tells a storage error with its cause, for a reason in words.
pub(super) fn in_words(error: &StorageError) -> String {
    format!("{error}: {}", error.source)
}
