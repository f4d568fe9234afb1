//! The auctioneer: what waits and what the cells have left, through the pure auction, to commands.
//!
//! Remembers nothing: a placement that fails is tried again when the view has changed, a task's
//! not before its pause is over.

use domain::{
    auction::{self, Failure, Input, Settings},
    command::Command,
    id::InstanceGuid,
    units::Timestamp,
};
use projections::world::World;

/// The commands that place what waits, or note why it cannot be placed.
pub fn step(
    world: &World,
    now: Timestamp,
    settings: &Settings,
    mut new_instance_guid: impl FnMut() -> InstanceGuid,
) -> Vec<Command> {
    if world.auction_queue().is_empty() {
        return Vec::new();
    }
    let outcome = auction::schedule(Input {
        auctions: world.auction_queue().auctions(world.aggregates(), now),
        cells: world.cell_capacity().cells(),
        settings: *settings,
        seen: world.position(),
    });
    let placed = outcome.placements.into_iter().map(|p| p.into_command(new_instance_guid()));
    let failed = outcome.failures.into_iter().filter_map(Failure::into_command);
    placed.chain(failed).collect()
}
