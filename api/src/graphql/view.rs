//! What the running views hold, told by hashes: so that somebody who folds the log afresh can
//! compare, byte for byte, without the contents on the wire.

use async_graphql::SimpleObject;
use projections::history::views;

use super::scalars::{BigInt, CursorText};

/// What all views hold, at one position.
#[derive(SimpleObject)]
pub(super) struct ViewDigests {
    /// The last event that is folded into them.
    pub(super) cursor: CursorText,
    /// The views, in the order in which they are compared.
    pub(super) views: Vec<ViewDigest>,
}

/// What one view holds.
#[derive(SimpleObject)]
pub(super) struct ViewDigest {
    /// Its name.
    name: String,
    /// The SHA-256 of its content, in hexadecimal digits.
    digest: String,
    /// How many bytes its content has.
    bytes: BigInt,
    /// The first 8 hexadecimal digits of the SHA-256 of every 4096 bytes of the content: they tell
    /// where two contents differ first.
    pieces: String,
}

impl From<views::ViewDigest> for ViewDigest {
    fn from(digest: views::ViewDigest) -> Self {
        let views::ViewDigest { name, digest, bytes, pieces } = digest;
        Self { name, digest: digest.to_string(), bytes: BigInt(bytes), pieces }
    }
}
