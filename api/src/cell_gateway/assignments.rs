//! What a cell should hold, held back until it changes, and the definitions behind it.

use std::{sync::Arc, time::Duration};

use domain::{
    bbs::definition::Definition,
    id::CellId,
    log::{Owner, Position},
    rejection::Rejection,
    rep::{Assignment, WorkKind},
    sealed::Digest,
};
use projections::{projector::Now, world::World};

use super::Error;

/// How long an unchanged assignment is held back: shorter than common proxies' patience.
const HOLD: Duration = Duration::from_secs(20);
/// Changes within this span are answered together.
const COALESCE: Duration = Duration::from_millis(20);

/// The assignment of a cell, as soon as it changed behind `after`, or unchanged after a while.
pub(super) async fn wait(
    now: &Now,
    cell_id: &CellId,
    after: Position,
) -> Result<Assignment, Error> {
    let mut moved = now.assignment_moved(cell_id);
    let current = read(now, cell_id)?;
    if current.position > after {
        return Ok(current);
    }
    let changed = async { moved.wait_for(|position| *position > after).await.map(|at| *at) };
    match tokio::time::timeout(HOLD, changed).await {
        Err(_unchanged) => {}
        Ok(Err(_closed)) => return Err(Error::ViewStopped),
        Ok(Ok(_)) => tokio::time::sleep(COALESCE).await,
    }
    read(now, cell_id)
}

fn read(now: &Now, cell_id: &CellId) -> Result<Assignment, Error> {
    let assignment = now.read(|world| world.cell_assignments().of(world.aggregates(), cell_id));
    assignment.ok_or_else(|| Rejection::CellEpochPassed { cell_id: cell_id.clone() }.into())
}

/// A definition that this cell is assigned, with its owner.
pub(super) fn definition(
    world: &World,
    cell_id: &CellId,
    digest: Digest,
) -> Option<(Owner, Arc<Definition>)> {
    let aggregates = world.aggregates();
    let assignment = world.cell_assignments().of(aggregates, cell_id)?;
    let work = assignment.work.into_iter().find(|work| work.definition == digest)?;
    let owner = work.reference.kind.owner();
    let definition = match &work.reference.kind {
        WorkKind::Lrp(key) => aggregates.desired_lrp(&key.process_guid)?.definition.shared(),
        WorkKind::Task(task_guid) => &aggregates.task(task_guid)?.definition,
    };
    (definition.digest() == digest).then(|| (owner, Arc::clone(definition)))
}
