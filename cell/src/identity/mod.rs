//! Instance identity: who a container is, as a certificate and key that only it is given.
//!
//! Each pair is issued by the cell's own authority, lies in a folder that the container sees
//! read-only, and is renewed in place before it ends. Nothing here is logged or reported.
//!
//! - `authority`: what the cell issues with; `certificate`: what it issues
//! - `folder`: where a container finds it

mod authority;
mod certificate;
mod folder;
#[cfg(test)]
mod tests;

pub(crate) use authority::Authority;
pub use authority::Error;
pub(crate) use certificate::Subject;
pub(crate) use folder::{Folder, INSIDE};
