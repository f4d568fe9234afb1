//! What stands beside a slot's ordinary instance: a suspect one, whose cell is lost and which may
//! still run there, and an evacuating one, which runs on until the ordinary one does.
//!
//! Whatever ends as one of a slot's instances while its cell is there leaves: it serves no more, and
//! stays on its cell's list, to be stopped, until the cell says that it is gone. The slot's own life
//! waits for none of that. What a lost cell comes back with is on no list, and is stopped unseen.
//!
//! Better than Diego on purpose: an instance that is not healthy yet is not recorded as running
//! when its cell is evacuated, a suspect ends in the same batch in which its replacement becomes
//! healthy, and of one process guid a bounded number of instances is moved at a time.

use super::{
    ActualLrp, CrashReport, EvacuationEnded, EvacuationStarted, Instance, InstancePresence,
    LeavingEnd, Left, State, SuspectRemoved, SuspectRestored, TwinCrashed, TwinEnd, Unclaimed,
    UnclaimedReason,
    decide::{is_desired, one, retire, stop_ordinary, wrong_state},
    withdrawal,
};
use crate::{
    aggregates::Aggregates,
    bbs::{cell::Evacuation, definition::UpdateStrategy, placement::Placement},
    decide::Decision,
    exit::cut_reason,
    id::ProcessGuid,
    rejection::{Rejection, SlotTransition},
    units::Timestamp,
};

/// The evacuation that a placement has to give way to; none once its cell is lost or cancelled it.
pub(crate) fn evacuation<'a>(
    aggregates: &'a Aggregates,
    placement: &Placement,
) -> Option<&'a Evacuation> {
    let cell = aggregates.cell(&placement.cell_id)?;
    if aggregates.is_lost(placement) { None } else { cell.evacuation.as_ref() }
}

/// How many of the instances that are desired of a process are away from RUNNING, and may come
/// back: what is backing off or was given up is nothing to wait for.
pub(crate) fn away(aggregates: &Aggregates, process_guid: &ProcessGuid) -> u32 {
    let desired = aggregates.desired_lrp(process_guid).map_or(0, |lrp| lrp.instances);
    let slots = aggregates.slots_of(process_guid).take_while(|slot| slot.key.index < desired);
    let is_there = |slot: &&ActualLrp| match slot.state {
        State::Running(_) => !slot.is_stopping,
        State::Crashed(_) => true,
        State::Unclaimed | State::Placed(_) | State::Claimed(_) | State::Removed => false,
    };
    let there = slots.filter(is_there).count();
    desired.saturating_sub(u32::try_from(there).unwrap_or(u32::MAX))
}

/// Moves the ordinary instance off its cell. What is not healthy yet is placed anew at once; what
/// is healthy runs on until its replacement is, or under the strategy *recreate* is stopped first.
pub(super) fn evacuate(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let not_due = || wrong_state(slot, SlotTransition::Evacuated);
    let placement = slot.placement().filter(|_| !slot.is_stopping).ok_or_else(not_due)?;
    let evacuation = evacuation(aggregates, placement).ok_or_else(not_due)?;
    if !is_desired(aggregates, &slot.key) {
        let mut decision = Decision::default();
        retire(aggregates, slot, &mut decision);
        return Ok(decision);
    }
    if !matches!(slot.state, State::Running(_)) {
        return Ok(one(&slot.key, Unclaimed { reason: UnclaimedReason::Evacuated }));
    }
    let process_guid = &slot.key.process_guid;
    let is_within_budget = away(aggregates, process_guid) < evacuation.instances_away_max;
    if !is_within_budget && now < evacuation.forced_at() {
        return Err(Rejection::EvacuationBudget { process_guid: process_guid.clone() });
    }
    match strategy_of(aggregates, slot) {
        // The slot goes once its cell says that the instance did, and is made anew elsewhere.
        UpdateStrategy::Recreate => {
            let mut decision = Decision::default();
            stop_ordinary(aggregates, slot, &mut decision);
            Ok(decision)
        }
        UpdateStrategy::Rolling => Ok(start_evacuating(aggregates, slot, placement)),
    }
}

/// How what runs of a slot gives way to its replacement.
fn strategy_of(aggregates: &Aggregates, slot: &ActualLrp) -> UpdateStrategy {
    let lrp = aggregates.desired_lrp(&slot.key.process_guid);
    lrp.map_or_else(UpdateStrategy::default, |lrp| lrp.definition.shared().update_strategy)
}

/// One that is still evacuating makes room: the newer one serves as well.
fn start_evacuating(aggregates: &Aggregates, slot: &ActualLrp, placement: &Placement) -> Decision {
    let mut decision = Decision::default();
    let by = &placement.instance_guid;
    for older in of_presence(slot, InstancePresence::Evacuating) {
        decision.append(ended(aggregates, slot, older, TwinEnd::Replaced { by: by.clone() }));
    }
    let (instance_guid, cell_id) = (by.clone(), placement.cell_id.clone());
    decision.append(one(&slot.key, EvacuationStarted { instance_guid, cell_id }));
    decision
}

