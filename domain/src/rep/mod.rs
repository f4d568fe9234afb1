//! Rep: what a cell should hold, what it says about it, and the pure plan between the two.
//!
//! These types are also the wire between a cell and the control plane.

mod assignment;
mod evidence;
mod plan;
mod report;
mod wire;

pub use assignment::{Assignment, Wanted, Work, WorkKind, WorkReference};
pub use evidence::{Evidence, Peaks, Probe, SeenProcess};
pub use plan::{Held, Operation, Phase, plan};
pub use report::{Ended, Killed, NumberedReport, Observed, Report};
pub use wire::{
    Health, HeartbeatAnswer, HeartbeatRequest, ObservationsAnswer, ObservationsRequest,
    PROTOCOL_VERSION, RefusedReport, RegisterAnswer, RegisterRequest, ReportsAnswer,
    ReportsRequest, understands,
};
