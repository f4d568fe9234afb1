//! The place on the disk: what is kept in it, what comes in, and how much of it is taken.
//!
//! What comes in takes its room before it is written; what goes is gone from the disk before its
//! room is given to others. Blocks for the disk: short, but not on a runtime that others wait for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::action::Checksum;
use nix::unistd::syncfs;

use super::Error;
use super::index::{Entry, Index, Kind, Validators};
use crate::archive::{self, BLOCK_BYTES};
use crate::clock;
use crate::durable_file::{self, Survives};
use crate::garden::Handle;

/// What the kernel counts a file's blocks in.
const SECTOR_BYTES: u64 = 512;

/// The place.
#[derive(Debug)]
pub(super) struct Store {
    index_path: PathBuf,
    kept: PathBuf,
    incoming: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// What is taken by what comes in.
    incoming_bytes: u64,
}

/// What is said of something when it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: String,
    pub(super) validators: Validators,
    pub(super) checksum: Option<Checksum>,
}

impl Store {
    /// Takes up what an earlier agent kept; what the index does not know is removed.
    pub(super) fn open(folder: &Path, limit_bytes: u64) -> io::Result<Self> {
        durable_file::create_folder(folder)?;
        // Containers mount what is in it: by a path that does not change.
        let folder = folder.canonicalize()?;
        let (kept, incoming) = (folder.join("kept"), folder.join("incoming"));
        durable_file::create_folder(&kept)?;
        durable_file::create_folder(&incoming)?;
        remove_all_but(&incoming, |_| false)?;
        let index_path = folder.join("index.json");
        let mut index: Index = durable_file::read_json(&index_path)
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "Cannot read the index of downloads; beginning anew.");
                None
            })
            .unwrap_or_default();
        index.entries.retain(|name, _| kept.join(name).exists());
        remove_all_but(&kept, |name| index.entries.contains_key(name))?;
        let state = Mutex::new(State { index, incoming_bytes: 0 });
        let store = Self { index_path, kept, incoming, limit_bytes, state };
        {
            let mut state = store.lock();
            // Nothing comes in: this is for a limit that is lower than it was.
            if let Err(error) = store.make_room(&mut state, 0) {
                tracing::warn!(%error, "More is held than downloads may take.");
            }
            store.persist(&state)?;
        }
        Ok(store)
    }

    /// What a key gives, held.
    pub(super) fn find(self: &Arc<Self>, key: &str, kind: Kind) -> Option<Held> {
        let mut state = self.lock();
        let used = state.index.next_use();
        let (name, entry) = state.index.current(key, kind)?;
        (entry.used, entry.readers) = (used, entry.readers + 1);
        Some(self.held(name, entry))
    }

    /// Begins something that comes in.
    pub(super) fn begin(self: &Arc<Self>) -> Result<Incoming, Error> {
        let path = self.incoming.join(new_name());
        let reserved = Reserved { store: Arc::clone(self), bytes: 0 };
        let file = durable_file::private().create_new(true).open(&path);
        let file = file.map_err(Error::disk("make a file for it"))?;
        Ok(Incoming { path, file, bytes: 0, reserved })
    }

    /// Removes what nobody holds until so much more fits; does not take the room yet.
    pub(super) fn clear_for(&self, more_bytes: u64) -> Result<(), Error> {
        self.make_room(&mut self.lock(), more_bytes)
    }

    /// Only holders that fulfil this hold anything from now on.
    pub(super) fn retain_holders(&self, is_there: impl Fn(&Handle) -> bool) {
        let mut state = self.lock();
        let mut has_changed = false;
        for entry in state.index.entries.values_mut() {
            let before = entry.holders.len();
            entry.holders.retain(&is_there);
            has_changed |= entry.holders.len() != before;
        }
        if !has_changed {
            return;
        }
        self.remove_replaced(&mut state);
        if let Err(error) = self.persist(&state) {
            tracing::warn!(%error, "Cannot keep the index of downloads.");
        }
    }

    /// All that is taken of the disk.
    #[cfg(test)]
    pub(super) fn taken_bytes(&self) -> u64 {
        let state = self.lock();
        state.index.disk_bytes() + state.incoming_bytes
    }

    fn held(self: &Arc<Self>, name: &str, entry: &Entry) -> Held {
        Held {
            path: self.kept.join(name),
            validators: entry.validators.clone(),
            checksum: entry.checksum.clone(),
            name: name.to_owned(),
            store: Arc::clone(self),
        }
    }

    /// Removes what nobody holds until so much more fits.
    fn make_room(&self, state: &mut State, more_bytes: u64) -> Result<(), Error> {
        let taken = state.index.disk_bytes().saturating_add(state.incoming_bytes);
        let too_many = taken.saturating_add(more_bytes).saturating_sub(self.limit_bytes);
        let Some(names) = state.index.to_evict(too_many) else {
            let evictable = state.index.evictable_bytes();
            return Err(Error::NoRoom {
                wanted_bytes: more_bytes,
                held_bytes: taken.saturating_sub(evictable),
                limit_bytes: self.limit_bytes,
            });
        };
        for name in names {
            self.remove(state, &name).map_err(Error::disk("remove what was kept"))?;
        }
        Ok(())
    }

    fn remove_replaced(&self, state: &mut State) {
        for name in state.index.replaced() {
            if let Err(error) = self.remove(state, &name) {
                tracing::warn!(name, %error, "Cannot remove what was downloaded.");
            }
        }
    }

    /// From the disk first: until it is gone, it takes its room.
    fn remove(&self, state: &mut State, name: &str) -> io::Result<()> {
        remove_any(&self.kept.join(name))?;
        state.index.entries.remove(name);
        Ok(())
    }

    /// Puts what came in among what is kept, in the place of what its key gave before.
    fn keep(self: &Arc<Self>, from: &Path, kind: Kind, kept: Kept) -> Result<Held, Error> {
        let disk_bytes = disk_bytes(from).map_err(Error::disk("look at what was loaded"))?;
        let name = new_name();
        let Kept { key, validators, checksum } = kept;
        let mut state = self.lock();
        fs::rename(from, self.kept.join(&name)).map_err(Error::disk("keep what was loaded"))?;
        if let Some((_, before)) = state.index.current(&key, kind) {
            before.is_current = false;
        }
        let entry = Entry {
            key,
            kind,
            validators,
            checksum,
            disk_bytes,
            used: state.index.next_use(),
            is_current: true,
            holders: Default::default(),
            readers: 1,
        };
        let held = self.held(&name, &entry);
        state.index.entries.insert(name, entry);
        self.remove_replaced(&mut state);
        let persisted = self.persist(&state);
        // Dropping what is held looks at the state too.
        drop(state);
        persisted.map_err(Error::disk("keep the index"))?;
        Ok(held)
    }

    fn persist(&self, state: &State) -> io::Result<()> {
        durable_file::write_json(&self.index_path, &state.index, Survives::Machine)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is made whole: what is there can be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
struct Reserved {
    store: Arc<Store>,
    bytes: u64,
}

impl Reserved {
    /// Takes at least so much in all.
    fn grow_to(&mut self, bytes: u64) -> Result<(), Error> {
        let wanted = bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        let Some(more) = wanted.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return Ok(());
        };
        let mut state = self.store.lock();
        self.store.make_room(&mut state, more)?;
        state.incoming_bytes += more;
        self.bytes = wanted;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        state.incoming_bytes = state.incoming_bytes.saturating_sub(self.bytes);
    }
}

