//! The archive: the older part of a log in compressed, indexed, checksummed segments, in a folder
//! or in any store that speaks S3, readable in place.
//!
//! - [`Place`], [`Archive`]: where it is, and reading it; [`ArchivedStore`]: a log across the seam
//! - [`run`]: moves events from the database into it; [`prune`] drops its oldest segments
//! - [`Keeper`], [`join`]: for a running node
//! - [`ArchiveSource`], [`SegmentSource`]: what `verify` reads
//!
//! Nothing is deleted from the database before it was read back from here and proven; nothing is
//! ever dropped from here but by `prune`.

mod archiver;
mod base;
mod block;
mod carried;
mod error;
mod keeper;
mod manifest;
mod place;
mod prune;
mod reader;
mod segment;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use archiver::{Moved, Policy, SEGMENT_EVENTS, ShortSegments, run};
pub use base::BaseState;
pub use carried::{CarriedBase, begin_with};
pub use error::Error;
pub use keeper::{Keeper, Purpose, join};
pub use manifest::{BaseEntry, Manifest, OBJECT as MANIFEST, SegmentEntry, TypeEntry};
pub use place::Place;
pub use prune::{Pruned, prune};
pub use reader::Archive;
pub use segment::SEGMENT_MAGIC;
pub use source::{ArchiveSource, SegmentSource};
pub use store::ArchivedStore;
