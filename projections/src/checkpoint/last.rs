//! The newest checkpoint that a node has signed, remembered in a file beside the key: whoever
//! changes the database alone cannot take it away too, nor put another log in the place of this
//! one unseen.
//!
//! Who can change this file could as well sign with the key beside it.

use std::{
    io,
    path::{Path, PathBuf},
};

use domain::log::Position;
use serde::{Deserialize, Serialize};

use super::{Checkpoint, KEY_FILE, PublicKey, StoredCheckpoint};
use crate::{
    event_store::{Head, LogId, LogIdentity},
    private_file,
    storage::Location,
};

/// The name of the file in a data folder's `keys`.
pub const LAST_FILE: &str = "checkpoint.last";

/// Why what is remembered cannot be used, or does not fit a log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read what is remembered of the newest checkpoint")]
    Read(#[source] private_file::Error),
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} is damaged: bring it back; if you remove it, nothing shows that the newest \
         checkpoint was taken out of the database"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The folder's keys are those of a log that is not in it.
    #[error(
        "{} is missing or empty, but {} holds the keys of a log: bring the file back, restore a \
         backup with `diario restore`, or name the log's database with --database-url; to begin a \
         new log give another --data-dir",
        file.display(),
        keys.display()
    )]
    LogGone {
        /// Where the log should be.
        file: PathBuf,
        /// The folder of keys.
        keys: PathBuf,
    },
    /// The database holds another log.
    #[error(
        "{path} is of log {known}, but the database holds log {found}: name the database of this \
         data folder, or give another --data-dir"
    )]
    OtherLog {
        /// The file.
        path: PathBuf,
        /// The log that it is of.
        known: LogId,
        /// The log in the database.
        found: LogId,
    },
    /// The log ends before what was signed.
    #[error(
        "the log ends at position {head}, but {path} says that position {signed} was signed: it \
         was cut off, or is an older copy; bring the whole log back, or restore a backup with \
         `diario restore`; to go on with what is left remove that file"
    )]
    CutOff {
        /// The file.
        path: PathBuf,
        /// Where the log ends.
        head: Position,
        /// What was signed.
        signed: Position,
    },
    /// The key beside it is another one.
    #[error(
        "the key in {} is not the one that {path} was signed with: bring that key back; to go on \
         under a new key remove {path}",
        key.display()
    )]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// The file in a folder of keys.
#[derive(Debug, Clone)]
pub struct LastFile {
    path: PathBuf,
    keys_folder: PathBuf,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The log.
    pub log_id: LogId,
    /// The newest checkpoint that this node has signed.
    pub checkpoint: Checkpoint,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    log_id: LogId,
    checkpoint: StoredCheckpoint,
}

impl LastFile {
    /// The file in a data folder's `keys`.
    #[must_use]
    pub fn in_folder(keys_folder: &Path) -> Self {
        Self { path: keys_folder.join(LAST_FILE), keys_folder: keys_folder.to_owned() }
    }

    /// Refuses a file of SQLite that is not there or was emptied although a log was in it: a new
    /// one would be begun in its place. The checkpoint key is only ever made beside an open log.
    ///
    /// # Errors
    /// [`Error::LogGone`].
    pub fn check_there(&self, location: &Location) -> Result<(), Error> {
        let Location::Sqlite { file } = location else { return Ok(()) };
        let is_there = std::fs::metadata(file).is_ok_and(|found| found.len() > 0);
        if is_there || !self.keys_folder.join(KEY_FILE).exists() {
            return Ok(());
        }
        Err(Error::LogGone { file: file.clone(), keys: self.keys_folder.clone() })
    }

    /// What is remembered; `None` before anything was signed.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Damaged`].
    pub fn read(&self) -> Result<Option<Remembered>, Error> {
        let text = match private_file::read(&self.path) {
            Ok(text) => text,
            Err(failure) if failure.is_not_found() => return Ok(None),
            Err(failure) => return Err(Error::Read(failure)),
        };
        let damaged = || Error::Damaged { path: self.path.clone() };
        let Stored { log_id, checkpoint } = serde_json::from_str(&text).map_err(|_| damaged())?;
        let checkpoint = checkpoint.read().ok_or_else(damaged)?;
        let log = LogIdentity { log_id, incarnation: checkpoint.incarnation };
        // A flipped bit in the file must not call a good log cut off.
        if !checkpoint.holds(log) {
            return Err(damaged());
        }
        Ok(Some(Remembered { log_id, checkpoint }))
    }

