//! Task: runs once, at most; its client is told of its end at least once.
//!
//! As Diego's, but for these, on purpose:
//! - A rejection and the failure after too many of them are one decision (Diego: two transactions).
//! - A placed task is not auctioned again (Diego auctions what is pending every 30 s, also while an
//!   auction is in flight), and a started one is never rejected back to pending: it would run twice.
//! - A task whose cell is lost before it was started is placed again, as Diego's pending ones are,
//!   but at once; it counts as no rejection.
//! - A rejected or failed task is no longer on its cell's list (Diego leaves the cell's id behind).
//! - Nothing is deleted because it cannot be read: a node does not start on what it cannot decode.
//! - A task that ended without its cell's word is called back for at once (Diego: 30 s later).
//! - The answer that a callback URL gives is taken as Diego takes it: any status but 503 and 504 is
//!   an answer, and ends it. But the status is in the log, and a redirect is no answer.

mod command;
mod decide;
mod event;
mod resolve;
mod spec;
mod state;

pub use super::placement::RETRY_AFTER;
pub use command::{Calls, Command, TaskReference, TaskResult};
pub(crate) use decide::decide;
pub use event::{
    CallbackDelivered, CallbackFailed, Cancelled, Completed, DeleteReason, Deleted, Demoted,
    Desired, Event, Failed, Placed, PlacementFailed, PlacementLost, Refused, Released, Resolving,
    Started,
};
pub use spec::Spec;
pub(crate) use state::evolve;
pub use state::{
    Callback, CallbackOutcome, EXPIRE_COMPLETED_AFTER, EXPIRE_PENDING_AFTER, Ended, KICK_AFTER,
    RESULT_BYTES_MAX, RETRIES_MAX, State, Task,
};

#[cfg(test)]
mod callback_tests;
#[cfg(test)]
mod decide_tests;
