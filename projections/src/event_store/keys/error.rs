//! What can go wrong with keys and sealed values.

use std::path::PathBuf;

use domain::sealed::Digest;
use uuid::Uuid;

use super::BLOB_BYTES_MAX;

/// Why a secret could not be sealed or opened. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The master key file cannot be read or written.
    #[error("cannot use the master key file {path}")]
    MasterKeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The master key file holds something else than 32 bytes in hex.
    #[error("the master key file {path} must hold 64 hex digits")]
    MalformedMasterKey {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner can read the master key file.
    #[error("the master key file {path} has mode {mode:o}, but must have mode 600")]
    ExposedMasterKey {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The stored data keys were wrapped by another master key.
    #[error("the master key is not the one that the stored data keys were wrapped by")]
    WrongMasterKey,
    /// The source of randomness failed.
    #[error("cannot draw random bytes: {0}")]
    Entropy(String),
    /// The keys or blobs cannot be read or written.
    #[error("cannot use the key store")]
    Store(#[source] crate::event_store::Error),
    /// The data key was forgotten, or never was.
    #[error("data key {0} is not known")]
    UnknownKey(Uuid),
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
