//! Everything at one position of the log: the live aggregates and the views over them.
//!
//! The present and any past instant are the same type, filled by the same fold. Nothing here
//! reads a clock: whether something is due at `now` is for the one who asks to say.

use std::{collections::BTreeSet, fmt};

use domain::{
    aggregates::{Aggregate, Aggregates},
    convergence::Discrepancies,
    event::Event,
    id::CellId,
    log::{Position, Recorded, Stamp, StreamId},
    units::Timestamp,
};

use crate::{
    auction_queue::AuctionQueue, cell_assignments::CellAssignments, cell_capacity::CellCapacity,
    history::views, route_table::RouteTable, view::View,
};

/// Everything at one position.
#[derive(Debug, Clone)]
pub struct World {
    position: Position,
    recorded_at: Timestamp,
    aggregates: Aggregates,
    auction_queue: AuctionQueue,
    cell_capacity: CellCapacity,
    cell_assignments: CellAssignments,
    route_table: RouteTable,
    discrepancies: Discrepancies,
}

impl World {
    /// The world before the first event.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_aggregates([], Stamp { position: Position(0), recorded_at: Timestamp(0) })
    }

    /// The world of a snapshot: the views are filled from the aggregates.
    #[must_use]
    pub fn from_aggregates(aggregates: impl IntoIterator<Item = Aggregate>, stamp: Stamp) -> Self {
        let mut world = Self {
            position: stamp.position,
            recorded_at: stamp.recorded_at,
            aggregates: Aggregates::default(),
            auction_queue: AuctionQueue::default(),
            cell_capacity: CellCapacity::default(),
            cell_assignments: CellAssignments::default(),
            route_table: RouteTable::default(),
            discrepancies: Discrepancies::default(),
        };
        let mut streams = Vec::new();
        for aggregate in aggregates {
            let stream = aggregate.stream();
            world.aggregates.put(&stream, Some(aggregate));
            streams.push(stream);
        }
        for stream in &streams {
            world.touch(stream);
        }
        world.cell_assignments.settle(stamp.position);
        world
    }

    /// Folds one event, and says which cells' assignments it changed.
    pub fn apply(&mut self, recorded: &Recorded<Event>) -> BTreeSet<CellId> {
        self.aggregates.apply(recorded);
        self.touch(&recorded.stream);
        self.position = recorded.position;
        self.recorded_at = recorded.recorded_at;
        self.cell_assignments.settle(recorded.position)
    }

    fn touch(&mut self, stream: &StreamId) {
        self.auction_queue.touch(&self.aggregates, stream);
        self.cell_capacity.touch(&self.aggregates, stream);
        self.cell_assignments.touch(&self.aggregates, stream);
        self.route_table.touch(&self.aggregates, stream);
        self.discrepancies.touch(&self.aggregates, stream);
    }

    /// The last event that was folded.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// When that event was recorded.
    #[must_use]
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// The live aggregates.
    #[must_use]
    pub fn aggregates(&self) -> &Aggregates {
        &self.aggregates
    }

    /// What waits for a cell.
    #[must_use]
    pub fn auction_queue(&self) -> &AuctionQueue {
        &self.auction_queue
    }

    /// What the cells hold, as the auction sees it.
    #[must_use]
    pub fn cell_capacity(&self) -> &CellCapacity {
        &self.cell_capacity
    }

    /// What each cell should hold.
    #[must_use]
    pub fn cell_assignments(&self) -> &CellAssignments {
        &self.cell_assignments
    }

    /// Where host names lead.
    #[must_use]
    pub fn route_table(&self) -> &RouteTable {
        &self.route_table
    }

    /// What differs between desired and actual.
    #[must_use]
    pub fn discrepancies(&self) -> &Discrepancies {
        &self.discrepancies
    }

    /// The whole content, view by view, in a stable order: equal worlds have equal contents.
    #[must_use]
    pub fn content(&self) -> Vec<(&'static str, String)> {
        let content = |name: &&'static str| {
            let mut content = String::new();
            // Writing into a text never fails.
            self.write_content(name, &mut content).unwrap_or_default();
            (*name, content)
        };
        views::NAMES.iter().map(content).collect()
    }

    /// Writes the content of one view, in a stable form; nothing where there is no such view.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub fn write_content(&self, view: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        match view {
            "position" => write!(out, "{} {:?}", self.position, self.recorded_at),
            "aggregates" => write!(out, "{:?}", self.aggregates),
            AuctionQueue::NAME => out.write_str(&self.auction_queue.content()),
            CellCapacity::NAME => out.write_str(&self.cell_capacity.content()),
            CellAssignments::NAME => out.write_str(&self.cell_assignments.content()),
            RouteTable::NAME => out.write_str(&self.route_table.content()),
            "desired_vs_actual" => write!(out, "{:?}", self.discrepancies),
            _ => Ok(()),
        }
    }
}
