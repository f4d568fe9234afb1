//! Routes go before SIGTERM comes: an instance that serves and is to be stopped loses its routes
//! first, and its cell is told to stop it only when every living router has followed, or after
//! [`WITHDRAWAL_MAX`].
//!
//! Which routers live, and how far they have followed, is known to the loop that ends a
//! withdrawal; that it ended, and why, is an event like any other.

use super::{ActualLrp, Event, Instance, WithdrawalEnd, WithdrawalEnded, WithdrawalStarted};
use crate::{
    aggregates::Aggregates,
    bbs::actual_lrp::decide::one,
    decide::Decision,
    id::InstanceGuid,
    log::StreamId,
    rejection::{Rejection, SlotTransition},
    units::{Milliseconds, Timestamp},
};

use super::decide::wrong_state;

/// How long an instance without routes waits for routers that do not follow.
pub const WITHDRAWAL_MAX: Milliseconds = Milliseconds::from_seconds(5);
/// How many routers that had not followed an event names.
pub const MISSING_ROUTERS_MAX: usize = 16;

/// Takes the routes of an instance that is to be stopped, if it has some. Comes before the event
/// that stops it: at no position is a served instance its cell's to stop.
pub(super) fn start(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    instance: &Instance<'_>,
    decision: &mut Decision,
) {
    let serves = instance.running.is_some_and(|running| running.is_ready);
    let lrp = aggregates.desired_lrp(&slot.key.process_guid);
    let has_routes = lrp.is_some_and(|lrp| !lrp.routes.is_empty());
    let is_reached = !aggregates.is_lost(instance.placement);
    if serves && has_routes && is_reached && !instance.is_stopping && !instance.is_withdrawing {
        let instance_guid = instance.placement.instance_guid.clone();
        let cell_id = instance.placement.cell_id.clone();
        let started = WithdrawalStarted { instance_guid, cell_id };
        decision.push(StreamId::ActualLrp(slot.key.clone()), Event::from(started));
    }
}

/// Lets an instance be stopped. One that does not wait for it, or is gone, is as it should be.
pub(super) fn end(
    slot: &ActualLrp,
    instance_guid: &InstanceGuid,
    cause: &WithdrawalEnd,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let waits = slot.withdrawing.iter().find(|it| it.instance_guid == *instance_guid);
    let Some(withdrawing) = waits else { return Ok(Decision::default()) };
    let cause = match cause {
        WithdrawalEnd::TimedOut { .. } if now < withdrawing.since.plus(WITHDRAWAL_MAX) => {
            return Err(wrong_state(slot, SlotTransition::Settled));
        }
        WithdrawalEnd::TimedOut { missing } => {
            let missing = missing.iter().take(MISSING_ROUTERS_MAX).cloned().collect();
            WithdrawalEnd::TimedOut { missing }
        }
        seen @ WithdrawalEnd::Seen { .. } => seen.clone(),
    };
    Ok(one(&slot.key, WithdrawalEnded { instance_guid: instance_guid.clone(), cause }))
}
