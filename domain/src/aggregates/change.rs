//! How the live aggregates change: by an event, by a snapshot's part, or back to what they were.

use std::{collections::BTreeMap, sync::Arc};

use super::{Aggregate, Aggregates, Part, Shard, shard_of_stream};
use crate::{
    bbs::{
        actual_lrp::{self, ActualLrp},
        cell,
        desired_lrp::{self, DesiredLrp},
        freshness_domain,
        placement::{Placement, Resources},
        task::{self, Task},
    },
    command::ReportNumber,
    event::Event,
    id::{ActualLrpKey, CellId, ProcessGuid, TaskGuid},
    log::{Recorded, StreamId},
    secrets,
};

impl Aggregates {
    /// Puts a whole shard in, in place of an empty one. What the part holds is shared.
    pub fn add(&mut self, number: u16, part: &Part) {
        let Part { shard, others, reserved } = part;
        if let Some(place) = self.shards.get_mut(usize::from(number)) {
            *place = Arc::clone(shard);
        }
        for aggregate in others {
            self.put(&aggregate.stream(), Some(aggregate.clone()));
        }
        for (cell_id, resources) in reserved {
            match self.reserved.get_mut(cell_id) {
                Some(sum) => *sum = sum.plus(*resources),
                None => drop(self.reserved.insert(cell_id.clone(), *resources)),
            }
        }
    }

    /// Puts a stream to a state: loads a snapshot's aggregate, or undoes what was not committed.
    pub fn put(&mut self, stream: &StreamId, aggregate: Option<Aggregate>) {
        match (stream, aggregate) {
            (StreamId::DesiredLrp(guid), aggregate) => {
                let lrp = match aggregate {
                    Some(Aggregate::DesiredLrp(lrp)) => Some(lrp),
                    Some(
                        Aggregate::ActualLrp(_)
                        | Aggregate::Task(_)
                        | Aggregate::Cell(_)
                        | Aggregate::FreshnessDomain(_)
                        | Aggregate::Secrets(_),
                    )
                    | None => None,
                };
                self.change_desired(stream, guid, |state| *state = lrp);
            }
            (StreamId::ActualLrp(key), aggregate) => {
                let slot = match aggregate {
                    Some(Aggregate::ActualLrp(slot)) => Some(slot),
                    Some(
                        Aggregate::DesiredLrp(_)
                        | Aggregate::Task(_)
                        | Aggregate::Cell(_)
                        | Aggregate::FreshnessDomain(_)
                        | Aggregate::Secrets(_),
                    )
                    | None => None,
                };
                self.change_slot(stream, key, |state| *state = slot);
            }
            (StreamId::Task(guid), aggregate) => {
                let task = match aggregate {
                    Some(Aggregate::Task(task)) => Some(task),
                    Some(
                        Aggregate::DesiredLrp(_)
                        | Aggregate::ActualLrp(_)
                        | Aggregate::Cell(_)
                        | Aggregate::FreshnessDomain(_)
                        | Aggregate::Secrets(_),
                    )
                    | None => None,
                };
                self.change_task(stream, guid, |state| *state = task);
            }
            (StreamId::Cell(cell_id), Some(Aggregate::Cell(cell))) => {
                self.cells.insert(cell_id.clone(), cell);
            }
            (StreamId::FreshnessDomain(name), Some(Aggregate::FreshnessDomain(domain))) => {
                self.freshness_domains.insert(name.clone(), domain);
            }
            (StreamId::Secrets(owner), Some(Aggregate::Secrets(secrets))) => {
                self.secrets.insert(owner.clone(), secrets);
            }
            (StreamId::Secrets(owner), _) => drop(self.secrets.remove(owner)),
            (StreamId::Cell(cell_id), _) => drop(self.cells.remove(cell_id)),
            (StreamId::FreshnessDomain(name), _) => drop(self.freshness_domains.remove(name)),
        }
    }

    /// Folds one event. Total: history is never refused.
    pub fn apply(&mut self, recorded: &Recorded<Event>) {
        self.fold(recorded);
        self.note_report(recorded);
    }

