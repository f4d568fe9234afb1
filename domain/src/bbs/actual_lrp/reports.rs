//! What a cell says about an instance.
//!
//! A report counts only for an instance that the slot still knows, with its placement: whoever
//! comes too late is told so and stops its container.

use super::{
    ActualLrp, CRASH_COUNT_RESET_AFTER, Claimed, CrashReport, Crashed, Instance, InstancePresence,
    InstanceReference, Killed, NetInfo, ReadinessChanged, Refused, Started, State, TwinEnd,
    Unclaimed, UnclaimedReason,
    crash::{policy_of, reason_of},
    decide::{is_desired, one, removed, wrong_state},
    twins,
};
use crate::{
    aggregates::Aggregates,
    decide::Decision,
    exit::cut_reason,
    rejection::{Rejection, SlotTransition},
    sealed::Digest,
    units::{Milliseconds, Timestamp},
};

pub(super) fn refuse(
    aggregates: &Aggregates,
    reference: &InstanceReference,
    reason: &str,
) -> Result<Decision, Rejection> {
    let (slot, instance) = present(aggregates, reference)?;
    if instance.presence != InstancePresence::Ordinary {
        return Ok(twins::ended(aggregates, slot, instance, TwinEnd::Gone));
    }
    if slot.is_stopping {
        return Ok(removed(aggregates, slot));
    }
    if instance.running.is_some() {
        return Err(wrong_state(slot, SlotTransition::Refused));
    }
    Ok(one(
        &slot.key,
        Refused {
            instance_guid: instance.placement.instance_guid.clone(),
            cell_id: instance.placement.cell_id.clone(),
            reason: cut_reason(reason),
        },
    ))
}

pub(super) fn claim(
    aggregates: &Aggregates,
    reference: &InstanceReference,
) -> Result<Decision, Rejection> {
    let (slot, instance) = present(aggregates, reference)?;
    match (instance.presence, &slot.state) {
        (InstancePresence::Ordinary, State::Placed(placement)) => {
            Ok(one(&slot.key, Claimed { instance_guid: placement.instance_guid.clone() }))
        }
        (
            InstancePresence::Ordinary
            | InstancePresence::Evacuating
            | InstancePresence::Suspect
            | InstancePresence::Leaving,
            State::Placed(_)
            | State::Claimed(_)
            | State::Running(_)
            | State::Unclaimed
            | State::Crashed(_)
            | State::Removed,
        ) => Ok(Decision::default()),
    }
}

/// The ordinary instance, once it may take requests, ends what stands beside it, in the same batch:
/// at no position of the log does a slot have two instances that serve for good.
pub(super) fn start(
    aggregates: &Aggregates,
    reference: &InstanceReference,
    net_info: &NetInfo,
    is_ready: bool,
) -> Result<Decision, Rejection> {
    let (slot, instance) = present(aggregates, reference)?;
    if instance.running.is_some_and(|running| running.net_info == *net_info) {
        return set_readiness(aggregates, reference, is_ready);
    }
    let is_moving = instance.presence == InstancePresence::Evacuating;
    if instance.is_stopping || is_moving {
        return Ok(Decision::default());
    }
    let instance_guid = instance.placement.instance_guid.clone();
    let mut decision =
        one(&slot.key, Started { instance_guid, net_info: net_info.clone(), is_ready });
    if is_ready {
        take_over(aggregates, slot, instance, &mut decision);
    }
    Ok(decision)
}

/// Of an instance that is not healthy yet nothing is noted: it says so when it becomes healthy.
pub(super) fn set_readiness(
    aggregates: &Aggregates,
    reference: &InstanceReference,
    is_ready: bool,
) -> Result<Decision, Rejection> {
    let (slot, instance) = present(aggregates, reference)?;
    if instance.running.is_none_or(|running| running.is_ready == is_ready) {
        return Ok(Decision::default());
    }
    let instance_guid = instance.placement.instance_guid.clone();
    let mut decision = one(&slot.key, ReadinessChanged { instance_guid, is_ready });
    if is_ready {
        take_over(aggregates, slot, instance, &mut decision);
    }
    Ok(decision)
}

/// What stands beside the ordinary instance is not needed any more. (Diego ends it when the ordinary
/// one is alive, which may not take requests yet.)
fn take_over(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    instance: Instance<'_>,
    decision: &mut Decision,
) {
    if instance.presence == InstancePresence::Ordinary && !instance.is_stopping {
        let by = instance.placement.instance_guid.clone();
        twins::end_all(aggregates, slot, &TwinEnd::Replaced { by }, decision);
    }
}

pub(super) fn crash(
    aggregates: &Aggregates,
    reference: &InstanceReference,
    report: &CrashReport,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let (slot, instance) = present(aggregates, reference)?;
    if instance.presence != InstancePresence::Ordinary {
        return Ok(twins::crashed(slot, instance, report));
    }
    if slot.is_stopping {
        return Ok(removed(aggregates, slot));
    }
    let ran_long =
        instance.running.is_some() && now.since(instance.since) > CRASH_COUNT_RESET_AFTER;
    let policy = policy_of(aggregates, slot);
    let crash_count = if ran_long { 1 } else { slot.crash_count.saturating_add(1) };
    Ok(one(
        &slot.key,
        Crashed {
            instance_guid: instance.placement.instance_guid.clone(),
            cell_id: instance.placement.cell_id.clone(),
            reason: reason_of(&policy, report).into(),
            exit: report.exit,
            crash_count,
            restart: policy.after(report, crash_count, now),
            evidence: report.evidence,
        },
    ))
}

/// A slot that is desired stays for its next instance while another one of it still runs.
pub(super) fn remove(
    aggregates: &Aggregates,
    reference: &InstanceReference,
) -> Result<Decision, Rejection> {
    let (slot, instance) = present(aggregates, reference)?;
    if instance.presence != InstancePresence::Ordinary {
        return Ok(twins::ended(aggregates, slot, instance, TwinEnd::Gone));
    }
    if slot.has_twin() && !slot.is_stopping && is_desired(aggregates, &slot.key) {
        return Ok(one(&slot.key, Unclaimed { reason: UnclaimedReason::Gone }));
    }
    Ok(removed(aggregates, slot))
}

/// The same, told with the kill. Of an instance that the slot gave up before its cell has stopped it
/// nothing is told.
pub(super) fn remove_killed(
    aggregates: &Aggregates,
    reference: &InstanceReference,
    grace: Milliseconds,
    evidence: Option<Digest>,
) -> Result<Decision, Rejection> {
    let removed = remove(aggregates, reference)?;
    let mut decision = one(
        &reference.key,
        Killed {
            instance_guid: reference.instance_guid.clone(),
            cell_id: reference.cell_id.clone(),
            grace_ms: grace,
            evidence,
        },
    );
    decision.append(removed);
    Ok(decision)
}

/// The slot and the instance that a report is about, while the slot knows it.
fn present<'a>(
    aggregates: &'a Aggregates,
    reference: &InstanceReference,
) -> Result<(&'a ActualLrp, Instance<'a>), Rejection> {
    let moved = || Rejection::PlacementMoved { instance_guid: reference.instance_guid.clone() };
    let slot = aggregates.slot(&reference.key).ok_or_else(moved)?;
    let instance = slot.instances().find(|instance| {
        let placement = instance.placement;
        placement.instance_guid == reference.instance_guid
            && placement.placement_epoch == reference.placement_epoch
            && placement.cell_id == reference.cell_id
            && placement.cell_epoch == reference.cell_epoch
    });
    instance.map(|instance| (slot, instance)).ok_or_else(moved)
}
