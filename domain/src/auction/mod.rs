//! Auction: which cell takes which unclaimed slot or pending task. Diego's order, filters, score
//! and texts, as one pure function of a whole input.
//!
//! - [`Cells`]: the cells, kept up change by change by a view, and borrowed by each round
//! - [`Waiting`]: what waits, kept up likewise, in the order in which it is placed
//! - `order`, `search`: the best cell is found near the front of an order, not by a look at each
//! - `round`, `siblings`: what a round has reserved, beside what it borrows
//! - `filter`, `score`: what a cell takes, and how good it is for something
//! - [`Candidates`]: why a cell was chosen, or none
//! - [`paced_starting_maximum`]: how much may start at a time once many cells are lost
//! - [`rebalance()`]: what would be better elsewhere; a plan, never applied unasked
//!
//! Of Diego's quirks these are mended on purpose: a cell takes as many containers as it says, none is
//! kept back for a health check of its own (Diego: one less); what is scored is what is reserved
//! (Diego scores the proxy's memory and does not reserve it; there are no proxies here); first
//! instances come before tasks whatever else is in the batch; a cell's refusal is recorded with its
//! reason (Diego's is lost on the way). What lacks what is told cell by cell beside Diego's text.
//!
//! Nothing is remembered between two rounds and nothing is drawn at random: the same input gives
//! the same placements, so that any past round can be computed again. The cost of a placement is
//! that of a few cells, whatever runs on all of them; only what the process itself already has is
//! looked at whole, once a round. What waits is looked at as far as it is placed ([`step()`]): a
//! million that wait cost no more than those that are placed of them.

mod candidates;
mod cells;
mod filter;
mod input;
mod order;
mod pace;
mod placement_error;
mod rebalance;
mod round;
mod schedule;
mod score;
mod search;
mod siblings;
mod waiting;

pub use candidates::{BEST, Candidates, InvalidRefusal, LISTED_MAX, Lacking, Refusal, Score};
pub use cells::{CellNumber, Cells, Change, PresentCell};
pub use filter::Offer;
pub use input::{Auction, Constraint, Demand, Input, Settings};
pub use pace::{PACE_KEPT_FOR, PACED_STARTING_PER_CELL, paced_starting_maximum};
pub use placement_error::PlacementError;
pub use rebalance::{Bounds, Movable, Move, Plan, movable, rebalance};
pub use schedule::{Failure, Outcome, Placement, Step, schedule, step};
pub use waiting::{Lane, Shown, Waiting};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod naive_tests;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waiting_tests;
