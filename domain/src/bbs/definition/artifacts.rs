//! What is unpacked in a container beside its root file system.

use serde::{Deserialize, Serialize};

use crate::{action::Checksum, sealed::Sealed};

/// An archive that a cell unpacks once, and mounts read-only in every container that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedDependency<V = Sealed> {
    /// What it is called in the log; empty: nothing is told of it.
    #[serde(default)]
    pub name: String,
    /// Its URL: http or https. Treated as secret: it may hold credentials.
    pub from: V,
    /// The folder inside the container: absolute.
    pub to: String,
    /// By what the cell knows it again.
    pub cache_key: String,
    /// The source that its log lines carry; the definition's when absent.
    #[serde(default)]
    pub log_source: Option<String>,
    /// What it must be.
    #[serde(default)]
    pub checksum: Option<Checksum>,
}

/// An archive that is a layer of a container's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageLayer<V = Sealed> {
    /// What it is called in the log; empty: nothing is told of it.
    #[serde(default)]
    pub name: String,
    /// Its URL: http or https. Treated as secret: it may hold credentials.
    pub url: V,
    /// The folder inside the container.
    pub destination_path: String,
    /// Whether others have it too.
    pub layer_type: LayerType,
    /// What kind of archive it is.
    pub media_type: MediaType,
    /// What it must be; an exclusive layer must say so.
    #[serde(default)]
    pub digest: Option<Checksum>,
}

/// Whether a layer is had alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// Mounted read-only, as a cached dependency.
    Shared,
    /// Unpacked into the container before it runs, as a download of the setup.
    Exclusive,
}

/// What kind of archive a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaType {
    /// A gzipped tar archive.
    Tgz,
    /// A tar archive.
    Tar,
    /// A zip archive.
    Zip,
}