/// Ends what stands beside the ordinary instance and need not any more, or puts it back.
pub(super) fn settle(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::default();
    for leaving in of_presence(slot, InstancePresence::Leaving) {
        if aggregates.is_lost(leaving.placement) {
            decision.append(ended(aggregates, slot, leaving, TwinEnd::CellLost));
        }
    }
    for evacuating in of_presence(slot, InstancePresence::Evacuating) {
        let placement = evacuating.placement;
        if aggregates.is_lost(placement) {
            decision.append(ended(aggregates, slot, evacuating, TwinEnd::CellLost));
        } else if evacuation(aggregates, placement).is_some_and(|it| now >= it.ends_at) {
            decision.append(ended(aggregates, slot, evacuating, TwinEnd::TimedOut));
        }
    }
    if !decision.is_empty() {
        return Ok(decision);
    }
    for suspect in of_presence(slot, InstancePresence::Suspect) {
        if aggregates.is_replaced(suspect.placement) {
            decision.append(ended(aggregates, slot, suspect, TwinEnd::CellLost));
        }
        if aggregates.is_lost(suspect.placement) {
            continue;
        }
        if evacuation(aggregates, suspect.placement).is_some() {
            let may_run_on = strategy_of(aggregates, slot) == UpdateStrategy::Rolling;
            decision.append(if may_run_on && suspect.running.is_some() {
                start_evacuating(aggregates, slot, suspect.placement)
            } else {
                ended(aggregates, slot, suspect, TwinEnd::Evacuated)
            });
            continue;
        }
        let Placement { instance_guid, cell_id, .. } = suspect.placement.clone();
        let in_stead = slot.placement().map(|placement| placement.instance_guid.clone());
        let is_leaving = slot.placement().is_some_and(|placement| !aggregates.is_lost(placement));
        let by = instance_guid.clone();
        if is_leaving {
            for other in of_presence(slot, InstancePresence::Ordinary) {
                withdrawal::start(aggregates, slot, &other, &mut decision);
            }
        }
        let restored = SuspectRestored { instance_guid, cell_id, in_stead, is_leaving };
        decision.append(one(&slot.key, restored));
        // It may have become healthy unheard: then it is what the evacuating one waited for.
        for evacuating in of_presence(slot, InstancePresence::Evacuating) {
            if suspect.running.is_some() {
                decision.append(ended(
                    aggregates,
                    slot,
                    evacuating,
                    TwinEnd::Replaced { by: by.clone() },
                ));
            }
        }
    }
    if decision.is_empty() {
        return Err(wrong_state(slot, SlotTransition::Settled));
    }
    Ok(decision)
}

fn of_presence(slot: &ActualLrp, presence: InstancePresence) -> impl Iterator<Item = Instance<'_>> {
    slot.instances().filter(move |instance| instance.presence == presence)
}

/// An instance beside the ordinary one is one no more; nothing for the ordinary one. One that
/// leaves is done with once there is nothing left of it.
pub(super) fn ended(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    instance: Instance<'_>,
    cause: TwinEnd,
) -> Decision {
    let is_over = match cause {
        TwinEnd::Replaced { .. } | TwinEnd::Undesired | TwinEnd::Evacuated | TwinEnd::TimedOut => {
            None
        }
        TwinEnd::Gone => Some(LeavingEnd::Gone),
        TwinEnd::CellLost => Some(LeavingEnd::CellLost),
    };
    let is_leaving = is_over.is_none() && !aggregates.is_lost(instance.placement);
    let mut decision = Decision::default();
    if is_leaving && instance.presence != InstancePresence::Ordinary {
        withdrawal::start(aggregates, slot, &instance, &mut decision);
    }
    let Placement { instance_guid, cell_id, .. } = instance.placement.clone();
    decision.append(match instance.presence {
        InstancePresence::Ordinary => Decision::default(),
        InstancePresence::Evacuating => {
            one(&slot.key, EvacuationEnded { instance_guid, cell_id, cause, is_leaving })
        }
        InstancePresence::Suspect => {
            one(&slot.key, SuspectRemoved { instance_guid, cell_id, cause, is_leaving })
        }
        InstancePresence::Leaving => is_over.map_or_else(Decision::default, |cause| {
            one(&slot.key, Left { instance_guid, cell_id, cause })
        }),
    });
    decision
}

/// An instance beside the ordinary one ended by itself; one that leaves was asked to.
pub(super) fn crashed(slot: &ActualLrp, instance: Instance<'_>, report: &CrashReport) -> Decision {
    let Placement { instance_guid, cell_id, .. } = instance.placement.clone();
    match instance.presence {
        InstancePresence::Ordinary => Decision::default(),
        InstancePresence::Leaving => {
            one(&slot.key, Left { instance_guid, cell_id, cause: LeavingEnd::Gone })
        }
        presence @ (InstancePresence::Evacuating | InstancePresence::Suspect) => {
            let CrashReport { reason, exit, evidence } = report;
            let (reason, exit, evidence) = (cut_reason(reason).into(), *exit, *evidence);
            one(&slot.key, TwinCrashed { instance_guid, cell_id, presence, reason, exit, evidence })
        }
    }
}

/// Ends all that stands beside the ordinary instance.
pub(super) fn end_all(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    cause: &TwinEnd,
    decision: &mut Decision,
) {
    for instance in slot.instances() {
        decision.append(ended(aggregates, slot, instance, cause.clone()));
    }
}
