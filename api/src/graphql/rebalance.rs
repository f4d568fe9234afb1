//! What would be better elsewhere, as clients see it: a plan, which nothing applies.

use async_graphql::SimpleObject;
use domain::auction::{self, Bounds, Settings};
use projections::world::World;

/// Moves of running instances that would even out the cells. Nothing applies it unasked: whoever
/// likes a move restarts that instance, and the auction chooses anew.
#[derive(SimpleObject)]
pub(super) struct RebalancePlan {
    /// In this order; each is judged with the moves before it done.
    moves: Vec<Move>,
    /// What all of them gain together, as scores; with six decimals.
    gain: String,
    /// How unevenly the cells are used now: the share that the fullest of them has given away, less
    /// that of the emptiest, from 0 to 1; memory, disk and containers count alike.
    imbalance_before: String,
    /// The same after all moves.
    imbalance_after: String,
}

/// One instance to another cell.
#[derive(SimpleObject)]
pub(super) struct Move {
    /// Of which process.
    process_guid: String,
    /// Which of its instances.
    index: u32,
    /// Where it is.
    from: String,
    /// Where it would be better.
    to: String,
    /// How much lower its score is there; a zone with fewer of its process counts as a cell with
    /// one less.
    gain: String,
}

/// The plan for a world, of so many moves at most, its cells weighed as the auctioneer does.
pub(super) fn plan(world: &World, settings: Settings, moves_max: usize) -> RebalancePlan {
    let movable = auction::movable(world.aggregates());
    let cells = world.cell_capacity().cells();
    let bounds = Bounds { moves_max, ..Bounds::default() };
    auction::rebalance(movable, cells, settings, bounds).into()
}

impl From<auction::Plan> for RebalancePlan {
    fn from(plan: auction::Plan) -> Self {
        let auction::Plan { moves, gain, imbalance_before, imbalance_after } = plan;
        let moves = moves.into_iter().map(|it| Move {
            process_guid: it.key.process_guid.to_string(),
            index: it.key.index,
            from: it.from.to_string(),
            to: it.to.to_string(),
            gain: it.gain.to_string(),
        });
        Self {
            moves: moves.collect(),
            gain: gain.to_string(),
            imbalance_before: imbalance_before.to_string(),
            imbalance_after: imbalance_after.to_string(),
        }
    }
}
