//! Download and Upload: what goes into a container and out of it.
//!
//! Their URLs are treated as secret: they may hold credentials.

use serde::{Deserialize, Serialize};

use super::Checksum;
use crate::sealed::Sealed;

/// An archive (tar, gzipped tar or zip) that is unpacked into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download<V = Sealed> {
    /// What it is called in the log; empty: nothing is told of it.
    #[serde(default)]
    pub artifact: String,
    /// Its URL: http or https.
    pub from: V,
    /// The folder inside the container; relative to the user's home where it is not absolute.
    pub to: String,
    /// By what the cell keeps it for the next one; empty: not at all.
    #[serde(default)]
    pub cache_key: String,
    /// The source that its log lines carry; the definition's when absent.
    #[serde(default)]
    pub log_source: Option<String>,
    /// Whose its files are, by name.
    pub user: String,
    /// What it must be.
    #[serde(default)]
    pub checksum: Option<Checksum>,
}

/// A file of the container that is sent by a POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload<V = Sealed> {
    /// What it is called in the log; empty: nothing is told of it.
    #[serde(default)]
    pub artifact: String,
    /// The file inside the container; of a folder, its first file.
    pub from: String,
    /// The URL that takes it: http or https.
    pub to: V,
    /// The source that its log lines carry; the definition's when absent.
    #[serde(default)]
    pub log_source: Option<String>,
    /// As whom it is read, by name.
    pub user: String,
}
