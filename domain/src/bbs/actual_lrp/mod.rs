//! Actual LRP: one slot of a desired LRP and the instance that fills it.

mod command;
mod crash;
mod decide;
mod event;
mod evolve;
mod reports;
mod state;
mod twins;
mod withdrawal;

pub use command::{Command, CrashReport, InstanceReference, UnclaimReason};
pub use crash::{CRASH_COUNT_RESET_AFTER, Restart, policy_of};
pub(crate) use decide::{decide, retire};
pub use event::{
    Claimed, Crashed, Created, EvacuationEnded, EvacuationStarted, Event, Killed, LeavingEnd, Left,
    Placed, PlacementFailed, ReadinessChanged, Refused, Removed, Retired, Started, SuspectRemoved,
    SuspectRestored, Suspected, TwinCrashed, TwinEnd, Unclaimed, UnclaimedReason, WithdrawalEnd,
    WithdrawalEnded, WithdrawalStarted,
};
pub(crate) use evolve::evolve;
pub use state::{
    ActualLrp, Instance, InstancePresence, LEAVING_MAX, LastCrash, Leaving, NetInfo, Running,
    State, Twin, TwinState, Withdrawing,
};
pub(crate) use twins::{away, evacuation};
pub use withdrawal::{MISSING_ROUTERS_MAX, WITHDRAWAL_MAX};

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod leaving_tests;
#[cfg(test)]
mod readiness_tests;
#[cfg(test)]
mod twins_tests;
#[cfg(test)]
mod withdrawal_tests;
