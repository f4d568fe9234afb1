//! Wishes: desired, changed and taken back ([`lifecycle`]), and how they stand ([`read`]).

pub(super) mod lifecycle;
pub(super) mod read;