    /// Remembers a checkpoint that the database was seen to hold.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, log_id: LogId, checkpoint: &Checkpoint) -> Result<(), Error> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        let stored = Stored { log_id, checkpoint: StoredCheckpoint::of(checkpoint) };
        let text = serde_json::to_string(&stored).map_err(|it| failed(io::Error::other(it)))?;
        private_file::replace(&self.path, &text).map_err(failed)
    }

    /// Refuses a log that cannot be the one that is remembered. A new life of it begins anew: what
    /// a restore brought back may end earlier.
    ///
    /// # Errors
    /// [`Error::OtherLog`] and [`Error::CutOff`], besides those of [`LastFile::read`].
    pub fn check_log(&self, log: LogIdentity, head: &Head) -> Result<Option<Remembered>, Error> {
        let Some(remembered) = self.read()? else { return Ok(None) };
        self.check_log_id(&remembered, log)?;
        let path = self.path.clone();
        let signed = remembered.checkpoint.position;
        let is_same_life = remembered.checkpoint.incarnation == log.incarnation;
        if is_same_life && signed > head.position {
            return Err(Error::CutOff { path, head: head.position, signed });
        }
        Ok(Some(remembered))
    }

    /// Refuses another log.
    ///
    /// # Errors
    /// [`Error::OtherLog`].
    pub fn check_log_id(&self, remembered: &Remembered, log: LogIdentity) -> Result<(), Error> {
        let (known, found) = (remembered.log_id, log.log_id);
        if known == found {
            return Ok(());
        }
        Err(Error::OtherLog { path: self.path.clone(), known, found })
    }

    /// Refuses a key that is not the one that signed what is remembered.
    ///
    /// # Errors
    /// [`Error::OtherKey`], besides those of [`LastFile::read`].
    pub fn check_key(&self, own: PublicKey, key_file: &Path) -> Result<(), Error> {
        match self.read()? {
            Some(remembered) if remembered.checkpoint.key != own => {
                Err(Error::OtherKey { path: self.path.clone(), key: key_file.to_owned() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{log::Incarnation, units::Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::checkpoint::CheckpointKey;

    fn log(id: u128, life: u128) -> LogIdentity {
        LogIdentity {
            log_id: LogId(Uuid::from_u128(id)),
            incarnation: Incarnation(Uuid::from_u128(life)),
        }
    }

    fn head(position: u64) -> Head {
        let incarnation = Incarnation(Uuid::from_u128(2));
        Head { position: Position(position), recorded_at: Timestamp(9), incarnation, link: [3; 32] }
    }

    #[test]
    fn another_log_a_shorter_one_another_key_and_a_flipped_bit_are_each_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = LastFile::in_folder(folder.path());
        assert_eq!(file.read().unwrap(), None);
        let sqlite = Location::in_folder(folder.path());
        assert!(file.check_there(&sqlite).is_ok(), "a new folder");
        let key = CheckpointKey::from_bytes([7; 32]);
        let signed = key.checkpoint(log(1, 2), &head(7), Timestamp(11));

        file.write(LogId(Uuid::from_u128(1)), &signed).unwrap();

        let remembered = file.check_log(log(1, 2), &head(7)).unwrap().unwrap();
        assert_eq!(remembered.checkpoint, signed);
        assert!(file.check_log(log(1, 2), &head(8)).is_ok());
        assert!(file.check_log(log(1, 3), &head(1)).is_ok(), "a restored log may be shorter");
        let cut = file.check_log(log(1, 2), &head(6));
        assert!(matches!(cut, Err(Error::CutOff { .. })), "{cut:?}");
        let other = file.check_log(log(9, 2), &head(7));
        assert!(matches!(other, Err(Error::OtherLog { .. })), "{other:?}");
        let key_file = folder.path().join("checkpoint.key");
        assert!(file.check_key(key.public_key(), &key_file).is_ok());
        let stranger = CheckpointKey::from_bytes([8; 32]).public_key();
        let refused = file.check_key(stranger, &key_file);
        assert!(matches!(refused, Err(Error::OtherKey { .. })), "{refused:?}");

        std::fs::write(&key_file, "a key").unwrap();
        let gone = file.check_there(&sqlite);
        assert!(matches!(gone, Err(Error::LogGone { .. })), "{gone:?}");

        let path = folder.path().join(LAST_FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            // A letter of hex may have become its capital, which says the same.
            let read = file.read();
            let is_same = matches!(&read, Ok(Some(it)) if it.checkpoint == signed);
            assert!(read.is_err() || is_same, "bit {at}: {read:?}");
        }
    }
}
