//! The cipher: AES-256-GCM for what is kept, HMAC-SHA-256 for what may be compared. Pure.
//!
//! A data key never encrypts by itself: the key of the cipher and the key of the fingerprints
//! are derived from it, so that neither says anything about the other.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use domain::{log::Owner, sealed::Sealed};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Error;

const NONCE_BYTES: usize = 12;
const FINGERPRINT_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 16;

/// An owner's data key, unwrapped; overwritten when it is dropped.
pub(super) struct DataKey {
    id: Uuid,
    sealing: Zeroizing<[u8; 32]>,
    fingerprinting: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataKey({}, <hidden>)", self.id)
    }
}

impl DataKey {
    pub(super) fn new(id: Uuid, bytes: &[u8; 32]) -> Self {
        Self {
            id,
            sealing: Zeroizing::new(authenticate(bytes, b"diario seal v1")),
            fingerprinting: Zeroizing::new(authenticate(bytes, b"diario fingerprint v1")),
        }
    }

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    pub(super) fn seal(
        &self,
        owner: &Owner,
        clear: &[u8],
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Sealed, Error> {
        let ciphertext = encrypt(&self.sealing, nonce, clear, &bound_to(owner, self.id))?;
        Ok(Sealed {
            key_id: self.id,
            nonce: nonce.to_vec(),
            ciphertext,
            fingerprint: authenticate(&self.fingerprinting, clear).to_vec(),
        })
    }

    pub(super) fn open(&self, owner: &Owner, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Error> {
        let nonce = sealed.nonce.as_slice().try_into().map_err(|_| Error::CannotOpen)?;
        decrypt(&self.sealing, nonce, &sealed.ciphertext, &bound_to(owner, self.id))
            .ok_or(Error::CannotOpen)
    }
}

/// What a ciphertext is bound to: moved to another owner or key it does not open.
pub(super) fn bound_to(owner: &Owner, key_id: Uuid) -> Vec<u8> {
    let mut bytes = key_id.as_bytes().to_vec();
    bytes.extend_from_slice(owner.to_string().as_bytes());
    bytes
}

pub(super) fn encrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    clear: &[u8],
    bound_to: &[u8],
) -> Result<Vec<u8>, Error> {
    Aes256Gcm::new(&(*key).into())
        .encrypt(&nonce.into(), Payload { msg: clear, aad: bound_to })
        .map_err(|_| Error::CannotSeal)
}

pub(super) fn decrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    ciphertext: &[u8],
    bound_to: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    Aes256Gcm::new(&(*key).into())
        .decrypt(&nonce.into(), Payload { msg: ciphertext, aad: bound_to })
        .ok()
        .map(Zeroizing::new)
}

fn authenticate(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut code = Hmac::<Sha256>::new(&hmac_key(key));
    code.update(message);
    code.finalize().into_bytes().into()
}

/// HMAC-SHA-256 takes keys of its block's length as they are, shorter ones padded with zeros.
fn hmac_key(key: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (byte, given) in block.iter_mut().zip(key) {
        *byte = *given;
    }
    block
}

/// A sealed value as the bytes of a blob.
pub(super) fn blob_bytes(sealed: &Sealed) -> Vec<u8> {
    let mut bytes = sealed.key_id.as_bytes().to_vec();
    bytes.extend_from_slice(&sealed.nonce);
    bytes.extend_from_slice(&sealed.fingerprint);
    bytes.extend_from_slice(&sealed.ciphertext);
    bytes
}

/// The sealed value of a blob's bytes, or `None` when they are too short.
pub(super) fn read_blob(bytes: &[u8]) -> Option<Sealed> {
    let (key_id, rest) = bytes.split_first_chunk::<KEY_ID_BYTES>()?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (fingerprint, ciphertext) = rest.split_first_chunk::<FINGERPRINT_BYTES>()?;
    Some(Sealed {
        key_id: Uuid::from_bytes(*key_id),
        nonce: nonce.to_vec(),
        ciphertext: ciphertext.to_vec(),
        fingerprint: fingerprint.to_vec(),
    })
}
