//! What the cell downloads for its containers, and keeps for the next one that asks for the same.
//!
//! One bounded place on the disk: what is kept, what is under way and what is used once count
//! together, by the blocks that they take, and are never more than the limit. What nobody holds goes
//! when room is needed, the least recently used first; what a container has mounted is held, also
//! across restarts of the agent. Diego's cache grows past its limit by what is held; here a download
//! that does not fit fails in words.
//!
//! A key is loaded once at a time. What is kept is asked for again with `If-None-Match` or
//! `If-Modified-Since`, so a server's change is seen at once.
//!
//! - [`store`] the place on the disk and its index; [`index`] what survives
//! - [`transfer`] one download; [`checksum`] what it must be

mod checksum;
mod index;
mod store;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use domain::action::{Checksum, ChecksumAlgorithm};
use md5::{Digest as _, Md5};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::index::Kind;
use self::store::{Held, Incoming, Kept, Store};
use self::transfer::Answer;
pub(super) use self::transfer::Timing;
use super::http_client::HttpClients;
use crate::archive;
use crate::garden::Handle;

/// How many downloads are under way at once, as in Diego.
const DOWNLOADS_MAX: usize = 5;

/// Why something was not downloaded. None tells where from: that may be secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The URL is none.
    #[error("{reason}")]
    Url {
        /// In words.
        reason: String,
    },
    /// The server was not reached, or broke off.
    #[error("Download failed: {reason}")]
    Connection {
        /// In words.
        reason: String,
    },
    /// The server sent nothing for too long.
    #[error("Download failed: the server sent nothing for {seconds} s")]
    Stalled {
        /// For how long.
        seconds: u64,
    },
    /// The server answered that it will not.
    #[error("Download failed: Status code {status}")]
    Status {
        /// Its answer.
        status: u16,
    },
    /// The bytes are not those that were asked for.
    #[error("Checksum failed: '{algorithm}', expected '{expected}', got '{computed}'")]
    Checksum {
        /// How it is computed.
        algorithm: ChecksumAlgorithm,
        /// What it must be.
        expected: String,
        /// What it is.
        computed: String,
    },
    /// It does not fit beside what is held.
    #[error(
        "the cell's room for downloads is full: {wanted_bytes} bytes do not fit beside \
         {held_bytes} that are in use, of {limit_bytes}"
    )]
    NoRoom {
        /// What it needs.
        wanted_bytes: u64,
        /// What cannot go.
        held_bytes: u64,
        /// All there is.
        limit_bytes: u64,
    },
    /// A folder to be shared was served by a server that does not say when it changes.
    #[error("Not cacheable directory: it was served without an ETag and a Last-Modified")]
    NotCacheable,
    /// What was loaded for a shared folder could not be unpacked.
    #[error("cannot unpack it: {0}")]
    Unpack(archive::Error),
    /// The disk refused.
    #[error("cannot {operation}: {source}")]
    Disk {
        /// What was being done.
        operation: &'static str,
        /// The machine's answer.
        source: io::Error,
    },
}

impl Error {
    fn disk(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { operation, source }
    }
}

/// Something to download.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// Where from: http or https.
    pub(super) url: &'a str,
    /// By what it is known again; empty: it is used once.
    pub(super) cache_key: &'a str,
    /// What it must be.
    pub(super) checksum: Option<&'a Checksum>,
}

/// A downloaded file, held until this is dropped.
#[derive(Debug)]
pub(super) struct Fetched<'a> {
    /// The file, from its beginning.
    pub(super) file: File,
    /// How much was loaded; absent when all was here already.
    pub(super) loaded_bytes: Option<u64>,
    _held: Holding,
    _turn: SemaphorePermit<'a>,
}

/// What keeps a file on the disk.
#[derive(Debug)]
enum Holding {
    Kept { _held: Held },
    UsedOnce { _incoming: Incoming },
}

/// A shared folder that a container holds from now on.
#[derive(Debug)]
pub(super) struct SharedFolder {
    /// Where it lies on the cell.
    pub(super) path: PathBuf,
    /// How much was loaded; absent when all was here already.
    pub(super) loaded_bytes: Option<u64>,
}

/// The cell's downloads.
#[derive(Debug)]
pub(super) struct Downloads {
    store: Arc<Store>,
    clients: Arc<HttpClients>,
    timing: Timing,
    turns: Semaphore,
    /// Who loads a key is alone with it.
    keys: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Downloads {
    /// Takes up what an earlier agent kept in a folder, and removes what is not known.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(super) fn open(
        folder: &Path,
        limit_bytes: u64,
        clients: Arc<HttpClients>,
        timing: Timing,
    ) -> io::Result<Self> {
        Ok(Self {
            store: Arc::new(Store::open(folder, limit_bytes)?),
            clients,
            timing,
            turns: Semaphore::new(DOWNLOADS_MAX),
            keys: Mutex::default(),
        })
    }

