//! The live aggregates in parts by owner, each behind its own `Arc`: a copy of all of them costs
//! one count per part, and whoever writes beside a copy clones only the part that is written.
//!
//! Which owner is in which part is stored in snapshots: never change it without a new format.
//! Inside a part the order is by chance; whatever shows members sorts them first.

use std::sync::Arc;

use foldhash::HashMap;

use super::Aggregate;
use crate::{
    bbs::{
        actual_lrp::ActualLrp,
        desired_lrp::DesiredLrp,
        placement::{Placement, Resources},
        task::Task,
    },
    id::{ActualLrpKey, CellId, ProcessGuid, TaskGuid},
    log::{Owner, StreamId},
};

/// How many shards the processes and tasks are in. Cells, which change with every report, and
/// freshness domains and forgotten secrets, which are few, are in [`CLUSTER_SHARD`].
pub const SHARDS: u16 = 512;

/// The shard of the cells, the freshness domains and the forgotten secrets.
pub const CLUSTER_SHARD: u16 = SHARDS;

/// The shard of an owner, at most [`CLUSTER_SHARD`]: the same in every version and on every
/// machine.
#[must_use]
pub fn shard_of(owner: &Owner) -> u16 {
    match owner {
        Owner::Process(process_guid) => hashed(process_guid.as_str()),
        Owner::Task(task_guid) => hashed(task_guid.as_str()),
        Owner::Cell(_) | Owner::FreshnessDomain(_) => CLUSTER_SHARD,
    }
}

/// FNV-1a, its halves folded onto each other.
fn hashed(text: &str) -> u16 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = (hash ^ (hash >> 32)) % u64::from(SHARDS);
    u16::try_from(folded).unwrap_or(0)
}

pub(super) fn of_process(process_guid: &ProcessGuid) -> usize {
    usize::from(hashed(process_guid.as_str()))
}

/// The shard of a stream: that of its owner, but for secrets, which are the cluster's.
#[must_use]
pub fn shard_of_stream(stream: &StreamId) -> u16 {
    match stream {
        StreamId::DesiredLrp(process_guid) => hashed(process_guid.as_str()),
        StreamId::ActualLrp(key) => hashed(key.process_guid.as_str()),
        StreamId::Task(task_guid) => hashed(task_guid.as_str()),
        StreamId::Cell(_) | StreamId::FreshnessDomain(_) | StreamId::Secrets(_) => CLUSTER_SHARD,
    }
}

/// The processes and tasks of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shard {
    pub(super) processes: HashMap<ProcessGuid, Process>,
    pub(super) tasks: HashMap<TaskGuid, Arc<Task>>,
}

/// A wish and the slots under its guid; never without both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    pub(super) desired: Option<Arc<DesiredLrp>>,
    /// By index.
    pub(super) slots: Vec<Arc<ActualLrp>>,
}

impl Process {
    /// The wish, while there is one.
    #[must_use]
    pub fn desired(&self) -> Option<&DesiredLrp> {
        self.desired.as_deref()
    }

    /// The slots, by index.
    pub fn slots(&self) -> impl Iterator<Item = &ActualLrp> {
        self.slots.iter().map(Arc::as_ref)
    }

    fn place(&self, index: u32) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&index, |slot| slot.key.index)
    }

    pub(super) fn slot(&self, index: u32) -> Option<&Arc<ActualLrp>> {
        self.slots.get(self.place(index).ok()?)
    }

    fn is_empty(&self) -> bool {
        self.desired.is_none() && self.slots.is_empty()
    }
}

impl Shard {
    /// Changes a wish.
    pub(super) fn desired<R>(
        &mut self,
        process_guid: &ProcessGuid,
        change: impl FnOnce(&mut Option<Arc<DesiredLrp>>) -> R,
    ) -> R {
        self.process(process_guid, |process| change(&mut process.desired))
    }

