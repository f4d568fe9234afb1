//! The auctioneer: what waits and what the cells have left, through the pure auction, to commands.
//!
//! Remembers nothing: a placement that fails is tried again when the view has changed, a task's
//! not before its pause is over.

use domain::{
    auction::{self, Failure, Input, Placement, PlacementError, Settings},
    bbs::{actual_lrp, task},
    command::Command,
    id::InstanceGuid,
    rep::WorkKind,
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
        cells: world.cell_capacity().cell_states(world.aggregates()),
        settings: *settings,
    });
    let placed = outcome.placements.into_iter().map(|p| place(p, new_instance_guid()));
    let failed = outcome.failures.into_iter().filter_map(fail);
    placed.chain(failed).collect()
}

fn place(placement: Placement, instance_guid: InstanceGuid) -> Command {
    let Placement { work, cell_id, cell_epoch } = placement;
    match work {
        WorkKind::Lrp(key) => {
            actual_lrp::Command::Place { key, instance_guid, cell_id, cell_epoch }.into()
        }
        WorkKind::Task(task_guid) => {
            task::Command::Place { task_guid, instance_guid, cell_id, cell_epoch }.into()
        }
    }
}

/// Better than Diego on purpose: a task that no cell at all was there for was not rejected. It
/// waits, and is placed as soon as one registers.
fn fail(failure: Failure) -> Option<Command> {
    let error = failure.error.to_string();
    match (failure.work, failure.error) {
        (WorkKind::Lrp(key), _) => Some(actual_lrp::Command::FailPlacement { key, error }.into()),
        (WorkKind::Task(_), PlacementError::NoCells) => None,
        (
            WorkKind::Task(task_guid),
            PlacementError::Rootfs
            | PlacementError::PlacementTags(_)
            | PlacementError::InFlightLimit
            | PlacementError::InsufficientResources(_),
        ) => Some(task::Command::FailPlacement { task_guid, error }.into()),
    }
}
