//! The runtime side: what Diego's BBS keeps. Rules only.
//!
//! Never names an app, a space or anything else of Cloud Controller's.

pub mod actual_lrp;
pub mod cell;
pub mod definition;
pub mod desired_lrp;
pub mod freshness_domain;
pub mod held_definition;
pub mod placement;
pub mod restart_policy;
pub mod rootfs;
pub mod task;

#[cfg(test)]
mod spec_tests;
