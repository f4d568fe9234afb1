//! One segment: a header, blocks, and a footer that says where in the file what is.
//!
//! Every part has its own digest, and the file has one over all, so that no part of it that was
//! damaged, cut off or swapped is ever read as if it were whole.

use std::collections::BTreeMap;

use domain::{
    log::{Incarnation, Position},
    units::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    Error, TypeEntry,
    block::{self, BLOCK_BYTES, BLOCK_EVENTS, Batches},
};
use crate::{
    bytes::{Bytes, put},
    event_store::{BatchRow, Floor, LogId, LogIdentity, Row},
};

/// The newest form that is known here.
pub(super) const FORMAT_VERSION: u32 = 1;

/// What a segment begins with.
pub const SEGMENT_MAGIC: &[u8; 8] = b"DIARIOAR";
const MAGIC_END: &[u8; 8] = b"RAOIRAID";

/// Footer length, its digest, the digest of all before, the closing mark.
pub(super) const TRAILER_BYTES: usize = 8 + 32 + 32 + 8;

/// The header's length is fixed, so that blocks begin at a known place: mark, version, log,
/// incarnation, first position, link before, digest.
const HEADER_BYTES: usize = 8 + 4 + 16 + 16 + 8 + 32 + 32;

const FOOTER_BYTES_MAX: usize = 256 << 20;

/// Where a block is, and what is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BlockEntry {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) first: Position,
    pub(super) count: u64,
    pub(super) first_time: Timestamp,
    pub(super) last_time: Timestamp,
    /// The link of the batch before its first one.
    pub(super) link_before: [u8; 32],
    pub(super) digest: [u8; 32],
    /// Which of the footer's types occur in it.
    pub(super) types: Vec<u16>,
}

impl BlockEntry {
    pub(super) fn last(&self) -> Position {
        Position(self.first.0.saturating_add(self.count).saturating_sub(1))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredFooter {
    blocks: Vec<BlockEntry>,
    types: Vec<String>,
    link_after: [u8; 32],
    owners: Vec<u8>,
    commands: Vec<u8>,
    batches: Vec<u8>,
}

/// Which blocks hold a name, by a short hash of it: sometimes one too many, never one too few.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Index {
    hashes: Vec<u32>,
    blocks: Vec<u16>,
}

impl Index {
    fn of(mut pairs: Vec<(u32, u16)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let (hashes, blocks) = pairs.into_iter().unzip();
        Self { hashes, blocks }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut last = 0;
        for (hash, block) in self.hashes.iter().zip(&self.blocks) {
            put(&mut bytes, u64::from(hash - last));
            put(&mut bytes, u64::from(*block));
            last = *hash;
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let mut index = Self::default();
        let mut last = 0_u32;
        while !bytes.is_empty() {
            last = last.checked_add(u32::try_from(bytes.number()?).ok()?)?;
            index.hashes.push(last);
            index.blocks.push(u16::try_from(bytes.number()?).ok()?);
        }
        Some(index)
    }

    /// The blocks that may hold a name, in order.
    pub(super) fn blocks_of(&self, name: &[u8]) -> Vec<usize> {
        let hash = name_hash(name);
        let start = self.hashes.partition_point(|known| *known < hash);
        let end = self.hashes.partition_point(|known| *known <= hash);
        self.blocks.get(start..end).unwrap_or_default().iter().map(|it| usize::from(*it)).collect()
    }
}

fn name_hash(name: &[u8]) -> u32 {
    let digest = Sha256::digest(name);
    digest.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// What a segment's footer says.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) blocks: Vec<BlockEntry>,
    pub(super) types: Vec<String>,
    pub(super) link_after: [u8; 32],
    pub(super) owners: Index,
    pub(super) commands: Index,
    pub(super) batches: Index,
}

/// What a segment's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log: LogIdentity,
    pub(super) first: Position,
    pub(super) link_before: [u8; 32],
}

/// Collects batches and writes them as one segment.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    bytes: Vec<u8>,
    footer: StoredFooter,
    pending: Vec<(BatchRow, Vec<Row>)>,
    pending_events: usize,
    pending_bytes: usize,
    owners: Vec<(u32, u16)>,
    commands: Vec<(u32, u16)>,
    batch_ids: Vec<(u32, u16)>,
    count: u64,
    newest: BTreeMap<String, (u16, Position)>,
}

fn packing(object: &str) -> impl FnOnce(std::io::Error) -> Error {
    let object = object.to_owned();
    move |failure| Error::Damaged { object, reason: format!("it cannot be packed: {failure}") }
}

