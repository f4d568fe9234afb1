//! The auctioneer: what waits and what the cells have left, through the pure auction, to commands.
//!
//! Remembers nothing: a placement that fails is tried again when the view has changed, a task's
//! not before its pause is over.

use domain::{
    auction::{self, Failure, Input, Settings},
    command::Command,
    id::InstanceGuid,
    rep::WorkKind,
    units::Timestamp,
};
use projections::world::World;

use crate::presence_watch::PRESENCE_TIME_TO_LIVE;

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
    let settings = paced(settings, world, now);
    let outcome = auction::schedule(Input {
        auctions: world.auction_queue().auctions(world.aggregates(), now),
        cells: world.cell_capacity().cells(),
        settings,
        seen: world.position(),
    });
    let placed = outcome.placements.into_iter().map(|p| p.into_command(new_instance_guid()));
    let failed = outcome.failures.into_iter().filter(|failure| !is_noted(world, failure));
    let failed = failed.filter_map(Failure::into_command);
    placed.chain(failed).collect()
}

/// The settings, with the pace at which the work of many lost cells is placed again.
fn paced(settings: &Settings, world: &World, now: Timestamp) -> Settings {
    let pace = auction::paced_starting_maximum(world.aggregates(), PRESENCE_TIME_TO_LIVE, now);
    let Some(pace) = pace else { return *settings };
    let limit = match settings.starting_container_count_maximum {
        0 => pace,
        limit => limit.min(pace),
    };
    Settings { starting_container_count_maximum: limit, ..*settings }
}

/// Whether a slot shows already why it waits: said again, it would be judged for nothing.
fn is_noted(world: &World, failure: &Failure) -> bool {
    let WorkKind::Lrp(key) = &failure.work else { return false };
    let shown = world.aggregates().slot(key).and_then(|slot| slot.placement_error.as_ref());
    shown.is_some_and(|shown| *shown == failure.error.to_string())
}
