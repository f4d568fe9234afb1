//! Checksums: what the bytes of a download must be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChecksumAlgorithm {
    /// Only against accidents: it can be forged.
    Md5,
    /// Only against accidents: it can be forged.
    Sha1,
    /// Cannot be forged.
    Sha256,
    /// Cannot be forged. Only image layers name it.
    Sha512,
}

/// What the bytes of something must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Unchecked")]
pub struct Checksum {
    /// How it is computed.
    pub algorithm: ChecksumAlgorithm,
    value: String,
}

/// A checksum whose value may be of the wrong length.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    algorithm: ChecksumAlgorithm,
    value: String,
}

/// Why a text is not a checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChecksum {
    /// The algorithm is none that we know.
    #[error("must name one of md5, sha1, sha256 and sha512 as its algorithm")]
    Algorithm,
    /// The value is not of the algorithm's form.
    #[error(
        "must be {digits} hexadecimal digits, as {algorithm} has, but its value has {bytes} bytes"
    )]
    Value {
        /// Which algorithm.
        algorithm: ChecksumAlgorithm,
        /// How many digits it has.
        digits: usize,
        /// How long the value is.
        bytes: usize,
    },
}

impl ChecksumAlgorithm {
    /// How many hexadecimal digits its values have.
    #[must_use]
    pub fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// The algorithm of a name, as Diego writes it.
    ///
    /// # Errors
    /// [`InvalidChecksum::Algorithm`] when it is none that we know.
    pub fn parse(name: &str) -> Result<Self, InvalidChecksum> {
        match name {
            "md5" => Ok(Self::Md5),
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(InvalidChecksum::Algorithm),
        }
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        })
    }
}

impl Checksum {
    /// Checks a checksum from outside; its digits are kept in lower case.
    ///
    /// # Errors
    /// [`InvalidChecksum::Value`] when the value has not the algorithm's form.
    pub fn new(algorithm: ChecksumAlgorithm, value: &str) -> Result<Self, InvalidChecksum> {
        let digits = algorithm.digits();
        if value.len() != digits || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidChecksum::Value { algorithm, digits, bytes: value.len() });
        }
        Ok(Self { algorithm, value: value.to_ascii_lowercase() })
    }

    /// Its hexadecimal digits, in lower case.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl TryFrom<Unchecked> for Checksum {
    type Error = InvalidChecksum;
    fn try_from(unchecked: Unchecked) -> Result<Self, InvalidChecksum> {
        Self::new(unchecked.algorithm, &unchecked.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_has_the_digits_of_its_algorithm_and_nothing_else() {
        for name in ["md5", "sha1", "sha256", "sha512"] {
            let algorithm = ChecksumAlgorithm::parse(name).unwrap();
            let digits = "aB".repeat(algorithm.digits() / 2);
            assert_eq!(
                Checksum::new(algorithm, &digits).unwrap().value(),
                digits.to_lowercase(),
                "{name}"
            );
            for wrong in ["", &digits[1..], &format!("{digits}0"), &"x".repeat(digits.len())] {
                assert!(Checksum::new(algorithm, wrong).is_err(), "{name}: {wrong}");
            }
        }
        assert_eq!(ChecksumAlgorithm::parse("crc32"), Err(InvalidChecksum::Algorithm));
        let told = Checksum::new(ChecksumAlgorithm::Md5, "abc").unwrap_err().to_string();
        assert_eq!(told, "must be 32 hexadecimal digits, as md5 has, but its value has 3 bytes");
    }
}
