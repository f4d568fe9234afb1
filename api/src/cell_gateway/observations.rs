//! Observations: kept as pushed, once each. Those of containers that are not the cell's, and were
//! not lately, are dropped: a cell speaks only for what it was given.

use std::collections::BTreeSet;

use domain::{
    bbs::{actual_lrp, task},
    event::Event,
    id::{CellId, InstanceGuid},
    log::{Owner, PlacementEpoch, Position, StreamId},
    observation::Observation,
    rep::{ObservationsAnswer, ObservationsRequest, WorkKind, WorkReference},
};
use projections::{
    event_store::{Filter, Order},
    observations::Push,
};
use tracing::warn;

use super::{Error, Gateway, recent};
use crate::control_plane::NotCaughtUp;

/// How many observations one request may hold.
const OBSERVATIONS_MAX: usize = 1000;

/// For how many containers of one request the log is searched.
const LOOK_UPS_MAX: usize = 32;

/// How many placements of an owner are searched, from the newest on.
const PLACEMENTS_MAX: usize = 100;

/// The stored names of placements.
const PLACED: [&str; 2] = ["actual_lrp.placed", "task.placed"];

/// Keeps observations, and says up to which sequence they are kept or dropped. What is dropped is
/// not refused: the cell would push it for ever, and all else behind it.
pub(super) async fn take(
    gateway: &Gateway,
    cell_id: &CellId,
    request: ObservationsRequest,
) -> Result<ObservationsAnswer, Error> {
    let count = request.observations.len();
    if count > OBSERVATIONS_MAX {
        let problem = format!("must hold at most {OBSERVATIONS_MAX} observations");
        return Err(Error::Invalid { field: "observations", problem });
    }
    let ObservationsRequest { cell_epoch, first_sequence, observations } = request;
    let end = first_sequence.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    let newest = observations.iter().map(|observation| observation.log_position).max();
    gateway.see(newest.unwrap_or_default()).await?;
    recall(gateway, cell_id, &observations).await?;
    let (runs, dropped) = own(gateway, cell_id, first_sequence, observations);
    if dropped > 0 {
        warn!(%cell_id, dropped, "Dropped observations of containers that are not this cell's.");
    }
    for (first_sequence, observations) in runs {
        let push = Push { cell_id: cell_id.clone(), cell_epoch, first_sequence, observations };
        let kept = gateway.control_plane.observations.append(push).await;
        kept.map_err(|failure| Error::Observations { reason: failure.to_string() })?;
    }
    Ok(ObservationsAnswer { acknowledged: end.saturating_sub(1) })
}

/// Looks for containers that ended before this node knew them, or that another node knew, in the
/// log: their last lines may come here.
async fn recall(
    gateway: &Gateway,
    cell_id: &CellId,
    observations: &[Observation],
) -> Result<(), Error> {
    let unknown: BTreeSet<_> = {
        let recent = recent::lock(&gateway.recent);
        let present = gateway.control_plane.now.read(|world| {
            world.cell_assignments().of(world.aggregates(), cell_id).map(|present| present.work)
        });
        let present = present.unwrap_or_default();
        let is_present =
            |guid: &InstanceGuid| present.iter().any(|work| work.reference.instance_guid == *guid);
        let containers = observations.iter().map(|seen| (&seen.owner, &seen.instance_guid));
        containers
            .filter(|(owner, guid)| !recent.knows(cell_id, guid, owner) && !is_present(guid))
            .take(LOOK_UPS_MAX)
            .collect()
    };
    for (owner, guid) in unknown {
        if let Some(work) = placement(gateway, cell_id, owner, guid).await? {
            recent::lock(&gateway.recent).note(cell_id, [&work]);
        }
    }
    Ok(())
}

/// The placement by which a container became this cell's, if it did among its owner's newest.
async fn placement(
    gateway: &Gateway,
    cell_id: &CellId,
    owner: &Owner,
    guid: &InstanceGuid,
) -> Result<Option<WorkReference>, Error> {
    let types = PLACED.map(str::to_owned).to_vec();
    let filter = Filter { owner: Some(owner.clone()), types, ..Filter::default() };
    let store = &gateway.control_plane.store;
    let events =
        store.read_filtered(&filter, Position(0), PLACEMENTS_MAX, Order::NewestFirst).await;
    let events = events.map_err(NotCaughtUp::Log)?;
    Ok(events.iter().find_map(|recorded| {
        let (placed_on, instance_guid, kind) = match (&recorded.event, &recorded.stream) {
            (Event::ActualLrp(actual_lrp::Event::Placed(placed)), StreamId::ActualLrp(key)) => {
                (&placed.cell_id, &placed.instance_guid, WorkKind::Lrp(key.clone()))
            }
            (Event::Task(task::Event::Placed(placed)), StreamId::Task(task_guid)) => {
                (&placed.cell_id, &placed.instance_guid, WorkKind::Task(task_guid.clone()))
            }
            _ => return None,
        };
        let is_it = placed_on == cell_id && instance_guid == guid;
        is_it.then(|| WorkReference {
            kind,
            instance_guid: guid.clone(),
            placement_epoch: PlacementEpoch(recorded.position),
        })
    }))
}

/// The cell's own observations in runs without gaps, each with its first sequence, and how many
/// others there were.
fn own(
    gateway: &Gateway,
    cell_id: &CellId,
    first_sequence: u64,
    observations: Vec<Observation>,
) -> (Vec<(u64, Vec<Observation>)>, usize) {
    let mut recent = recent::lock(&gateway.recent);
    gateway.control_plane.now.read(|world| {
        let present = world.cell_assignments().of(world.aggregates(), cell_id);
        let work = present.map(|present| present.work).unwrap_or_default();
        recent.note(cell_id, work.iter().map(|work| &work.reference));
    });
    let mut runs: Vec<(u64, Vec<Observation>)> = Vec::new();
    let (mut dropped, mut is_open) = (0, false);
    for (sequence, observation) in (first_sequence..=u64::MAX).zip(observations) {
        let is_own = recent.knows(cell_id, &observation.instance_guid, &observation.owner);
        match runs.last_mut().filter(|_| is_open) {
            _ if !is_own => dropped += 1,
            Some((_, run)) => run.push(observation),
            None => runs.push((sequence, vec![observation])),
        }
        is_open = is_own;
    }
    (runs, dropped)
}
