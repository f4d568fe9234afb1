//! The rules of a slot, as loops and users ask: [`super::reports`] judges what its cells say,
//! [`super::twins`] what stands beside the ordinary instance.
//!
//! Placing reads the cell's reservations as they are now, so that two auctioneers cannot
//! over-commit a cell.

use super::{
    ActualLrp, Command, Created, Event, InstancePresence, Placed, PlacementFailed, Removed,
    Restart, Retired, State, Suspected, TwinEnd, UnclaimReason, Unclaimed, UnclaimedReason,
    reports, twins, withdrawal,
};
use crate::{
    aggregates::Aggregates,
    auction::Candidates,
    bbs::{
        cell,
        placement::{Destination, Placement},
    },
    decide::Decision,
    exit::cut_reason,
    id::ActualLrpKey,
    log::StreamId,
    rejection::{Rejection, SlotTransition},
    units::Timestamp,
};

/// Judges a command against the slot, its wish and its cell.
pub(crate) fn decide(
    aggregates: &Aggregates,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    match command {
        Command::Create { key } => create(aggregates, key),
        Command::Place { key, instance_guid, cell_id, cell_epoch, candidates } => {
            let cell_epoch = *cell_epoch;
            let to = Destination { instance_guid, cell_id, cell_epoch, candidates };
            place(aggregates, key, to)
        }
        Command::FailPlacement { key, error, candidates } => {
            fail_placement(aggregates, key, error, candidates)
        }
        Command::Refuse { instance, reason } => reports::refuse(aggregates, instance, reason),
        Command::Claim { instance } => reports::claim(aggregates, instance),
        Command::Start { instance, net_info, is_ready } => {
            reports::start(aggregates, instance, net_info, *is_ready)
        }
        Command::SetReadiness { instance, is_ready } => {
            reports::set_readiness(aggregates, instance, *is_ready)
        }
        Command::Crash { instance, report } => reports::crash(aggregates, instance, report, now),
        Command::Remove { instance } => reports::remove(aggregates, instance),
        Command::RemoveKilled { instance, grace, evidence } => {
            reports::remove_killed(aggregates, instance, *grace, *evidence)
        }
        Command::Unclaim { key, reason } => unclaim(aggregates, key, *reason, now),
        Command::Evacuate { key } => twins::evacuate(aggregates, existing(aggregates, key)?, now),
        Command::SettleTwins { key } => twins::settle(aggregates, known(aggregates, key)?, now),
        Command::EndWithdrawal { key, instance_guid, cause } => {
            withdrawal::end(known(aggregates, key)?, instance_guid, cause, now)
        }
        Command::Retire { key } => {
            let mut decision = Decision::default();
            retire(aggregates, existing(aggregates, key)?, &mut decision);
            Ok(decision)
        }
    }
}

/// Stops a slot's instance, or removes the slot at once when it has none, or none that can be
/// reached. What stands beside it is of the slot no more, and leaves.
pub(crate) fn retire(aggregates: &Aggregates, slot: &ActualLrp, decision: &mut Decision) {
    if slot.is_stopping {
        return;
    }
    if slot.placement().is_none_or(|placement| aggregates.is_lost(placement)) {
        decision.append(removed(aggregates, slot));
        return;
    }
    twins::end_all(aggregates, slot, &TwinEnd::Undesired, decision);
    stop_ordinary(aggregates, slot, decision);
}

/// Stops a slot's ordinary instance; its routes go first.
pub(super) fn stop_ordinary(aggregates: &Aggregates, slot: &ActualLrp, decision: &mut Decision) {
    for instance in slot.instances().filter(|it| it.presence == InstancePresence::Ordinary) {
        withdrawal::start(aggregates, slot, &instance, decision);
    }
    decision.push(StreamId::ActualLrp(slot.key.clone()), Event::from(Retired {}));
}

/// The slot goes, with all that stands beside its ordinary instance.
pub(super) fn removed(aggregates: &Aggregates, slot: &ActualLrp) -> Decision {
    let mut decision = Decision::default();
    twins::end_all(aggregates, slot, &TwinEnd::Undesired, &mut decision);
    decision.push(StreamId::ActualLrp(slot.key.clone()), Event::from(Removed {}));
    decision
}

/// Whether the slot is one of those that are desired.
pub(super) fn is_desired(aggregates: &Aggregates, key: &ActualLrpKey) -> bool {
    let lrp = aggregates.desired_lrp(&key.process_guid);
    lrp.is_some_and(|lrp| key.index < lrp.instances)
}

fn create(aggregates: &Aggregates, key: &ActualLrpKey) -> Result<Decision, Rejection> {
    let lrp = aggregates.desired_lrp(&key.process_guid).ok_or_else(|| Rejection::NotFound {
        what: "desired LRP",
        id: key.process_guid.to_string(),
    })?;
    let is_there = aggregates.slot(key).is_some_and(|slot| !slot.is_removed());
    if key.index >= lrp.instances || is_there {
        return Ok(Decision::default());
    }
    Ok(one(key, Created { domain: lrp.domain.clone() }))
}

