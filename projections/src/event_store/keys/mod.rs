//! The keys beside the log: one data key per owner, wrapped by a labelled master key that only a
//! private file or the environment holds. Secrets in events and evidence blobs are sealed here and
//! nowhere else.
//!
//! No key and no clear text is ever logged, printed or stored. A lost master key loses every
//! secret and no event. A forgotten data key is gone for ever: what it sealed stays in the log,
//! hashed as it was, and opens no more. An owner's next secret gets a new key.
//!
//! A list outside of the database tells what was forgotten, so that an older copy of the database
//! forgets it again. What can outlive a forgotten key, still wrapped: old backups of the database,
//! Postgres' own archived WAL, and blocks that a file system or a disk keeps of what was
//! overwritten. Rotating to a new master key and then removing the old one makes those copies
//! worthless too.

mod cached;
mod cipher;
mod entropy;
mod error;
pub mod forgotten_list;
mod master;
mod master_file;
mod postgres;
mod sqlite;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{
    log::Owner,
    sealed::{Digest, PlainText, Sealed},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use cached::Cached;
use cipher::DataKey;
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::Error;
pub use forgotten_list::{FORGOTTEN_LIST_FILE, ForgottenLists};
pub use master::{InvalidLabel, KeyLabel, MasterKey, MasterKeys};
pub use master_file::MasterKeySource;
pub use postgres::PostgresKeyStore;
pub use sqlite::SqliteKeyStore;
pub use store::{Forgotten, KeyStore, LabelInUse, MemoryKeyStore, StoredKey};

/// The most bytes of one evidence blob before it is sealed.
pub const BLOB_BYTES_MAX: usize = 1 << 20;

/// How many data keys one transaction puts under another master key.
const ROTATE_BATCH: u32 = 500;

/// Seals and opens secrets.
///
/// With [`MemoryKeyStore`] every future is ready at its first poll.
#[derive(Debug)]
pub struct Keyring {
    source: MasterKeySource,
    master: Mutex<Master>,
    store: Arc<dyn KeyStore>,
    entropy: Box<dyn Entropy>,
    cached: Mutex<Cached>,
    /// Where it is noted what was forgotten, outside of the store.
    lists: Option<ForgottenLists>,
}

#[derive(Debug)]
struct Master {
    keys: Arc<MasterKeys>,
    read_at: Option<master_file::Stamp>,
}

/// How far a rotation came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The active master key.
    pub label: KeyLabel,
    /// How many data keys were put under it just now.
    pub rewrapped: u64,
    /// How many are still under another one.
    pub remaining: u64,
}

impl Keyring {
    /// A keyring over stored keys. Of every master key that is in use one data key is unwrapped,
    /// so that a wrong or missing one is noticed now and not with the first secret. A file of
    /// master keys is made only where there is none and nothing was ever sealed.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`], [`Error::MissingLabel`], [`Error::LostMasterKeys`], what is
    /// wrong with the file, or [`Error::Store`] when the keys cannot be read.
    pub async fn open(
        source: MasterKeySource,
        store: Arc<dyn KeyStore>,
        entropy: Box<dyn Entropy>,
    ) -> Result<Self, Error> {
        let in_use = store.labels().await?;
        let read_at = source.stamp();
        let keys = match source.read() {
            Err(failure) if failure.is_missing_file() && !in_use.is_empty() => {
                let labels = in_use.into_iter().map(|it| it.label).collect();
                return Err(source.lost(labels).unwrap_or(failure));
            }
            Err(failure) if failure.is_missing_file() => source.create_or_read(entropy.as_ref())?,
            result => result?,
        };
        for label in &in_use {
            keys.unwrap(&label.sample)?;
        }
        let master = Mutex::new(Master { keys: Arc::new(keys), read_at });
        Ok(Self { source, master, store, entropy, cached: Mutex::default(), lists: None })
    }

    /// The same, noting on lists what is forgotten.
    #[must_use]
    pub fn listing(self, lists: ForgottenLists) -> Self {
        Self { lists: Some(lists), ..self }
    }

