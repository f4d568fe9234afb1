//! What all edges for users share: who may ask ([`access`]) and what a request may cost
//! ([`limits`]).
//!
//! Refuses, and decides nothing. The cells' tokens are the cell gateway's.

pub mod access;
pub mod limits;
pub mod tokens;

pub use access::{Access, Caller, Denied};
