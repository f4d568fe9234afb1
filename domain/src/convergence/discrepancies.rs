//! What differs between desired and actual, slot by slot and task by task.
//!
//! Holds no fact of its own: after every event, touching its stream makes it what it would be if
//! it were filled from nothing. Reads no clock: what is due when is for [`super::plan()`] to say.

use std::collections::{BTreeMap, BTreeSet};

use super::places::Places;
use crate::{
    aggregates::{Aggregates, Process},
    bbs::{
        actual_lrp::{self, ActualLrp, Restart},
        cell::{Cell, Evacuation},
        desired_lrp::DesiredLrp,
        task::{self, Task},
    },
    id::{ActualLrpKey, CellId, FreshnessDomainName, ProcessGuid, TaskGuid},
    log::StreamId,
    rep::WorkKind,
    units::Timestamp,
};

/// What differs between desired and actual.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discrepancies {
    slots: BTreeMap<ActualLrpKey, SlotDiscrepancy>,
    twins: BTreeMap<ActualLrpKey, TwinDiscrepancy>,
    tasks: BTreeMap<TaskGuid, TaskDiscrepancy>,
    callbacks: BTreeSet<TaskGuid>,
    due: BTreeSet<(Timestamp, Due)>,
    places: Places,
    evacuating: BTreeSet<CellId>,
    withdrawing: BTreeSet<ActualLrpKey>,
    fresh_until: BTreeMap<FreshnessDomainName, Option<Timestamp>>,
}

/// What becomes due by time alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Slot(ActualLrpKey),
    Twins(ActualLrpKey),
    Task(TaskGuid),
}

/// What is not as it should be about one slot. A slot that has several of these shows the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotDiscrepancy {
    /// Its instance is on a cell that is lost, or another machine by now.
    OnLostCell,
    /// It is desired and not there.
    Missing,
    /// Its instance is on a cell that is being evacuated.
    OnEvacuatingCell {
        /// That evacuation.
        evacuation: Evacuation,
        /// Whether the instance is healthy: only then it is missed.
        is_healthy: bool,
    },
    /// It is there, not desired, and not being stopped.
    Extra {
        /// Who must vouch before it may be stopped.
        domain: FreshnessDomainName,
    },
    /// Its instance ended and is not to be placed yet.
    Crashed(Restart),
    /// It waits for a cell.
    Unplaced,
}

/// What is not settled about the instances beside a slot's ordinary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwinDiscrepancy {
    /// A suspect's cell is back or another machine by now, or the cell of an evacuating or leaving
    /// one is lost.
    Unsettled,
    /// One is evacuating, and is stopped at this instant.
    Evacuating {
        /// When it is stopped.
        ends_at: Timestamp,
    },
}

impl TwinDiscrepancy {
    fn due(self) -> Option<Timestamp> {
        match self {
            Self::Unsettled => None,
            Self::Evacuating { ends_at } => Some(ends_at),
        }
    }
}

/// What is not settled about one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskDiscrepancy {
    /// Its container is on a cell that is lost, or another machine by now.
    OnLostCell,
    /// It waits for a cell, and fails at this instant.
    Unplaced {
        /// When it fails.
        expires_at: Timestamp,
    },
    /// A cell has it and has not asked to start it, and it fails at this instant.
    Unstarted {
        /// When it fails.
        expires_at: Timestamp,
    },
    /// Somebody deals with its end, alone until this instant.
    Resolving {
        /// When another may.
        demoted_at: Timestamp,
    },
    /// It ended, and is shown until this instant.
    Ended {
        /// When it is no longer shown.
        expires_at: Timestamp,
    },
}

impl SlotDiscrepancy {
    fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Crashed(Restart::NotBefore(instant)) => Some(*instant),
            Self::OnEvacuatingCell { evacuation, .. } => Some(evacuation.forced_at()),
            Self::Crashed(Restart::Immediately | Restart::Never)
            | Self::OnLostCell
            | Self::Missing
            | Self::Extra { .. }
            | Self::Unplaced => None,
        }
    }
}

impl TaskDiscrepancy {
    fn due(&self) -> Option<Timestamp> {
        match self {
            Self::OnLostCell => None,
            Self::Unplaced { expires_at }
            | Self::Unstarted { expires_at }
            | Self::Ended { expires_at } => Some(*expires_at),
            Self::Resolving { demoted_at } => Some(*demoted_at),
        }
    }
}

