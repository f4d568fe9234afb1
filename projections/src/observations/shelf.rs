//! All owners: their folders, the bytes they take, and what goes when it is too much. Blocks on
//! files.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use domain::{log::Owner, sealed::Digest};
use tokio::sync::watch;

use super::{
    Error, Limits, PUSH_RECORDS_MAX, Push, RecordNumber,
    frame::{Acknowledged, Record},
    owner_log::{self, OwnerLog},
    segment::{Segment, Segments},
};

#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    limits: Limits,
    /// Folders by their name, a hash of the owner.
    owners: BTreeMap<String, Entry>,
    total_bytes: u64,
    /// Counts appends, so that the owner that was silent longest is known.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    log: Loaded,
    last_append: u64,
}

#[derive(Debug)]
enum Loaded {
    /// Only the files are known yet.
    No(Vec<Segment>),
    Yes(Box<OwnerLog>),
}

impl Entry {
    fn bytes(&self) -> u64 {
        match &self.log {
            Loaded::No(segments) => segments.iter().map(|segment| segment.bytes).sum(),
            Loaded::Yes(log) => log.bytes(),
        }
    }

    fn is_idle(&self) -> bool {
        match &self.log {
            Loaded::No(_) => false,
            Loaded::Yes(log) => log.is_idle(),
        }
    }
}

fn folder_name(owner: &Owner) -> String {
    let mut name = Digest::of(owner.to_string().as_bytes()).to_string();
    name.truncate(32);
    name
}

