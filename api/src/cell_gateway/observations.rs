//! Observations: kept as pushed, once each.

use domain::{
    id::CellId,
    rep::{ObservationsAnswer, ObservationsRequest},
};
use projections::observations::Push;

use super::Error;
use crate::control_plane::ControlPlane;

/// How many observations one request may hold.
const OBSERVATIONS_MAX: usize = 1000;

/// Keeps observations, and says up to which sequence they are kept.
pub(super) async fn take(
    control_plane: &ControlPlane,
    cell_id: &CellId,
    request: ObservationsRequest,
) -> Result<ObservationsAnswer, Error> {
    if request.observations.len() > OBSERVATIONS_MAX {
        let problem = format!("must hold at most {OBSERVATIONS_MAX} observations");
        return Err(Error::Invalid { field: "observations", problem });
    }
    let ObservationsRequest { cell_epoch, first_sequence, observations } = request;
    let cell_id = cell_id.clone();
    let push = Push { cell_id, cell_epoch, first_sequence, observations };
    let kept = control_plane.observations.append(push).await;
    let acknowledged =
        kept.map_err(|failure| Error::Observations { reason: failure.to_string() })?;
    Ok(ObservationsAnswer { acknowledged })
}
