//! Signed checkpoints: a key's statement that at a position the log had this link.
//!
//! They show what hashes alone cannot: a log that was cut off, or written anew, together with its
//! head row. Each names the one before it, so that none can be taken away unseen; the newest is
//! remembered outside of the database ([`last`]), beside the key, which is never in it either.

pub mod last;
mod stored;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use domain::{
    log::{Incarnation, Position},
    units::Timestamp,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    event_store::{
        Head, LogIdentity,
        keys::{self, Entropy},
    },
    private_file,
};

pub(crate) use stored::StoredCheckpoint;

/// How many events may be behind the last checkpoint before the next one is due.
pub const EVENTS_PER_CHECKPOINT: u64 = 10_000;

/// The name of the key's file in a data folder's `keys`.
pub const KEY_FILE: &str = "checkpoint.key";

/// Begins every signed message, so that a signature of something else is none of a checkpoint. The
/// first form does not name the checkpoint before; none is signed in it any more.
const CHECKPOINT_DOMAIN_1: &[u8] = b"diario checkpoint 1\0";
const CHECKPOINT_DOMAIN_2: &[u8] = b"diario checkpoint 2\0";

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
    /// It does not fit what is remembered of the newest checkpoint.
    #[error(transparent)]
    Last(#[from] last::Error),
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

    /// States what a log without a checkpoint is at its head.
    #[must_use]
    pub fn checkpoint(&self, log: LogIdentity, head: &Head, signed_at: Timestamp) -> Checkpoint {
        self.checkpoint_behind(None, log, head, signed_at)
    }

    /// States what a log is at its head, whose newest checkpoint is given.
    #[must_use]
    pub fn checkpoint_behind(
        &self,
        newest: Option<&Checkpoint>,
        log: LogIdentity,
        head: &Head,
        signed_at: Timestamp,
    ) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            position: head.position,
            incarnation: log.incarnation,
            link: head.link,
            signed_at,
            key: self.public_key(),
            previous: Some(newest.map_or(Previous::NONE, |newest| newest.as_previous(log))),
            signature: [0; 64],
        };
        checkpoint.signature = self.sign(&checkpoint.message(log));
        checkpoint
    }
}

/// The checkpoint before, as the next one names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// Where it is.
    pub position: Position,
    /// The SHA-256 of all that it says and of its signature.
    pub digest: [u8; 32],
}

impl Previous {
    /// What the first checkpoint of a log names.
    pub const NONE: Self = Self { position: Position(0), digest: [0; 32] };

    /// As databases and files keep it.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [self.position.0.to_be_bytes().as_slice(), &self.digest].concat()
    }

    /// What was kept. Never fails: no signature holds over what has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let read = || {
            let (position, digest) = bytes.split_first_chunk::<8>()?;
            let position = Position(u64::from_be_bytes(*position));
            Some(Self { position, digest: digest.try_into().ok()? })
        };
        read().unwrap_or(Self { position: Position(u64::MAX), digest: [0; 32] })
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
    /// The newest checkpoint when this one was signed; `None` in the first form.
    pub previous: Option<Previous>,
    /// Over all of this and the log's id.
    pub signature: [u8; 64],
}

impl Checkpoint {
    fn message(&self, log: LogIdentity) -> Vec<u8> {
        let domain =
            if self.previous.is_some() { CHECKPOINT_DOMAIN_2 } else { CHECKPOINT_DOMAIN_1 };
        let mut message = domain.to_vec();
        message.extend_from_slice(log.log_id.0.as_bytes());
        message.extend_from_slice(self.incarnation.0.as_bytes());
        message.extend_from_slice(&self.position.0.to_be_bytes());
        message.extend_from_slice(&self.link);
        message.extend_from_slice(&self.signed_at.0.to_be_bytes());
        if let Some(previous) = self.previous {
            message.extend_from_slice(&previous.to_bytes());
        }
        message
    }

    /// How the next checkpoint of the same log names this one.
    #[must_use]
    pub fn as_previous(&self, log: LogIdentity) -> Previous {
        let digest = Sha256::new()
            .chain_update(self.message(log))
            .chain_update(self.key.0)
            .chain_update(self.signature)
            .finalize();
        Previous { position: self.position, digest: digest.into() }
    }

    /// Whether its key has signed it for this log.
    #[must_use]
    pub fn holds(&self, log: LogIdentity) -> bool {
        self.key.has_signed(&self.message(log), &self.signature)
    }
}

/// The position behind which the next page of checkpoints begins. In a damaged database a page may
/// end where it began, and reading would never end.
///
/// # Errors
/// When the last checkpoint of a page is not behind where the page began.
pub(crate) fn advanced(
    after: Position,
    last: &Checkpoint,
) -> Result<Position, crate::event_store::Error> {
    let position = last.position;
    if position > after {
        return Ok(position);
    }
    Err(crate::event_store::Error::Malformed { position, column: "checkpoint" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::{LogId, keys::SeededEntropy};
    use uuid::Uuid;

    fn log_and_head() -> (LogIdentity, Head) {
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
        (log, head)
    }

    /// Signed by the first form of this program, before checkpoints named each other.
    #[test]
    fn a_checkpoint_of_the_first_form_still_holds() {
        let key = CheckpointKey::from_bytes([7; 32]);
        let (log, head) = log_and_head();
        let mut message = b"diario checkpoint 1\0".to_vec();
        message.extend_from_slice(&1_u128.to_be_bytes());
        message.extend_from_slice(&2_u128.to_be_bytes());
        message.extend_from_slice(&7_u64.to_be_bytes());
        message.extend_from_slice(&[3; 32]);
        message.extend_from_slice(&11_i64.to_be_bytes());

        let first = Checkpoint {
            previous: None,
            signature: key.sign(&message),
            ..key.checkpoint(log, &head, Timestamp(11))
        };
        let next = key.checkpoint_behind(Some(&first), log, &head, Timestamp(12));

        assert!(first.holds(log) && next.holds(log));
        assert_eq!(next.previous, Some(first.as_previous(log)));
        let kept = next.previous.unwrap().to_bytes();
        assert_eq!(Some(Previous::from_bytes(&kept)), next.previous);
        assert_ne!(Some(Previous::from_bytes(&kept[1..])), next.previous);
    }

    #[test]
    fn a_checkpoint_holds_only_as_it_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let key = CheckpointKey::create_or_open(&path, &SeededEntropy::new(1)).unwrap();
        let (log, head) = log_and_head();

        let signed = key.checkpoint(log, &head, Timestamp(11));

        assert!(signed.holds(log));
        assert!(!signed.holds(LogIdentity { log_id: LogId(Uuid::from_u128(9)), ..log }));
        for altered in [
            Checkpoint { position: Position(8), ..signed.clone() },
            Checkpoint { incarnation: Incarnation(Uuid::from_u128(3)), ..signed.clone() },
            Checkpoint { link: [4; 32], ..signed.clone() },
            Checkpoint { signed_at: Timestamp(12), ..signed.clone() },
            Checkpoint { key: CheckpointKey::from_bytes([1; 32]).public_key(), ..signed.clone() },
            Checkpoint { previous: None, ..signed.clone() },
            Checkpoint { previous: Some(signed.as_previous(log)), ..signed.clone() },
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