impl Discrepancies {
    /// The index filled from nothing: what touching every stream would come to, by one look at
    /// each.
    #[must_use]
    pub fn of(aggregates: &Aggregates) -> Self {
        let mut filling = Filling::with_capacity(aggregates.owners());
        for (process_guid, process) in aggregates.processes_by_chance() {
            filling.add_process(aggregates, process_guid, process);
        }
        for task in aggregates.tasks_by_chance() {
            filling.add_task(aggregates, task);
        }
        let domains = aggregates.freshness_domains();
        let fresh_until = domains.map(|it| (it.name.clone(), it.fresh_until)).collect();
        let evacuating = aggregates.cells().filter(|cell| is_evacuating(cell));
        let evacuating = evacuating.map(|cell| cell.cell_id.clone()).collect();
        let withdrawing = aggregates.slots().filter(|slot| !slot.withdrawing.is_empty());
        let withdrawing = withdrawing.map(|slot| slot.key.clone()).collect();
        Self { fresh_until, evacuating, withdrawing, ..filling.into_filled() }
    }

    /// Says anew what one stream has to do with, after an event of it was folded.
    ///
    /// A desired LRP's stream concerns all its slots, a cell's everything that is placed on it.
    pub fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        match stream {
            StreamId::DesiredLrp(process_guid) => self.touch_all_slots(aggregates, process_guid),
            StreamId::ActualLrp(key) => self.touch_slot(aggregates, key),
            StreamId::Task(task_guid) => self.touch_task(aggregates, task_guid),
            StreamId::Cell(cell_id) => {
                if aggregates.cell(cell_id).is_some_and(is_evacuating) {
                    self.evacuating.insert(cell_id.clone());
                } else {
                    self.evacuating.remove(cell_id);
                }
                for work in &self.places.on(cell_id) {
                    match work {
                        WorkKind::Lrp(key) => self.touch_slot(aggregates, key),
                        WorkKind::Task(task_guid) => self.touch_task(aggregates, task_guid),
                    }
                }
            }
            StreamId::FreshnessDomain(name) => match aggregates.freshness_domain(name) {
                Some(domain) => {
                    self.fresh_until.insert(name.clone(), domain.fresh_until);
                }
                None => {
                    self.fresh_until.remove(name);
                }
            },
            StreamId::Secrets(_) => {}
        }
    }

    /// The slots with instances that have lost their routes and are not yet their cells' to stop.
    pub fn withdrawing(&self) -> impl Iterator<Item = &ActualLrpKey> {
        self.withdrawing.iter()
    }

    /// Every slot that is not as it should be, by key.
    pub fn slots(&self) -> impl Iterator<Item = (&ActualLrpKey, &SlotDiscrepancy)> {
        self.slots.iter()
    }

    /// Every slot with something beside its ordinary instance that is not settled, by key.
    pub fn twins(&self) -> impl Iterator<Item = (&ActualLrpKey, TwinDiscrepancy)> {
        self.twins.iter().map(|(key, found)| (key, *found))
    }

    /// The cells that are being evacuated and were not told to be empty yet.
    pub fn evacuating(&self) -> impl Iterator<Item = &CellId> {
        self.evacuating.iter()
    }

    /// Every task that is not settled, by guid.
    pub fn tasks(&self) -> impl Iterator<Item = (&TaskGuid, &TaskDiscrepancy)> {
        self.tasks.iter()
    }

    /// The ended tasks of which a client is to be told, by guid.
    pub fn callbacks(&self) -> impl Iterator<Item = &TaskGuid> {
        self.callbacks.iter()
    }

    /// The first instant later than `now` at which time alone makes something due.
    pub(super) fn first_due_after(&self, now: Timestamp) -> Option<Timestamp> {
        let mut due = self.due.iter().map(|(instant, _)| *instant);
        due.find(|instant| *instant > now)
    }

    /// Whether somebody vouches that the desired state of a domain is complete.
    #[must_use]
    pub fn is_fresh(&self, domain: &FreshnessDomainName, now: Timestamp) -> bool {
        self.fresh_until.get(domain).is_some_and(|until| until.is_none_or(|until| now < until))
    }

    fn touch_all_slots(&mut self, aggregates: &Aggregates, process_guid: &ProcessGuid) {
        let key = |index| ActualLrpKey { process_guid: process_guid.clone(), index };
        let known = self.slots.range(key(0)..=key(u32::MAX)).map(|(key, _)| key.clone());
        let there = aggregates.slots_of(process_guid).map(|slot| slot.key.clone());
        let instances = aggregates.desired_lrp(process_guid).map_or(0, |lrp| lrp.instances);
        let keys: BTreeSet<ActualLrpKey> =
            known.chain(there).chain((0..instances).map(key)).collect();
        for key in &keys {
            self.touch_slot(aggregates, key);
        }
    }

    fn touch_slot(&mut self, aggregates: &Aggregates, key: &ActualLrpKey) {
        let slot = aggregates.slot(key);
        self.places.note_slot(key, slot);
        self.touch_twins(aggregates, key, slot);
        if slot.is_some_and(|slot| !slot.withdrawing.is_empty()) {
            self.withdrawing.insert(key.clone());
        } else {
            self.withdrawing.remove(key);
        }
        let lrp = aggregates.desired_lrp(&key.process_guid);
        let found = slot_discrepancy(aggregates, lrp, key.index, slot);
        let due = found.as_ref().and_then(SlotDiscrepancy::due);
        let before = match found {
            Some(found) => self.slots.insert(key.clone(), found),
            None => self.slots.remove(key),
        };
        let before = before.and_then(|before| before.due());
        self.note_due(|| Due::Slot(key.clone()), before, due);
    }

    fn touch_twins(
        &mut self,
        aggregates: &Aggregates,
        key: &ActualLrpKey,
        slot: Option<&ActualLrp>,
    ) {
        let found = slot.and_then(|slot| twin_discrepancy(aggregates, slot));
        let before = match found {
            Some(found) => self.twins.insert(key.clone(), found),
            None => self.twins.remove(key),
        };
        let (before, due) =
            (before.and_then(TwinDiscrepancy::due), found.and_then(TwinDiscrepancy::due));
        self.note_due(|| Due::Twins(key.clone()), before, due);
    }

    fn touch_task(&mut self, aggregates: &Aggregates, task_guid: &TaskGuid) {
        let task = aggregates.task(task_guid);
        let work = WorkKind::Task(task_guid.clone());
        self.places.note(&work, task.and_then(Task::placement));
        let found = task.and_then(|task| task_discrepancy(aggregates, task));
        if task.is_some_and(Task::wants_callback) {
            self.callbacks.insert(task_guid.clone());
        } else {
            self.callbacks.remove(task_guid);
        }
        let due = found.as_ref().and_then(TaskDiscrepancy::due);
        let before = match found {
            Some(found) => self.tasks.insert(task_guid.clone(), found),
            None => self.tasks.remove(task_guid),
        };
        let before = before.and_then(|before| before.due());
        self.note_due(|| Due::Task(task_guid.clone()), before, due);
    }

    fn note_due(
        &mut self,
        of: impl Fn() -> Due,
        before: Option<Timestamp>,
        now: Option<Timestamp>,
    ) {
        if before == now {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, of()));
        }
        if let Some(now) = now {
            self.due.insert((now, of()));
        }
    }
}

