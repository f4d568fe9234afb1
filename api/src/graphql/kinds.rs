//! The small words of definitions, the same for what clients write and what they see.

use async_graphql::Enum;
use domain::{action, bbs::definition};

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "action::ChecksumAlgorithm")]
pub(super) enum ChecksumAlgorithm {
    /// Only against accidents: it can be forged.
    Md5,
    /// Only against accidents: it can be forged.
    Sha1,
    /// Cannot be forged.
    Sha256,
    /// Cannot be forged. Only image layers may name it.
    Sha512,
}

/// How an instance is replaced by its next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Enum)]
#[graphql(remote = "definition::UpdateStrategy")]
pub(super) enum UpdateStrategy {
    /// It runs on until the next one is healthy.
    #[default]
    Rolling,
    /// It is stopped first: never two at once on cells that are heard.
    Recreate,
}

/// Whether an image layer is had alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "definition::LayerType")]
pub(super) enum LayerType {
    /// Mounted read-only, as a cached dependency.
    Shared,
    /// Unpacked into the container before it runs, as a download of the setup.
    Exclusive,
}

/// What kind of archive an image layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "definition::MediaType")]
pub(super) enum MediaType {
    /// A gzipped tar archive.
    Tgz,
    /// A tar archive.
    Tar,
    /// A zip archive.
    Zip,
}

/// The protocol of a security group rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "definition::Protocol")]
pub(super) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// ICMP of version 6.
    Icmpv6,
    /// Every protocol.
    All,
}

/// What may be done with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Enum)]
#[graphql(remote = "definition::VolumeMode")]
pub(super) enum VolumeMode {
    /// It may be read.
    #[default]
    Read,
    /// It may be read and written.
    ReadWrite,
}
