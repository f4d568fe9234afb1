//! Per cell: the whole list of what it should hold.
//!
//! Beside the lists stands when each last changed, so that a cell's long poll wakes for its own
//! list only. That is a hint and no content: after a restart every list counts as changed once.

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{ActualLrp, Instance, InstancePresence},
        placement::Placement,
        task::{self, Task},
    },
    hash_index::HashIndex,
    id::{ActualLrpKey, CellId, InstanceGuid},
    labels::Labels,
    log::{CellEpoch, Position, StreamId},
    rep::{Assignment, Wanted, Work, WorkKind, WorkReference},
};

use crate::view::View;

/// The lists of all cells.
#[derive(Debug, Clone, Default)]
pub struct CellAssignments {
    /// Boxed: an index has up to twice the room that its entries need.
    lists: HashIndex<CellId, HashIndex<InstanceGuid, Box<Listed>>>,
    placed: HashIndex<StreamId, (CellId, InstanceGuid)>,
    /// What of a slot is placed, or leaves, beside its ordinary instance: few have something.
    twins: HashIndex<ActualLrpKey, Vec<(CellId, InstanceGuid)>>,
    changed_at: HashIndex<CellId, Position>,
    changed: BTreeSet<CellId>,
}

/// What was placed on a cell, and in which of its registrations.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    cell_epoch: CellEpoch,
    work: Work,
}

impl CellAssignments {
    /// The list of a registered cell. What was placed on a machine that another one has replaced
    /// since is not on it: it would be started there for nobody.
    #[must_use]
    pub fn of(&self, aggregates: &Aggregates, cell_id: &CellId) -> Option<Assignment> {
        let cell_epoch = aggregates.cell(cell_id)?.cell_epoch;
        // By instance guid: equal lists are told alike.
        let listed = self.lists.get(cell_id).into_iter().flat_map(HashIndex::values_in_order);
        let present = listed.filter(|listed| listed.cell_epoch == cell_epoch);
        Some(Assignment {
            position: self.changed_at(cell_id),
            cell_epoch,
            work: present.map(|listed| listed.work.clone()).collect(),
        })
    }

    /// The last event known to have changed a cell's list.
    #[must_use]
    pub fn changed_at(&self, cell_id: &CellId) -> Position {
        self.changed_at.get(cell_id).copied().unwrap_or_default()
    }

    /// Notes the position of the event that was folded last, and hands out the cells whose lists
    /// it changed.
    pub(crate) fn settle(&mut self, position: Position) -> BTreeSet<CellId> {
        for cell_id in &self.changed {
            self.changed_at.insert(cell_id.clone(), position);
        }
        std::mem::take(&mut self.changed)
    }

    fn remove(&mut self, stream: &StreamId) {
        let Some((cell_id, instance_guid)) = self.placed.remove(stream) else { return };
        self.strike(cell_id, &instance_guid);
    }

    fn insert(&mut self, stream: StreamId, cell_id: CellId, listed: Listed) {
        let instance_guid = listed.work.reference.instance_guid.clone();
        self.placed.insert(stream, (cell_id.clone(), instance_guid));
        self.list(cell_id, listed);
    }

    fn list(&mut self, cell_id: CellId, listed: Listed) {
        self.changed.insert(cell_id.clone());
        let instance_guid = listed.work.reference.instance_guid.clone();
        let list = self.lists.get_or_insert_with(cell_id, HashIndex::default);
        list.insert(instance_guid, Box::new(listed));
    }

    fn strike(&mut self, cell_id: CellId, instance_guid: &InstanceGuid) {
        if let Some(list) = self.lists.get_mut(&cell_id) {
            list.remove(instance_guid);
            if list.is_empty() {
                self.lists.remove(&cell_id);
            }
        }
        self.changed.insert(cell_id);
    }

    /// Replaces what is listed of a slot beside its ordinary instance.
    fn replace_twins(&mut self, key: &ActualLrpKey, twins: Vec<(CellId, Listed)>) {
        let of = |(cell_id, listed): &(CellId, Listed)| {
            (cell_id.clone(), listed.work.reference.instance_guid.clone())
        };
        let now: Vec<(CellId, InstanceGuid)> = twins.iter().map(of).collect();
        let before = self.twins.get(key).map_or(&[][..], Vec::as_slice);
        let is_known = |(cell_id, listed): &(CellId, Listed)| {
            let list = self.lists.get(cell_id);
            let known = list.and_then(|list| list.get(&listed.work.reference.instance_guid));
            known.is_some_and(|known| **known == *listed)
        };
        if before == now && twins.iter().all(is_known) {
            return;
        }
        for (cell_id, instance_guid) in self.twins.remove(key).unwrap_or_default() {
            self.strike(cell_id, &instance_guid);
        }
        for (cell_id, listed) in twins {
            self.list(cell_id, listed);
        }
        if !now.is_empty() {
            self.twins.insert(key.clone(), now);
        }
    }

    fn known(&self, stream: &StreamId) -> Option<(&CellId, &Listed)> {
        let (cell_id, instance_guid) = self.placed.get(stream)?;
        Some((cell_id, self.lists.get(cell_id)?.get(instance_guid)?))
    }
}