/// What is collected while an index is filled, unordered: trees are built at the end, at once.
struct Filling {
    slots: Vec<(ActualLrpKey, SlotDiscrepancy)>,
    twins: Vec<(ActualLrpKey, TwinDiscrepancy)>,
    tasks: Vec<(TaskGuid, TaskDiscrepancy)>,
    callbacks: Vec<TaskGuid>,
    due: Vec<(Timestamp, Due)>,
    places: Places,
}

impl Filling {
    fn with_capacity(owners: usize) -> Self {
        Self {
            slots: Vec::new(),
            twins: Vec::new(),
            tasks: Vec::new(),
            callbacks: Vec::new(),
            due: Vec::new(),
            places: Places::with_capacity(owners),
        }
    }

    fn add_process(&mut self, aggregates: &Aggregates, guid: &ProcessGuid, process: &Process) {
        let lrp = process.desired();
        let key = |index| ActualLrpKey { process_guid: guid.clone(), index };
        let mut missing = 0..lrp.map_or(0, |lrp| lrp.instances);
        for slot in process.slots() {
            // Slots come by index: what lies between two of them is missing. The one that ends this
            // is the slot's own.
            for index in missing.by_ref().take_while(|index| *index < slot.key.index) {
                self.slots.push((key(index), SlotDiscrepancy::Missing));
            }
            self.places.note_slot(&slot.key, Some(slot));
            if !slot.is_alone() {
                self.add_twins(aggregates, slot);
            }
            let found = slot_discrepancy(aggregates, lrp, slot.key.index, Some(slot));
            let Some(found) = found else { continue };
            if let Some(due) = found.due() {
                self.due.push((due, Due::Slot(slot.key.clone())));
            }
            self.slots.push((slot.key.clone(), found));
        }
        self.slots.extend(missing.map(|index| (key(index), SlotDiscrepancy::Missing)));
    }

    fn add_twins(&mut self, aggregates: &Aggregates, slot: &ActualLrp) {
        let Some(found) = twin_discrepancy(aggregates, slot) else { return };
        if let Some(due) = found.due() {
            self.due.push((due, Due::Twins(slot.key.clone())));
        }
        self.twins.push((slot.key.clone(), found));
    }

