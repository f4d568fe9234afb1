//! What runs inside containers, and the rootfs that holds it.
//!
//! The one static binary under other names: told apart by its first argument before any runtime
//! starts. Nothing here knows Garden, or talks to the control plane.

pub mod healthcheck;
mod probe;
pub mod rootfs;
pub mod sample_app;
