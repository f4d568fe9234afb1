//! Columns as the databases hold them where they differ from a [`Row`]: shorter, so that an event
//! costs fewer bytes. Never hashed: what is hashed is the [`Row`] that they unpack to.
//!
//! Every row packs in one way only, so a reader that packs again notices any other packing.

use domain::{
    id::CommandId,
    log::{Owner, StreamId},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Row;

const UUID: u8 = b'u';
const TEXT: u8 = b't';

/// The packed columns of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) owner_hash: i64,
    pub(super) command_hash: i64,
    pub(super) command_id: Vec<u8>,
    /// `None` when it equals the command id.
    pub(super) correlation: Option<Vec<u8>>,
}

impl Packed {
    pub(super) fn of(row: &Row) -> Self {
        let (command_id, correlation) = ids(row);
        Self {
            owner_hash: hash(&row.owner),
            command_hash: hash(&row.command_id),
            command_id,
            correlation,
        }
    }
}

/// A row's command id, and its correlation unless it equals the command id.
pub(super) fn ids(row: &Row) -> (Vec<u8>, Option<Vec<u8>>) {
    let correlation = (row.correlation != row.command_id).then(|| text(&row.correlation));
    (text(&row.command_id), correlation)
}

/// By which a text is found in an index: the first 8 bytes of its SHA-256. Two texts may share
/// one, so readers compare the text too.
pub(super) fn hash(text: &str) -> i64 {
    hash_of(text.as_bytes())
}

/// As [`hash`], of any bytes.
pub(super) fn hash_of(bytes: &[u8]) -> i64 {
    let digest = Sha256::digest(bytes);
    digest.first_chunk::<8>().map_or(0, |first| i64::from_be_bytes(*first))
}

/// A text, shorter when it is a uuid as uuids are commonly printed.
pub(super) fn text(text: &str) -> Vec<u8> {
    let (tag, bytes) = match Uuid::try_parse(text) {
        // Uuids have other spellings too, which must come back as they were.
        Ok(uuid) if uuid.hyphenated().to_string() == text => (UUID, uuid.as_bytes().to_vec()),
        Ok(_) | Err(_) => (TEXT, text.as_bytes().to_vec()),
    };
    let mut packed = Vec::with_capacity(bytes.len().saturating_add(1));
    packed.push(tag);
    packed.extend(bytes);
    packed
}

/// Bytes that no text packs to, which only a change by hand leaves, read as no text; `verify`
/// finds them.
pub(super) fn unpacked(packed: &[u8]) -> String {
    match packed.split_first() {
        Some((&UUID, bytes)) => {
            Uuid::from_slice(bytes).map_or_else(|_| String::new(), |uuid| uuid.to_string())
        }
        Some((&TEXT, bytes)) => String::from_utf8(bytes.to_vec()).unwrap_or_default(),
        Some(_) | None => String::new(),
    }
}

/// The command id in a packed column; `None` for bytes that no command id packs to.
pub(super) fn command_id(packed: &[u8]) -> Option<CommandId> {
    match packed.split_first()? {
        (&UUID, bytes) => Uuid::from_slice(bytes).ok().map(CommandId::from_uuid),
        (&TEXT, bytes) => CommandId::new(std::str::from_utf8(bytes).ok()?).ok(),
        _ => None,
    }
}

/// The owner that follows from a stream's text; empty when the text is no stream, which `verify`
/// finds.
pub(super) fn owner_text(stream: &str) -> String {
    stream.parse().map_or_else(|_| String::new(), |stream: StreamId| stream.owner().to_string())
}

/// Which streams are an owner's.
#[derive(Debug)]
pub(super) struct Streams {
    /// The whole text of its own stream, and of that of its secrets.
    pub(super) whole: [String; 2],
    /// What every other one begins with, and its length in characters.
    pub(super) prefix: Option<(String, i64)>,
}

impl Streams {
    /// Whether a stream is one of them.
    pub(super) fn hold(&self, stream: &str) -> bool {
        let begins = |(prefix, _): &(String, i64)| stream.starts_with(prefix);
        self.whole.iter().any(|whole| whole == stream) || self.prefix.as_ref().is_some_and(begins)
    }
}

pub(super) fn streams(owner: &Owner) -> Streams {
    let (whole, prefix) = match owner {
        Owner::Process(guid) => {
            (StreamId::DesiredLrp(guid.clone()), Some(format!("actual/{guid}/")))
        }
        Owner::Task(guid) => (StreamId::Task(guid.clone()), None),
        Owner::Cell(cell_id) => (StreamId::Cell(cell_id.clone()), None),
        Owner::FreshnessDomain(name) => (StreamId::FreshnessDomain(name.clone()), None),
    };
    let counted = |prefix: String| {
        let characters = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
        (prefix, characters)
    };
    let whole = [whole, StreamId::Secrets(owner.clone())].map(|stream| stream.to_string());
    Streams { whole, prefix: prefix.map(counted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_packs_in_one_way() {
        let uuid = "3d4f1cc4-5a3b-4c57-9a3e-2a35ffbd4f3c";
        assert_eq!(text(uuid).len(), 17);
        for original in [
            uuid,
            &uuid.to_uppercase(),
            &uuid.replace('-', ""),
            "u",
            "sixteen bytes !!",
            "ünïcode",
            "",
        ] {
            assert_eq!(unpacked(&text(original)), original);
            assert_eq!(command_id(&text(original)), CommandId::new(original).ok());
        }
        for strange in [&b""[..], b"u", b"ushort", b"t\xff", b"x"] {
            assert_eq!(unpacked(strange), "");
            assert_eq!(command_id(strange), None);
        }
    }
}