    fn add_task(&mut self, aggregates: &Aggregates, task: &Task) {
        self.places.note(&WorkKind::Task(task.task_guid.clone()), task.placement());
        if task.wants_callback() {
            self.callbacks.push(task.task_guid.clone());
        }
        let Some(found) = task_discrepancy(aggregates, task) else { return };
        if let Some(due) = found.due() {
            self.due.push((due, Due::Task(task.task_guid.clone())));
        }
        self.tasks.push((task.task_guid.clone(), found));
    }

    fn into_filled(self) -> Discrepancies {
        let Self { slots, twins, tasks, callbacks, due, places } = self;
        Discrepancies {
            slots: slots.into_iter().collect(),
            twins: twins.into_iter().collect(),
            tasks: tasks.into_iter().collect(),
            callbacks: callbacks.into_iter().collect(),
            due: due.into_iter().collect(),
            places,
            evacuating: BTreeSet::new(),
            withdrawing: BTreeSet::new(),
            fresh_until: BTreeMap::new(),
        }
    }
}

fn slot_discrepancy(
    aggregates: &Aggregates,
    lrp: Option<&DesiredLrp>,
    index: u32,
    slot: Option<&ActualLrp>,
) -> Option<SlotDiscrepancy> {
    let is_desired = lrp.is_some_and(|lrp| index < lrp.instances);
    let slot = slot.filter(|slot| !slot.is_removed());
    let Some(slot) = slot else { return is_desired.then_some(SlotDiscrepancy::Missing) };
    let is_lost = slot.placement().is_some_and(|placement| aggregates.is_lost(placement));
    // What is not desired either waits for whoever must vouch before it may go.
    if is_lost && (is_desired || slot.is_stopping) {
        return Some(SlotDiscrepancy::OnLostCell);
    }
    if slot.is_stopping {
        return None;
    }
    let evacuation = slot.placement().and_then(|it| actual_lrp::evacuation(aggregates, it));
    if let Some(evacuation) = evacuation {
        let is_healthy = matches!(slot.state, actual_lrp::State::Running(_));
        return Some(SlotDiscrepancy::OnEvacuatingCell { evacuation: *evacuation, is_healthy });
    }
    if !is_desired {
        let domain = lrp.map_or(&slot.domain, |lrp: &DesiredLrp| &lrp.domain).clone();
        return Some(SlotDiscrepancy::Extra { domain });
    }
    match &slot.state {
        actual_lrp::State::Unclaimed => Some(SlotDiscrepancy::Unplaced),
        actual_lrp::State::Crashed(restart) => Some(SlotDiscrepancy::Crashed(*restart)),
        actual_lrp::State::Placed(_)
        | actual_lrp::State::Claimed(_)
        | actual_lrp::State::Running(_)
        | actual_lrp::State::Removed => None,
    }
}

fn twin_discrepancy(aggregates: &Aggregates, slot: &ActualLrp) -> Option<TwinDiscrepancy> {
    let suspect = slot.suspect.as_ref().map(|suspect| suspect.placement());
    let evacuating = slot.evacuating.as_ref().map(|evacuating| evacuating.placement());
    let is_known = suspect.is_some_and(|placement| {
        !aggregates.is_lost(placement) || aggregates.is_replaced(placement)
    });
    let mut others = evacuating.into_iter().chain(slot.leaving.iter().map(|it| &it.placement));
    if is_known || others.any(|placement| aggregates.is_lost(placement)) {
        return Some(TwinDiscrepancy::Unsettled);
    }
    let evacuation = evacuating.and_then(|it| actual_lrp::evacuation(aggregates, it));
    evacuation.map(|evacuation| TwinDiscrepancy::Evacuating { ends_at: evacuation.ends_at })
}

fn is_evacuating(cell: &Cell) -> bool {
    cell.evacuation.is_some_and(|evacuation| evacuation.evacuated_at.is_none())
}

fn task_discrepancy(aggregates: &Aggregates, task: &Task) -> Option<TaskDiscrepancy> {
    if task.placement().is_some_and(|placement| aggregates.is_lost(placement)) {
        return Some(TaskDiscrepancy::OnLostCell);
    }
    match &task.state {
        task::State::Resolving { since, .. } => {
            Some(TaskDiscrepancy::Resolving { demoted_at: since.plus(task::KICK_AFTER) })
        }
        task::State::Pending => {
            task.expires_at().map(|expires_at| TaskDiscrepancy::Unplaced { expires_at })
        }
        task::State::Placed(_) => {
            task.expires_at().map(|expires_at| TaskDiscrepancy::Unstarted { expires_at })
        }
        task::State::Running(_) | task::State::Completed(_) | task::State::Deleting(_) => {
            task.expires_at().map(|expires_at| TaskDiscrepancy::Ended { expires_at })
        }
    }
}
