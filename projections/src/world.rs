//! Everything at one position of the log: the live aggregates and the views over them.
//!
//! The present and any past instant are the same type, filled by the same fold. Nothing here
//! reads a clock: whether something is due at `now` is for the one who asks to say.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::OnceLock,
    thread,
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

/// Everything at one position. A view is filled when it is first asked for, and kept up from then
/// on.
#[derive(Debug, Clone)]
pub struct World {
    position: Position,
    recorded_at: Timestamp,
    aggregates: Aggregates,
    views: Box<Views>,
}

/// The views, each once it was asked for.
#[derive(Debug, Clone, Default)]
struct Views {
    auction_queue: OnceLock<AuctionQueue>,
    cell_capacity: OnceLock<CellCapacity>,
    cell_assignments: OnceLock<CellAssignments>,
    route_table: OnceLock<RouteTable>,
    discrepancies: OnceLock<Discrepancies>,
}

impl Views {
    fn is_any_filled(&self) -> bool {
        let Self { auction_queue, cell_capacity, cell_assignments, route_table, discrepancies } =
            self;
        auction_queue.get().is_some()
            || cell_capacity.get().is_some()
            || cell_assignments.get().is_some()
            || route_table.get().is_some()
            || discrepancies.get().is_some()
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        touch(&mut self.auction_queue, aggregates, stream);
        touch(&mut self.cell_capacity, aggregates, stream);
        touch(&mut self.cell_assignments, aggregates, stream);
        touch(&mut self.route_table, aggregates, stream);
        if let Some(discrepancies) = self.discrepancies.get_mut() {
            discrepancies.touch(aggregates, stream);
        }
    }
}

fn touch<V: View>(view: &mut OnceLock<V>, aggregates: &Aggregates, stream: &StreamId) {
    if let Some(view) = view.get_mut() {
        view.touch(aggregates, stream);
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
        Self { position, recorded_at, aggregates, views: Box::default() }
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

    /// Fills all views, several at a time: whoever asks for one meanwhile waits for that one.
    pub fn fill_views(&self) {
        thread::scope(|scope| {
            scope.spawn(|| self.route_table());
            scope.spawn(|| self.discrepancies());
            scope.spawn(|| self.cell_assignments());
            scope.spawn(|| self.cell_capacity());
            scope.spawn(|| self.auction_queue());
        });
    }

    /// Whether some view was filled: it takes about as much memory as the aggregates do.
    #[must_use]
    pub fn has_views(&self) -> bool {
        self.views.is_any_filled()
    }

    /// Folds one event, and says which cells' assignments it changed; none while nobody has asked
    /// for assignments.
    pub fn apply(&mut self, recorded: &Recorded<Event>) -> BTreeSet<CellId> {
        self.fold(recorded);
        if self.views.is_any_filled() && is_seen_by_views(&recorded.event) {
            self.views.touch(&self.aggregates, &recorded.stream);
        }
        self.settle()
    }

    fn fold(&mut self, recorded: &Recorded<Event>) {
        self.aggregates.apply(recorded);
        self.position = recorded.position;
        self.recorded_at = recorded.recorded_at;
    }

    fn settle(&mut self) -> BTreeSet<CellId> {
        let assignments = self.views.cell_assignments.get_mut();
        assignments.map(|view| view.settle(self.position)).unwrap_or_default()
    }

    /// Folds events in order, as [`World::apply`] one by one would, except that the views look at
    /// every stream once, and that an assignment counts as changed by the last of the events.
    pub fn apply_all<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a Recorded<Event>>,
    ) -> BTreeSet<CellId> {
        let has_views = self.views.is_any_filled();
        let mut touched = HashSet::new();
        for recorded in events {
            self.fold(recorded);
            if has_views && is_seen_by_views(&recorded.event) {
                touched.insert(&recorded.stream);
            }
        }
        // Each says what the aggregates hold, so that the order is of no account.
        for stream in touched {
            self.views.touch(&self.aggregates, stream);
        }
        self.settle()
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
        self.views.auction_queue.get_or_init(|| View::fill(&self.aggregates))
    }

    /// What the cells hold, as the auction sees it.
    #[must_use]
    pub fn cell_capacity(&self) -> &CellCapacity {
        self.views.cell_capacity.get_or_init(|| View::fill(&self.aggregates))
    }

    /// What each cell should hold.
    #[must_use]
    pub fn cell_assignments(&self) -> &CellAssignments {
        self.views.cell_assignments.get_or_init(|| {
            let mut assignments = CellAssignments::fill(&self.aggregates);
            assignments.settle(self.position);
            assignments
        })
    }

    /// Where host names lead.
    #[must_use]
    pub fn route_table(&self) -> &RouteTable {
        self.views.route_table.get_or_init(|| View::fill(&self.aggregates))
    }

    /// What differs between desired and actual.
    #[must_use]
    pub fn discrepancies(&self) -> &Discrepancies {
        self.views.discrepancies.get_or_init(|| Discrepancies::of(&self.aggregates))
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
            AuctionQueue::NAME => out.write_str(&self.auction_queue().content()),
            CellCapacity::NAME => out.write_str(&self.cell_capacity().content()),
            CellAssignments::NAME => out.write_str(&self.cell_assignments().content()),
            RouteTable::NAME => out.write_str(&self.route_table().content()),
            "desired_vs_actual" => write!(out, "{:?}", self.discrepancies()),
            _ => Ok(()),
        }
    }
}

/// Whether an event changes something that a view looks at.
fn is_seen_by_views(event: &Event) -> bool {
    match event {
        Event::DesiredLrp(event) => match event {
            desired_lrp::Event::AnnotationChanged(_) | desired_lrp::Event::RestartChanged(_) => {
                false
            }
            desired_lrp::Event::Desired(_)
            | desired_lrp::Event::Scaled(_)
            | desired_lrp::Event::RoutesChanged(_)
            | desired_lrp::Event::InternalRoutesChanged(_)
            | desired_lrp::Event::MetricTagsChanged(_)
            | desired_lrp::Event::Removed(_) => true,
        },
        Event::ActualLrp(_) | Event::Task(_) | Event::Cell(_) | Event::FreshnessDomain(_) => true,
        Event::Secrets(_) => false,
    }
}