    /// Changes a slot.
    pub(super) fn slot<R>(
        &mut self,
        key: &ActualLrpKey,
        change: impl FnOnce(&mut Option<Arc<ActualLrp>>) -> R,
    ) -> R {
        self.process(&key.process_guid, |process| {
            let place = process.place(key.index);
            let mut state = place.ok().map(|index| process.slots.remove(index));
            let result = change(&mut state);
            if let Some(slot) = state {
                if process.slots.is_empty() {
                    // Nearly all have one: a list grows to four by itself.
                    process.slots.reserve_exact(1);
                }
                process.slots.insert(place.unwrap_or_else(|index| index), slot);
            }
            result
        })
    }

    /// Changes a task.
    pub(super) fn task<R>(
        &mut self,
        task_guid: &TaskGuid,
        change: impl FnOnce(&mut Option<Arc<Task>>) -> R,
    ) -> R {
        let mut state = self.tasks.remove(task_guid);
        let result = change(&mut state);
        if let Some(task) = state {
            self.tasks.insert(task_guid.clone(), task);
        }
        result
    }

    fn process<R>(
        &mut self,
        process_guid: &ProcessGuid,
        change: impl FnOnce(&mut Process) -> R,
    ) -> R {
        if let Some(process) = self.processes.get_mut(process_guid) {
            let result = change(process);
            if process.is_empty() {
                self.processes.remove(process_guid);
            }
            return result;
        }
        let mut process = Process::default();
        let result = change(&mut process);
        if !process.is_empty() {
            self.processes.insert(process_guid.clone(), process);
        }
        result
    }

    /// All members, in order.
    pub(super) fn members(&self) -> Vec<Aggregate> {
        let mut processes: Vec<_> = self.processes.iter().collect();
        processes.sort_unstable_by_key(|(process_guid, _)| *process_guid);
        let mut tasks: Vec<_> = self.tasks.values().collect();
        tasks.sort_unstable_by_key(|task| &task.task_guid);
        let mut members = Vec::with_capacity(processes.len() * 2 + tasks.len());
        for (_, process) in processes {
            members.extend(process.desired.iter().cloned().map(Aggregate::DesiredLrp));
            members.extend(process.slots.iter().cloned().map(Aggregate::ActualLrp));
        }
        members.extend(tasks.into_iter().cloned().map(Aggregate::Task));
        members
    }
}

/// What one shard is loaded as: made apart from the aggregates, on another thread, and perhaps
/// shared by several of them.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub(super) shard: Arc<Shard>,
    pub(super) others: Vec<Aggregate>,
    pub(super) reserved: HashMap<CellId, Resources>,
}

/// Collects a [`Part`].
#[derive(Debug, Default)]
pub struct PartBuilder {
    shard: Shard,
    others: Vec<Aggregate>,
    reserved: HashMap<CellId, Resources>,
}

impl PartBuilder {
    /// Makes room for so many more processes.
    pub fn make_room(&mut self, processes: usize) {
        self.shard.processes.reserve(processes);
    }

    /// Adds all that is live under a process guid, its slots by index.
    pub fn add_process(
        &mut self,
        process_guid: ProcessGuid,
        desired: Option<DesiredLrp>,
        slots: Vec<ActualLrp>,
    ) {
        for slot in &slots {
            for instance in slot.instances() {
                self.reserve(instance.placement);
            }
        }
        let slots = slots.into_iter().map(Arc::new).collect();
        let process = Process { desired: desired.map(Arc::new), slots };
        if !process.is_empty() {
            self.shard.processes.insert(process_guid, process);
        }
    }

    /// Adds a task.
    pub fn add_task(&mut self, task: Task) {
        if let Some(placement) = task.placement() {
            self.reserve(placement);
        }
        self.shard.tasks.insert(task.task_guid.clone(), Arc::new(task));
    }

    /// Adds what is the cluster's.
    pub fn add_other(&mut self, aggregate: Aggregate) {
        self.others.push(aggregate);
    }

    /// The part.
    #[must_use]
    pub fn build(self) -> Part {
        let Self { shard, others, reserved } = self;
        Part { shard: Arc::new(shard), others, reserved }
    }

    fn reserve(&mut self, placement: &Placement) {
        match self.reserved.get_mut(&placement.cell_id) {
            Some(sum) => *sum = sum.plus(placement.resources),
            None => drop(self.reserved.insert(placement.cell_id.clone(), placement.resources)),
        }
    }
}