    /// A keyring that forgets everything with the process, from a seed: for the simulator.
    #[must_use]
    pub fn in_memory(seed: u64) -> Self {
        let keys = MasterKeys::only(KeyLabel::default(), MasterKey::from_bytes([0; 32]));
        Self {
            source: MasterKeySource::Given(keys.clone()),
            master: Mutex::new(Master { keys: Arc::new(keys), read_at: None }),
            store: Arc::new(MemoryKeyStore::default()),
            entropy: Box::new(SeededEntropy::new(seed)),
            cached: Mutex::default(),
            lists: None,
        }
    }

    /// What keeps the keys.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// Seals a secret under its owner's data key, which is made with the first secret.
    ///
    /// # Errors
    /// [`Error::Entropy`], [`Error::Store`], [`Error::WrongMasterKey`], [`Error::MissingLabel`].
    pub async fn seal(&self, owner: &Owner, secret: &PlainText) -> Result<Sealed, Error> {
        let key = self.key_of(owner).await?;
        key.seal(owner, secret.0.as_bytes(), self.nonce()?)
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// [`Error::Forgotten`] with the time, [`Error::UnknownKey`] when its data key never was,
    /// [`Error::CannotOpen`] when it was altered or belongs to another owner, [`Error::NotText`]
    /// when it is no UTF-8.
    pub async fn open_sealed(&self, owner: &Owner, sealed: &Sealed) -> Result<PlainText, Error> {
        let key = self.key_by_id(owner, sealed.key_id).await?;
        let clear = key.open(owner, sealed)?;
        std::str::from_utf8(&clear).map(|it| PlainText(it.to_owned())).map_err(|_| Error::NotText)
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
        key.open(&owner, &sealed).map(|clear| Some(clear.to_vec()))
    }

    /// The ids of an owner's data keys: what is to be forgotten.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn key_ids(&self, owner: &Owner) -> Result<Vec<Uuid>, Error> {
        self.store.key_ids(owner).await
    }

    /// Deletes data keys for ever, as an event says, and notes it on the lists. Doing it twice is
    /// harmless. `false` when [`KeyStore::erase_traces`] must be tried again.
    ///
    /// # Errors
    /// [`Error::Store`], or when a list cannot be written; then it must be done again.
    pub async fn forget(&self, forgotten: Vec<Forgotten>) -> Result<bool, Error> {
        let ids: Vec<Uuid> = forgotten.iter().flat_map(|it| it.key_ids.iter().copied()).collect();
        // A list that cannot be written does not keep a secret alive.
        let listed = self.list(&forgotten);
        self.store.forget(forgotten).await?;
        self.drop_cached(&ids);
        let is_erased = self.store.erase_traces().await?;
        listed.map(|()| is_erased)
    }

    /// Notes on the lists what was forgotten; what is there stays. Waits for the disk.
    ///
    /// # Errors
    /// What is wrong with a list.
    pub fn list(&self, forgotten: &[Forgotten]) -> Result<(), Error> {
        self.lists.as_ref().map_or(Ok(()), |lists| lists.add(forgotten))
    }

    /// All that the lists hold.
    ///
    /// # Errors
    /// What is wrong with a list.
    pub fn listed(&self) -> Result<Vec<Forgotten>, Error> {
        self.lists.as_ref().map_or_else(|| Ok(Vec::new()), ForgottenLists::read)
    }

    /// Drops data keys from memory: another node has forgotten them.
    pub fn drop_cached(&self, key_ids: &[Uuid]) {
        self.cached().drop_keys(key_ids);
    }

    /// Which master key is active, and all that there are.
    pub fn labels(&self) -> Vec<KeyLabel> {
        self.master_keys().labels().cloned().collect()
    }

    /// Makes another master key the active one, where a file holds them.
    ///
    /// # Errors
    /// [`Error::NoSuchLabel`], [`Error::MasterKeysGiven`], or why the file cannot be written.
    pub fn activate(&self, label: &KeyLabel) -> Result<(), Error> {
        let mut wished = self.source.read()?;
        let is_active = wished.active() == label;
        wished.activate(label)?;
        if !is_active {
            self.source.change(|keys| keys.activate(label))?;
        }
        self.read_again()
    }

