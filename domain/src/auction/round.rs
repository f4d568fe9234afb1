//! The cells while a round goes on: what they are lies in the [`Order`], which is only looked at;
//! what the round reserves of them is kept here.

use std::collections::BTreeSet;

use super::{
    Candidates, Cells, Constraint, Demand, Lacking, PlacementError, Refusal, Settings,
    candidates::{BEST, LISTED_MAX, Score},
    filter::Mismatch,
    order::{Group, Key, Order, OrderedCell, Queue, State, index},
    search::{Found, Search, Walk},
    siblings::{Siblings, zone_of},
};
use crate::{
    bbs::placement::Resources, hash_index::HashIndex, id::ProcessGuid, log::Position, rep::WorkKind,
};

/// When more cells of a group than these have changed, the round makes the group's order its own.
const MOVED_MAX: usize = 16;

/// The cells while a round goes on.
pub(super) struct Round<'a> {
    cells: &'a Cells,
    order: &'a Order,
    settings: Settings,
    seen: Position,
    starting: u64,
    /// What was decided last. It is booked when more is asked, since the last of all needs not be.
    unbooked: Option<Booking<'a>>,
    /// Of the cells on which something was reserved.
    states: HashIndex<u32, State>,
    /// By group.
    changes: Vec<Changes>,
    siblings: HashIndex<&'a ProcessGuid, Siblings>,
    /// Reservations do not change who is compatible, so each constraint is filtered once.
    compatible: HashIndex<&'a Constraint, Compatible>,
    /// What had no room after so many bookings. It has none until the next booking.
    without_room: HashIndex<(&'a Constraint, Resources), (u64, NotPlaced)>,
}

/// Why something has no cell.
type NotPlaced = (PlacementError, Option<Box<Candidates>>);

/// A reservation.
#[derive(Clone, Copy)]
struct Booking<'a> {
    place: u32,
    wanted: Resources,
    /// None for a task.
    process_guid: Option<&'a ProcessGuid>,
}

/// How a group's orders differ from what they were before the round.
#[derive(Default)]
struct Changes {
    /// The places of the cells that have changed.
    moved: Vec<u32>,
    lrps: Option<BTreeSet<Key>>,
    tasks: Option<BTreeSet<Key>>,
}

impl Changes {
    fn own(&mut self, queue: Queue) -> &mut Option<BTreeSet<Key>> {
        match queue {
            Queue::Lrps => &mut self.lrps,
            Queue::Tasks => &mut self.tasks,
        }
    }
}