    fn fold(&mut self, recorded: &Recorded<Event>) {
        let stamp = recorded.stamp();
        let stream = &recorded.stream;
        match (stream, &recorded.event) {
            (StreamId::DesiredLrp(guid), Event::DesiredLrp(event)) => {
                self.change_desired(stream, guid, |state| {
                    desired_lrp::evolve(state, guid, event, stamp);
                });
            }
            (StreamId::ActualLrp(key), Event::ActualLrp(event)) => {
                self.change_slot(stream, key, |state| {
                    actual_lrp::evolve(state, key, event, stamp);
                });
            }
            (StreamId::Task(guid), Event::Task(event)) => {
                self.change_task(stream, guid, |state| task::evolve(state, guid, event, stamp));
            }
            (StreamId::Cell(cell_id), Event::Cell(event)) => {
                let mut state = self.cells.remove(cell_id);
                cell::evolve(&mut state, cell_id, event, stamp);
                self.cells.extend(state.map(|cell| (cell_id.clone(), cell)));
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

    /// Notes the number of a cell's report that an event answers: all that an event changes
    /// beside its own stream. Noting one again, or late, changes nothing.
    pub fn note_report(&mut self, recorded: &Recorded<Event>) {
        let Some((cell_id, number)) = ReportNumber::with_cell(&recorded.command_id) else { return };
        if let Some(cell) = self.cells.get_mut(cell_id)
            && cell.cell_epoch == number.cell_epoch
        {
            cell.reports_seen = cell.reports_seen.max(number.sequence);
        }
    }

    fn shard_mut(&mut self, stream: &StreamId) -> Option<&mut Shard> {
        self.shards.get_mut(usize::from(shard_of_stream(stream))).map(Arc::make_mut)
    }

    fn change_desired(
        &mut self,
        stream: &StreamId,
        process_guid: &ProcessGuid,
        change: impl FnOnce(&mut Option<Arc<DesiredLrp>>),
    ) {
        if let Some(shard) = self.shard_mut(stream) {
            shard.desired(process_guid, change);
        }
    }

    fn change_slot(
        &mut self,
        stream: &StreamId,
        key: &ActualLrpKey,
        change: impl FnOnce(&mut Option<Arc<ActualLrp>>),
    ) {
        let Some(shard) = self.shard_mut(stream) else { return };
        let (before, after) = shard.slot(key, |state| {
            let before = reserved_by(state.as_deref());
            change(state);
            (before, reserved_by(state.as_deref()))
        });
        // An instance that becomes a twin changes its place and reserves the same.
        self.change_reservations(before, after);
    }

    fn change_task(
        &mut self,
        stream: &StreamId,
        task_guid: &TaskGuid,
        change: impl FnOnce(&mut Option<Arc<Task>>),
    ) {
        let Some(shard) = self.shard_mut(stream) else { return };
        let (before, after) = shard.task(task_guid, |state| {
            let before = state.as_deref().and_then(Task::placement).map(Reserved::of);
            change(state);
            (before, state.as_deref().and_then(Task::placement).map(Reserved::of))
        });
        self.change_reservations(before.into(), after.into());
    }

    fn change_reservations(&mut self, before: Reservations, after: Reservations) {
        if before == after {
            return;
        }
        // What comes is added first: an amount that stays never falls to nothing in between.
        for Reserved { cell_id, resources } in after.into_iter() {
            let sum = self.reserved.entry(cell_id).or_default();
            *sum = sum.plus(resources);
        }
        for Reserved { cell_id, resources } in before.into_iter() {
            let Some(sum) = self.reserved.get_mut(&cell_id) else { continue };
            *sum = sum.minus(resources);
            if *sum == Resources::default() {
                self.reserved.remove(&cell_id);
            }
        }
    }
}

/// What the instances of a slot reserve: mostly of one, rarely of more than three.
#[derive(PartialEq, Eq)]
struct Reservations {
    first: [Option<Reserved>; 3],
    others: Vec<Reserved>,
}

impl Reservations {
    fn into_iter(self) -> impl Iterator<Item = Reserved> {
        self.first.into_iter().flatten().chain(self.others)
    }
}

impl From<Option<Reserved>> for Reservations {
    fn from(one: Option<Reserved>) -> Self {
        Self { first: [one, None, None], others: Vec::new() }
    }
}

fn reserved_by(slot: Option<&ActualLrp>) -> Reservations {
    let instances = slot.into_iter().flat_map(ActualLrp::instances);
    let mut all = instances.map(|instance| Reserved::of(instance.placement));
    Reservations { first: std::array::from_fn(|_| all.next()), others: all.collect() }
}

/// What one placement takes of its cell.
#[derive(PartialEq, Eq)]
struct Reserved {
    cell_id: CellId,
    resources: Resources,
}

impl Reserved {
    fn of(placement: &Placement) -> Self {
        Self { cell_id: placement.cell_id.clone(), resources: placement.resources }
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
