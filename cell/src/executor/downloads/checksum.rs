//! Computes a checksum while bytes come in.

use domain::action::{Checksum, ChecksumAlgorithm};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::Error;

/// What was computed so far; of nothing where no checksum is asked for.
#[derive(Debug, Clone)]
pub(super) enum Hasher {
    None,
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(super) fn new(wanted: Option<&Checksum>) -> Self {
        match wanted.map(|checksum| checksum.algorithm) {
            None => Self::None,
            Some(ChecksumAlgorithm::Md5) => Self::Md5(Md5::new()),
            Some(ChecksumAlgorithm::Sha1) => Self::Sha1(Sha1::new()),
            Some(ChecksumAlgorithm::Sha256) => Self::Sha256(Sha256::new()),
            Some(ChecksumAlgorithm::Sha512) => Self::Sha512(Sha512::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Md5(hash) => hash.update(bytes),
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Whether all that came in is what was asked for.
    ///
    /// # Errors
    /// [`Error::Checksum`] with both.
    pub(super) fn check(self, wanted: Option<&Checksum>) -> Result<(), Error> {
        let computed = match self {
            Self::None => return Ok(()),
            Self::Md5(hash) => hex::encode(hash.finalize()),
            Self::Sha1(hash) => hex::encode(hash.finalize()),
            Self::Sha256(hash) => hex::encode(hash.finalize()),
            Self::Sha512(hash) => hex::encode(hash.finalize()),
        };
        match wanted {
            Some(wanted) if wanted.value() != computed => {
                let (algorithm, expected) = (wanted.algorithm, wanted.value().to_owned());
                Err(Error::Checksum { algorithm, expected, computed })
            }
            Some(_) | None => Ok(()),
        }
    }
}