    /// Puts some data keys under the active master key, at most `batches` times 500. To be called
    /// again until none remains; ended in between, nothing is lost.
    ///
    /// # Errors
    /// [`Error::MissingLabel`] or [`Error::WrongMasterKey`] when a data key cannot be unwrapped,
    /// or [`Error::Store`].
    pub async fn rotate(&self, batches: usize) -> Result<Rotated, Error> {
        self.read_again()?;
        let keys = self.master_keys();
        let label = keys.active().clone();
        let mut rewrapped = 0;
        for _ in 0..batches {
            let stored = self.store.keys_not_under(&label, ROTATE_BATCH).await?;
            if stored.is_empty() {
                break;
            }
            let mut moved = Vec::with_capacity(stored.len());
            for key in stored {
                moved.push((keys.rewrap(&key, self.nonce()?)?, key.label));
            }
            rewrapped += self.store.replace_wrappings(moved).await?;
        }
        if rewrapped > 0 && !self.store.erase_traces().await? {
            tracing::warn!("Readers are in the way of overwriting the old wrappings of data keys.");
        }
        let others = self.store.labels().await?.into_iter().filter(|it| it.label != label);
        Ok(Rotated { remaining: others.map(|it| it.data_keys).sum(), label, rewrapped })
    }

    fn nonce(&self) -> Result<[u8; 12], Error> {
        let mut nonce = [0; 12];
        self.entropy.fill(&mut nonce)?;
        Ok(nonce)
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        // The maps are whole even if a holder panicked: each entry stands by itself.
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn master(&self) -> MutexGuard<'_, Master> {
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn master_keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.master().keys)
    }

    /// Takes up what an operator has changed.
    fn read_again(&self) -> Result<(), Error> {
        let read_at = self.source.stamp();
        let keys = Arc::new(self.source.read()?);
        *self.master() = Master { keys, read_at };
        Ok(())
    }

    /// The master keys to make a data key by: never one that was taken out of the file since.
    fn newest_master_keys(&self) -> Arc<MasterKeys> {
        if self.source.stamp() != self.master().read_at
            && let Err(failure) = self.read_again()
        {
            tracing::warn!(error = %failure, "The master keys cannot be read again; the known ones serve on.");
        }
        self.master_keys()
    }

    /// Unwraps a data key; a master key that is not known may have been added since.
    fn unwrap(&self, stored: &StoredKey) -> Result<Arc<DataKey>, Error> {
        let key = match self.master_keys().unwrap(stored) {
            Err(Error::MissingLabel { .. }) => {
                self.read_again()?;
                self.master_keys().unwrap(stored)
            }
            result => result,
        };
        key.map(Arc::new)
    }

    async fn key_of(&self, owner: &Owner) -> Result<Arc<DataKey>, Error> {
        let forgettings = match self.cached().of_owner(owner) {
            Ok(key) => return Ok(key),
            Err(forgettings) => forgettings,
        };
        let stored = match self.store.newest_key(owner).await? {
            Some(stored) => stored,
            None => {
                // Two callers may both get here: the store keeps one key and answers with it.
                let mut material = Zeroizing::new([0; 48]);
                self.entropy.fill(material.as_mut_slice())?;
                let master = self.newest_master_keys();
                let key = master.new_data_key(owner, &material, self.nonce()?)?;
                self.store.add_first_key(key).await?
            }
        };
        let key = self.unwrap(&stored)?;
        self.cached().insert(&key, Some(owner), forgettings);
        Ok(key)
    }

    async fn key_by_id(&self, owner: &Owner, key_id: Uuid) -> Result<Arc<DataKey>, Error> {
        let forgettings = match self.cached().by_id(key_id) {
            Ok(key) => return Ok(key),
            Err(forgettings) => forgettings,
        };
        let Some(stored) = self.store.key(owner, key_id).await? else {
            return Err(match self.store.forgotten_at(key_id).await? {
                Some(at) => Error::Forgotten { owner: owner.clone(), at },
                None => Error::UnknownKey(key_id),
            });
        };
        let key = self.unwrap(&stored)?;
        self.cached().insert(&key, None, forgettings);
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
