//! Why nothing could be placed, in Diego's exact words: Cloud Foundry's users search for them.

use std::{collections::BTreeSet, fmt};

use super::Lacking;

/// Why a slot or a task could not be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacementError {
    /// There is no cell at all.
    NoCells,
    /// No cell has the root file system.
    Rootfs,
    /// Cells have the root file system, and none fits these placement tags.
    PlacementTags(BTreeSet<String>),
    /// As many containers are starting as may.
    InFlightLimit,
    /// Every compatible cell lacks these; empty when no amount is lacking on all of them.
    InsufficientResources(Lacking),
}

impl std::error::Error for PlacementError {}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCells => f.write_str("unable to communicate to compatible cells"),
            Self::Rootfs => f.write_str("found no compatible cell for required rootfs"),
            Self::PlacementTags(tags) => {
                write!(f, "found no compatible cell with {}", Tags(tags))
            }
            Self::InFlightLimit => {
                f.write_str("waiting to start instance: reached in-flight start limit")
            }
            Self::InsufficientResources(lacking) if lacking.is_nothing() => {
                f.write_str("insufficient resources")
            }
            Self::InsufficientResources(lacking) => {
                write!(f, "insufficient resources: {lacking}")
            }
        }
    }
}

/// `no placement tags`, `placement tag "a"`, `placement tags "a", "b" and "c"`.
struct Tags<'a>(&'a BTreeSet<String>);

impl fmt::Display for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<String> = self.0.iter().map(|tag| format!("\"{tag}\"")).collect();
        match quoted.as_slice() {
            [] => f.write_str("no placement tags"),
            [only] => write!(f, "placement tag {only}"),
            [first @ .., last] => write!(f, "placement tags {} and {last}", first.join(", ")),
        }
    }
}
