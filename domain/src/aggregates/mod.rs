//! The live aggregates: everything that commands are judged against, folded from the log.
//!
//! Ended ones leave. What a cell has reserved is kept beside them, always equal to the sum over
//! the placements, also when an aggregate is put back to an older state (the bus's undo).

mod bytes;
mod change;
mod shard;

use std::{collections::BTreeMap, fmt, sync::Arc};

use foldhash::{HashMap, HashMapExt as _};
use serde::{Deserialize, Serialize};

use crate::{
    bbs::{
        actual_lrp::ActualLrp,
        cell::Cell,
        desired_lrp::DesiredLrp,
        freshness_domain::FreshnessDomain,
        placement::{Placement, Resources},
        task::Task,
    },
    id::{ActualLrpKey, CellId, FreshnessDomainName, ProcessGuid, TaskGuid},
    log::{Owner, Position, StreamId},
    secrets::Secrets,
};
use shard::Shard;

pub use shard::{CLUSTER_SHARD, Part, PartBuilder, Process, SHARDS, shard_of, shard_of_stream};

/// One live aggregate of any kind: what a snapshot stores and an undo puts back.
#[expect(
    clippy::large_enum_variant,
    reason = "cells are few, and what lies in thousands is shared"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aggregate {
    /// A wish.
    DesiredLrp(Arc<DesiredLrp>),
    /// A slot.
    ActualLrp(Arc<ActualLrp>),
    /// A task.
    Task(Arc<Task>),
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

/// All live aggregates at one position of the log. A clone is cheap: it shares what neither of
/// both changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Aggregates {
    /// [`SHARDS`] of them.
    shards: Vec<Arc<Shard>>,
    /// By hash: every report looks its cell up.
    cells: HashMap<CellId, Cell>,
    freshness_domains: BTreeMap<FreshnessDomainName, FreshnessDomain>,
    secrets: BTreeMap<Owner, Secrets>,
    reserved: HashMap<CellId, Resources>,
}

impl Default for Aggregates {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self {
            shards: vec![empty; usize::from(SHARDS)],
            cells: HashMap::new(),
            freshness_domains: BTreeMap::new(),
            secrets: BTreeMap::new(),
            reserved: HashMap::new(),
        }
    }
}

impl fmt::Debug for Aggregates {
    /// In order, so that equal aggregates print the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: BTreeMap<_, _> = self.cells.iter().collect();
        let reserved: BTreeMap<_, _> = self.reserved.iter().collect();
        f.debug_struct("Aggregates")
            .field("desired_lrps", &self.desired_lrps().collect::<Vec<_>>())
            .field("actual_lrps", &self.slots().collect::<Vec<_>>())
            .field("tasks", &self.tasks().collect::<Vec<_>>())
            .field("cells", &cells)
            .field("freshness_domains", &self.freshness_domains)
            .field("secrets", &self.secrets)
            .field("reserved", &reserved)
            .finish()
    }
}

impl Aggregates {
    fn shard(&self, stream: &StreamId) -> Option<&Shard> {
        self.shards.get(usize::from(shard_of_stream(stream))).map(Arc::as_ref)
    }

    fn process(&self, process_guid: &ProcessGuid) -> Option<&Process> {
        self.shards.get(shard::of_process(process_guid))?.processes.get(process_guid)
    }

    /// A wish, by guid.
    #[must_use]
    pub fn desired_lrp(&self, process_guid: &ProcessGuid) -> Option<&DesiredLrp> {
        self.process(process_guid)?.desired.as_deref()
    }

    /// All wishes, by guid. They are sorted first: for a look at the whole.
    pub fn desired_lrps(&self) -> impl Iterator<Item = &DesiredLrp> {
        self.processes().into_iter().filter_map(|(_, process)| process.desired.as_deref())
    }

    fn processes(&self) -> Vec<(&ProcessGuid, &Process)> {
        let mut processes: Vec<_> = self.processes_by_chance().collect();
        processes.sort_unstable_by_key(|(process_guid, _)| *process_guid);
        processes
    }

    /// Every process with its guid, in an order by chance: only to fill what is itself in order, or
    /// looked up by key.
    pub fn processes_by_chance(&self) -> impl Iterator<Item = (&ProcessGuid, &Process)> {
        self.shards.iter().flat_map(|shard| shard.processes.iter())
    }

    /// Every task, as [`Aggregates::processes_by_chance`].
    pub fn tasks_by_chance(&self) -> impl Iterator<Item = &Task> {
        self.shards.iter().flat_map(|shard| shard.tasks.values()).map(Arc::as_ref)
    }

    /// How many processes and tasks there are.
    #[must_use]
    pub fn owners(&self) -> usize {
        self.shards.iter().map(|shard| shard.processes.len() + shard.tasks.len()).sum()
    }

