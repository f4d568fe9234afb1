//! The rules of a slot.
//!
//! A report counts only for the slot's present placement: whoever comes too late is told so and
//! stops its container. Placing reads the cell's reservations as they are now, so that two
//! auctioneers cannot over-commit a cell.

use super::{
    ActualLrp, CRASH_COUNT_RESET_AFTER, Claimed, Command, CrashReport, Crashed, Created, Event,
    InstanceReference, NetInfo, Placed, PlacementFailed, Refused, Removed, Restart, Retired,
    Started, State, UnclaimReason, Unclaimed, restart,
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
    rejection::Rejection,
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
        Command::Refuse { instance, reason } => refuse(aggregates, instance, reason),
        Command::Claim { instance } => claim(aggregates, instance),
        Command::Start { instance, net_info } => start(aggregates, instance, net_info),
        Command::Crash { instance, report } => crash(aggregates, instance, report, now),
        Command::Remove { instance } => {
            present(aggregates, instance)?;
            Ok(one(&instance.key, Removed {}))
        }
        Command::Unclaim { key, reason } => unclaim(aggregates, key, *reason, now),
        Command::Retire { key } => {
            let slot = existing(aggregates, key)?;
            let mut decision = Decision::default();
            retire(slot, &mut decision);
            Ok(decision)
        }
    }
}

/// Stops a slot's instance, or removes the slot at once when it has none.
pub(crate) fn retire(slot: &ActualLrp, decision: &mut Decision) {
    let event = match (slot.placement(), slot.is_stopping) {
        (None, _) => Event::from(Removed {}),
        (Some(_), false) => Event::from(Retired {}),
        (Some(_), true) => return,
    };
    decision.push(StreamId::ActualLrp(slot.key.clone()), event);
}

fn create(aggregates: &Aggregates, key: &ActualLrpKey) -> Result<Decision, Rejection> {
    let lrp = aggregates.desired_lrp(&key.process_guid).ok_or_else(|| Rejection::NotFound {
        what: "desired LRP",
        id: key.process_guid.to_string(),
    })?;
    if key.index >= lrp.instances || aggregates.slot(key).is_some() {
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
        return Err(wrong_state(slot, "placed"));
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
        return Err(wrong_state(slot, "failed"));
    }
    let error = cut_reason(error);
    if slot.placement_error.as_ref() == Some(&error) {
        return Ok(Decision::default());
    }
    Ok(one(key, PlacementFailed { error, candidates: candidates.clone() }))
}

fn refuse(
    aggregates: &Aggregates,
    instance: &InstanceReference,
    reason: &str,
) -> Result<Decision, Rejection> {
    let (slot, placement) = present(aggregates, instance)?;
    if slot.is_stopping {
        return Ok(one(&instance.key, Removed {}));
    }
    if matches!(slot.state, State::Running(_)) {
        return Err(wrong_state(slot, "refused"));
    }
    Ok(one(
        &instance.key,
        Refused {
            instance_guid: placement.instance_guid.clone(),
            cell_id: placement.cell_id.clone(),
            reason: cut_reason(reason),
        },
    ))
}

fn claim(aggregates: &Aggregates, instance: &InstanceReference) -> Result<Decision, Rejection> {
    let (slot, placement) = present(aggregates, instance)?;
    match slot.state {
        State::Placed(_) => {
            Ok(one(&instance.key, Claimed { instance_guid: placement.instance_guid.clone() }))
        }
        State::Claimed(_) | State::Running(_) | State::Unclaimed | State::Crashed(_) => {
            Ok(Decision::default())
        }
    }
}

fn start(
    aggregates: &Aggregates,
    instance: &InstanceReference,
    net_info: &NetInfo,
) -> Result<Decision, Rejection> {
    let (slot, placement) = present(aggregates, instance)?;
    let is_repeated =
        matches!(&slot.state, State::Running(running) if running.net_info == *net_info);
    if slot.is_stopping || is_repeated {
        return Ok(Decision::default());
    }
    Ok(one(
        &instance.key,
        Started { instance_guid: placement.instance_guid.clone(), net_info: net_info.clone() },
    ))
}

fn crash(
    aggregates: &Aggregates,
    instance: &InstanceReference,
    report: &CrashReport,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let (slot, placement) = present(aggregates, instance)?;
    if slot.is_stopping {
        return Ok(one(&instance.key, Removed {}));
    }
    let ran_long =
        matches!(slot.state, State::Running(_)) && now.since(slot.since) > CRASH_COUNT_RESET_AFTER;
    let crash_count = if ran_long { 1 } else { slot.crash_count.saturating_add(1) };
    Ok(one(
        &instance.key,
        Crashed {
            instance_guid: placement.instance_guid.clone(),
            cell_id: placement.cell_id.clone(),
            reason: cut_reason(&report.reason).into(),
            exit: report.exit,
            crash_count,
            restart: restart(crash_count, now),
            evidence: report.evidence,
        },
    ))
}

fn unclaim(
    aggregates: &Aggregates,
    key: &ActualLrpKey,
    reason: UnclaimReason,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let slot = existing(aggregates, key)?;
    let is_due = match (&slot.state, reason) {
        (State::Crashed(Restart::NotBefore(instant)), UnclaimReason::BackOffOver) => {
            now >= *instant
        }
        (_, UnclaimReason::CellLost) => {
            slot.placement().is_some_and(|placement| aggregates.is_lost(placement))
        }
        (
            State::Unclaimed
            | State::Placed(_)
            | State::Claimed(_)
            | State::Running(_)
            | State::Crashed(_),
            UnclaimReason::BackOffOver,
        ) => false,
    };
    if !is_due {
        return Err(wrong_state(slot, "unclaimed"));
    }
    if slot.is_stopping {
        return Ok(one(key, Removed {}));
    }
    Ok(one(key, Unclaimed { reason }))
}

fn existing<'a>(
    aggregates: &'a Aggregates,
    key: &ActualLrpKey,
) -> Result<&'a ActualLrp, Rejection> {
    aggregates
        .slot(key)
        .ok_or_else(|| Rejection::NotFound { what: "actual LRP", id: key.to_string() })
}

/// The slot and its placement, when the report is about just that placement.
fn present<'a>(
    aggregates: &'a Aggregates,
    instance: &InstanceReference,
) -> Result<(&'a ActualLrp, &'a Placement), Rejection> {
    let moved = || Rejection::PlacementMoved { instance_guid: instance.instance_guid.clone() };
    let slot = aggregates.slot(&instance.key).ok_or_else(moved)?;
    let placement = slot.placement().ok_or_else(moved)?;
    let is_present = placement.instance_guid == instance.instance_guid
        && placement.placement_epoch == instance.placement_epoch
        && placement.cell_id == instance.cell_id
        && placement.cell_epoch == instance.cell_epoch;
    if is_present { Ok((slot, placement)) } else { Err(moved()) }
}

fn wrong_state(slot: &ActualLrp, wanted: &'static str) -> Rejection {
    Rejection::InvalidTransition {
        what: "actual LRP",
        id: slot.key.to_string(),
        from: slot.state_name(),
        wanted,
    }
}

fn one(key: &ActualLrpKey, event: impl Into<Event>) -> Decision {
    let mut decision = Decision::default();
    decision.push(StreamId::ActualLrp(key.clone()), event.into());
    decision
}
