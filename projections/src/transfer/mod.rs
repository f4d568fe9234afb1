//! The log as a file that can be carried: written from any store, checked line by line, and taken
//! into any other with the same positions and hashes.
//!
//! - [`header`]: what a file says of itself, first and last
//! - `ndjson`, `compact`: the two forms
//! - [`mod@write`]: from a store to a file; [`mod@read`]: from a file, batch by batch
//! - [`mod@import`]: from a file into a store
//!
//! Memory is bounded by one batch, whatever a file says. Sealed secrets stay sealed: a file holds
//! no key.

mod compact;
mod error;
mod files;
pub mod header;
pub mod import;
mod ndjson;
pub mod read;
pub mod write;

#[cfg(test)]
pub(crate) use compact::compact_of;
pub use error::{Error, Fault, Place};
pub use files::NewFile;
pub use header::{End, Header};
pub use import::{Imported, check, import};
pub use read::Export;
pub use write::{Format, Range, export};

/// The version of both forms that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Told how many events are done, page by page.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

#[cfg(test)]
pub(crate) mod tests;
