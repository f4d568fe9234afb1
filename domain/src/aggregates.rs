//! The live aggregates: everything that commands are judged against, folded from the log.
//!
//! Ended ones leave. What a cell has reserved is kept beside them, always equal to the sum over
//! the placements, also when an aggregate is put back to an older state (the bus's undo).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    bbs::{
        actual_lrp::{self, ActualLrp},
        cell::{self, Cell},
        desired_lrp::{self, DesiredLrp},
        freshness_domain::{self, FreshnessDomain},
        placement::{Placement, Resources},
        task::{self, Task},
    },
    command::ReportNumber,
    event::Event,
    id::{ActualLrpKey, CellId, FreshnessDomainName, ProcessGuid, TaskGuid},
    log::{Owner, Position, Recorded, StreamId},
    secrets::{self, Secrets},
};

/// One live aggregate of any kind: what a snapshot stores and an undo puts back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aggregate {
    /// A wish.
    DesiredLrp(DesiredLrp),
    /// A slot.
    ActualLrp(ActualLrp),
    /// A task.
    Task(Task),
    /// A cell.
    Cell(Cell),
    /// A freshness domain.
    FreshnessDomain(FreshnessDomain),
    /// An owner's forgotten secrets.
    Secrets(Secrets),
}

impl Aggregate {
    /// Its stream.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        match self {
            Self::DesiredLrp(lrp) => StreamId::DesiredLrp(lrp.process_guid.clone()),
            Self::ActualLrp(slot) => StreamId::ActualLrp(slot.key.clone()),
            Self::Task(task) => StreamId::Task(task.task_guid.clone()),
            Self::Cell(cell) => StreamId::Cell(cell.cell_id.clone()),
            Self::FreshnessDomain(domain) => StreamId::FreshnessDomain(domain.name.clone()),
            Self::Secrets(secrets) => StreamId::Secrets(secrets.owner.clone()),
        }
    }
}

/// All live aggregates at one position of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aggregates {
    desired_lrps: BTreeMap<ProcessGuid, DesiredLrp>,
    actual_lrps: BTreeMap<ActualLrpKey, ActualLrp>,
    tasks: BTreeMap<TaskGuid, Task>,
    cells: BTreeMap<CellId, Cell>,
    freshness_domains: BTreeMap<FreshnessDomainName, FreshnessDomain>,
    secrets: BTreeMap<Owner, Secrets>,
    reserved: BTreeMap<CellId, Resources>,
}

impl Aggregates {
    /// A wish, by guid.
    #[must_use]
    pub fn desired_lrp(&self, process_guid: &ProcessGuid) -> Option<&DesiredLrp> {
        self.desired_lrps.get(process_guid)
    }

    /// All wishes, by guid.
    pub fn desired_lrps(&self) -> impl Iterator<Item = &DesiredLrp> {
        self.desired_lrps.values()
    }

    /// A slot.
    #[must_use]
    pub fn slot(&self, key: &ActualLrpKey) -> Option<&ActualLrp> {
        self.actual_lrps.get(key)
    }

    /// All slots, by process guid and index.
    pub fn slots(&self) -> impl Iterator<Item = &ActualLrp> {
        self.actual_lrps.values()
    }

    /// The slots of one process guid, by index.
    pub fn slots_of(&self, process_guid: &ProcessGuid) -> impl Iterator<Item = &ActualLrp> {
        let key = |index| ActualLrpKey { process_guid: process_guid.clone(), index };
        self.actual_lrps.range(key(0)..=key(u32::MAX)).map(|(_, slot)| slot)
    }

    /// A task.
    #[must_use]
    pub fn task(&self, task_guid: &TaskGuid) -> Option<&Task> {
        self.tasks.get(task_guid)
    }

    /// All tasks that are pending, placed, running or ended lately.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// A cell.
    #[must_use]
    pub fn cell(&self, cell_id: &CellId) -> Option<&Cell> {
        self.cells.get(cell_id)
    }

