//! How events make a slot what it is. Total: history is never refused.

use std::sync::Arc;

use super::{
    ActualLrp, Event, LEAVING_MAX, LastCrash, Leaving, ReadinessChanged, Restart, Running, Started,
    State, Twin, TwinState, UnclaimedReason, Withdrawing,
};
use crate::{
    bbs::placement::{Placement, RETRY_AFTER},
    id::{ActualLrpKey, InstanceGuid},
    log::{PlacementEpoch, Stamp},
};

/// Folds one event. Total: history is never refused.
pub(crate) fn evolve(
    state: &mut Option<Arc<ActualLrp>>,
    key: &ActualLrpKey,
    event: &Event,
    stamp: Stamp,
) {
    if let Event::Created(created) = event {
        // What is left of an earlier slot leaves on.
        let left = |before: Arc<ActualLrp>| (before.leaving.clone(), before.withdrawing.clone());
        let (leaving, withdrawing) = state.take().map(left).unwrap_or_default();
        *state = Some(Arc::new(ActualLrp {
            key: key.clone(),
            domain: created.domain.clone(),
            state: State::Unclaimed,
            since: stamp.recorded_at,
            is_stopping: false,
            crash_count: 0,
            last_crash: None,
            placement_error: None,
            suspect: None,
            evacuating: None,
            leaving,
            withdrawing,
            refused_until: None,
            last_position: stamp.position,
        }));
        return;
    }
    let Some(slot) = state.as_mut().map(Arc::make_mut) else { return };
    slot.last_position = stamp.position;
    // What is heard of a suspect says nothing of the ordinary instance.
    let is_of_slot = !matches!(
        event,
        Event::Started(started) if is_of_suspect(slot, &started.instance_guid)
    );
    move_twins(slot, event, stamp);
    if let Some(next) = next_state(slot, event, stamp) {
        slot.state = next;
        slot.since = stamp.recorded_at;
    }
    if is_of_slot {
        note(slot, event, stamp);
    }
    note_withdrawals(slot, event, stamp);
    if slot.is_removed() && slot.leaving.is_empty() {
        *state = None;
    }
}

/// The state that an event leads to, where it leads to one.
fn next_state(slot: &ActualLrp, event: &Event, stamp: Stamp) -> Option<State> {
    match event {
        Event::Placed(placed) => Some(State::Placed(Placement {
            instance_guid: placed.instance_guid.clone(),
            cell_id: placed.cell_id.clone(),
            cell_epoch: placed.cell_epoch,
            placement_epoch: PlacementEpoch(stamp.position),
            definition: placed.definition,
            resources: placed.resources,
        })),
        Event::Claimed(_) => slot.placement().cloned().map(State::Claimed),
        Event::Started(started) if is_of_suspect(slot, &started.instance_guid) => None,
        Event::Started(started) => slot.placement().cloned().map(|placement| {
            State::Running(Running {
                placement,
                net_info: started.net_info.clone(),
                is_ready: started.is_ready,
            })
        }),
        Event::Crashed(crashed) => Some(match crashed.restart {
            Restart::Immediately => State::Unclaimed,
            Restart::NotBefore(_) | Restart::Never => State::Crashed(crashed.restart),
        }),
        Event::Refused(_) | Event::Unclaimed(_) => Some(State::Unclaimed),
        Event::Removed(_) => Some(State::Removed),
        Event::Created(_)
        | Event::PlacementFailed(_)
        | Event::Retired(_)
        | Event::Left(_)
        | Event::Suspected(_)
        | Event::SuspectRestored(_)
        | Event::SuspectRemoved(_)
        | Event::TwinCrashed(_)
        | Event::EvacuationStarted(_)
        | Event::EvacuationEnded(_)
        | Event::ReadinessChanged(_)
        | Event::Killed(_)
        | Event::WithdrawalStarted(_)
        | Event::WithdrawalEnded(_) => None,
    }
}

