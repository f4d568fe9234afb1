//! The machines of a model: cells that are cut off, die, are replaced and come back, and the
//! containers on them. What a container is for and goes through is the model's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use domain::{
    bbs::{
        actual_lrp::InstanceReference,
        cell::{self, Cell},
        task::TaskReference,
    },
    command::Command,
    id::{CellId, InstanceGuid},
    log::CellEpoch,
    testing::{cell_id, instance_guid, register},
    units::Timestamp,
};

use crate::log::{Bug, Log};

/// Begins what is told of a cell.
const NEXT_CELL: u8 = 254;

/// One placement, as its cell names it.
pub(crate) trait Reference: Clone + Debug + PartialEq {
    fn instance_guid(&self) -> &InstanceGuid;
    fn cell(&self) -> (&CellId, CellEpoch);
}

impl Reference for InstanceReference {
    fn instance_guid(&self) -> &InstanceGuid {
        &self.instance_guid
    }

    fn cell(&self) -> (&CellId, CellEpoch) {
        (&self.cell_id, self.cell_epoch)
    }
}

impl Reference for TaskReference {
    fn instance_guid(&self) -> &InstanceGuid {
        &self.instance_guid
    }

    fn cell(&self) -> (&CellId, CellEpoch) {
        (&self.cell_id, self.cell_epoch)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Container<R, P> {
    pub(crate) reference: R,
    pub(crate) phase: P,
}

/// What of a cell's list it has no container for.
#[derive(Debug, Clone)]
pub(crate) enum Unheld<R> {
    /// To be made.
    Begin(R),
    /// To be told gone.
    Stop(R),
}

#[derive(Debug, Clone)]
pub(crate) struct Machines<R, P> {
    pub(crate) log: Log,
    pub(crate) containers: BTreeMap<InstanceGuid, Container<R, P>>,
    pub(crate) faults_left: u8,
    cells: Vec<CellId>,
    /// The machine behind each cell, by number: another one when it was replaced.
    machines: Vec<u128>,
    placed: u32,
}

impl<R: Reference, P: Copy> Machines<R, P> {
    pub(crate) fn new(cells: u32, faults_left: u8, bug: Option<Bug>) -> Self {
        let cells: Vec<CellId> = (0..cells).map(|it| cell_id(&format!("cell-{it}"))).collect();
        let machines: Vec<u128> = (0..cells.len() as u128).collect();
        let mut log = Log::new(bug);
        for (cell_id, machine) in cells.iter().zip(&machines) {
            log.submit(register(cell_id.as_str(), *machine)).unwrap();
        }
        let containers = BTreeMap::new();
        Self { log, containers, faults_left, cells, machines, placed: 0 }
    }

    pub(crate) fn id(&self, cell: usize) -> &CellId {
        &self.cells[cell]
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.cells.len()
    }

    pub(crate) fn cell(&self, cell: usize) -> &Cell {
        self.log.aggregates.cell(&self.cells[cell]).unwrap()
    }

    pub(crate) fn is_present(&self, cell: usize) -> bool {
        self.cell(cell).is_present()
    }

    pub(crate) fn are_all_lost(&self) -> bool {
        self.numbers().all(|cell| !self.is_present(cell))
    }

    /// Whether the cell of a placement can speak of it: it is there, and the machine it was.
    pub(crate) fn can_speak(&self, reference: &R) -> bool {
        let (cell_id, cell_epoch) = reference.cell();
        let cell = self.log.aggregates.cell(cell_id).unwrap();
        cell.is_present() && cell.cell_epoch == cell_epoch
    }

    /// The containers on a cell.
    pub(crate) fn on(&mut self, cell: usize) -> impl Iterator<Item = &mut Container<R, P>> {
        let cell_id = self.cells[cell].clone();
        self.containers.values_mut().filter(move |it| *it.reference.cell().0 == cell_id)
    }

    pub(crate) fn begin(&mut self, reference: R, phase: P) {
        let guid = reference.instance_guid().clone();
        self.containers.insert(guid, Container { reference, phase });
    }

    /// The guid of what is placed next.
    pub(crate) fn next_guid(&mut self) -> InstanceGuid {
        self.placed += 1;
        instance_guid(&format!("i-{}", self.placed))
    }

    /// A cell is heard no more.
    pub(crate) fn lose(&mut self, cell: usize) {
        let lose = cell::Command::Lose {
            cell_id: self.cells[cell].clone(),
            last_heard_at: Timestamp(0),
            heard_by: "model".to_owned(),
        };
        self.log.submit(lose).unwrap();
    }

    /// A cell's machine is gone with all that was on it, and another one takes its id.
    pub(crate) fn replace(&mut self, cell: usize) {
        let cell_id = self.cells[cell].clone();
        self.containers.retain(|_, it| *it.reference.cell().0 != cell_id);
        self.machines[cell] += 100;
        self.lose(cell);
        self.come_back(cell);
    }

    /// A lost cell registers, with what is on it.
    pub(crate) fn come_back(&mut self, cell: usize) {
        self.log.submit(register(self.cells[cell].as_str(), self.machines[cell])).unwrap();
    }

    /// One of each kind of cells of which the same is told.
    pub(crate) fn unlike(&self, told_of: impl Fn(usize) -> Vec<u8>) -> Vec<usize> {
        let mut told = BTreeSet::new();
        self.numbers().filter(|cell| told.insert(told_of(*cell))).collect()
    }

    /// What is told of all cells, whatever their names.
    pub(crate) fn told(&self, told_of: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
        let mut cells: Vec<_> = self.numbers().map(told_of).collect();
        cells.sort_unstable();
        cells.into_iter().flat_map(|told| [vec![NEXT_CELL], told].concat()).collect()
    }

    /// Takes out the containers that are nobody's.
    pub(crate) fn take_strays(&mut self, assigned: &[(R, bool)]) -> Vec<Container<R, P>> {
        let is_known = |container: &Container<R, P>| {
            assigned.iter().any(|(reference, _)| *reference == container.reference)
        };
        let (known, strays) =
            std::mem::take(&mut self.containers).into_iter().partition(|(_, it)| is_known(it));
        self.containers = known;
        BTreeMap::into_values(strays).collect()
    }

    /// Whether nothing that a container could say is heard any more.
    pub(crate) fn check_unheard(&mut self, says: &[Command]) -> Result<(), String> {
        match says.iter().find(|command| self.log.submit((*command).clone()).is_ok()) {
            Some(heard) => Err(format!("nobody's, and heard: {heard:?}")),
            None => Ok(()),
        }
    }

    /// What cells are assigned and hold no container for.
    pub(crate) fn unheld(&self, assigned: Vec<(R, bool)>) -> impl Iterator<Item = Unheld<R>> {
        let unheld = assigned.into_iter().filter(|(reference, _)| {
            self.can_speak(reference) && !self.containers.contains_key(reference.instance_guid())
        });
        unheld.map(
            |(reference, is_wanted)| {
                if is_wanted { Unheld::Begin(reference) } else { Unheld::Stop(reference) }
            },
        )
    }
}
