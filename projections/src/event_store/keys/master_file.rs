//! Where master keys come from: a private file, or a text of the environment.
//!
//! The file is plain text. A line is `LABEL = 64 HEX DIGITS`; the active key has a `*` before its
//! label; empty lines and those that begin with `#` are left out. A file that holds nothing but
//! 64 hex digits is one active key labelled `default`. No error repeats a line.

use std::{
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use zeroize::Zeroizing;

use super::{Entropy, Error, KeyLabel, MasterKey, MasterKeys};
use crate::private_file;

/// What the file says of itself.
const HEADER: &str = "# The master keys of a Diario control plane: LABEL = 64 HEX DIGITS, * marks the active one.\n\
# Keep a copy apart from every backup: without them no secret can be read.\n";

/// Where master keys are read from, once at the start and again when a label is missing.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// A file of mode 0600.
    File(PathBuf),
    /// Given by the environment, which does not change: `label:hex,...`, the first is active.
    Given(MasterKeys),
}

/// Which content of the file was read: every change makes a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl MasterKeySource {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`Error::MasterKeyFile`] when the file is missing or exposed,
    /// [`Error::MalformedMasterKeys`] when a line cannot be read.
    pub fn read(&self) -> Result<MasterKeys, Error> {
        match self {
            Self::File(path) => read_file(path),
            Self::Given(keys) => Ok(keys.clone()),
        }
    }

    /// Reads the keys, or makes a first one labelled `default`; the folder must exist.
    ///
    /// # Errors
    /// As [`MasterKeySource::read`], or why the file cannot be written.
    pub fn create_or_read(&self, entropy: &dyn Entropy) -> Result<MasterKeys, Error> {
        match (self, self.read()) {
            (Self::File(path), Err(failure)) if failure.is_missing_file() => {
                let keys = MasterKeys::only(KeyLabel::default(), MasterKey::draw(entropy)?);
                let made = private_file::create(path, &text_of(&keys));
                made.map_err(|source| Error::WriteMasterKeys { path: path.clone(), source })?;
                Ok(keys)
            }
            (Self::File(_) | Self::Given(_), result) => result,
        }
    }

    /// What tells one content of the file from the next; `None` where it does not change.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::File(path) => {
                let metadata = std::fs::metadata(path).ok()?;
                let changed = (metadata.mtime(), metadata.mtime_nsec());
                Some(Stamp { inode: metadata.ino(), bytes: metadata.len(), changed })
            }
            Self::Given(_) => None,
        }
    }

    /// That the file is missing though data keys need these master keys.
    pub(super) fn lost(&self, labels: Vec<KeyLabel>) -> Option<Error> {
        match self {
            Self::File(path) => Some(Error::LostMasterKeys { path: path.clone(), labels }),
            Self::Given(_) => None,
        }
    }

    /// Changes the keys in the file; of several who change it at once none is lost.
    ///
    /// # Errors
    /// What `change` refuses, what is wrong with the file, or [`Error::MasterKeysGiven`].
    pub fn change(
        &self,
        change: impl FnOnce(&mut MasterKeys) -> Result<(), Error>,
    ) -> Result<MasterKeys, Error> {
        let Self::File(path) = self else { return Err(Error::MasterKeysGiven) };
        let failed = |source| Error::WriteMasterKeys { path: path.clone(), source };
        // The folder is locked, not the file: the file is replaced.
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or_else(|| Path::new("."))).map_err(failed)?;
        let _held = Flock::lock(folder, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed(errno.into()))?;
        let mut keys = self.read()?;
        change(&mut keys)?;
        self.write(&keys)?;
        Ok(keys)
    }

    pub(super) fn write(&self, keys: &MasterKeys) -> Result<(), Error> {
        match self {
            Self::File(path) => private_file::replace(path, &text_of(keys))
                .map_err(|source| Error::WriteMasterKeys { path: path.clone(), source }),
            Self::Given(_) => Err(Error::MasterKeysGiven),
        }
    }
}

impl MasterKeys {
    /// Reads `label:hex,...`; the first is active.
    ///
    /// # Errors
    /// [`Error::MalformedGivenKeys`] names the entry by its number.
    pub fn parse_given(text: &str) -> Result<Self, Error> {
        let mut keys: Option<Self> = None;
        for (index, entry) in text.split(',').enumerate() {
            let problem = || Error::MalformedGivenKeys { entry: index + 1 };
            let (label, hex) = entry.trim().split_once(':').ok_or_else(problem)?;
            let label = KeyLabel::new(label.trim()).map_err(|_| problem())?;
            let key = MasterKey::from_hex(hex).ok_or_else(problem)?;
            match &mut keys {
                None => keys = Some(Self::only(label, key)),
                Some(keys) => keys.add(label, key)?,
            }
        }
        keys.ok_or(Error::MalformedGivenKeys { entry: 1 })
    }
}

fn read_file(path: &Path) -> Result<MasterKeys, Error> {
    let text = private_file::read(path).map_err(Error::MasterKeyFile)?;
    if let Some(key) = MasterKey::from_hex(&text) {
        return Ok(MasterKeys::only(KeyLabel::default(), key));
    }
    let malformed =
        |line, problem| Error::MalformedMasterKeys { path: path.to_owned(), line, problem };
    let mut keys: Option<MasterKeys> = None;
    let mut active: Option<KeyLabel> = None;
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (is_active, line) =
            line.strip_prefix('*').map_or((false, line), |rest| (true, rest.trim_start()));
        let read = |line: &str| {
            let (label, hex) = line.split_once('=')?;
            Some((KeyLabel::new(label.trim()).ok()?, MasterKey::from_hex(hex)?))
        };
        let must = "must be LABEL = 64 HEX DIGITS";
        let (label, key) = read(line).ok_or_else(|| malformed(line_number, must))?;
        if is_active && active.replace(label.clone()).is_some() {
            return Err(malformed(line_number, "marks a second active key"));
        }
        match &mut keys {
            None => keys = Some(MasterKeys::only(label, key)),
            Some(keys) => keys.add(label, key)?,
        }
    }
    let mut keys = keys.ok_or_else(|| malformed(1, "and all others hold no key"))?;
    match active {
        Some(active) => keys.activate(&active)?,
        // Of one key there is no doubt.
        None if keys.labels().count() == 1 => {}
        None => return Err(malformed(1, "and all others mark no key as active: put * before one")),
    }
    Ok(keys)
}

fn text_of(keys: &MasterKeys) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + 200 * keys.iter().count()));
    text.push_str(HEADER);
    for (index, (label, key)) in keys.iter().enumerate() {
        text.push_str(if index == 0 { "* " } else { "  " });
        text.push_str(label.as_str());
        text.push_str(" = ");
        text.push_str(&key.to_hex());
        text.push('\n');
    }
    text
}