/// The groups of cells that something may be placed on.
#[derive(Clone, Default)]
struct Compatible {
    groups: Vec<u32>,
    /// How far the others got, and how many cells they have.
    mismatches: Vec<(Mismatch, u32)>,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        cells: &'a Cells,
        order: &'a Order,
        settings: Settings,
        seen: Position,
    ) -> Self {
        Self {
            cells,
            order,
            settings,
            seen,
            starting: order.starting,
            unbooked: None,
            states: HashIndex::default(),
            changes: Vec::new(),
            siblings: HashIndex::default(),
            compatible: HashIndex::default(),
            without_room: HashIndex::default(),
        }
    }

    /// Finds the best cell and reserves it.
    pub(super) fn place(
        &mut self,
        work: &'a WorkKind,
        demand: &'a Demand,
    ) -> Result<(&'a OrderedCell, Box<Candidates>), NotPlaced> {
        if self.order.cells.is_empty() {
            return Err((PlacementError::NoCells, None));
        }
        let starting_max = u64::from(self.settings.starting_container_count_maximum);
        if starting_max > 0 && self.starting >= starting_max {
            return Err((PlacementError::InFlightLimit, None));
        }
        if let Some(booking) = self.unbooked.take() {
            self.book(booking);
        }
        let process_guid = match work {
            WorkKind::Lrp(key) => Some(&key.process_guid),
            WorkKind::Task(_) => None,
        };
        let room = (&demand.constraint, demand.resources);
        let bookings = self.starting;
        match self.without_room.get(&room) {
            Some((since, not_placed)) if *since == bookings => return Err(not_placed.clone()),
            Some(_) | None => {}
        }
        let found = self.find(process_guid, demand);
        let (place, candidates) = found.inspect_err(|not_placed| {
            self.without_room.insert(room, (bookings, not_placed.clone()));
        })?;
        self.starting += 1;
        self.unbooked = Some(Booking { place, wanted: demand.resources, process_guid });
        // A found place is one of the order's.
        let cell = self.order.cell(place).ok_or((PlacementError::NoCells, None))?;
        Ok((cell, candidates))
    }

    fn find(
        &mut self,
        process_guid: Option<&'a ProcessGuid>,
        demand: &'a Demand,
    ) -> Result<(u32, Box<Candidates>), NotPlaced> {
        let Self { cells, order, compatible, siblings, .. } = self;
        let constraint = &demand.constraint;
        let compatible =
            compatible.get_or_insert_with(constraint, || Compatible::among(order, constraint));
        let siblings = process_guid.map(|process_guid| {
            &*siblings.get_or_insert_with(process_guid, || {
                Siblings::new(cells.instances_of(process_guid), order)
            })
        });
        let instances_beside = |group: &Group| siblings.map_or(0, |it| it.in_zone(group.zone));
        let mut tries: Vec<(u64, u32)> = compatible
            .groups
            .iter()
            .filter_map(|number| Some((instances_beside(order.group(*number)?), *number)))
            .collect();
        tries.sort_unstable();
        let queue = if process_guid.is_some() { Queue::Lrps } else { Queue::Tasks };
        for (_, group) in &tries {
            self.keep_short(*group, queue);
        }
        let siblings = process_guid.and_then(|process_guid| self.siblings.get(&process_guid));
        let mut search = Search::new(demand.resources, queue, siblings, &self.settings);
        let mut tried = 0;
        for equal in tries.chunk_by(|one, other| one.0 == other.0) {
            for (_, group) in equal {
                self.walk(*group, &mut search);
            }
            tried += equal.len();
            if search.winner().is_some() {
                break;
            }
        }
        let untried = tries.get(tried..).unwrap_or_default();
        let candidates = Box::new(self.candidates(constraint, &search, untried));
        if let Some(Found { place, .. }) = search.winner() {
            return Ok((place, candidates));
        }
        Err((self.error(constraint, &search), Some(candidates)))
    }

    fn error(&self, constraint: &Constraint, search: &Search<'_>) -> PlacementError {
        let compatible = self.compatible.get(&constraint);
        if compatible.is_some_and(|compatible| !compatible.groups.is_empty()) {
            return PlacementError::InsufficientResources(search.lacking_everywhere);
        }
        let mismatches = compatible.map(|compatible| compatible.mismatches.iter());
        let furthest = mismatches.into_iter().flatten().map(|(mismatch, _)| *mismatch).max();
        furthest.map_or(PlacementError::NoCells, |mismatch| mismatch.error(constraint))
    }

    /// Looks at the cells of a group, as they are now.
    fn walk(&self, number: u32, search: &mut Search<'_>) {
        let Some(group) = self.order.group(number) else { return };
        let changes = self.changes.get(index(number));
        let own = changes.and_then(|changes| match search.queue {
            Queue::Lrps => changes.lrps.as_ref(),
            Queue::Tasks => changes.tasks.as_ref(),
        });
        let moved = changes.filter(|_| own.is_none()).map_or(&[][..], |changes| &changes.moved);
        for place in moved {
            if let Some(key) = self.key(*place, search.queue) {
                search.consider(&key);
            }
        }
        let few = search.siblings.and_then(|siblings| siblings.few_with_fewest(group.zone));
        let is_here = |place: &&u32| {
            self.order.cell(**place).is_some_and(|cell| cell.group == number)
                && !moved.contains(place)
        };
        for place in few.unwrap_or_default().iter().filter(is_here) {
            if let Some(key) = self.key(*place, search.queue) {
                search.consider(&key);
            }
        }
        let keys = own.unwrap_or_else(|| group.queue(search.queue));
        let Group { largest, zone, .. } = *group;
        search.walk(Walk { keys, moved, largest, zone, has_seen_fewest: few.is_some() });
    }

    /// A cell as it is now.
    fn key(&self, place: u32, queue: Queue) -> Option<Key> {
        self.order.key(place, self.state(place)?, queue)
    }

    fn state(&self, place: u32) -> Option<State> {
        let reserved = self.states.get(&place).copied();
        reserved.or_else(|| self.order.cell(place).map(|cell| cell.state))
    }

    /// Makes a group's order the round's own when too many of its cells have changed.
    fn keep_short(&mut self, number: u32, queue: Queue) {
        let Self { order, states, changes, .. } = self;
        let Some(changes) = changes.get_mut(index(number)) else { return };
        let Some(group) = order.group(number) else { return };
        if changes.own(queue).is_some() || changes.moved.len() <= MOVED_MAX {
            return;
        }
        let mut own = group.queue(queue).clone();
        for place in &changes.moved {
            let Some(cell) = order.cell(*place) else { continue };
            if let Some(before) = order.key(*place, cell.state, queue) {
                own.remove(&before);
            }
            let now = states.get(place).and_then(|state| order.key(*place, *state, queue));
            own.extend(now);
        }
        *changes.own(queue) = Some(own);
    }

    fn book(&mut self, booking: Booking<'a>) {
        let Booking { place, wanted, process_guid } = booking;
        let Self { order, states, changes, siblings, .. } = self;
        let Some(cell) = order.cell(place) else { return };
        let queue = if process_guid.is_some() { Queue::Lrps } else { Queue::Tasks };
        if changes.len() <= index(cell.group) {
            changes.resize_with(order.groups.len(), Changes::default);
        }
        let Some(changes) = changes.get_mut(index(cell.group)) else { return };
        let state = states.get_or_insert_with(place, || {
            changes.moved.push(place);
            cell.state
        });
        let before = *state;
        *state = before.with_one_more(wanted, queue);
        for queue in [Queue::Lrps, Queue::Tasks] {
            if let Some(own) = changes.own(queue) {
                if let Some(key) = order.key(place, before, queue) {
                    own.remove(&key);
                }
                own.extend(order.key(place, *state, queue));
            }
        }
        if let Some(siblings) = process_guid.and_then(|guid| siblings.get_mut(&guid)) {
            siblings.add(place, zone_of(place, order), order);
        }
    }

    /// What each cell came to.
    fn candidates(
        &self,
        constraint: &Constraint,
        search: &Search<'_>,
        untried: &[(u64, u32)],
    ) -> Candidates {
        let mut told = Candidates {
            seen: self.seen,
            best: Vec::new(),
            refused: Vec::new(),
            counts: Vec::new(),
        };
        if self.order.cells.len() <= LISTED_MAX {
            self.tell_each(constraint, search, untried, &mut told);
        } else {
            self.count(constraint, search, untried, &mut told);
        }
        told
    }

    fn tell_each(
        &self,
        constraint: &Constraint,
        search: &Search<'_>,
        untried: &[(u64, u32)],
        told: &mut Candidates,
    ) {
        let mut best = Vec::with_capacity(self.order.cells.len());
        for (place, cell) in (0..).zip(&self.order.cells) {
            let Some(group) = self.order.group(cell.group) else { continue };
            let Some(key) = self.key(place, search.queue) else { continue };
            let lacking = Lacking::of(key.standing.free, search.wanted);
            let refusal = if let Some(mismatch) = group.offer.mismatch(constraint) {
                mismatch.refusal()
            } else if untried.iter().any(|(_, number)| *number == cell.group) {
                Refusal::FullerZone
            } else if lacking.is_nothing() {
                best.push((search.score(&key), &cell.cell_id));
                continue;
            } else {
                Refusal::Lacks(lacking)
            };
            told.refused.push((cell.cell_id.clone(), refusal));
        }
        best.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(other.1)));
        let scored = best.into_iter().map(|(score, cell_id)| (cell_id.clone(), Score::of(score)));
        told.best = scored.collect();
    }

    fn count(
        &self,
        constraint: &Constraint,
        search: &Search<'_>,
        untried: &[(u64, u32)],
        told: &mut Candidates,
    ) {
        told.best.reserve_exact(BEST);
        told.best.extend(search.best().filter_map(|found| {
            Some((self.order.cell(found.place)?.cell_id.clone(), Score::of(found.score)))
        }));
        let mismatches = self.compatible.get(&constraint).map(|it| it.mismatches.iter());
        let mismatches = mismatches.into_iter().flatten();
        let untried = untried.iter().filter_map(|(_, number)| self.order.group(*number));
        let untried: u32 = untried.map(|group| group.size).sum();
        let lacking = search.lacking.iter().enumerate();
        let lacking =
            lacking.map(|(number, cells)| (Refusal::Lacks(Lacking::of_number(number)), *cells));
        for (mismatch, cells) in mismatches {
            told.count(mismatch.refusal(), *cells);
        }
        for (refusal, cells) in lacking.chain([(Refusal::FullerZone, untried)]) {
            told.count(refusal, cells);
        }
        let counted: u32 = told.counts.iter().map(|(_, cells)| cells).sum();
        let named = told.best.len();
        let rest = self.order.cells.len().saturating_sub(named).saturating_sub(index(counted));
        told.count(Refusal::HigherScore, u32::try_from(rest).unwrap_or(u32::MAX));
    }
}

impl Compatible {
    fn among(order: &Order, constraint: &Constraint) -> Self {
        let mut compatible = Self::default();
        for (number, group) in (0..).zip(&order.groups) {
            match group.offer.mismatch(constraint) {
                None => compatible.groups.push(number),
                Some(mismatch) => compatible.mismatches.push((mismatch, group.size)),
            }
        }
        compatible
    }
}