/// Moves the instance that an event is about between the ordinary place, those beside it and those
/// that leave.
fn move_twins(slot: &mut ActualLrp, event: &Event, stamp: Stamp) {
    match event {
        Event::Suspected(_) => slot.suspect = leave_place(slot, stamp),
        Event::Started(started) => {
            let suspect = slot.suspect.as_mut();
            let suspect =
                suspect.filter(|it| it.placement().instance_guid == started.instance_guid);
            if let Some(suspect) = suspect {
                let placement = suspect.placement().clone();
                let Started { instance_guid: _, net_info, is_ready } = started.clone();
                suspect.state = TwinState::Running(Running { placement, net_info, is_ready });
                suspect.since = stamp.recorded_at;
            }
        }
        Event::EvacuationStarted(started) => {
            slot.evacuating = if is_of_suspect(slot, &started.instance_guid) {
                slot.suspect.take()
            } else {
                leave_place(slot, stamp)
            };
        }
        Event::SuspectRestored(restored) => {
            if restored.is_leaving {
                leave(slot, slot.placement().cloned(), stamp);
            }
            if let Some(suspect) = slot.suspect.take() {
                slot.state = match suspect.state {
                    TwinState::Claimed(placement) => State::Claimed(placement),
                    TwinState::Running(running) => State::Running(running),
                };
                slot.since = suspect.since;
                slot.placement_error = None;
                slot.refused_until = None;
            }
        }
        Event::SuspectRemoved(removed) => {
            let suspect = slot.suspect.take().filter(|_| removed.is_leaving);
            leave(slot, suspect.map(|twin| twin.placement().clone()), stamp);
        }
        Event::EvacuationEnded(ended) => {
            let evacuating = slot.evacuating.take().filter(|_| ended.is_leaving);
            leave(slot, evacuating.map(|twin| twin.placement().clone()), stamp);
        }
        Event::TwinCrashed(crashed) => {
            for twin in [&mut slot.suspect, &mut slot.evacuating] {
                twin.take_if(|twin| twin.placement().instance_guid == crashed.instance_guid);
            }
        }
        // It was made when its cell was told to give it up.
        Event::Unclaimed(unclaimed) if unclaimed.reason == UnclaimedReason::Evacuated => {
            leave(slot, slot.placement().cloned(), stamp);
        }
        Event::Left(left) => {
            slot.leaving.retain(|it| it.placement.instance_guid != left.instance_guid);
        }
        Event::Removed(_) => (slot.suspect, slot.evacuating) = (None, None),
        Event::ReadinessChanged(changed) => set_ready(slot, changed),
        Event::Created(_)
        | Event::Placed(_)
        | Event::PlacementFailed(_)
        | Event::Refused(_)
        | Event::Claimed(_)
        | Event::Crashed(_)
        | Event::Unclaimed(_)
        | Event::Retired(_)
        | Event::Killed(_)
        | Event::WithdrawalStarted(_)
        | Event::WithdrawalEnded(_) => {}
    }
}

/// Which instances have lost their routes. One that is gone waits for nothing.
fn note_withdrawals(slot: &mut ActualLrp, event: &Event, stamp: Stamp) {
    match event {
        Event::WithdrawalStarted(started) => slot.withdrawing.push(Withdrawing {
            instance_guid: started.instance_guid.clone(),
            position: stamp.position,
            since: stamp.recorded_at,
        }),
        Event::WithdrawalEnded(ended) => {
            slot.withdrawing.retain(|it| it.instance_guid != ended.instance_guid);
        }
        Event::Created(_)
        | Event::Placed(_)
        | Event::PlacementFailed(_)
        | Event::Refused(_)
        | Event::Claimed(_)
        | Event::Started(_)
        | Event::Crashed(_)
        | Event::Unclaimed(_)
        | Event::Retired(_)
        | Event::Removed(_)
        | Event::Left(_)
        | Event::Killed(_)
        | Event::Suspected(_)
        | Event::SuspectRestored(_)
        | Event::SuspectRemoved(_)
        | Event::TwinCrashed(_)
        | Event::EvacuationStarted(_)
        | Event::EvacuationEnded(_)
        | Event::ReadinessChanged(_) => {}
    }
    if slot.withdrawing.is_empty() {
        return;
    }
    let there: Vec<InstanceGuid> =
        slot.instances().map(|it| it.placement.instance_guid.clone()).collect();
    slot.withdrawing.retain(|it| there.contains(&it.instance_guid));
    if slot.withdrawing.is_empty() {
        slot.withdrawing = Vec::new();
    }
}

