//! Observations: kept as pushed, once each. Those of containers that are not the cell's, and were
//! not lately, are dropped: a cell speaks only for what it was given.

use domain::{
    id::CellId,
    observation::Observation,
    rep::{ObservationsAnswer, ObservationsRequest},
};
use projections::observations::Push;
use tracing::warn;

use super::{Error, Gateway, recent};

/// How many observations one request may hold.
const OBSERVATIONS_MAX: usize = 1000;

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