    /// All cells that ever registered.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values()
    }

    /// A freshness domain.
    #[must_use]
    pub fn freshness_domain(&self, name: &FreshnessDomainName) -> Option<&FreshnessDomain> {
        self.freshness_domains.get(name)
    }

    /// All freshness domains.
    pub fn freshness_domains(&self) -> impl Iterator<Item = &FreshnessDomain> {
        self.freshness_domains.values()
    }

    /// What was forgotten of an owner's secrets.
    #[must_use]
    pub fn secrets(&self, owner: &Owner) -> Option<&Secrets> {
        self.secrets.get(owner)
    }

    /// All owners of whom secrets were forgotten.
    pub fn all_secrets(&self) -> impl Iterator<Item = &Secrets> {
        self.secrets.values()
    }

    /// What the placements on a cell reserve of it.
    #[must_use]
    pub fn reserved_on(&self, cell_id: &CellId) -> Resources {
        self.reserved.get(cell_id).copied().unwrap_or_default()
    }

    /// What is left of a cell.
    #[must_use]
    pub fn free_on(&self, cell: &Cell) -> Resources {
        cell.registration.capacity.minus(self.reserved_on(&cell.cell_id))
    }

    /// Whether a placement's cell is lost, or another machine by now.
    #[must_use]
    pub fn is_lost(&self, placement: &Placement) -> bool {
        self.cell(&placement.cell_id)
            .is_none_or(|cell| !cell.is_present() || cell.cell_epoch != placement.cell_epoch)
    }

    /// The last event of a live stream.
    #[must_use]
    pub fn last_position(&self, stream: &StreamId) -> Option<Position> {
        match stream {
            StreamId::DesiredLrp(guid) => self.desired_lrps.get(guid).map(|a| a.last_position),
            StreamId::ActualLrp(key) => self.actual_lrps.get(key).map(|a| a.last_position),
            StreamId::Task(guid) => self.tasks.get(guid).map(|a| a.last_position),
            StreamId::Cell(cell_id) => self.cells.get(cell_id).map(|a| a.last_position),
            StreamId::FreshnessDomain(name) => {
                self.freshness_domains.get(name).map(|a| a.last_position)
            }
            StreamId::Secrets(owner) => self.secrets.get(owner).map(|a| a.last_position),
        }
    }

    /// A copy of a live aggregate.
    #[must_use]
    pub fn get(&self, stream: &StreamId) -> Option<Aggregate> {
        match stream {
            StreamId::DesiredLrp(guid) => {
                self.desired_lrps.get(guid).cloned().map(Aggregate::DesiredLrp)
            }
            StreamId::ActualLrp(key) => {
                self.actual_lrps.get(key).cloned().map(Aggregate::ActualLrp)
            }
            StreamId::Task(guid) => self.tasks.get(guid).cloned().map(Aggregate::Task),
            StreamId::Cell(cell_id) => self.cells.get(cell_id).cloned().map(Aggregate::Cell),
            StreamId::FreshnessDomain(name) => {
                self.freshness_domains.get(name).cloned().map(Aggregate::FreshnessDomain)
            }
            StreamId::Secrets(owner) => self.secrets.get(owner).cloned().map(Aggregate::Secrets),
        }
    }

    /// All live aggregates, for a snapshot.
    pub fn all(&self) -> impl Iterator<Item = Aggregate> {
        let desired = self.desired_lrps.values().cloned().map(Aggregate::DesiredLrp);
        let slots = self.actual_lrps.values().cloned().map(Aggregate::ActualLrp);
        let tasks = self.tasks.values().cloned().map(Aggregate::Task);
        let cells = self.cells.values().cloned().map(Aggregate::Cell);
        let domains = self.freshness_domains.values().cloned().map(Aggregate::FreshnessDomain);
        let secrets = self.secrets.values().cloned().map(Aggregate::Secrets);
        desired.chain(slots).chain(tasks).chain(cells).chain(domains).chain(secrets)
    }

    /// Puts a stream to a state: loads a snapshot's aggregate, or undoes what was not committed.
    pub fn put(&mut self, stream: &StreamId, aggregate: Option<Aggregate>) {
        self.change_reservation(stream, Resources::minus);
        self.forget(stream);
        match aggregate {
            None => {}
            Some(Aggregate::DesiredLrp(lrp)) => {
                self.desired_lrps.insert(lrp.process_guid.clone(), lrp);
            }
            Some(Aggregate::ActualLrp(slot)) => {
                self.actual_lrps.insert(slot.key.clone(), slot);
            }
            Some(Aggregate::Task(task)) => {
                self.tasks.insert(task.task_guid.clone(), task);
            }
            Some(Aggregate::Cell(cell)) => {
                self.cells.insert(cell.cell_id.clone(), cell);
            }
            Some(Aggregate::FreshnessDomain(domain)) => {
                self.freshness_domains.insert(domain.name.clone(), domain);
            }
            Some(Aggregate::Secrets(secrets)) => {
                self.secrets.insert(secrets.owner.clone(), secrets);
            }
        }
        self.change_reservation(stream, Resources::plus);
    }

    /// Folds one event. Total: history is never refused.
    pub fn apply(&mut self, recorded: &Recorded<Event>) {
        self.change_reservation(&recorded.stream, Resources::minus);
        self.fold(recorded);
        self.change_reservation(&recorded.stream, Resources::plus);
        self.note_report(recorded);
    }

    fn fold(&mut self, recorded: &Recorded<Event>) {
        let stamp = recorded.stamp();
        match (&recorded.stream, &recorded.event) {
            (StreamId::DesiredLrp(guid), Event::DesiredLrp(event)) => {
                fold_one(&mut self.desired_lrps, guid, |state| {
                    desired_lrp::evolve(state, guid, event, stamp);
                });
            }
            (StreamId::ActualLrp(key), Event::ActualLrp(event)) => {
                fold_one(&mut self.actual_lrps, key, |state| {
                    actual_lrp::evolve(state, key, event, stamp);
                });
            }
            (StreamId::Task(guid), Event::Task(event)) => {
                fold_one(&mut self.tasks, guid, |state| task::evolve(state, guid, event, stamp));
            }
            (StreamId::Cell(cell_id), Event::Cell(event)) => {
                fold_one(&mut self.cells, cell_id, |state| {
                    cell::evolve(state, cell_id, event, stamp);
                });
            }
            (StreamId::FreshnessDomain(name), Event::FreshnessDomain(event)) => {
                fold_one(&mut self.freshness_domains, name, |state| {
                    freshness_domain::evolve(state, name, event, stamp);
                });
            }
            (StreamId::Secrets(owner), Event::Secrets(event)) => {
                fold_one(&mut self.secrets, owner, |state| {
                    secrets::evolve(state, owner, event, stamp);
                });
            }
            // An event on a stream of another kind was never written by these rules.
            (
                StreamId::DesiredLrp(_)
                | StreamId::ActualLrp(_)
                | StreamId::Task(_)
                | StreamId::Cell(_)
                | StreamId::FreshnessDomain(_)
                | StreamId::Secrets(_),
                Event::DesiredLrp(_)
                | Event::ActualLrp(_)
                | Event::Task(_)
                | Event::Cell(_)
                | Event::FreshnessDomain(_)
                | Event::Secrets(_),
            ) => {}
        }
    }

    fn note_report(&mut self, recorded: &Recorded<Event>) {
        let Some((cell_id, number)) = ReportNumber::of(&recorded.command_id) else { return };
        if let Some(cell) = self.cells.get_mut(&cell_id)
            && cell.cell_epoch == number.cell_epoch
        {
            cell.reports_seen = cell.reports_seen.max(number.sequence);
        }
    }

    fn forget(&mut self, stream: &StreamId) {
        match stream {
            StreamId::DesiredLrp(guid) => drop(self.desired_lrps.remove(guid)),
            StreamId::ActualLrp(key) => drop(self.actual_lrps.remove(key)),
            StreamId::Task(guid) => drop(self.tasks.remove(guid)),
            StreamId::Cell(cell_id) => drop(self.cells.remove(cell_id)),
            StreamId::FreshnessDomain(name) => drop(self.freshness_domains.remove(name)),
            StreamId::Secrets(owner) => drop(self.secrets.remove(owner)),
        }
    }

    fn change_reservation(
        &mut self,
        stream: &StreamId,
        change: fn(Resources, Resources) -> Resources,
    ) {
        let placement = match stream {
            StreamId::ActualLrp(key) => self.actual_lrps.get(key).and_then(ActualLrp::placement),
            StreamId::Task(guid) => self.tasks.get(guid).and_then(Task::placement),
            StreamId::DesiredLrp(_)
            | StreamId::Cell(_)
            | StreamId::FreshnessDomain(_)
            | StreamId::Secrets(_) => None,
        };
        let Some(placement) = placement else { return };
        let reserved = self.reserved.entry(placement.cell_id.clone()).or_default();
        *reserved = change(*reserved, placement.resources);
        if *reserved == Resources::default() {
            let cell_id = placement.cell_id.clone();
            self.reserved.remove(&cell_id);
        }
    }
}

fn fold_one<K: Ord + Clone, V>(
    map: &mut BTreeMap<K, V>,
    key: &K,
    evolve: impl FnOnce(&mut Option<V>),
) {
    let mut state = map.remove(key);
    evolve(&mut state);
    if let Some(state) = state {
        map.insert(key.clone(), state);
    }
}
