//! Everything at one position of the log: the live aggregates and the views over them.
//!
//! The present and any past instant are the same type, filled by the same fold. Nothing here
//! reads a clock: whether something is due at `now` is for the one who asks to say.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::OnceLock,
};

use domain::{
    aggregates::{Aggregate, Aggregates},
    bbs::desired_lrp,
    convergence::Discrepancies,
    event::Event,
    id::CellId,
    log::{Position, Recorded, Stamp, StreamId},
    units::Timestamp,
};

use crate::{
    auction_queue::AuctionQueue, cell_assignments::CellAssignments, cell_capacity::CellCapacity,
    history::views as names, route_table::RouteTable, view::View,
};

/// Everything at one position. The views are filled when one is first asked for, and kept up
/// from then on.
#[derive(Debug, Clone)]
pub struct World {
    position: Position,
    recorded_at: Timestamp,
    aggregates: Aggregates,
    views: OnceLock<Box<Views>>,
}

#[derive(Debug, Clone, Default)]
struct Views {
    auction_queue: AuctionQueue,
    cell_capacity: CellCapacity,
    cell_assignments: CellAssignments,
    route_table: RouteTable,
    discrepancies: Discrepancies,
}

impl Views {
    fn of(aggregates: &Aggregates, position: Position) -> Self {
        let mut views = Self::default();
        // Cells come first: behind what is on them, each would look at all of it again.
        for aggregate in aggregates.all() {
            views.touch(aggregates, &aggregate.stream());
        }
        views.cell_assignments.settle(position);
        views
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        self.auction_queue.touch(aggregates, stream);
        self.cell_capacity.touch(aggregates, stream);
        self.cell_assignments.touch(aggregates, stream);
        self.route_table.touch(aggregates, stream);
        self.discrepancies.touch(aggregates, stream);
    }
}

impl World {
    /// The world before the first event.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Aggregates::default(), Stamp { position: Position(0), recorded_at: Timestamp(0) })
    }

    /// The world of these aggregates.
    #[must_use]
    pub fn of(aggregates: Aggregates, stamp: Stamp) -> Self {
        let Stamp { position, recorded_at } = stamp;
        Self { position, recorded_at, aggregates, views: OnceLock::new() }
    }

    /// The world of a snapshot.
    #[must_use]
    pub fn from_aggregates(aggregates: impl IntoIterator<Item = Aggregate>, stamp: Stamp) -> Self {
        let mut all = Aggregates::default();
        for aggregate in aggregates {
            all.put(&aggregate.stream(), Some(aggregate));
        }
        Self::of(all, stamp)
    }

    /// The same world with its views not filled yet: as cheap as a clone of the aggregates.
    #[must_use]
    pub fn without_views(&self) -> Self {
        let stamp = Stamp { position: self.position, recorded_at: self.recorded_at };
        Self::of(self.aggregates.clone(), stamp)
    }

    /// The same world with its views filled now.
    #[must_use]
    pub fn with_views(self) -> Self {
        self.views();
        self
    }

    fn views(&self) -> &Views {
        self.views.get_or_init(|| Box::new(Views::of(&self.aggregates, self.position)))
    }

    /// Folds one event, and says which cells' assignments it changed; none where the views are
    /// not filled.
    pub fn apply(&mut self, recorded: &Recorded<Event>) -> BTreeSet<CellId> {
        self.apply_all([recorded])
    }

    /// Folds events in order, as [`World::apply`] one by one would, except that the views look at
    /// every stream once, and that an assignment counts as changed by the last of the events.
    pub fn apply_all<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a Recorded<Event>>,
    ) -> BTreeSet<CellId> {
        let has_views = self.views.get().is_some();
        let mut touched = HashSet::new();
        for recorded in events {
            self.aggregates.apply(recorded);
            self.position = recorded.position;
            self.recorded_at = recorded.recorded_at;
            if has_views && is_seen_by_views(&recorded.event) {
                touched.insert(&recorded.stream);
            }
        }
        let Some(views) = self.views.get_mut() else { return BTreeSet::new() };
        // Each says what the aggregates hold, so that the order is of no account.
        for stream in touched {
            views.touch(&self.aggregates, stream);
        }
        views.cell_assignments.settle(self.position)
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
        &self.views().auction_queue
    }

    /// What the cells hold, as the auction sees it.
    #[must_use]
    pub fn cell_capacity(&self) -> &CellCapacity {
        &self.views().cell_capacity
    }

    /// What each cell should hold.
    #[must_use]
    pub fn cell_assignments(&self) -> &CellAssignments {
        &self.views().cell_assignments
    }

    /// Where host names lead.
    #[must_use]
    pub fn route_table(&self) -> &RouteTable {
        &self.views().route_table
    }

    /// What differs between desired and actual.
    #[must_use]
    pub fn discrepancies(&self) -> &Discrepancies {
        &self.views().discrepancies
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
        names::NAMES.iter().map(content).collect()
    }

    /// Writes the content of one view, in a stable form; nothing where there is no such view.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub fn write_content(&self, view: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        match view {
            "position" => write!(out, "{} {:?}", self.position, self.recorded_at),
            "aggregates" => write!(out, "{:?}", self.aggregates),
            AuctionQueue::NAME => out.write_str(&self.views().auction_queue.content()),
            CellCapacity::NAME => out.write_str(&self.views().cell_capacity.content()),
            CellAssignments::NAME => out.write_str(&self.views().cell_assignments.content()),
            RouteTable::NAME => out.write_str(&self.views().route_table.content()),
            "desired_vs_actual" => write!(out, "{:?}", self.views().discrepancies),
            _ => Ok(()),
        }
    }
}

/// Whether an event changes something that a view looks at.
fn is_seen_by_views(event: &Event) -> bool {
    match event {
        Event::DesiredLrp(event) => match event {
            desired_lrp::Event::AnnotationChanged(_) => false,
            desired_lrp::Event::Desired(_)
            | desired_lrp::Event::Scaled(_)
            | desired_lrp::Event::RoutesChanged(_)
            | desired_lrp::Event::Removed(_) => true,
        },
        Event::ActualLrp(_) | Event::Task(_) | Event::Cell(_) | Event::FreshnessDomain(_) => true,
        Event::Secrets(_) => false,
    }
}
