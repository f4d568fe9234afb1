//! What a cell takes at all: its root file systems first, then its placement tags.
//!
//! Never looks at amounts: those change while a round goes on, these do not.

use std::collections::BTreeSet;

use super::{Constraint, PlacementError, Refusal};
use crate::{bbs::cell::Registration, id::Zone};

/// What a cell takes, and where it is. Many cells offer the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// Its availability zone.
    pub zone: Zone,
    /// The names of its preloaded root file systems.
    pub preloaded_rootfses: BTreeSet<String>,
    /// Tags that a definition must carry to be placed here.
    pub placement_tags: BTreeSet<String>,
    /// Tags that a definition may carry to be placed here.
    pub optional_placement_tags: BTreeSet<String>,
}

/// What of a cell does not fit, in Diego's order of looking: the later, the further it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mismatch {
    Rootfs,
    PlacementTags,
}

impl Offer {
    /// What a cell takes by what it registered.
    #[must_use]
    pub fn of(registration: &Registration) -> Self {
        Self {
            zone: registration.zone.clone(),
            preloaded_rootfses: registration.preloaded_rootfses.clone(),
            placement_tags: registration.placement_tags.clone(),
            optional_placement_tags: registration.optional_placement_tags.clone(),
        }
    }

    /// Why something cannot be placed on such a cell; none when it can.
    pub(super) fn mismatch(&self, constraint: &Constraint) -> Option<Mismatch> {
        if !self.preloaded_rootfses.contains(constraint.rootfs.preloaded_name()) {
            return Some(Mismatch::Rootfs);
        }
        (!self.fits_tags(&constraint.placement_tags)).then_some(Mismatch::PlacementTags)
    }

    /// All that the cell requires is there, and nothing that it neither requires nor allows.
    fn fits_tags(&self, tags: &BTreeSet<String>) -> bool {
        self.placement_tags.is_subset(tags)
            && tags.iter().all(|tag| {
                self.placement_tags.contains(tag) || self.optional_placement_tags.contains(tag)
            })
    }
}

impl Mismatch {
    /// The reason for which a cell is refused.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Rootfs => Refusal::Rootfs,
            Self::PlacementTags => Refusal::PlacementTags,
        }
    }

    /// The error when no cell got further than this.
    pub(super) fn error(self, constraint: &Constraint) -> PlacementError {
        match self {
            Self::Rootfs => PlacementError::Rootfs,
            Self::PlacementTags => PlacementError::PlacementTags(constraint.placement_tags.clone()),
        }
    }
}
