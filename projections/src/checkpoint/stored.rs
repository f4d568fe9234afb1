//! A checkpoint in JSON, as the archive's list and the file beside the key hold it.

use domain::{
    log::{Incarnation, Position},
    sealed::Digest,
    units::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, Previous, PublicKey};

/// A checkpoint in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCheckpoint {
    pub(crate) position: Position,
    incarnation: Incarnation,
    link: Digest,
    signed_at: Timestamp,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    signature: String,
}

impl StoredCheckpoint {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            position: checkpoint.position,
            incarnation: checkpoint.incarnation,
            link: Digest(checkpoint.link),
            signed_at: checkpoint.signed_at,
            key: checkpoint.key.to_string(),
            previous: checkpoint.previous.map(|previous| hex::encode(previous.to_bytes())),
            signature: hex::encode(checkpoint.signature),
        }
    }

    /// `None` when a part of it is not what it must be.
    pub(crate) fn read(&self) -> Option<Checkpoint> {
        let mut signature = [0; 64];
        hex::decode_to_slice(&self.signature, &mut signature).ok()?;
        let key: PublicKey = self.key.parse().ok()?;
        let previous = match &self.previous {
            Some(text) => Some(Previous::from_bytes(&hex::decode(text).ok()?)),
            None => None,
        };
        Some(Checkpoint {
            position: self.position,
            incarnation: self.incarnation,
            link: self.link.0,
            signed_at: self.signed_at,
            key,
            previous,
            signature,
        })
    }
}
