//! Tasks: desired, followed, dealt with ([`lifecycle`]), and how they stand ([`read`]).

pub(super) mod lifecycle;
pub(super) mod read;
pub(super) mod rows;
