//! What can go wrong with keys and sealed values.

use std::path::PathBuf;

use domain::{log::Owner, sealed::Digest, units::Timestamp};
use uuid::Uuid;

use super::{BLOB_BYTES_MAX, KeyLabel};
use crate::private_file;

/// Why a secret could not be sealed or opened. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of master keys cannot be read, or others can.
    #[error("cannot use the file of master keys")]
    MasterKeyFile(#[source] private_file::Error),
    /// The file of master keys cannot be written.
    #[error("cannot write the file of master keys {path}")]
    WriteMasterKeys {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of master keys holds something else.
    #[error("line {line} of the file of master keys {path} {problem}")]
    MalformedMasterKeys {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The environment's master keys are something else.
    #[error("entry {entry} of DIARIO_MASTER_KEYS must be LABEL:64 HEX DIGITS; commas part entries")]
    MalformedGivenKeys {
        /// Which entry, from 1.
        entry: usize,
    },
    /// The master keys come by the environment and cannot be changed by a command.
    #[error(
        "the master keys come from DIARIO_MASTER_KEYS: change them there (the first is active), and start again"
    )]
    MasterKeysGiven,
    /// There is a master key of that label already.
    #[error("there is a master key {label} already; choose another label")]
    LabelTaken {
        /// The label.
        label: KeyLabel,
    },
    /// There is no master key of that label.
    #[error("there is no master key {label}; `diario keys list` shows those that there are")]
    NoSuchLabel {
        /// The label.
        label: KeyLabel,
    },
    /// The active master key cannot be taken out.
    #[error("master key {label} is active; rotate to another first: diario keys rotate --to LABEL")]
    ActiveLabel {
        /// The label.
        label: KeyLabel,
    },
    /// Data keys are wrapped by the master key that is to be taken out.
    #[error(
        "{data_keys} data keys are wrapped by master key {label}; run `diario keys rotate` first"
    )]
    LabelInUse {
        /// The label.
        label: KeyLabel,
        /// How many data keys need it.
        data_keys: u64,
    },
    /// There are more master keys than there may be.
    #[error("there may be at most {max} master keys; remove those that no data key needs")]
    TooManyMasterKeys {
        /// How many there may be.
        max: usize,
    },
    /// There are data keys and no master key.
    #[error(
        "the file of master keys {path} is missing, and the log's secrets are wrapped by {}: put it back; \
         no new one is made in its place",
        list(labels)
    )]
    LostMasterKeys {
        /// Where it should be.
        path: PathBuf,
        /// Which labels are needed.
        labels: Vec<KeyLabel>,
    },
    /// A data key is wrapped by a master key that is not there.
    #[error(
        "a data key is wrapped by master key {label}, which is not there: put it back into the \
         file of master keys or DIARIO_MASTER_KEYS"
    )]
    MissingLabel {
        /// Its label.
        label: KeyLabel,
    },
    /// The stored data keys were wrapped by another master key.
    #[error(
        "master key {label} is not the one of that label that the log's data keys are wrapped by: \
         put the right one back into the file of master keys or DIARIO_MASTER_KEYS"
    )]
    WrongMasterKey {
        /// The label.
        label: KeyLabel,
    },
    /// The list of forgotten keys cannot be written.
    #[error("cannot write the list of forgotten keys {path}")]
    WriteForgotten {
        /// The list.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The list of forgotten keys cannot be read.
    #[error("cannot read the list of forgotten keys {path}")]
    ReadForgotten {
        /// The list.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The list of forgotten keys is not as it was written.
    #[error(
        "line {line} of the list of forgotten keys {path} was altered: bring the file back from a \
         copy, or from another node's data folder; without it an older copy of the database would \
         bring forgotten secrets back"
    )]
    MalformedForgotten {
        /// The list.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// The source of randomness failed.
    #[error("cannot draw random bytes: {0}")]
    Entropy(String),
    /// The keys or blobs cannot be read or written.
    #[error("cannot use the key store")]
    Store(#[source] crate::event_store::Error),
    /// The data key never was, or another log has it.
    #[error("data key {0} is not known")]
    UnknownKey(Uuid),
    /// The data key was forgotten, on purpose and for ever.
    #[error("the secrets of {owner} were forgotten at {}", rfc3339(*at))]
    Forgotten {
        /// Whose.
        owner: Owner,
        /// When.
        at: Timestamp,
    },
    /// A sealed value was altered, or is another owner's.
    #[error("a sealed value cannot be opened: it was altered or belongs to another owner")]
    CannotOpen,
    /// A value cannot be sealed, which is a defect.
    #[error("a value cannot be sealed")]
    CannotSeal,
    /// A secret is not text.
    #[error("a sealed value is not UTF-8 text")]
    NotText,
    /// Evidence is larger than the limit.
    #[error("a blob may have at most {BLOB_BYTES_MAX} bytes, but has {0}")]
    BlobTooLarge(usize),
    /// Stored evidence is not what its digest says.
    #[error("blob {0} was altered")]
    BlobAltered(Digest),
}

impl Error {
    /// Whether there is no file of master keys.
    #[must_use]
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::MasterKeyFile(failure) if failure.is_not_found())
    }
}

fn list(labels: &[KeyLabel]) -> String {
    labels.iter().map(KeyLabel::as_str).collect::<Vec<_>>().join(", ")
}

fn rfc3339(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_nanos(at.0)
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
