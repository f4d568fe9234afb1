//! The converger: what differs between desired and actual, through the pure plan, to commands.

use domain::{command::Command, convergence, units::Timestamp};
use projections::world::World;

/// The commands that bring actual closer to desired.
#[must_use]
pub fn step(world: &World, now: Timestamp) -> Vec<Command> {
    convergence::plan(world.discrepancies(), world.aggregates(), now)
}