    /// Downloads a file, or finds that the one that is kept is still the same.
    ///
    /// # Errors
    /// Nothing of it is left.
    pub(super) async fn file(&self, request: Request<'_>) -> Result<Fetched<'_>, Error> {
        let key = key_of(request.cache_key);
        let lock = key.as_ref().map(|key| self.lock_of(key));
        let _alone = match &lock {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        let turn = self.turn().await;
        let known = key.as_ref().and_then(|key| self.known(key, Kind::File, request));
        let loaded = self.load(request, known.as_ref()).await?;
        let (file, held, loaded_bytes) = match (loaded, known) {
            (Answer::NotModified, Some(known)) => {
                let file = File::open(&known.path).map_err(Error::disk("open what is kept"))?;
                (file, Holding::Kept { _held: known }, None)
            }
            // It answered to what was not asked.
            (Answer::NotModified, None) => return Err(Error::Status { status: 304 }),
            (Answer::Loaded { incoming, validators }, _) => {
                let file = incoming.read().map_err(Error::disk("read what was loaded"))?;
                let bytes = incoming.bytes();
                let held = match key {
                    Some(key) if validators.are_some() => {
                        let checksum = request.checksum.cloned();
                        let kept = Kept { key, validators, checksum };
                        Holding::Kept { _held: off_runtime(move || incoming.keep(kept)).await? }
                    }
                    Some(_) | None => Holding::UsedOnce { _incoming: incoming },
                };
                (file, held, Some(bytes))
            }
        };
        Ok(Fetched { file, loaded_bytes, _held: held, _turn: turn })
    }

    /// Downloads an archive and unpacks it, or finds the folder that is kept; a container holds
    /// it until [`Self::release`].
    ///
    /// # Errors
    /// Nothing of it is left, and the container holds nothing.
    pub(super) async fn folder(
        &self,
        request: Request<'_>,
        holder: &Handle,
    ) -> Result<SharedFolder, Error> {
        let key = key_of(request.cache_key).ok_or(Error::NotCacheable)?;
        let lock = self.lock_of(&key);
        let _alone = lock.lock().await;
        let _turn = self.turn().await;
        let known = self.known(&key, Kind::Folder, request);
        let (held, loaded_bytes) = match (self.load(request, known.as_ref()).await?, known) {
            (Answer::NotModified, Some(known)) => (known, None),
            (Answer::NotModified, None) => return Err(Error::Status { status: 304 }),
            (Answer::Loaded { incoming, validators }, _) => {
                if !validators.are_some() {
                    return Err(Error::NotCacheable);
                }
                let bytes = incoming.bytes();
                let kept = Kept { key, validators, checksum: request.checksum.cloned() };
                (off_runtime(move || incoming.unpack(kept)).await?, Some(bytes))
            }
        };
        let (path, holder) = (held.path.clone(), holder.clone());
        off_runtime(move || held.hold_for(holder)).await?;
        Ok(SharedFolder { path, loaded_bytes })
    }

    /// A container is gone: it holds nothing any more.
    pub(super) fn release(&self, holder: &Handle) {
        self.store.retain_holders(|known| known != holder);
    }

    /// Only these containers are there: no other holds anything.
    pub(super) fn retain_holders(&self, holders: &BTreeSet<Handle>) {
        self.store.retain_holders(|known| holders.contains(known));
    }

    async fn load(&self, request: Request<'_>, known: Option<&Held>) -> Result<Answer, Error> {
        let (url, client) =
            self.clients.reach(request.url).map_err(|reason| Error::Url { reason })?;
        let known = known.map(|held| &held.validators);
        let wanted = transfer::Wanted { url, known, checksum: request.checksum };
        transfer::load(client, &self.store, self.timing, &wanted).await
    }

    /// What is kept under a key, if it is known to be what is asked for.
    fn known(&self, key: &str, kind: Kind, request: Request<'_>) -> Option<Held> {
        let held = self.store.find(key, kind)?;
        let is_it = request.checksum.is_none() || held.checksum.as_ref() == request.checksum;
        is_it.then_some(held)
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("the turns are never closed")
    }

    fn lock_of(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = keys.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        keys.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// What a key is called on the disk; `None` for what is used once.
fn key_of(cache_key: &str) -> Option<String> {
    (!cache_key.is_empty()).then(|| hex::encode(Md5::digest(cache_key)))
}

/// Does something that waits for the disk without holding up the runtime.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| Error::disk("finish a step")(io::Error::other(error)))?
}