impl SegmentWriter {
    pub(super) fn new(log: LogIdentity, first: Position, link_before: [u8; 32]) -> Self {
        let mut bytes = SEGMENT_MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.extend_from_slice(log.log_id.0.as_bytes());
        bytes.extend_from_slice(log.incarnation.0.as_bytes());
        bytes.extend_from_slice(&first.0.to_be_bytes());
        bytes.extend_from_slice(&link_before);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        let footer = StoredFooter {
            blocks: Vec::new(),
            types: Vec::new(),
            link_after: link_before,
            owners: Vec::new(),
            commands: Vec::new(),
            batches: Vec::new(),
        };
        Self {
            bytes,
            footer,
            pending: Vec::new(),
            pending_events: 0,
            pending_bytes: 0,
            owners: Vec::new(),
            commands: Vec::new(),
            batch_ids: Vec::new(),
            count: 0,
            newest: BTreeMap::new(),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The newest event of each type so far.
    fn types(&self) -> Vec<TypeEntry> {
        let entry = |(name, (schema_version, position)): (&String, &(u16, Position))| TypeEntry {
            name: name.clone(),
            schema_version: *schema_version,
            position: *position,
        };
        self.newest.iter().map(entry).collect()
    }

    /// Adds a batch that was proven to follow the last one.
    pub(super) fn add(&mut self, batch: BatchRow, rows: Vec<Row>) -> Result<(), Error> {
        self.count += batch.count;
        self.pending_events += rows.len();
        self.pending_bytes += rows.iter().map(|row| row.payload.len()).sum::<usize>();
        self.pending.push((batch, rows));
        if self.pending_events >= BLOCK_EVENTS || self.pending_bytes >= BLOCK_BYTES {
            self.close_block()?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        (self.pending_events, self.pending_bytes) = (0, 0);
        let (Some((first, _)), Some((last, _))) = (pending.first(), pending.last()) else {
            return Ok(());
        };
        let number = u16::try_from(self.footer.blocks.len())
            .map_err(|_| Error::damaged("a new segment", "it has too many blocks"))?;
        let packed = block::encode(&pending).map_err(packing("a new segment"))?;
        let types = self.index(&pending, number);
        self.footer.blocks.push(BlockEntry {
            offset: u64::try_from(self.bytes.len()).unwrap_or(u64::MAX),
            length: u64::try_from(packed.len()).unwrap_or(u64::MAX),
            first: first.first,
            count: last.last().next().0.saturating_sub(first.first.0),
            first_time: first.recorded_at,
            last_time: last.recorded_at,
            link_before: self.footer.link_after,
            digest: Sha256::digest(&packed).into(),
            types,
        });
        self.footer.link_after = last.link;
        self.bytes.extend_from_slice(&packed);
        Ok(())
    }

    /// Notes what is in a block, and gives its types.
    fn index(&mut self, pending: &Batches, number: u16) -> Vec<u16> {
        let mut types = std::collections::BTreeSet::new();
        for (batch, rows) in pending {
            self.batch_ids.push((name_hash(batch.id.0.as_bytes()), number));
            for row in rows {
                let owner = (name_hash(row.owner.as_bytes()), number);
                if self.owners.last() != Some(&owner) {
                    self.owners.push(owner);
                }
                let command = (name_hash(row.command_id.as_bytes()), number);
                if self.commands.last() != Some(&command) {
                    self.commands.push(command);
                }
                let known = self.footer.types.iter().position(|name| *name == row.type_name);
                let place = known.unwrap_or_else(|| {
                    self.footer.types.push(row.type_name.clone());
                    self.footer.types.len() - 1
                });
                types.insert(u16::try_from(place).unwrap_or(u16::MAX));
                match self.newest.get_mut(&row.type_name) {
                    Some(newest) => *newest = (row.schema_version, row.position),
                    None => {
                        let newest = (row.schema_version, row.position);
                        self.newest.insert(row.type_name.clone(), newest);
                    }
                }
            }
        }
        types.into_iter().collect()
    }

    /// The whole file, and the newest event of each type in it.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<TypeEntry>), Error> {
        self.close_block()?;
        let types = self.types();
        self.footer.owners = Index::of(self.owners).encode();
        self.footer.commands = Index::of(self.commands).encode();
        self.footer.batches = Index::of(self.batch_ids).encode();
        let footer = postcard::to_stdvec(&self.footer)
            .map_err(|failure| Error::damaged("a new segment", failure.to_string()))?;
        let mut packed = Vec::new();
        packed.extend_from_slice(&u64::try_from(footer.len()).unwrap_or(u64::MAX).to_be_bytes());
        packed.extend(zstd::bulk::compress(&footer, 9).map_err(packing("a new segment"))?);
        let mut bytes = self.bytes;
        bytes.extend_from_slice(&packed);
        bytes.extend_from_slice(&u64::try_from(packed.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(&Sha256::digest(&packed));
        let whole = Sha256::digest(&bytes);
        bytes.extend_from_slice(&whole);
        bytes.extend_from_slice(MAGIC_END);
        Ok((bytes, types))
    }
}

/// Reads a header.
pub(super) fn header(object: &str, bytes: &[u8]) -> Result<Header, Error> {
    let damaged = || Error::damaged(object, "its header is not what was written");
    let (all, digest) = bytes
        .get(..HEADER_BYTES)
        .and_then(|header| header.split_at_checked(HEADER_BYTES - 32))
        .ok_or_else(damaged)?;
    let mut rest = Bytes(all);
    if rest.array::<8>().as_ref() != Some(SEGMENT_MAGIC) {
        return Err(Error::damaged(object, "it is no segment of an archive"));
    }
    let found = rest.array().map(u32::from_be_bytes).ok_or_else(damaged)?;
    if Sha256::digest(all).as_slice() != digest {
        return Err(damaged());
    }
    if found > FORMAT_VERSION {
        let object = object.to_owned();
        return Err(Error::Newer { object, found, known: FORMAT_VERSION });
    }
    let mut read = || {
        let log_id = LogId(Uuid::from_bytes(rest.array()?));
        let incarnation = Incarnation(Uuid::from_bytes(rest.array()?));
        let first = Position(u64::from_be_bytes(rest.array()?));
        Some(Header { log: LogIdentity { log_id, incarnation }, first, link_before: rest.array()? })
    };
    read().ok_or_else(damaged)
}

/// How long the footer is, from a file's last [`TRAILER_BYTES`], with its digest.
pub(super) fn trailer(object: &str, bytes: &[u8]) -> Result<(usize, [u8; 32]), Error> {
    let damaged = || Error::damaged(object, "its end is not what was written: it was cut off");
    let mut rest = Bytes(bytes);
    let mut read = || {
        let length = usize::try_from(u64::from_be_bytes(rest.array()?)).ok()?;
        let (digest, _whole) = (rest.array::<32>()?, rest.array::<32>()?);
        let is_end = rest.array::<8>().as_ref() == Some(MAGIC_END) && rest.is_empty();
        (is_end && length <= FOOTER_BYTES_MAX).then_some((length, digest))
    };
    read().ok_or_else(damaged)
}

/// Reads a footer that has a digest.
pub(super) fn footer(object: &str, packed: &[u8], digest: [u8; 32]) -> Result<Footer, Error> {
    let damaged = || Error::damaged(object, "its footer is not what was written");
    if Sha256::digest(packed).as_slice() != digest {
        return Err(damaged());
    }
    let mut rest = Bytes(packed);
    let mut read = || {
        let length = usize::try_from(u64::from_be_bytes(rest.array()?)).ok()?;
        let bytes = zstd::bulk::decompress(rest.0, length.min(FOOTER_BYTES_MAX)).ok()?;
        let stored: StoredFooter = postcard::from_bytes(&bytes).ok()?;
        Some(Footer {
            owners: Index::decode(&stored.owners)?,
            commands: Index::decode(&stored.commands)?,
            batches: Index::decode(&stored.batches)?,
            blocks: stored.blocks,
            types: stored.types,
            link_after: stored.link_after,
        })
    };
    read().ok_or_else(damaged)
}

/// Checks that a whole file is what was written, and gives its header and footer.
pub(super) fn open_whole(object: &str, bytes: &[u8]) -> Result<(Header, Footer), Error> {
    let damaged = |reason| Error::damaged(object, reason);
    let header = header(object, bytes)?;
    let end = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(|| damaged("it was cut off"))?;
    let (body, end) = bytes.split_at(end);
    let (length, digest) = trailer(object, end)?;
    // The digest of all stands behind the footer's length and digest.
    let mut whole = Sha256::new_with_prefix(body);
    whole.update(end.get(..40).unwrap_or_default());
    if end.get(40..72) != Some(whole.finalize().as_slice()) {
        return Err(damaged("its digest does not fit"));
    }
    let packed = body
        .len()
        .checked_sub(length)
        .and_then(|start| body.get(start..))
        .ok_or_else(|| damaged("its footer is longer than it"))?;
    Ok((header, footer(object, packed, digest)?))
}

/// The bytes of a block within a whole file, when they are what was written.
pub(super) fn block_bytes<'a>(
    object: &str,
    bytes: &'a [u8],
    entry: &BlockEntry,
) -> Result<&'a [u8], Error> {
    let range = || {
        let start = usize::try_from(entry.offset).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(entry.length).ok()?)?)
    };
    let found = range().ok_or_else(|| Error::damaged(object, "a block is beyond its end"))?;
    check_block(object, found, entry)?;
    Ok(found)
}

pub(super) fn check_block(object: &str, bytes: &[u8], entry: &BlockEntry) -> Result<(), Error> {
    if Sha256::digest(bytes).as_slice() == entry.digest {
        return Ok(());
    }
    Err(Error::damaged(object, format!("the block at position {} was altered", entry.first)))
}

/// What a floor would be behind a batch.
pub(super) fn floor_at(batch: &BatchRow, archive: &str) -> Floor {
    Floor {
        position: batch.last(),
        recorded_at: batch.recorded_at,
        link: batch.link,
        archive: archive.to_owned(),
    }
}
