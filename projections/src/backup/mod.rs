//! A folder that holds a log as it was at a position, with everything beside it that it cannot be
//! read without, but for the master key.
//!
//! - [`manifest`]: what the folder holds, by size and digest
//! - [`beside`]: wrapped keys, sealed evidence and checkpoints, as databases give and take them
//! - [`mod@take`]: from a database, also one that is in use; [`mod@restore`]: into an empty one
//! - `floor`: what a backup of a pruned log holds instead of the events before its floor
//!
//! Events in an archive are copied like those in the database: a backup needs no archive.
//! The wrapped keys are in a file of their own, so that they can be kept apart. A master key never
//! gets here.

pub mod beside;
mod endpoint;
mod error;
pub(crate) mod floor;
pub mod key_file;
pub mod manifest;
pub(crate) mod records;
pub mod restore;
pub mod take;

#[cfg(test)]
mod tests;

pub use beside::Beside;
pub use endpoint::Endpoint;
pub use error::Error;
pub use manifest::Manifest;
pub use restore::{Restored, restore};
pub use take::take;

/// The version of backups that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The log in a backup: an export in the compact form.
pub const LOG_FILE: &str = "log.diario";

/// The sealed evidence in a backup.
pub const BLOBS_FILE: &str = "blobs.diario";

/// The signed checkpoints in a backup.
pub const CHECKPOINTS_FILE: &str = "checkpoints.diario";

/// The signed state that a pruned log begins with, where the backup is of one.
pub const BASE_FILE: &str = "base.json.zst";

/// The versions that the streams of a pruned log had where it begins.
pub const STREAMS_FILE: &str = "streams.diario";

/// The wrapped data keys of a backup, which may be kept elsewhere.
pub const KEYS_FILE: &str = "keys.ndjson";

/// What a backup's folder says of itself.
pub const MANIFEST_FILE: &str = "manifest.json";
