//! The presence watch: cells that were not heard for a whole presence time to live are lost.
//!
//! After a start or a pause of the control plane every cell gets one full time to live before it
//! can be lost.

use domain::{
    bbs::cell::{self, Registration},
    command::Command,
    id::CellId,
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

/// Whether a machine that registers is its cell's voice. One that comes with the id of another,
/// live machine is not: its tries must not keep that one from being lost.
#[must_use]
pub fn is_voice_of(world: &World, cell_id: &CellId, registration: &Registration) -> bool {
    world.aggregates().cell(cell_id).is_none_or(|cell| {
        !cell.is_present() || cell.registration.machine_id == registration.machine_id
    })
}
