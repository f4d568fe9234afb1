//! One round: the work in its order, each on the best cell that is left, each reservation seen by
//! the next.
//!
//! Where Diego places tasks before LRPs when a batch happens to hold only first instances (its
//! `splitLRPS`), first instances always come first here: what an LRP waits for does not depend on
//! what else is in the batch.

use std::cmp::Reverse;

use super::{Auction, Candidates, Input, PlacementError, round::Round};
use crate::{
    bbs::{actual_lrp, task},
    command::Command,
    id::{CellId, InstanceGuid},
    log::CellEpoch,
    rep::WorkKind,
};

/// What one round came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What was placed, in the order of placing.
    pub placements: Vec<Placement>,
    /// What was not, in the order of trying.
    pub failures: Vec<Failure>,
}

/// Something goes to a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What.
    pub work: WorkKind,
    /// Where.
    pub cell_id: CellId,
    /// Which registration of the cell was looked at.
    pub cell_epoch: CellEpoch,
    /// Among which cells it was chosen, and why.
    pub candidates: Box<Candidates>,
}

impl Placement {
    /// The command that places it, as the container with this guid.
    #[must_use]
    pub fn into_command(self, instance_guid: InstanceGuid) -> Command {
        let Self { work, cell_id, cell_epoch, candidates } = self;
        let candidates = Some(candidates);
        match work {
            WorkKind::Lrp(key) => {
                actual_lrp::Command::Place { key, instance_guid, cell_id, cell_epoch, candidates }
                    .into()
            }
            WorkKind::Task(task_guid) => {
                task::Command::Place { task_guid, instance_guid, cell_id, cell_epoch, candidates }
                    .into()
            }
        }
    }
}

/// No cell takes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What.
    pub work: WorkKind,
    /// Why not.
    pub error: PlacementError,
    /// Why each cell does not; none where no cell was looked at.
    pub candidates: Option<Box<Candidates>>,
}

impl Failure {
    /// The command that notes it, where there is something to note.
    ///
    /// Better than Diego on purpose: a task that no cell at all was there for, or that had to wait
    /// while others start, was not rejected. It waits, and is placed as soon as may be.
    #[must_use]
    pub fn into_command(self) -> Option<Command> {
        let error = self.error.to_string();
        let candidates = self.candidates;
        match (self.work, self.error) {
            (WorkKind::Lrp(key), _) => {
                Some(actual_lrp::Command::FailPlacement { key, error, candidates }.into())
            }
            (WorkKind::Task(_), PlacementError::NoCells | PlacementError::InFlightLimit) => None,
            (
                WorkKind::Task(task_guid),
                PlacementError::Rootfs
                | PlacementError::VolumeDrivers
                | PlacementError::PlacementTags(_)
                | PlacementError::InsufficientResources(_),
            ) => Some(task::Command::FailPlacement { task_guid, error, candidates }.into()),
        }
    }
}

/// Decides one round. Equal cells: the lowest id wins.
#[must_use]
pub fn schedule(input: Input<'_>) -> Outcome {
    let Input { mut auctions, cells, settings, seen } = input;
    bring_into_order(&mut auctions);
    let order = cells.order(&settings);
    let mut round = Round::new(cells, &order, settings, seen);
    let placements = Vec::with_capacity(auctions.len());
    let mut outcome = Outcome { placements, failures: Vec::new() };
    for Auction { work, demand } in &auctions {
        let placed = round.place(work, demand);
        let work = work.clone();
        match placed {
            Ok((cell, candidates)) => outcome.placements.push(Placement {
                work,
                cell_id: cell.cell_id.clone(),
                cell_epoch: cell.cell_epoch,
                candidates,
            }),
            Err((error, candidates)) => {
                outcome.failures.push(Failure { work, error, candidates });
            }
        }
    }
    outcome
}

/// First instances, then tasks, then the others by index; the biggest memory first in each.
fn bring_into_order(auctions: &mut [Auction]) {
    auctions.sort_by_key(|auction| {
        let turn = match &auction.work {
            WorkKind::Lrp(key) if key.index == 0 => (0, 0),
            WorkKind::Task(_) => (1, 0),
            WorkKind::Lrp(key) => (2, key.index),
        };
        (turn, Reverse(auction.demand.resources.memory_mb))
    });
}
