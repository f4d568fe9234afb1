//! Instances of desired LRPs: how they stand, for clients ([`read`], [`groups`]), and what agents of
//! cells say of them ([`lifecycle`], [`evacuation`]).

pub(super) mod evacuation;
pub(super) mod groups;
pub(super) mod lifecycle;
pub(super) mod read;
mod reference;
pub(super) mod rows;
