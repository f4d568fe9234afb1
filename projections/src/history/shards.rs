//! What a shard's bytes mean: aggregates in postcard, compressed. A whole shard holds all that its
//! owners have; the shard of changes beside it names owners and holds what they have now.

use std::collections::{BTreeSet, HashSet};

use domain::{
    aggregates::{Aggregate, Aggregates, CLUSTER_SHARD, Part},
    log::Owner,
};
use serde::{Deserialize, Serialize};

use crate::snapshot::{SHARD_BYTES_MAX, ShardId};

/// What the bytes of a shard mean. Raised whenever an aggregate's shape changes; older snapshots
/// are passed over then.
pub const SHARD_FORMAT: u32 = 2;

/// Fast, and not much larger than what takes longer.
const COMPRESSION_LEVEL: i32 = 1;

/// Why a shard's bytes cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// They cannot be compressed, or are not what the compression gave.
    #[error("cannot pack or unpack a shard")]
    Pack(#[source] std::io::Error),
    /// The aggregates cannot be written or read.
    #[error("cannot write or read the aggregates of a shard")]
    Aggregates(#[source] postcard::Error),
    /// The name of an owner is none.
    #[error("a shard names {0:?}, which is no owner")]
    Owner(String),
}

/// What has changed in a shard.
#[derive(Serialize, Deserialize)]
struct Changes {
    owners: Vec<String>,
    aggregates: Vec<Aggregate>,
}

fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>, ShardError> {
    let bytes = postcard::to_stdvec(value).map_err(ShardError::Aggregates)?;
    zstd::bulk::compress(&bytes, COMPRESSION_LEVEL).map_err(ShardError::Pack)
}

fn unpack<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, ShardError> {
    let bytes = zstd::bulk::decompress(bytes, capacity(bytes)?).map_err(ShardError::Pack)?;
    postcard::from_bytes(&bytes).map_err(ShardError::Aggregates)
}

/// The length that the frame itself tells, within bounds.
fn capacity(bytes: &[u8]) -> Result<usize, ShardError> {
    let told = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten();
    let length = told.and_then(|length| usize::try_from(length).ok());
    length.filter(|length| *length <= SHARD_BYTES_MAX).ok_or_else(|| {
        ShardError::Pack(std::io::Error::other("its length is not told, or is out of bounds"))
    })
}

/// The bytes of a whole shard; none when it is empty.
pub(super) fn encode_whole(aggregates: &Aggregates, number: u16) -> Result<Vec<u8>, ShardError> {
    let members = aggregates.of_shard(number);
    if members.is_empty() { Ok(Vec::new()) } else { pack(&members) }
}

/// The bytes of the shard of changes that says what these owners have now.
pub(super) fn encode_changes(
    aggregates: &Aggregates,
    owners: &BTreeSet<Owner>,
) -> Result<Vec<u8>, ShardError> {
    pack(&Changes {
        owners: owners.iter().map(Owner::to_string).collect(),
        aggregates: owners.iter().flat_map(|owner| aggregates.of_owner(owner)).collect(),
    })
}

/// A shard as it was read: what it holds, and who has changed since it was written whole.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) members: Vec<Aggregate>,
    pub(super) changed: BTreeSet<Owner>,
}

impl Decoded {
    pub(super) fn into_part(self) -> Part {
        Part::of(self.members)
    }
}

/// A shard from its own bytes and those of the changes beside it, where there are any.
pub(super) fn decode_shard(
    whole: Option<&[u8]>,
    changes: Option<&[u8]>,
) -> Result<Decoded, ShardError> {
    let mut members: Vec<Aggregate> = whole.map(unpack).transpose()?.unwrap_or_default();
    let Some(changes) = changes else { return Ok(Decoded { members, changed: BTreeSet::new() }) };
    let Changes { owners, aggregates } = unpack(changes)?;
    let mut changed = BTreeSet::new();
    for text in owners {
        changed.insert(text.parse().map_err(|_| ShardError::Owner(text))?);
    }
    let is_changed: HashSet<&Owner> = changed.iter().collect();
    members.retain(|member| !is_changed.contains(&member.stream().owner()));
    members.extend(aggregates);
    Ok(Decoded { members, changed })
}

/// All aggregates as whole shards; those that are empty are left out.
///
/// # Errors
/// Only when an aggregate's own types cannot be written, which is a defect.
pub fn encode(aggregates: &Aggregates) -> Result<Vec<(ShardId, Vec<u8>)>, ShardError> {
    let mut shards = Vec::new();
    for shard in ShardId::all() {
        if shard.number() == CLUSTER_SHARD || aggregates.owners_in(shard.number()) > 0 {
            shards.push((shard, encode_whole(aggregates, shard.number())?));
        }
    }
    Ok(shards)
}

/// The aggregates in some whole shards' bytes.
///
/// # Errors
/// When the bytes are not what [`encode`] writes.
pub fn decode(shards: &[(ShardId, Vec<u8>)]) -> Result<Vec<Aggregate>, ShardError> {
    let mut aggregates = Vec::new();
    for (_, bytes) in shards.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        aggregates.extend(decode_shard(Some(bytes), None)?.members);
    }
    Ok(aggregates)
}
