//! Secrets as the log may hold them: sealed, never in clear.
//!
//! Sealing and opening need keys and are the event store's business; the rules only carry sealed
//! values. [`PlainText`] is the clear form at the edges: it prints as `<hidden>`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret value under its owner's data key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sealed {
    /// Which data key.
    pub key_id: uuid::Uuid,
    /// The 12 bytes of the cipher's nonce, in hex.
    #[serde(with = "hex_bytes")]
    pub nonce: Vec<u8>,
    /// AES-256-GCM ciphertext with its tag, in hex.
    #[serde(with = "hex_bytes")]
    pub ciphertext: Vec<u8>,
    /// HMAC-SHA-256 of the clear value under the data key, in hex: equal values of one owner have
    /// equal fingerprints, which is all that a reader without the key learns.
    #[serde(with = "hex_bytes")]
    pub fingerprint: Vec<u8>,
}

/// A secret value in clear, on its way between an edge and the keys. Never stored, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlainText(pub String);

impl fmt::Debug for PlainText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

/// The SHA-256 of a stored record, by which an event names evidence that is kept beside the log.
///
/// As text it is written in hex, and as its bytes where nobody reads them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(#[serde(with = "hex_bytes")] pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Its first 16 digits: enough to tell things apart that nobody makes alike on purpose.
    #[must_use]
    pub fn short(&self) -> String {
        let (start, _) = self.0.split_at(8);
        hex::encode(start)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl TryFrom<String> for Digest {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Bytes as hex in forms that people read, and as they are in others.
mod hex_bytes {
    use std::{fmt, marker::PhantomData};

    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&hex::encode(bytes))
        } else {
            to.serialize_bytes(bytes)
        }
    }

    pub(super) fn deserialize<'de, D, B>(from: D) -> Result<B, D::Error>
    where
        D: Deserializer<'de>,
        B: hex::FromHex<Error = hex::FromHexError> + for<'a> TryFrom<&'a [u8]>,
    {
        if from.is_human_readable() {
            from.deserialize_str(Bytes(PhantomData))
        } else {
            from.deserialize_bytes(Bytes(PhantomData))
        }
    }

    struct Bytes<B>(PhantomData<B>);

    impl<B> Visitor<'_> for Bytes<B>
    where
        B: hex::FromHex<Error = hex::FromHexError> + for<'a> TryFrom<&'a [u8]>,
    {
        type Value = B;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes in hex")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<B, E> {
            B::from_hex(text).map_err(E::custom)
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<B, E> {
            B::try_from(bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_never_prints_itself() {
        assert_eq!(format!("{:?}", PlainText("hunter2".into())), "<hidden>");
    }

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of(b"x");
        assert_eq!(Digest::try_from(digest.to_string()), Ok(digest));
        assert!(Digest::try_from("00".to_owned()).is_err());
    }
}
