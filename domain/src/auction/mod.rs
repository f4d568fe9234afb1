//! Auction: which cell takes which unclaimed slot or pending task. Diego's order, filters, score
//! and texts, as one pure function of a whole input.
//!
//! - [`Cells`]: the cells, kept up change by change by a view, and borrowed by each round
//! - `order`, `search`: the best cell is found near the front of an order, not by a look at each
//! - `round`, `siblings`: what a round has reserved, beside what it borrows
//! - `filter`, `score`: what a cell takes, and how good it is for something
//! - [`Candidates`]: why a cell was chosen, or none
//!
//! Nothing is remembered between two rounds and nothing is drawn at random: the same input gives
//! the same placements, so that any past round can be computed again. The cost of a placement is
//! that of a few cells, whatever runs on all of them; only what the process itself already has is
//! looked at whole, once a round.

mod candidates;
mod cells;
mod filter;
mod input;
mod order;
mod placement_error;
mod round;
mod schedule;
mod score;
mod search;
mod siblings;

pub use candidates::{BEST, Candidates, InvalidRefusal, LISTED_MAX, Lacking, Refusal, Score};
pub use cells::{CellNumber, Cells, Change, PresentCell};
pub use filter::Offer;
pub use input::{Auction, Constraint, Demand, Input, Settings};
pub use placement_error::PlacementError;
pub use schedule::{Failure, Outcome, Placement, schedule};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod naive_tests;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
