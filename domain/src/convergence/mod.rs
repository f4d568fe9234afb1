//! Convergence: what must be asked so that the actual state becomes the desired one.
//!
//! [`Discrepancies`] is an index over the live aggregates that a view keeps stream by stream;
//! [`plan()`] turns it into commands; [`next_due`] says when time alone will add one. Nothing is
//! remembered between two plans, and planning twice is harmless: each command is judged anew.
//!
//! Better than Diego on purpose: missing indices are compared, not counted, and only a cell's own
//! record can lose it, so that an empty list of cells dooms nothing.

mod discrepancies;
mod places;
mod plan;
mod report;

pub use discrepancies::{Discrepancies, SlotDiscrepancy, TaskDiscrepancy, TwinDiscrepancy};
pub use plan::{commands, next_due, plan};
pub use report::{CrashedSlot, EvacuatingSlot, ExtraSlot, LostWork, Report, UnplacedWork};

#[cfg(test)]
mod tests;
