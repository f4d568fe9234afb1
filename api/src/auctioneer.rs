//! The auctioneer: what waits and what the cells have left, through the pure auction, to commands.
//!
//! Remembers nothing: a placement that fails is tried again when the view has changed, a task's
//! not before its pause is over.

use domain::{
    auction::{self, Failure, Settings},
    command::Command,
    id::InstanceGuid,
    units::Timestamp,
};
use projections::world::World;

use crate::{presence_watch::PRESENCE_TIME_TO_LIVE, reconciler};

/// The commands that place what waits, or note why it cannot be placed: as many as are submitted
/// together.
pub fn step(
    world: &World,
    now: Timestamp,
    settings: &Settings,
    mut new_instance_guid: impl FnMut() -> InstanceGuid,
) -> Vec<Command> {
    let waiting = world.auction_queue().waiting();
    if waiting.is_empty() {
        return Vec::new();
    }
    let outcome = auction::step(auction::Step {
        waiting,
        now,
        decisions_max: reconciler::COMMANDS_MAX,
        cells: world.cell_capacity().cells(),
        settings: paced(settings, world, now),
        seen: world.position(),
    });
    let placed = outcome.placements.into_iter().map(|p| p.into_command(new_instance_guid()));
    let failed = outcome.failures.into_iter().filter_map(Failure::into_command);
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

#[cfg(test)]
mod tests {
    use domain::{
        bbs::{actual_lrp, task},
        testing::{desire, desire_task},
    };

    use super::*;
    use crate::{clock, testing::InMemory};

    fn planned(inner: &InMemory, settings: &Settings) -> Vec<Command> {
        let now = inner.control_plane.clock.now();
        let step = |world: &World| step(world, now, settings, clock::new_instance_guid);
        inner.control_plane.now.read(step)
    }

    /// A cell of 10 containers, and a wish for 12 instances: two have no room.
    #[tokio::test]
    async fn why_a_slot_waits_is_submitted_once_until_it_changes() {
        let inner = InMemory::start(1);
        inner.register("cell-1").await;
        inner.command(desire("web", 12)).await;
        for index in 0..12 {
            inner.create("web", index).await;
        }
        let settings = Settings::default();
        let is_failure = |command: &Command| {
            matches!(command, Command::ActualLrp(actual_lrp::Command::FailPlacement { .. }))
        };
        let first = planned(&inner, &settings);
        assert_eq!(first.iter().filter(|command| is_failure(command)).count(), 2);
        for command in first {
            inner.command(command).await;
        }

        assert_eq!(planned(&inner, &settings), []);

        let settings = Settings { starting_container_count_maximum: 1, ..settings };
        let again = planned(&inner, &settings);
        assert!(again.iter().all(is_failure) && again.len() == 2, "another reason: {again:?}");
    }

    /// Diego rejects a task that has to wait while others start; four times, and it fails.
    #[tokio::test]
    async fn a_task_is_not_rejected_because_others_are_starting() {
        let inner = InMemory::start(1);
        inner.register("cell-1").await;
        for task in ["t", "u"] {
            inner.command(desire_task(task)).await;
        }
        let settings = Settings { starting_container_count_maximum: 1, ..Settings::default() };
        for command in planned(&inner, &settings) {
            assert!(matches!(command, Command::Task(task::Command::Place { .. })), "{command:?}");
            inner.command(command).await;
        }

        for _ in 0..5 {
            assert_eq!(planned(&inner, &settings), []);
        }

        let waiting = |world: &World| {
            let tasks = world.aggregates().tasks();
            tasks
                .filter(|task| task.state == task::State::Pending)
                .map(|it| it.rejection_count)
                .collect()
        };
        let waiting: Vec<u32> = inner.control_plane.now.read(waiting);
        assert_eq!(waiting, [0]);
        assert_eq!(planned(&inner, &Settings::default()).len(), 1);
    }
}