/// A file that comes in; removed when this is dropped, unless it was kept.
#[derive(Debug)]
pub(super) struct Incoming {
    path: PathBuf,
    file: File,
    bytes: u64,
    reserved: Reserved,
}

impl Incoming {
    /// How much came in.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the room for all that will come, when it is known.
    pub(super) fn expect(&mut self, bytes: u64) -> Result<(), Error> {
        self.reserved.grow_to(bytes)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.reserved.grow_to(self.bytes.saturating_add(more))?;
        self.file.write_all(bytes).map_err(Error::disk("write it"))?;
        self.bytes += more;
        Ok(())
    }

    /// Forgets what came in: it begins again.
    pub(super) fn begin_again(&mut self) -> Result<(), Error> {
        use std::io::Seek as _;
        self.bytes = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(Error::disk("write it"))
    }

    /// Opens it from its beginning.
    pub(super) fn read(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Keeps it as it is.
    pub(super) fn keep(self, kept: Kept) -> Result<Held, Error> {
        self.file.sync_all().map_err(Error::disk("write it"))?;
        self.reserved.store.keep(&self.path, Kind::File, kept)
    }

    /// Keeps what is in it, an archive, and not the archive itself.
    pub(super) fn unpack(self, kept: Kept) -> Result<Held, Error> {
        let store = Arc::clone(&self.reserved.store);
        let mut reserved = Reserved { store: Arc::clone(&store), bytes: 0 };
        let folder = Unfinished(store.incoming.join(new_name()));
        let archive = self.read().map_err(Error::disk("read what was loaded"))?;
        let made = fs::create_dir(&folder.0)
            .and_then(|()| fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)))
            .and_then(|()| File::open(&folder.0));
        let opened = made.map_err(Error::disk("make a folder for it"))?;
        let into = opened.try_clone().map_err(Error::disk("make a folder for it"))?;
        let mut taken = BLOCK_BYTES;
        reserved.grow_to(taken)?;
        let mut room = |bytes: u64| {
            taken = taken.saturating_add(bytes);
            reserved.grow_to(taken).map_err(|error| error.to_string())
        };
        archive::unpack(&archive, into.into(), &mut room).map_err(Error::Unpack)?;
        // All its files at once, before the index says that they are there.
        syncfs(&opened).map_err(|errno| Error::disk("write it")(errno.into()))?;
        store.keep(&folder.0, Kind::Folder, kept)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = durable_file::remove(&self.path) {
            tracing::warn!(%error, "Cannot remove what was downloaded.");
        }
    }
}

/// A folder that is being filled; removed when this is dropped, unless it was moved away.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = remove_any(&self.0) {
            tracing::warn!(%error, "Cannot remove what was unpacked.");
        }
    }
}

/// Something that is kept, and stays as long as this is there.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: PathBuf,
    pub(super) validators: Validators,
    pub(super) checksum: Option<Checksum>,
    name: String,
    store: Arc<Store>,
}

impl Held {
    /// A container holds it from now on, over restarts too.
    pub(super) fn hold_for(self, holder: Handle) -> Result<(), Error> {
        let mut state = self.store.lock();
        if let Some(entry) = state.index.entries.get_mut(&self.name) {
            entry.holders.insert(holder);
        }
        let persisted = self.store.persist(&state);
        drop(state);
        persisted.map_err(Error::disk("keep the index"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        if let Some(entry) = state.index.entries.get_mut(&self.name) {
            entry.readers = entry.readers.saturating_sub(1);
        }
        self.store.remove_replaced(&mut state);
    }
}

fn new_name() -> String {
    clock::random_uuid().simple().to_string()
}

/// The blocks that a file takes, or all files of a folder.
fn disk_bytes(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    let mut bytes = metadata.blocks().saturating_mul(SECTOR_BYTES);
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes = bytes.saturating_add(disk_bytes(&entry?.path())?);
        }
    }
    Ok(bytes)
}

fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_all_but(folder: &Path, is_known: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&is_known) {
            remove_any(&entry.path())?;
        }
    }
    Ok(())
}
