//! Task: runs once, at most.

mod command;
mod decide;
mod event;
mod spec;
mod state;

pub use super::placement::RETRY_AFTER;
pub use command::{Command, TaskReference, TaskResult};
pub(crate) use decide::decide;
pub use event::{
    Cancelled, Completed, Deleted, Desired, Event, Placed, PlacementFailed, Refused, Released,
    Started,
};
pub use spec::Spec;
pub(crate) use state::evolve;
pub use state::{EXPIRE_COMPLETED_AFTER, EXPIRE_PENDING_AFTER, Ended, RETRIES_MAX, State, Task};

#[cfg(test)]
mod decide_tests;