fn listed_slot(aggregates: &Aggregates, slot: &ActualLrp) -> Option<(CellId, Listed)> {
    let ordinary = slot.instances().find(|it| it.presence == InstancePresence::Ordinary);
    ordinary.map(|instance| listed_instance(aggregates, slot, instance))
}

fn listed_twins(aggregates: &Aggregates, slot: &ActualLrp) -> Vec<(CellId, Listed)> {
    let others = slot.instances().filter(|it| it.presence != InstancePresence::Ordinary);
    others.map(|instance| listed_instance(aggregates, slot, instance)).collect()
}

/// Shared by all instances of a process; none where the wish says nothing, or is gone.
fn labels_of(aggregates: &Aggregates, slot: &ActualLrp) -> Option<Arc<Labels>> {
    let lrp = aggregates.desired_lrp(&slot.key.process_guid)?;
    (!lrp.labels.is_empty()).then(|| Arc::clone(&lrp.labels))
}

/// Whatever is to be stopped stays on the list until its cell says that it is gone.
fn listed_instance(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    instance: Instance<'_>,
) -> (CellId, Listed) {
    let wanted = match (instance.is_stopping, instance.is_withdrawing) {
        (true, false) => Wanted::Stop,
        // A router may still lead to it.
        (true, true) | (false, _) => Wanted::Run,
    };
    let labels = labels_of(aggregates, slot);
    listed(WorkKind::Lrp(slot.key.clone()), instance.placement, wanted, labels)
}

fn listed_task(task: &Task) -> Option<(CellId, Listed)> {
    let wanted = match task.state {
        task::State::Completed(_) | task::State::Resolving { .. } | task::State::Deleting(_) => {
            Wanted::Stop
        }
        task::State::Pending | task::State::Placed(_) | task::State::Running(_) => Wanted::Run,
    };
    Some(listed(WorkKind::Task(task.task_guid.clone()), task.placement()?, wanted, None))
}

fn listed(
    kind: WorkKind,
    placement: &Placement,
    wanted: Wanted,
    labels: Option<Arc<Labels>>,
) -> (CellId, Listed) {
    let reference = WorkReference {
        kind,
        instance_guid: placement.instance_guid.clone(),
        placement_epoch: placement.placement_epoch,
    };
    let work = Work { reference, wanted, definition: placement.definition, labels };
    (placement.cell_id.clone(), Listed { cell_epoch: placement.cell_epoch, work })
}

impl View for CellAssignments {
    const NAME: &'static str = "cell_assignments";

    fn fill(aggregates: &Aggregates) -> Self {
        let placed = HashIndex::with_capacity(aggregates.owners());
        let mut assignments = Self { placed, ..Self::default() };
        let slots = aggregates.processes_by_chance().flat_map(|(_, process)| process.slots());
        let slots = slots.filter_map(|slot| {
            let listed = listed_slot(aggregates, slot)?;
            Some((StreamId::ActualLrp(slot.key.clone()), listed))
        });
        let tasks = aggregates
            .tasks_by_chance()
            .filter_map(|task| Some((StreamId::Task(task.task_guid.clone()), listed_task(task)?)));
        for (stream, (cell_id, listed)) in slots.chain(tasks) {
            assignments.insert(stream, cell_id, listed);
        }
        let slots = aggregates.processes_by_chance().flat_map(|(_, process)| process.slots());
        for slot in slots.filter(|slot| !slot.is_alone()) {
            assignments.replace_twins(&slot.key, listed_twins(aggregates, slot));
        }
        assignments.changed.extend(aggregates.cells().map(|cell| cell.cell_id.clone()));
        assignments
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        let present = match stream {
            StreamId::ActualLrp(key) => {
                aggregates.slot(key).and_then(|slot| listed_slot(aggregates, slot))
            }
            StreamId::Task(task_guid) => aggregates.task(task_guid).and_then(listed_task),
            StreamId::Cell(cell_id) => {
                // A new registration is told its list even if that has not changed.
                self.changed.insert(cell_id.clone());
                return;
            }
            // What all its instances' cells are told may have changed.
            StreamId::DesiredLrp(process_guid) => {
                for slot in aggregates.slots_of(process_guid) {
                    self.touch(aggregates, &StreamId::ActualLrp(slot.key.clone()));
                }
                return;
            }
            StreamId::FreshnessDomain(_) | StreamId::Secrets(_) => return,
        };
        let is_known = match (&present, self.known(stream)) {
            (Some((cell_id, listed)), Some(known)) => known == (cell_id, listed),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        // Struck first and listed last: an instance may have become a twin, or a twin ordinary.
        if !is_known {
            self.remove(stream);
        }
        if let StreamId::ActualLrp(key) = stream {
            let twins = aggregates.slot(key).map(|slot| listed_twins(aggregates, slot));
            self.replace_twins(key, twins.unwrap_or_default());
        }
        if let Some((cell_id, listed)) = present.filter(|_| !is_known) {
            self.insert(stream.clone(), cell_id, listed);
        }
    }

    fn content(&self) -> String {
        format!("{:?}{:?}{:?}", self.lists, self.placed, self.twins)
    }
}
