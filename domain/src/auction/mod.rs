//! Auction: which cell takes which unclaimed slot or pending task. Diego's order, filters, score
//! and texts, as one pure function of a whole input.
//!
//! Nothing is remembered between two rounds and nothing is drawn at random: the same input gives
//! the same placements, so that any past round can be computed again. Volume drivers and proxy
//! memory are not here: no definition can ask for them yet.

mod filter;
mod input;
mod placement_error;
mod schedule;
mod score;
mod zone;

pub use input::{Auction, CellState, Demand, Input, Settings};
pub use placement_error::PlacementError;
pub use schedule::{Failure, Outcome, Placement, schedule};

#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
