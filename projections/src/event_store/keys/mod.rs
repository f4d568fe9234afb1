//! The keys beside the log: one data key per owner, wrapped by a master key that only a file
//! holds. Secrets in events and evidence blobs are sealed here and nowhere else.
//!
//! No key and no clear text is ever logged, printed or stored. A lost master key loses every
//! secret and no event.

mod cipher;
mod entropy;
mod error;
mod master;
mod postgres;
mod store;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    log::Owner,
    sealed::{Digest, PlainText, Sealed},
};
use uuid::Uuid;

use cipher::DataKey;
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::Error;
pub use master::MasterKey;
pub use postgres::PostgresKeyStore;
pub use store::{KeyStore, MemoryKeyStore, SqliteKeyStore, StoredKey};

/// The most bytes of one evidence blob before it is sealed.
pub const BLOB_BYTES_MAX: usize = 1 << 20;

/// How many data keys are held unwrapped; when full, all are dropped and unwrapped again.
const CACHED_KEYS_MAX: usize = 10_000;

/// Seals and opens secrets.
///
/// With [`MemoryKeyStore`] every future is ready at its first poll.
#[derive(Debug)]
pub struct Keyring {
    master: MasterKey,
    store: Arc<dyn KeyStore>,
    entropy: Box<dyn Entropy>,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    by_owner: HashMap<Owner, Arc<DataKey>>,
    by_id: HashMap<Uuid, Arc<DataKey>>,
}

impl Keyring {
    /// A keyring over stored keys. One stored key is unwrapped, so that a wrong master key is
    /// noticed now and not with the first secret.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`], or [`Error::Store`] when the keys cannot be read.
    pub async fn open(
        master: MasterKey,
        store: Arc<dyn KeyStore>,
        entropy: Box<dyn Entropy>,
    ) -> Result<Self, Error> {
        if let Some(sample) = store.any_key().await? {
            master.unwrap(&sample)?;
        }
        Ok(Self { master, store, entropy, cached: Mutex::default() })
    }

    /// A keyring that forgets everything with the process, from a seed: for the simulator.
    #[must_use]
    pub fn in_memory(seed: u64) -> Self {
        Self {
            master: MasterKey::from_bytes([0; 32]),
            store: Arc::new(MemoryKeyStore::default()),
            entropy: Box::new(SeededEntropy::new(seed)),
            cached: Mutex::default(),
        }
    }

    /// Seals a secret under its owner's data key, which is made with the first secret.
    ///
    /// # Errors
    /// [`Error::Entropy`], [`Error::Store`], [`Error::WrongMasterKey`].
    pub async fn seal(&self, owner: &Owner, secret: &PlainText) -> Result<Sealed, Error> {
        let key = self.key_of(owner).await?;
        key.seal(owner, secret.0.as_bytes(), self.nonce()?)
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] when its data key is gone, [`Error::CannotOpen`] when it was
    /// altered or belongs to another owner, [`Error::NotText`] when it is no UTF-8.
    pub async fn open_sealed(&self, owner: &Owner, sealed: &Sealed) -> Result<PlainText, Error> {
        let key = self.key_by_id(owner, sealed.key_id).await?;
        let clear = key.open(owner, sealed)?;
        String::from_utf8(clear).map(PlainText).map_err(|_| Error::NotText)
    }

    /// Seals evidence under its owner's data key and keeps it beside the log. The digest, by
    /// which events name it, is of the sealed bytes. Durable when answered.
    ///
    /// # Errors
    /// [`Error::BlobTooLarge`], or as [`Keyring::seal`].
    pub async fn put_sealed_blob(&self, owner: &Owner, clear: &[u8]) -> Result<Digest, Error> {
        if clear.len() > BLOB_BYTES_MAX {
            return Err(Error::BlobTooLarge(clear.len()));
        }
        let key = self.key_of(owner).await?;
        let sealed = key.seal(owner, clear, self.nonce()?)?;
        let bytes = cipher::blob_bytes(&sealed);
        let digest = Digest::of(&bytes);
        self.store.put_blob(digest, owner, bytes).await?;
        Ok(digest)
    }

    /// Evidence in clear, or `None` when no such blob is kept.
    ///
    /// # Errors
    /// [`Error::BlobAltered`] when the bytes are not those of the digest, or as
    /// [`Keyring::open_sealed`].
    pub async fn get_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, Error> {
        let Some((owner, bytes)) = self.store.get_blob(digest).await? else {
            return Ok(None);
        };
        if Digest::of(&bytes) != digest {
            return Err(Error::BlobAltered(digest));
        }
        let sealed = cipher::read_blob(&bytes).ok_or(Error::BlobAltered(digest))?;
        let key = self.key_by_id(&owner, sealed.key_id).await?;
        key.open(&owner, &sealed).map(Some)
    }

    fn nonce(&self) -> Result<[u8; 12], Error> {
        let mut nonce = [0; 12];
        self.entropy.fill(&mut nonce)?;
        Ok(nonce)
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Cached> {
        // The maps are whole even if a holder panicked: each entry stands by itself.
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn key_of(&self, owner: &Owner) -> Result<Arc<DataKey>, Error> {
        if let Some(key) = self.cached().by_owner.get(owner) {
            return Ok(key.clone());
        }
        let stored = match self.store.newest_key(owner).await? {
            Some(stored) => stored,
            None => {
                // Two callers may both get here: the store keeps one key and answers with it.
                let mut material = [0; 60];
                self.entropy.fill(&mut material)?;
                self.store.add_first_key(self.master.wrap(owner, &material)?).await?
            }
        };
        let key = Arc::new(self.master.unwrap(&stored)?);
        let mut cached = self.cached();
        if cached.by_id.len() >= CACHED_KEYS_MAX {
            *cached = Cached::default();
        }
        cached.by_id.insert(key.id(), key.clone());
        cached.by_owner.insert(owner.clone(), key.clone());
        Ok(key)
    }

    async fn key_by_id(&self, owner: &Owner, key_id: Uuid) -> Result<Arc<DataKey>, Error> {
        if let Some(key) = self.cached().by_id.get(&key_id) {
            return Ok(key.clone());
        }
        let stored = self.store.key(owner, key_id).await?.ok_or(Error::UnknownKey(key_id))?;
        let key = Arc::new(self.master.unwrap(&stored)?);
        let mut cached = self.cached();
        if cached.by_id.len() >= CACHED_KEYS_MAX {
            *cached = Cached::default();
        }
        cached.by_id.insert(key_id, key.clone());
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
