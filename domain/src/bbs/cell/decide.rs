//! The rules of a cell's record: one live machine per id, and no more on it than it can hold.

use super::{
    Cell, Command, Evacuated, EvacuationCancelled, EvacuationStarted, Event, HealthChanged, Lost,
    Registered, Registration, Returned,
};
use crate::{
    aggregates::Aggregates,
    bbs::placement::Resources,
    decide::Decision,
    exit::cut_reason,
    id::CellId,
    log::{CellEpoch, StreamId},
    rejection::Rejection,
    units::Timestamp,
};

/// Judges a command against the cell's record.
pub(crate) fn decide(
    aggregates: &Aggregates,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    match command {
        Command::Register { cell_id, registration } => {
            register(aggregates.cell(cell_id), cell_id, registration)
        }
        Command::Lose { cell_id, last_heard_at, heard_by } => {
            if !existing(aggregates, cell_id)?.is_present() {
                return Ok(Decision::default());
            }
            let lost = Lost { last_heard_at: *last_heard_at, heard_by: heard_by.clone() };
            Ok(one(cell_id, lost))
        }
        Command::Return { cell_id, cell_epoch } => {
            let cell = existing(aggregates, cell_id)?;
            check_epoch(cell, *cell_epoch)?;
            if cell.is_present() {
                return Ok(Decision::default());
            }
            Ok(one(cell_id, Returned {}))
        }
        Command::Evacuate { cell_id, timeout, instances_away_max } => {
            if existing(aggregates, cell_id)?.evacuation.is_some() {
                return Ok(Decision::default());
            }
            let started = EvacuationStarted {
                ends_at: now.plus(*timeout),
                instances_away_max: *instances_away_max,
                containers: aggregates.reserved_on(cell_id).containers,
            };
            Ok(one(cell_id, started))
        }
        Command::CancelEvacuation { cell_id } => {
            if existing(aggregates, cell_id)?.evacuation.is_none() {
                return Ok(Decision::default());
            }
            Ok(one(cell_id, EvacuationCancelled {}))
        }
        Command::NoteHealth { cell_id, cell_epoch, failure } => {
            let cell = existing(aggregates, cell_id)?;
            check_epoch(cell, *cell_epoch)?;
            let failure = failure.as_deref().map(cut_reason);
            if cell.failure == failure {
                return Ok(Decision::default());
            }
            Ok(one(cell_id, HealthChanged { failure }))
        }
        Command::EndEvacuation { cell_id } => end_evacuation(aggregates, cell_id),
    }
}

fn end_evacuation(aggregates: &Aggregates, cell_id: &CellId) -> Result<Decision, Rejection> {
    let cell = existing(aggregates, cell_id)?;
    let is_open = cell.evacuation.is_some_and(|it| it.evacuated_at.is_none());
    let is_empty = aggregates.reserved_on(cell_id) == Resources::default();
    if is_open && is_empty {
        return Ok(one(cell_id, Evacuated {}));
    }
    Ok(Decision::default())
}

fn register(
    known: Option<&Cell>,
    cell_id: &CellId,
    registration: &Registration,
) -> Result<Decision, Rejection> {
    let first = CellEpoch(1);
    let cell_epoch = match known {
        None => first,
        Some(cell) if cell.registration.machine_id == registration.machine_id => {
            if cell.is_present() && cell.registration == *registration {
                return Ok(Decision::default());
            }
            cell.cell_epoch
        }
        Some(cell) if cell.is_present() => {
            return Err(Rejection::CellIdInUse { cell_id: cell_id.clone() });
        }
        Some(cell) => CellEpoch(cell.cell_epoch.0.saturating_add(1)),
    };
    let registration = Box::new(registration.clone());
    Ok(one(cell_id, Registered { cell_epoch, registration }))
}

/// Whether a cell is there, is the one that was looked at, and has room at the head of the log.
pub(crate) fn check_room(
    aggregates: &Aggregates,
    cell_id: &CellId,
    cell_epoch: CellEpoch,
    wanted: Resources,
) -> Result<(), Rejection> {
    let cell = existing(aggregates, cell_id)?;
    check_epoch(cell, cell_epoch)?;
    if !cell.is_present() {
        return Err(Rejection::CellLost { cell_id: cell_id.clone() });
    }
    if let Some(reason) = &cell.failure {
        let (cell_id, reason) = (cell_id.clone(), reason.clone());
        return Err(Rejection::CellUnhealthy { cell_id, reason });
    }
    if !cell.takes_work() {
        return Err(Rejection::CellEvacuating { cell_id: cell_id.clone() });
    }
    let lacking = aggregates.free_on(cell).lacking(wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Rejection::NoRoom { cell_id: cell_id.clone(), lacking: lacking.join(", ") })
}

/// Whether a cell speaks of its present registration.
pub(crate) fn check_epoch(cell: &Cell, cell_epoch: CellEpoch) -> Result<(), Rejection> {
    if cell.cell_epoch == cell_epoch {
        return Ok(());
    }
    Err(Rejection::CellEpochPassed { cell_id: cell.cell_id.clone() })
}

fn existing<'a>(aggregates: &'a Aggregates, cell_id: &CellId) -> Result<&'a Cell, Rejection> {
    aggregates
        .cell(cell_id)
        .ok_or_else(|| Rejection::NotFound { what: "cell", id: cell_id.to_string() })
}

fn one(cell_id: &CellId, event: impl Into<Event>) -> Decision {
    let mut decision = Decision::default();
    decision.push(StreamId::Cell(cell_id.clone()), event.into());
    decision
}
