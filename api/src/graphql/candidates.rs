//! Why a cell was chosen, or none: what each candidate came to, as the placing event keeps it.

use async_graphql::{Result, SimpleObject};
use domain::{
    aggregates::Aggregates,
    auction,
    bbs::{
        actual_lrp::{self, ActualLrp},
        task::{self, Task},
    },
    event::Event,
    id::{ActualLrpKey, TaskGuid},
    log::{Owner, Position, Recorded, StreamId},
    rep::WorkKind,
    units::Timestamp,
};
use projections::event_store::{EventStore, Filter, Order};

use super::{
    error::{self, invalid, invalid_field, parse_id},
    input::Faults,
    scalars::PositionText,
};

/// How many events are read at a time.
const READ_MAX: usize = 500;

/// What each cell came to: its score, or why it was refused.
#[derive(SimpleObject)]
pub(super) struct Candidates {
    /// Up to which event of the log all was known: from there the rest can be computed again.
    seen: PositionText,
    /// Those that would do, the best first: the first one was chosen.
    best: Vec<ScoredCell>,
    /// Those that would not do, where each is told one by one.
    refused: Vec<RefusedCell>,
    /// How many cells are not told one by one, by reason.
    counts: Vec<RefusedCount>,
}

/// A cell that would do.
#[derive(SimpleObject)]
pub(super) struct ScoredCell {
    /// Which cell.
    cell_id: String,
    /// How good it is: the lower, the better; with six decimals.
    score: String,
}

/// A cell that would not do.
#[derive(SimpleObject)]
pub(super) struct RefusedCell {
    /// Which cell.
    cell_id: String,
    /// Why not: `rootfs`, `volume drivers`, `placement tags`, `lacks <amounts>` or `fuller zone`.
    reason: String,
}

/// Cells that were not chosen for the same reason.
#[derive(SimpleObject)]
pub(super) struct RefusedCount {
    /// Why not: as of one cell, or `higher score`.
    reason: String,
    /// How many.
    cells: u32,
}

impl From<&auction::Candidates> for Candidates {
    fn from(candidates: &auction::Candidates) -> Self {
        let auction::Candidates { seen, best, refused, counts } = candidates;
        let scored = best.iter().map(|(cell_id, score)| ScoredCell {
            cell_id: cell_id.to_string(),
            score: score.to_string(),
        });
        let refused = refused.iter().map(|(cell_id, refusal)| RefusedCell {
            cell_id: cell_id.to_string(),
            reason: refusal.to_string(),
        });
        let counts = counts
            .iter()
            .map(|(refusal, cells)| RefusedCount { reason: refusal.to_string(), cells: *cells });
        Self {
            seen: PositionText(*seen),
            best: scored.collect(),
            refused: refused.collect(),
            counts: counts.collect(),
        }
    }
}

/// Which slot or task a client asks about.
pub(super) fn read(
    process_guid: Option<String>,
    index: Option<i64>,
    task_guid: Option<String>,
) -> Result<WorkKind> {
    match (process_guid, task_guid) {
        (Some(process_guid), None) => {
            let mut faults = Faults::default();
            let index = faults.number("index", index.unwrap_or_default());
            let index = faults.or(index).map_err(|faults| invalid(&faults))?;
            let process_guid = parse_id("processGuid", &process_guid)?;
            Ok(WorkKind::Lrp(ActualLrpKey { process_guid, index }))
        }
        (None, Some(task_guid)) if index.is_none() => {
            Ok(WorkKind::Task(parse_id("taskGuid", &task_guid)?))
        }
        (None, Some(_)) => Err(invalid_field("index", "must not be given with taskGuid")),
        (Some(_), Some(_)) | (None, None) => {
            Err(invalid_field("processGuid", "must be given, or else taskGuid, not both"))
        }
    }
}

