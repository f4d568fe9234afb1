//! What can be wrong with a backup or with the place it goes to, and what to do then.

use std::{io, path::PathBuf};

use domain::log::Position;

use crate::{
    archive,
    event_store::{self, LogId, chain},
    transfer,
};

/// Why a backup was not made, not restored, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is something where the backup should go.
    #[error("{path} is there already: name a new folder; a backup is never written over")]
    FolderTaken {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds no backup.
    #[error("{path} holds no backup: it has no manifest.json; one that was broken off has none")]
    NoBackup {
        /// The folder.
        path: PathBuf,
    },
    /// A newer program has written it.
    #[error("{path} has format version {found}, newer than {known} known here: upgrade diario")]
    NewerFormat {
        /// The manifest or the file of keys.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The manifest is none.
    #[error("{path} is malformed; take another backup")]
    MalformedManifest {
        /// The manifest.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// The list of forgotten keys is none.
    #[error("{path} is no list of forgotten keys")]
    MalformedForgotten {
        /// The list.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A file is gone.
    #[error("{path} is missing from the backup; copy it again, or take another backup")]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file has another size.
    #[error(
        "{path} has {found} bytes instead of {expected}: it was cut off or altered; copy it again, \
         or take another backup"
    )]
    FileCutOff {
        /// The file.
        path: PathBuf,
        /// As written.
        expected: u64,
        /// As found.
        found: u64,
    },
    /// A file has other bytes.
    #[error("{path} was altered: its digest does not fit; copy it again, or take another backup")]
    FileAltered {
        /// The file.
        path: PathBuf,
    },
    /// The manifest and the log in the backup disagree.
    #[error("the manifest and {path} are of two backups: copy both from the same one")]
    Mixed {
        /// The log's file.
        path: PathBuf,
    },
    /// The keys are not with the backup.
    #[error(
        "the backup's {data_keys} wrapped data keys are not beside it: name their file with --keys, \
         or give up all secrets with --without-keys"
    )]
    KeysMissing {
        /// How many there were.
        data_keys: u64,
    },
    /// The file of keys is of another log.
    #[error(
        "{path} holds the keys of log {found}, the backup is of log {expected}: name the file that \
         was made with this backup"
    )]
    OtherKeys {
        /// The file.
        path: PathBuf,
        /// The backup's log.
        expected: LogId,
        /// The file's.
        found: LogId,
    },
    /// The file of keys is not as it was written.
    #[error("line {line} of {path}: {problem}; copy the file again")]
    MalformedKeys {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The log was pruned, and there is no place for the state that it begins with.
    #[error(
        "the log in the backup begins behind position {floor}, what was before was pruned: name a \
         new place for the state there with --archive"
    )]
    NoArchive {
        /// The last event that was pruned.
        floor: Position,
    },
    /// The state that a pruned log begins with cannot be read or written.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The target holds a log.
    #[error("the database is not empty: its log ends at position {head}; restore into a new one")]
    TargetNotEmpty {
        /// Where its log ends.
        head: Position,
    },
    /// The target holds keys or evidence.
    #[error("the database is not empty: it holds keys or evidence; restore into a new one")]
    TargetHasKeys,
    /// What was restored is not what was saved.
    #[error("the restored log differs from the backup ({fault}): do not use it")]
    RestoredDiffers {
        /// How.
        fault: String,
    },
    /// The restored log fails its own hashes.
    #[error("the restored log is damaged ({0}): do not use it; is the disk in order?")]
    RestoredDamaged(chain::Fault),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be written or taken in.
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// What was forgotten cannot be read, or not be forgotten again.
    #[error("cannot read or repeat what was forgotten")]
    Keys(#[from] event_store::keys::Error),
}

impl Error {
    /// Whether a backup is not what was written.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::MalformedManifest { .. }
            | Self::FileMissing { .. }
            | Self::FileCutOff { .. }
            | Self::FileAltered { .. }
            | Self::Mixed { .. }
            | Self::OtherKeys { .. }
            | Self::MalformedKeys { .. } => true,
            Self::Archive(problem) => problem.is_damage(),
            Self::FolderTaken { .. }
            | Self::NoBackup { .. }
            | Self::NewerFormat { .. }
            | Self::MalformedForgotten { .. }
            | Self::KeysMissing { .. }
            | Self::NoArchive { .. }
            | Self::TargetNotEmpty { .. }
            | Self::TargetHasKeys
            | Self::RestoredDiffers { .. }
            | Self::RestoredDamaged(_)
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Transfer(_)
            | Self::Store(_)
            | Self::Keys(_) => false,
        }
    }
}
