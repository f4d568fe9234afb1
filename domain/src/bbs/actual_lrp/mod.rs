//! Actual LRP: one slot of a desired LRP and the instance that fills it.

mod command;
mod crash;
mod decide;
mod event;
mod state;

pub use command::{Command, CrashReport, InstanceReference, UnclaimReason};
pub use crash::{
    BACK_OFF_FIRST, BACK_OFF_MAX, CRASH_COUNT_RESET_AFTER, IMMEDIATE_RESTARTS, RESTARTS_MAX,
    Restart, restart,
};
pub(crate) use decide::{decide, retire};
pub use event::{
    Claimed, Crashed, Created, Event, Placed, PlacementFailed, Refused, Removed, Retired, Started,
    Unclaimed,
};
pub(crate) use state::evolve;
pub use state::{ActualLrp, LastCrash, NetInfo, Running, State};

#[cfg(test)]
mod decide_tests;