/// What each cell came to for a slot or a task as it is.
pub(super) async fn of(
    store: &dyn EventStore,
    aggregates: &Aggregates,
    of: &WorkKind,
) -> Result<Option<Candidates>> {
    match of {
        WorkKind::Lrp(key) => match aggregates.slot(key) {
            Some(slot) => of_slot(store, slot).await,
            None => Ok(None),
        },
        WorkKind::Task(task_guid) => match aggregates.task(task_guid) {
            Some(task) => of_task(store, task_guid, task).await,
            None => Ok(None),
        },
    }
}

async fn of_slot(store: &dyn EventStore, slot: &ActualLrp) -> Result<Option<Candidates>> {
    if let Some(placement) = slot.placement() {
        return at(store, placement.placement_epoch.0).await;
    }
    let stream = StreamId::ActualLrp(slot.key.clone());
    let types = vec!["actual_lrp.placement_failed".to_owned()];
    let found = newest(store, &stream, types, slot.last_position, slot.since).await?;
    Ok(found.and_then(|recorded| of_event(&recorded.event)))
}

async fn of_task(
    store: &dyn EventStore,
    task_guid: &TaskGuid,
    task: &Task,
) -> Result<Option<Candidates>> {
    let placement = task.placement().or_else(|| task.ended()?.placement.as_ref());
    if let Some(placement) = placement {
        return at(store, placement.placement_epoch.0).await;
    }
    let stream = StreamId::Task(task_guid.clone());
    // A placement that the cell refused is no answer any more, and ends the search.
    let types = vec!["task.placement_failed".to_owned(), "task.placed".to_owned()];
    let found = newest(store, &stream, types, task.last_position, task.created_at).await?;
    let is_failure = |it: &Recorded<Event>| match &it.event {
        Event::Task(event) => matches!(event, task::Event::PlacementFailed(_)),
        Event::ActualLrp(_)
        | Event::DesiredLrp(_)
        | Event::Cell(_)
        | Event::FreshnessDomain(_)
        | Event::Secrets(_) => false,
    };
    Ok(found.filter(is_failure).and_then(|recorded| of_event(&recorded.event)))
}

/// Those of the event at a position.
async fn at(store: &dyn EventStore, position: Position) -> Result<Option<Candidates>> {
    let Some(before) = position.0.checked_sub(1) else { return Ok(None) };
    let read = store.read_all(Position(before), 1).await;
    let events = read.map_err(|failure| error::of_log(&failure))?;
    Ok(events.first().and_then(|recorded| of_event(&recorded.event)))
}

/// The newest event of a stream and of these types, up to a position and not older than an instant.
async fn newest(
    store: &dyn EventStore,
    stream: &StreamId,
    types: Vec<String>,
    last: Position,
    since: Timestamp,
) -> Result<Option<Recorded<Event>>> {
    let owner: Option<Owner> = Some(stream.owner());
    let filter = Filter { owner, types, actor: None, until: None };
    let mut before = last.next();
    loop {
        let read = store.read_filtered(&filter, before, READ_MAX, Order::NewestFirst).await;
        let events = read.map_err(|failure| error::of_log(&failure))?;
        let is_last = events.len() < READ_MAX;
        for recorded in events {
            if recorded.recorded_at < since {
                return Ok(None);
            }
            before = recorded.position;
            if recorded.stream == *stream {
                return Ok(Some(recorded));
            }
        }
        if is_last {
            return Ok(None);
        }
    }
}

/// Those of an event that placed something or says why it was not placed.
pub(super) fn of_event(event: &Event) -> Option<Candidates> {
    let candidates = match event {
        Event::ActualLrp(actual_lrp::Event::Placed(placed)) => &placed.candidates,
        Event::ActualLrp(actual_lrp::Event::PlacementFailed(failed)) => &failed.candidates,
        Event::Task(task::Event::Placed(placed)) => &placed.candidates,
        Event::Task(task::Event::PlacementFailed(failed)) => &failed.candidates,
        Event::ActualLrp(_)
        | Event::Task(_)
        | Event::DesiredLrp(_)
        | Event::Cell(_)
        | Event::FreshnessDomain(_)
        | Event::Secrets(_) => return None,
    };
    candidates.as_deref().map(Candidates::from)
}
