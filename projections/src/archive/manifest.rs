//! The archive's list of what it holds: one small JSON object, with its own digest in a second
//! line, rewritten whole whenever a segment comes or goes.

use std::collections::BTreeMap;

use domain::{log::Position, sealed::Digest, units::Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Error, Place};
use crate::{
    checkpoint::{Checkpoint, StoredCheckpoint},
    event_store::{LogId, LogIdentity, NewestOfType, chain::GENESIS},
};

/// The name of the object that lists what an archive holds.
pub const OBJECT: &str = "archive.json";

const FORMAT_VERSION: u32 = 1;

/// A segment of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Its object's name.
    pub object: String,
    /// Its first event.
    pub first: Position,
    /// Its last event.
    pub last: Position,
    /// The link of the batch before it.
    pub link_before: Digest,
    /// The link of its last batch.
    pub link_after: Digest,
    /// When its first event was recorded.
    pub first_time: Timestamp,
    /// When its last event was recorded.
    pub last_time: Timestamp,
    /// How large it is.
    pub bytes: u64,
    /// Of the whole object.
    pub sha256: Digest,
    /// The newest event of each type in it.
    pub types: Vec<TypeEntry>,
}

/// The newest event of a type in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeEntry {
    /// The stored type name.
    pub name: String,
    /// Its schema version.
    pub schema_version: u16,
    /// Where it is.
    pub position: Position,
}

/// The state that an archive begins with once older segments were pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseEntry {
    /// Its object's name.
    pub object: String,
    /// The last event that was pruned.
    pub position: Position,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The link of its batch.
    pub link: Digest,
    /// Of the whole object.
    pub sha256: Digest,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format_version: u32,
    /// The log that it is of.
    pub log_id: LogId,
    /// What it begins with, where older segments were pruned.
    pub base: Option<BaseEntry>,
    /// Its segments, in order and without a gap.
    pub segments: Vec<SegmentEntry>,
    checkpoints: Vec<StoredCheckpoint>,
}

impl Manifest {
    /// The manifest of an archive that holds nothing yet.
    pub(super) fn new(log: LogIdentity) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            log_id: log.log_id,
            base: None,
            segments: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// The end and link of the batch before the archive's first one.
    #[must_use]
    pub fn begin(&self) -> (Position, [u8; 32]) {
        self.base.as_ref().map_or((Position(0), GENESIS), |base| (base.position, base.link.0))
    }

    /// The last event that is archived, or pruned, and its batch's link.
    #[must_use]
    pub fn end(&self) -> (Position, [u8; 32]) {
        self.segments.last().map_or_else(|| self.begin(), |last| (last.last, last.link_after.0))
    }

    /// How many bytes the segments have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The checkpoints that the archive keeps: the last one of each segment, and the newest.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.checkpoints.iter().filter_map(StoredCheckpoint::read).collect()
    }

    /// Keeps of new checkpoints the last, and drops what is now between two ends of segments.
    pub(super) fn add_checkpoints(&mut self, new: &[Checkpoint]) {
        let end = self.end().0;
        let last_in = new.iter().rfind(|checkpoint| checkpoint.position <= end);
        let newest = new.last();
        self.checkpoints.retain(|checkpoint| checkpoint.position <= end);
        for checkpoint in [last_in, newest].into_iter().flatten() {
            let stored = StoredCheckpoint::of(checkpoint);
            if !self.checkpoints.contains(&stored) {
                self.checkpoints.push(stored);
            }
        }
    }

    /// The newest archived event of each type.
    #[must_use]
    pub fn newest_of_each_type(&self) -> Vec<NewestOfType> {
        let mut newest: BTreeMap<&str, &TypeEntry> = BTreeMap::new();
        for entry in self.segments.iter().flat_map(|segment| &segment.types) {
            newest.insert(&entry.name, entry);
        }
        let of = |entry: &TypeEntry| NewestOfType {
            type_name: entry.name.clone(),
            schema_version: entry.schema_version,
            position: entry.position,
        };
        newest.into_values().map(of).collect()
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut text = serde_json::to_vec(self).map_err(Error::Encode)?;
        let digest = hex::encode(Sha256::digest(&text));
        text.push(b'\n');
        text.extend_from_slice(digest.as_bytes());
        text.push(b'\n');
        Ok(text)
    }

    pub(super) fn decode(object: &str, text: &[u8]) -> Result<Self, Error> {
        let damaged = |reason| Error::damaged(object, reason);
        let mut lines = text.split(|byte| *byte == b'\n');
        let (body, digest) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let is_end = lines.next() == Some(&[]) && lines.next().is_none();
        if !is_end || hex::encode(Sha256::digest(body)).as_bytes() != digest {
            return Err(damaged("its digest does not fit"));
        }
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version: found } =
            serde_json::from_slice(body).map_err(|_| damaged("it names no format version"))?;
        if found > FORMAT_VERSION {
            let object = object.to_owned();
            return Err(Error::Newer { object, found, known: FORMAT_VERSION });
        }
        let manifest: Self =
            serde_json::from_slice(body).map_err(|_| damaged("it is not of its format"))?;
        manifest.check_order(object)?;
        Ok(manifest)
    }

    /// Each segment must go on where the one before it ends.
    fn check_order(&self, object: &str) -> Result<(), Error> {
        let (mut position, mut link) = self.begin();
        for segment in &self.segments {
            let follows = segment.first == position.next()
                && segment.link_before.0 == link
                && segment.last >= segment.first;
            if !follows {
                let reason = format!("no segment goes on behind position {position}");
                return Err(Error::damaged(object, reason));
            }
            (position, link) = (segment.last, segment.link_after.0);
        }
        Ok(())
    }

    /// Reads an archive's manifest; `None` when there is none.
    pub(super) async fn read(place: &Place) -> Result<Option<Self>, Error> {
        let found = place.get(OBJECT).await?;
        found.map(|text| Self::decode(OBJECT, &text)).transpose()
    }

    /// Replaces the manifest `before`, which may not have been written yet when it lists nothing;
    /// and makes sure that it reads back. Of several programs that try at once one succeeds.
    ///
    /// # Errors
    /// [`Error::Concurrent`] when another program has written its own; what was written beside it
    /// is then no part of the archive.
    pub(super) async fn replace(&self, place: &Place, before: &Self) -> Result<(), Error> {
        let is_expected = |found: Option<&[u8]>| match found {
            Some(text) => Ok(Self::decode(OBJECT, text)? == *before),
            None => Ok(before.segments.is_empty() && before.base.is_none()),
        };
        let replaced = place.replace(OBJECT, is_expected, self.encode()?).await;
        // Also when it was refused or its answer was lost: it may have been written all the same.
        let found = Self::read(place).await;
        match (replaced, found) {
            (_, Ok(Some(found))) if found == *self => Ok(()),
            (Ok(false), _) => Err(Error::Concurrent { location: place.to_string() }),
            (Err(failure), _) | (Ok(true), Err(failure)) => Err(failure),
            (Ok(true), Ok(_)) => Err(Error::ReadBack { object: OBJECT.to_owned() }),
        }
    }
}
