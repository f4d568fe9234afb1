//! Cell: a machine that holds containers, as the control plane knows it.

mod command;
mod decide;
mod event;
mod state;

pub use command::{Command, Registration};
pub(crate) use decide::{check_room, decide};
pub use event::{Event, Lost, Registered, Returned};
pub(crate) use state::evolve;
pub use state::{Cell, Presence};

#[cfg(test)]
mod decide_tests;