fn place(
    aggregates: &Aggregates,
    key: &ActualLrpKey,
    to: Destination<'_>,
) -> Result<Decision, Rejection> {
    let Destination { instance_guid, cell_id, cell_epoch, candidates } = to;
    let slot = existing(aggregates, key)?;
    let repeated = slot.placement().is_some_and(|p| p.instance_guid == *instance_guid);
    if repeated {
        return Ok(Decision::default());
    }
    if slot.state != State::Unclaimed {
        return Err(wrong_state(slot, SlotTransition::Placed));
    }
    let lrp = aggregates.desired_lrp(&key.process_guid).ok_or_else(|| Rejection::NotFound {
        what: "desired LRP",
        id: key.process_guid.to_string(),
    })?;
    let resources = lrp.resources();
    cell::check_room(aggregates, cell_id, cell_epoch, resources)?;
    Ok(one(
        key,
        Placed {
            instance_guid: instance_guid.clone(),
            cell_id: cell_id.clone(),
            cell_epoch,
            definition: lrp.definition.digest(),
            resources,
            candidates: candidates.clone(),
        },
    ))
}

fn fail_placement(
    aggregates: &Aggregates,
    key: &ActualLrpKey,
    error: &str,
    candidates: &Option<Box<Candidates>>,
) -> Result<Decision, Rejection> {
    let slot = existing(aggregates, key)?;
    if slot.state != State::Unclaimed {
        return Err(wrong_state(slot, SlotTransition::Failed));
    }
    let error = cut_reason(error);
    if slot.placement_error.as_ref() == Some(&error) {
        return Ok(Decision::default());
    }
    Ok(one(key, PlacementFailed { error, candidates: candidates.clone() }))
}

fn unclaim(
    aggregates: &Aggregates,
    key: &ActualLrpKey,
    reason: UnclaimReason,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let slot = existing(aggregates, key)?;
    let is_due = match (reason, &slot.state) {
        (UnclaimReason::BackOffOver, State::Crashed(Restart::NotBefore(instant))) => {
            now >= *instant
        }
        (UnclaimReason::CellLost, _) => {
            slot.placement().is_some_and(|placement| aggregates.is_lost(placement))
        }
        (
            UnclaimReason::BackOffOver,
            State::Unclaimed
            | State::Placed(_)
            | State::Claimed(_)
            | State::Running(_)
            | State::Crashed(_)
            | State::Removed,
        ) => false,
    };
    if !is_due {
        return Err(wrong_state(slot, SlotTransition::Unclaimed));
    }
    if slot.is_stopping {
        return Ok(removed(aggregates, slot));
    }
    Ok(match (reason, &slot.state) {
        (UnclaimReason::BackOffOver, _) => {
            one(key, Unclaimed { reason: UnclaimedReason::BackOffOver })
        }
        (UnclaimReason::CellLost, State::Claimed(placement)) => {
            lose_cell(aggregates, slot, placement)
        }
        (UnclaimReason::CellLost, State::Running(running)) => {
            lose_cell(aggregates, slot, &running.placement)
        }
        (
            UnclaimReason::CellLost,
            State::Unclaimed | State::Placed(_) | State::Crashed(_) | State::Removed,
        ) => one(key, Unclaimed { reason: UnclaimedReason::CellLost }),
    })
}

/// The instance may still run there: it is suspect, unless another one is already, which has run
/// for longer.
fn lose_cell(aggregates: &Aggregates, slot: &ActualLrp, placement: &Placement) -> Decision {
    if slot.suspect.is_some() || aggregates.is_replaced(placement) {
        return one(&slot.key, Unclaimed { reason: UnclaimedReason::CellLost });
    }
    let Placement { instance_guid, cell_id, .. } = placement.clone();
    one(&slot.key, Suspected { instance_guid, cell_id })
}

/// The slot, if there is one.
fn existing<'a>(
    aggregates: &'a Aggregates,
    key: &ActualLrpKey,
) -> Result<&'a ActualLrp, Rejection> {
    known(aggregates, key)
        .and_then(|slot| if slot.is_removed() { Err(not_found(key)) } else { Ok(slot) })
}

/// The slot, also when it is gone and its last instances leave.
fn known<'a>(aggregates: &'a Aggregates, key: &ActualLrpKey) -> Result<&'a ActualLrp, Rejection> {
    aggregates.slot(key).ok_or_else(|| not_found(key))
}

fn not_found(key: &ActualLrpKey) -> Rejection {
    Rejection::NotFound { what: "actual LRP", id: key.to_string() }
}

pub(super) fn wrong_state(slot: &ActualLrp, wanted: SlotTransition) -> Rejection {
    Rejection::InvalidTransition {
        what: "actual LRP",
        id: slot.key.to_string(),
        from: slot.state_name(),
        wanted,
    }
}

pub(super) fn one(key: &ActualLrpKey, event: impl Into<Event>) -> Decision {
    let mut decision = Decision::default();
    decision.push(StreamId::ActualLrp(key.clone()), event.into());
    decision
}
