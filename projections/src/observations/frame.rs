//! Frames: length, checksum, bytes. What follows a frame that is torn or altered is not read.

use domain::{id::CellId, log::CellEpoch, observation::Observation, sealed::Digest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Error;

/// More than the longest line with everything around it.
const FRAME_BYTES_MAX: usize = 1 << 20;

const CHECKSUM_BYTES: usize = 8;

/// The first frame of every segment: with the frames behind it, all that is known of an owner.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) owner: String,
    /// The place before the segment's first record.
    pub(super) before: u64,
    /// What each cell has pushed of this owner before this segment.
    pub(super) acknowledged: Vec<(CellId, Acknowledged)>,
}

/// How far a cell's pushes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Acknowledged {
    pub(super) cell_epoch: CellEpoch,
    pub(super) sequence: u64,
}

/// Any other frame.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) cell_id: CellId,
    pub(super) acknowledged: Acknowledged,
    pub(super) observation: Observation,
}

/// Appends a frame to a buffer.
pub(super) fn write<T: Serialize>(buffer: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    let bytes = postcard::to_stdvec(value).map_err(|_| Error::Unstorable)?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= FRAME_BYTES_MAX)
        .ok_or(Error::Unstorable)?;
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(&checksum(&bytes));
    buffer.extend_from_slice(&bytes);
    Ok(())
}

/// Takes the frame at the start of `bytes` off it; `None` when there is no whole one.
pub(super) fn read<T: DeserializeOwned>(bytes: &mut &[u8]) -> Option<T> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (expected, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (body, rest) = rest.split_at_checked(length.min(FRAME_BYTES_MAX + 1))?;
    if checksum(body) != *expected {
        return None;
    }
    let value = postcard::from_bytes(body).ok()?;
    *bytes = rest;
    Some(value)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Digest::of(bytes).0;
    let mut checksum = [0; CHECKSUM_BYTES];
    for (to, from) in checksum.iter_mut().zip(digest) {
        *to = from;
    }
    checksum
}
