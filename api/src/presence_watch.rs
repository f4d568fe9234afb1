//! The presence watch: cells that were not heard for a whole presence time to live are lost.
//!
//! After a start or a pause of the control plane every cell gets one full time to live before it
//! can be lost.

use domain::{
    bbs::cell::{self, Registration},
    command::Command,
    id::CellId,
    log::CellEpoch,
    units::Milliseconds,
};
use projections::{presence::Presence, world::World};

/// How long a cell may be silent (Diego's `lock_ttl`).
pub const PRESENCE_TIME_TO_LIVE: Milliseconds = Milliseconds::from_seconds(15);

/// How often a cell is to be heard: three times in one time to live.
pub const HEARTBEAT_INTERVAL: Milliseconds = Milliseconds(PRESENCE_TIME_TO_LIVE.0 / 3);

/// The commands that lose the silent cells. `now` is monotonic.
#[must_use]
pub fn step(world: &World, presence: &mut Presence, node: &str, now: Milliseconds) -> Vec<Command> {
    presence.look(now, PRESENCE_TIME_TO_LIVE);
    for cell in world.aggregates().cells() {
        if let cell::Presence::Present { since } = cell.presence {
            presence.note_coming(&cell.cell_id, (cell.cell_epoch, since), now);
        }
    }
    world
        .aggregates()
        .cells()
        .filter(|cell| cell.is_present())
        .filter(|cell| presence.is_overdue(&cell.cell_id, now, PRESENCE_TIME_TO_LIVE))
        .map(|cell| {
            cell::Command::Lose {
                cell_id: cell.cell_id.clone(),
                last_heard_at: presence.last_heard(&cell.cell_id).unwrap_or_default(),
                heard_by: node.to_owned(),
            }
            .into()
        })
        .collect()
}

/// The session that a machine has as a cell: its epoch, and the highest sequence of its reports
/// that left an event. `None` when another machine has taken the id since it registered.
#[must_use]
pub fn session_of(
    world: &World,
    cell_id: &CellId,
    registration: &Registration,
) -> Option<(CellEpoch, u64)> {
    let cell = world.aggregates().cell(cell_id)?;
    let is_it = cell.registration.machine_id == registration.machine_id;
    is_it.then_some((cell.cell_epoch, cell.reports_seen))
}

/// Whether a machine that registers is its cell's voice. One that comes with the id of another,
/// live machine is not: its tries must not keep that one from being lost.
#[must_use]
pub fn is_voice_of(world: &World, cell_id: &CellId, registration: &Registration) -> bool {
    world.aggregates().cell(cell_id).is_none_or(|cell| {
        !cell.is_present() || cell.registration.machine_id == registration.machine_id
    })
}

#[cfg(test)]
mod tests {
    use domain::{
        bbs::cell::Registered,
        log::{Position, Stamp},
        testing::{cell_id, given, on_cell, registration},
        units::Timestamp,
    };

    use super::*;

    #[test]
    fn a_machine_that_lost_its_id_meanwhile_does_not_share_the_others_session() {
        let registered = |epoch, machine| {
            let registration = Box::new(registration(machine));
            on_cell("cell-1", Registered { cell_epoch: CellEpoch(epoch), registration })
        };
        let story = given([registered(1, 1), registered(2, 2)]);
        let stamp = Stamp { position: Position(2), recorded_at: Timestamp(0) };
        let world = World::of(story.aggregates, stamp);
        let session = |machine| session_of(&world, &cell_id("cell-1"), &registration(machine));

        assert_eq!((session(1), session(2)), (None, Some((CellEpoch(2), 0))));
    }
}
