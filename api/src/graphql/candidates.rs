//! Why a cell was chosen, or none: what each candidate came to, as the placing event keeps it.

use async_graphql::SimpleObject;
use domain::{
    auction,
    bbs::{actual_lrp, task},
    event::Event,
};

use super::scalars::PositionText;

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