impl Shelf {
    pub(super) fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        let failed = |source| Error::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                let (segments, changed) =
                    list(&path).map_err(|source| Error::Folder { path: path.clone(), source })?;
                found.push((changed, name.to_owned(), segments));
            }
        }
        found.sort_by_key(|(changed, ..)| *changed);
        let mut shelf = Self {
            folder: folder.to_owned(),
            limits,
            owners: BTreeMap::new(),
            total_bytes: 0,
            clock: 0,
        };
        for (_, name, segments) in found {
            shelf.clock += 1;
            let entry = Entry { log: Loaded::No(segments), last_append: shelf.clock };
            shelf.total_bytes += entry.bytes();
            shelf.owners.insert(name, entry);
        }
        Ok(shelf)
    }

    /// How many owners are known.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn append(&mut self, push: Push) -> Result<u64, Error> {
        let count = push.observations.len();
        if count > PUSH_RECORDS_MAX {
            return Err(Error::PushTooLarge(count));
        }
        let mut sequence = push.first_sequence;
        let mut by_owner: BTreeMap<Owner, Vec<Record>> = BTreeMap::new();
        for observation in push.observations {
            let acknowledged = Acknowledged { cell_epoch: push.cell_epoch, sequence };
            let owner = observation.owner.clone();
            let record = Record { cell_id: push.cell_id.clone(), acknowledged, observation };
            by_owner.entry(owner).or_default().push(record);
            sequence = sequence.saturating_add(1);
        }
        for (owner, records) in by_owner {
            self.append_to(&owner, records)?;
        }
        Ok(sequence.saturating_sub(1))
    }

    fn append_to(&mut self, owner: &Owner, records: Vec<Record>) -> Result<(), Error> {
        let limits = self.limits;
        self.clock += 1;
        let clock = self.clock;
        let name = folder_name(owner);
        let before = self.owners.get(&name).map_or(0, Entry::bytes);
        let log = self.log(owner)?;
        let result = append_within(log, records, &limits);
        let after = log.bytes();
        if let Some(entry) = self.owners.get_mut(&name) {
            entry.last_append = clock;
        }
        self.total_bytes = self.total_bytes.saturating_sub(before).saturating_add(after);
        result?;
        self.make_room(&name)
    }

    fn log(&mut self, owner: &Owner) -> Result<&mut OwnerLog, Error> {
        let name = folder_name(owner);
        let path = self.folder.join(&name);
        let clock = self.clock;
        let entry = self
            .owners
            .entry(name)
            .or_insert_with(|| Entry { log: Loaded::No(Vec::new()), last_append: clock });
        if let Loaded::No(segments) = &mut entry.log {
            let before: u64 = segments.iter().map(|segment| segment.bytes).sum();
            let log = OwnerLog::open(&path, owner, segments.clone())?;
            // A torn end that was cut off, or a segment that was dropped.
            self.total_bytes = self.total_bytes.saturating_sub(before.saturating_sub(log.bytes()));
            entry.log = Loaded::Yes(Box::new(log));
        }
        match &mut entry.log {
            Loaded::Yes(log) => Ok(log),
            Loaded::No(_) => Err(Error::Stopped),
        }
    }

    /// Drops the oldest segments of the owners that were silent longest; an owner of whom only
    /// the last segment is left goes whole, except the one just written and those followed.
    fn make_room(&mut self, kept: &str) -> Result<(), Error> {
        if self.total_bytes <= self.limits.total_bytes_max {
            return Ok(());
        }
        let mut silent: Vec<(u64, String)> =
            self.owners.iter().map(|(name, entry)| (entry.last_append, name.clone())).collect();
        silent.sort_unstable();
        for (_, name) in silent {
            while self.total_bytes > self.limits.total_bytes_max {
                let Some(freed) = self.drop_from(&name, name == kept)? else { break };
                self.total_bytes = self.total_bytes.saturating_sub(freed);
            }
        }
        Ok(())
    }

    /// Frees bytes of one owner; `None` when nothing more of it may go.
    fn drop_from(&mut self, name: &str, is_kept: bool) -> Result<Option<u64>, Error> {
        let Some(entry) = self.owners.get_mut(name) else { return Ok(None) };
        let bytes = entry.bytes();
        let log = match &mut entry.log {
            Loaded::Yes(log) => log,
            Loaded::No(segments) => {
                let path = self.folder.join(name);
                return match segments.as_slice() {
                    [oldest, _, ..] => {
                        super::segment::remove(oldest)?;
                        Ok(Some(segments.remove(0).bytes))
                    }
                    [] | [_] => {
                        owner_log::remove_folder(&path)?;
                        self.owners.remove(name);
                        Ok(Some(bytes))
                    }
                };
            }
        };
        if let Some(freed) = log.drop_oldest()? {
            return Ok(Some(freed));
        }
        if is_kept || log.is_followed() {
            return Ok(None);
        }
        log.remove()?;
        self.owners.remove(name);
        Ok(Some(bytes))
    }

    pub(super) fn segments(&mut self, owner: &Owner) -> Result<Segments, Error> {
        if !self.owners.contains_key(&folder_name(owner)) {
            return Ok(Segments::default());
        }
        Ok(self.log(owner)?.snapshot())
    }

    pub(super) fn watch(&mut self, owner: &Owner) -> Result<watch::Receiver<RecordNumber>, Error> {
        // Those that were waited for in vain are forgotten, or asking for owners that never
        // were would fill the memory.
        self.owners.retain(|_, entry| !entry.is_idle());
        // Known from now on even if nothing is kept of it yet: it may be about to start.
        Ok(self.log(owner)?.watch())
    }
}

fn append_within(log: &mut OwnerLog, records: Vec<Record>, limits: &Limits) -> Result<(), Error> {
    log.append(records, limits.segment_bytes_max)?;
    while log.bytes() > limits.owner_bytes_max {
        if log.drop_oldest()?.is_none() {
            break;
        }
    }
    Ok(())
}

/// The segments of a folder, oldest first, and when one was last written.
fn list(folder: &Path) -> io::Result<(Vec<Segment>, SystemTime)> {
    let mut segments = Vec::new();
    let mut changed = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(before) = name.strip_suffix(".segment").and_then(|it| it.parse().ok()) else {
            continue;
        };
        let metadata = entry.metadata()?;
        changed = changed.max(metadata.modified()?);
        segments.push(Segment { path, bytes: metadata.len(), before });
    }
    segments.sort_by_key(|segment| segment.before);
    Ok((segments, changed))
}