/// An instance leaves.
fn leave(slot: &mut ActualLrp, placement: Option<Placement>, stamp: Stamp) {
    let Some(placement) = placement else { return };
    if slot.leaving.len() >= LEAVING_MAX {
        slot.leaving.remove(0);
    }
    slot.leaving.push(Leaving { placement, since: stamp.recorded_at });
}

fn is_of_suspect(slot: &ActualLrp, instance_guid: &InstanceGuid) -> bool {
    slot.suspect.as_ref().is_some_and(|suspect| suspect.placement().instance_guid == *instance_guid)
}

/// Takes the instance out of the ordinary place, which is unclaimed then.
fn leave_place(slot: &mut ActualLrp, stamp: Stamp) -> Option<Box<Twin>> {
    let left = std::mem::replace(&mut slot.state, State::Unclaimed);
    let since = std::mem::replace(&mut slot.since, stamp.recorded_at);
    let state = match left {
        State::Placed(placement) | State::Claimed(placement) => TwinState::Claimed(placement),
        State::Running(running) => TwinState::Running(running),
        State::Unclaimed | State::Crashed(_) | State::Removed => return None,
    };
    Some(Box::new(Twin { state, since }))
}

/// Readiness is no state: the time since when the instance is healthy stays.
fn set_ready(slot: &mut ActualLrp, changed: &ReadinessChanged) {
    let ordinary = match &mut slot.state {
        State::Running(running) => Some(running),
        State::Unclaimed
        | State::Placed(_)
        | State::Claimed(_)
        | State::Crashed(_)
        | State::Removed => None,
    };
    let twins = [&mut slot.suspect, &mut slot.evacuating].into_iter().flatten();
    let twins = twins.filter_map(|twin| match &mut twin.state {
        TwinState::Claimed(_) => None,
        TwinState::Running(running) => Some(running),
    });
    for running in ordinary.into_iter().chain(twins) {
        if running.placement.instance_guid == changed.instance_guid {
            running.is_ready = changed.is_ready;
        }
    }
}

/// What an event says beside the state.
fn note(slot: &mut ActualLrp, event: &Event, stamp: Stamp) {
    match event {
        Event::PlacementFailed(failed) => slot.placement_error = Some(failed.error.clone()),
        Event::Refused(refused) => {
            slot.placement_error = Some(refused.reason.clone());
            slot.refused_until = Some(stamp.recorded_at.plus(RETRY_AFTER));
        }
        Event::Placed(_) | Event::Claimed(_) | Event::Started(_) => {
            slot.placement_error = None;
            slot.refused_until = None;
        }
        Event::Crashed(crashed) => {
            slot.crash_count = crashed.crash_count;
            slot.last_crash = Some(LastCrash {
                reason: Arc::clone(&crashed.reason),
                at: stamp.recorded_at,
                position: stamp.position,
            });
        }
        Event::Retired(_) => slot.is_stopping = true,
        Event::Removed(_) => {
            slot.is_stopping = true;
            slot.placement_error = None;
            slot.refused_until = None;
        }
        Event::Created(_)
        | Event::Unclaimed(_)
        | Event::Left(_)
        | Event::Suspected(_)
        | Event::SuspectRestored(_)
        | Event::SuspectRemoved(_)
        | Event::TwinCrashed(_)
        | Event::EvacuationStarted(_)
        | Event::EvacuationEnded(_)
        | Event::ReadinessChanged(_)
        | Event::Killed(_)
        | Event::WithdrawalStarted(_)
        | Event::WithdrawalEnded(_) => {}
    }
}
