//! The machines: containers on Linux, the process that keeps each of them, and what runs inside.
//!
//! `garden` makes containers and never names an action, an LRP or a Task. `shim` is the small
//! process that outlives the agent, one per container. `lifecycle` runs inside containers.
//! `rep` follows the assignment and reports; `executor` runs what `rep` orders; `agent` puts all
//! of it together.
//! This crate holds no database and never talks SQL: it reaches the control plane over HTTP only.

pub mod agent;
mod archive;
pub mod clock;
pub mod config;
pub mod control_plane;
mod durable_file;
mod executor;
pub mod garden;
mod go_duration;
pub mod identity;
pub mod lifecycle;
mod rep;
mod retry;
pub mod shim;
mod supervise;

pub use rep::StorageError;
