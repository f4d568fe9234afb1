//! Cell: a machine that holds containers, as the control plane knows it.

mod command;
mod decide;
mod event;
mod state;

pub use command::{
    Command, EVACUATION_TIMEOUT, EVACUATION_TIMEOUT_MAX, INSTANCES_AWAY_MAX, Registration,
};
pub(crate) use decide::{check_room, decide};
pub use event::{
    Evacuated, EvacuationCancelled, EvacuationStarted, Event, HealthChanged, Lost, Registered,
    Returned,
};
pub(crate) use state::evolve;
pub use state::{Cell, Evacuation, Presence};

#[cfg(test)]
mod decide_tests;
