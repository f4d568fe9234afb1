//! Signed checkpoints: a key's statement that at a position the log had this link.
//!
//! They show what hashes alone cannot: a log that was cut off, or written anew, together with its
//! head row. The key is in a file beside the data, never in the database.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use domain::{
    log::{Incarnation, Position},
    units::Timestamp,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::{
    event_store::{
        Head, LogIdentity,
        keys::{self, Entropy},
    },
    private_file,
};

/// How many events may be behind the last checkpoint before the next one is due.
pub const EVENTS_PER_CHECKPOINT: u64 = 10_000;

/// The name of the key's file in a data folder's `keys`.
pub const KEY_FILE: &str = "checkpoint.key";

/// Begins every signed message, so that a signature of something else is none of a checkpoint.
const CHECKPOINT_DOMAIN: &[u8] = b"diario checkpoint 1\0";

/// Why the checkpoint key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot use the checkpoint key")]
    File(#[source] private_file::Error),
    /// The file cannot be made.
    #[error("cannot make the checkpoint key file {path}")]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else than 32 bytes in hex.
    #[error(
        "the checkpoint key file {path} must hold 64 hex digits: bring the file back, or move it \
         away to go on under a new key"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// No random bytes for a new key.
    #[error("cannot make a checkpoint key")]
    Entropy(#[source] keys::Error),
}

/// A public key by which signatures are checked; shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl std::str::FromStr for PublicKey {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let read = hex::decode_to_slice(text.trim(), &mut bytes);
        read.map(|()| Self(bytes)).map_err(|_| "a public key is 64 hex digits")
    }
}

impl PublicKey {
    /// Whether this key's holder has signed a message.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

/// The key that signs.
pub struct CheckpointKey(SigningKey);

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckpointKey(<hidden>)")
    }
}

impl CheckpointKey {
    /// A key from its secret bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&bytes))
    }

    /// Reads the key file, or makes it when it is missing; its folder must exist.
    ///
    /// # Errors
    /// [`Error`].
    pub fn create_or_open(path: &Path, entropy: &dyn Entropy) -> Result<Self, Error> {
        match Self::open(path) {
            Err(Error::File(failure)) if failure.is_not_found() => {
                let mut bytes = Zeroizing::new([0; 32]);
                entropy.fill(bytes.as_mut()).map_err(Error::Entropy)?;
                let text = Zeroizing::new(format!("{}\n", hex::encode(bytes.as_ref())));
                match private_file::create(path, &text) {
                    // Another process was first: its key counts.
                    Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                        Self::open(path)
                    }
                    Err(source) => Err(Error::Make { path: path.to_owned(), source }),
                    Ok(()) => Ok(Self::from_bytes(*bytes)),
                }
            }
            result => result,
        }
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// [`Error`]; a missing file is [`Error::File`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = private_file::read(path).map_err(Error::File)?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut())
            .map_err(|_| Error::Malformed { path: path.to_owned() })?;
        Ok(Self::from_bytes(*bytes))
    }

    /// What others check its signatures by.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message. The caller begins it with words of its own kind.
    #[must_use]
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// States what a log is at its head.
    #[must_use]
    pub fn checkpoint(&self, log: LogIdentity, head: &Head, signed_at: Timestamp) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            position: head.position,
            incarnation: log.incarnation,
            link: head.link,
            signed_at,
            key: self.public_key(),
            signature: [0; 64],
        };
        checkpoint.signature = self.sign(&checkpoint.message(log));
        checkpoint
    }
}

/// A signed statement: at this position the log had this link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event of a batch.
    pub position: Position,
    /// The life of the log that it was signed in.
    pub incarnation: Incarnation,
    /// That batch's link.
    pub link: [u8; 32],
    /// When it was signed, by the signer's clock.
    pub signed_at: Timestamp,
    /// Who signed.
    pub key: PublicKey,
    /// Over all of this and the log's id.
    pub signature: [u8; 64],
}

impl Checkpoint {
    fn message(&self, log: LogIdentity) -> Vec<u8> {
        let mut message = CHECKPOINT_DOMAIN.to_vec();
        message.extend_from_slice(log.log_id.0.as_bytes());
        message.extend_from_slice(self.incarnation.0.as_bytes());
        message.extend_from_slice(&self.position.0.to_be_bytes());
        message.extend_from_slice(&self.link);
        message.extend_from_slice(&self.signed_at.0.to_be_bytes());
        message
    }

    /// Whether its key has signed it for this log.
    #[must_use]
    pub fn holds(&self, log: LogIdentity) -> bool {
        self.key.has_signed(&self.message(log), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::{LogId, keys::SeededEntropy};
    use uuid::Uuid;

    #[test]
    fn a_checkpoint_holds_only_as_it_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let key = CheckpointKey::create_or_open(&path, &SeededEntropy::new(1)).unwrap();
        let log = LogIdentity {
            log_id: LogId(Uuid::from_u128(1)),
            incarnation: Incarnation(Uuid::from_u128(2)),
        };
        let head = Head {
            position: Position(7),
            recorded_at: Timestamp(9),
            incarnation: log.incarnation,
            link: [3; 32],
        };

        let signed = key.checkpoint(log, &head, Timestamp(11));

        assert!(signed.holds(log));
        assert!(!signed.holds(LogIdentity { log_id: LogId(Uuid::from_u128(9)), ..log }));
        for altered in [
            Checkpoint { position: Position(8), ..signed.clone() },
            Checkpoint { incarnation: Incarnation(Uuid::from_u128(3)), ..signed.clone() },
            Checkpoint { link: [4; 32], ..signed.clone() },
            Checkpoint { signed_at: Timestamp(12), ..signed.clone() },
            Checkpoint { key: CheckpointKey::from_bytes([1; 32]).public_key(), ..signed.clone() },
            Checkpoint { signature: [5; 64], ..signed },
        ] {
            assert!(!altered.holds(log), "{altered:?}");
        }
        let again = CheckpointKey::create_or_open(&path, &SeededEntropy::new(2)).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let exposed = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, exposed).unwrap();
        assert!(matches!(CheckpointKey::open(&path), Err(Error::File(_))));
    }
}
