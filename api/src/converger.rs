//! The converger: what differs between desired and actual, through the pure plan, to commands.

use domain::{command::Command, convergence, units::Timestamp};
use projections::world::World;

use crate::reconciler;

/// The commands that bring actual closer to desired: as many as are submitted together.
#[must_use]
pub fn step(world: &World, now: Timestamp) -> Vec<Command> {
    let commands = convergence::commands(world.discrepancies(), world.aggregates(), now);
    commands.take(reconciler::COMMANDS_MAX).collect()
}