    /// About how many bytes of memory the processes and tasks take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.bytes()).sum()
    }

    /// A slot.
    #[must_use]
    pub fn slot(&self, key: &ActualLrpKey) -> Option<&ActualLrp> {
        self.process(&key.process_guid)?.slot(key.index).map(Arc::as_ref)
    }

    /// All slots, by process guid and index. They are sorted first: for a look at the whole.
    pub fn slots(&self) -> impl Iterator<Item = &ActualLrp> {
        self.processes().into_iter().flat_map(|(_, process)| process.slots.iter().map(Arc::as_ref))
    }

    /// The slots of one process guid, by index.
    pub fn slots_of(&self, process_guid: &ProcessGuid) -> impl Iterator<Item = &ActualLrp> {
        let process = self.process(process_guid).into_iter();
        process.flat_map(|process| process.slots.iter().map(Arc::as_ref))
    }

    /// A task.
    #[must_use]
    pub fn task(&self, task_guid: &TaskGuid) -> Option<&Task> {
        let number = shard_of(&Owner::Task(task_guid.clone()));
        self.shards.get(usize::from(number))?.tasks.get(task_guid).map(Arc::as_ref)
    }

    /// All tasks that are pending, placed, running or ended lately, by guid. They are sorted
    /// first: for a look at the whole.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        let mut tasks: Vec<&Task> = self.tasks_by_chance().collect();
        tasks.sort_unstable_by_key(|task| &task.task_guid);
        tasks.into_iter()
    }

    /// A cell.
    #[must_use]
    pub fn cell(&self, cell_id: &CellId) -> Option<&Cell> {
        self.cells.get(cell_id)
    }

    /// All cells that ever registered, by id. They are sorted first.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        let mut cells: Vec<&Cell> = self.cells.values().collect();
        cells.sort_unstable_by_key(|cell| &cell.cell_id);
        cells.into_iter()
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

    /// Whether a placement's cell is another machine by now: its instance never comes back.
    #[must_use]
    pub fn is_replaced(&self, placement: &Placement) -> bool {
        self.cell(&placement.cell_id).is_none_or(|cell| cell.cell_epoch != placement.cell_epoch)
    }

    /// The last event of a live stream.
    #[must_use]
    pub fn last_position(&self, stream: &StreamId) -> Option<Position> {
        match stream {
            StreamId::DesiredLrp(guid) => self.desired_lrp(guid).map(|a| a.last_position),
            StreamId::ActualLrp(key) => self.slot(key).map(|a| a.last_position),
            StreamId::Task(guid) => self.task(guid).map(|a| a.last_position),
            StreamId::Cell(cell_id) => self.cells.get(cell_id).map(|a| a.last_position),
            StreamId::FreshnessDomain(name) => {
                self.freshness_domains.get(name).map(|a| a.last_position)
            }
            StreamId::Secrets(owner) => self.secrets.get(owner).map(|a| a.last_position),
        }
    }

    /// A live aggregate.
    #[must_use]
    pub fn get(&self, stream: &StreamId) -> Option<Aggregate> {
        match stream {
            StreamId::DesiredLrp(guid) => {
                self.process(guid)?.desired.clone().map(Aggregate::DesiredLrp)
            }
            StreamId::ActualLrp(key) => {
                self.process(&key.process_guid)?.slot(key.index).cloned().map(Aggregate::ActualLrp)
            }
            StreamId::Task(guid) => {
                self.shard(stream)?.tasks.get(guid).cloned().map(Aggregate::Task)
            }
            StreamId::Cell(cell_id) => self.cells.get(cell_id).cloned().map(Aggregate::Cell),
            StreamId::FreshnessDomain(name) => {
                self.freshness_domains.get(name).cloned().map(Aggregate::FreshnessDomain)
            }
            StreamId::Secrets(owner) => self.secrets.get(owner).cloned().map(Aggregate::Secrets),
        }
    }

    /// All live aggregates: the cells and what else is the cluster's first, then shard by shard.
    pub fn all(&self) -> impl Iterator<Item = Aggregate> {
        std::iter::once(CLUSTER_SHARD).chain(0..SHARDS).flat_map(|number| self.of_shard(number))
    }

    /// The live aggregates of one shard, in order: nothing for a number past [`CLUSTER_SHARD`].
    #[must_use]
    pub fn of_shard(&self, number: u16) -> Vec<Aggregate> {
        if number == CLUSTER_SHARD {
            let cells = self.cells().cloned().map(Aggregate::Cell);
            let domains = self.freshness_domains.values().cloned().map(Aggregate::FreshnessDomain);
            let secrets = self.secrets.values().cloned().map(Aggregate::Secrets);
            return cells.chain(domains).chain(secrets).collect();
        }
        self.shards.get(usize::from(number)).map(|shard| shard.members()).unwrap_or_default()
    }

    /// How many processes and tasks a shard holds.
    #[must_use]
    pub fn owners_in(&self, number: u16) -> usize {
        let shard = self.shards.get(usize::from(number));
        shard.map_or(0, |shard| shard.processes.len() + shard.tasks.len())
    }

    /// The live aggregates of one owner, in order, but for what was forgotten of its secrets.
    #[must_use]
    pub fn of_owner(&self, owner: &Owner) -> Vec<Aggregate> {
        match owner {
            Owner::Process(process_guid) => {
                let process = self.process(process_guid).into_iter();
                process
                    .flat_map(|process| {
                        let desired = process.desired.iter().cloned().map(Aggregate::DesiredLrp);
                        desired.chain(process.slots.iter().cloned().map(Aggregate::ActualLrp))
                    })
                    .collect()
            }
            Owner::Task(task_guid) => {
                self.get(&StreamId::Task(task_guid.clone())).into_iter().collect()
            }
            Owner::Cell(cell_id) => {
                self.get(&StreamId::Cell(cell_id.clone())).into_iter().collect()
            }
            Owner::FreshnessDomain(name) => {
                self.get(&StreamId::FreshnessDomain(name.clone())).into_iter().collect()
            }
        }
    }
}
