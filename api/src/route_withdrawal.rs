//! The route withdrawal: an instance that lost its routes is its cell's to stop once every router
//! that lives leads to it no more, or time ran out.

use domain::{
    bbs::actual_lrp::{self, WITHDRAWAL_MAX, WithdrawalEnd},
    command::Command,
    units::{Milliseconds, Timestamp},
};
use projections::{
    presence::{Followed, Routers},
    world::World,
};

use crate::reconciler;

/// The commands that let instances be stopped. `now` is wall time, `monotonic` that of the routers.
#[must_use]
pub fn step(
    world: &World,
    routers: &Routers,
    now: Timestamp,
    monotonic: Milliseconds,
) -> Vec<Command> {
    let slots = world.discrepancies().withdrawing().filter_map(|key| world.aggregates().slot(key));
    let waiting = slots.flat_map(|slot| slot.withdrawing.iter().map(move |it| (&slot.key, it)));
    let commands = waiting.filter_map(|(key, waits)| {
        let cause = match routers.followed(waits.position, monotonic) {
            Followed::All(routers) => WithdrawalEnd::Seen { routers },
            Followed::Missing(missing) if now >= waits.since.plus(WITHDRAWAL_MAX) => {
                WithdrawalEnd::TimedOut { missing }
            }
            Followed::Missing(_) => return None,
        };
        let (key, instance_guid) = (key.clone(), waits.instance_guid.clone());
        Some(actual_lrp::Command::EndWithdrawal { key, instance_guid, cause }.into())
    });
    commands.take(reconciler::COMMANDS_MAX).collect()
}
