//! One round: the work in its order, each on the best cell that is left, each reservation seen by
//! the next.
//!
//! Where Diego places tasks before LRPs when a batch happens to hold only first instances (its
//! `splitLRPS`), first instances always come first here: what an LRP waits for does not depend on
//! what else is in the batch.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Auction, CellState, Demand, Input, PlacementError, Settings, filter, score,
    zone::{self, RankedCell, ZoneCells},
};
use crate::{
    bbs::{actual_lrp, definition::Rootfs, task},
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
}

impl Placement {
    /// The command that places it, as the container with this guid.
    #[must_use]
    pub fn into_command(self, instance_guid: InstanceGuid) -> Command {
        let Self { work, cell_id, cell_epoch } = self;
        match work {
            WorkKind::Lrp(key) => {
                actual_lrp::Command::Place { key, instance_guid, cell_id, cell_epoch }.into()
            }
            WorkKind::Task(task_guid) => {
                task::Command::Place { task_guid, instance_guid, cell_id, cell_epoch }.into()
            }
        }
    }
}

impl Failure {
    /// The command that notes it, where there is something to note.
    ///
    /// Better than Diego on purpose: a task that no cell at all was there for was not rejected. It
    /// waits, and is placed as soon as one registers.
    #[must_use]
    pub fn into_command(self) -> Option<Command> {
        let error = self.error.to_string();
        match (self.work, self.error) {
            (WorkKind::Lrp(key), _) => {
                Some(actual_lrp::Command::FailPlacement { key, error }.into())
            }
            (WorkKind::Task(_), PlacementError::NoCells) => None,
            (
                WorkKind::Task(task_guid),
                PlacementError::Rootfs
                | PlacementError::PlacementTags(_)
                | PlacementError::InFlightLimit
                | PlacementError::InsufficientResources(_),
            ) => Some(task::Command::FailPlacement { task_guid, error }.into()),
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
}

/// Decides one round. Equal cells: the lowest id wins.
#[must_use]
pub fn schedule(input: Input) -> Outcome {
    let mut round = Round::new(input.cells, input.settings);
    let mut outcome = Outcome::default();
    for Auction { work, demand } in in_order(input.auctions) {
        match round.place(&work, &demand) {
            Ok((cell_id, cell_epoch)) => {
                outcome.placements.push(Placement { work, cell_id, cell_epoch });
            }
            Err(error) => outcome.failures.push(Failure { work, error }),
        }
    }
    outcome
}

/// First instances, then tasks, then the others by index; the biggest memory first in each.
fn in_order(mut auctions: Vec<Auction>) -> Vec<Auction> {
    auctions.sort_by_key(|auction| {
        let turn = match &auction.work {
            WorkKind::Lrp(key) if key.index == 0 => (0, 0),
            WorkKind::Task(_) => (1, 0),
            WorkKind::Lrp(key) => (2, key.index),
        };
        (turn, Reverse(auction.demand.resources.memory_mb))
    });
    auctions
}

/// What cells a demand may be placed on, whatever it weighs.
type Constraint = (Rootfs, BTreeSet<String>);

/// The cells while a round goes on.
struct Round {
    cells: Vec<CellState>,
    zones: Vec<ZoneCells>,
    settings: Settings,
    starting: u64,
    /// Reservations do not change who is compatible, so each constraint is filtered once.
    compatible: BTreeMap<Constraint, Result<Vec<ZoneCells>, PlacementError>>,
}

impl Round {
    fn new(mut cells: Vec<CellState>, settings: Settings) -> Self {
        cells.sort_by(|a, b| a.cell_id.cmp(&b.cell_id));
        let zones = zone::zones(&cells);
        let starting = cells.iter().map(|cell| u64::from(cell.starting_container_count)).sum();
        Self { cells, zones, settings, starting, compatible: BTreeMap::new() }
    }

    fn place(
        &mut self,
        work: &WorkKind,
        demand: &Demand,
    ) -> Result<(CellId, CellEpoch), PlacementError> {
        if self.cells.is_empty() {
            return Err(PlacementError::NoCells);
        }
        let starting_max = u64::from(self.settings.starting_container_count_maximum);
        if starting_max > 0 && self.starting >= starting_max {
            return Err(PlacementError::InFlightLimit);
        }
        let winner = self.winner(work, demand)?;
        let cell = &mut self.cells[winner];
        cell.reserve(work, demand.resources);
        self.starting += 1;
        Ok((cell.cell_id.clone(), cell.cell_epoch))
    }

    fn winner(&mut self, work: &WorkKind, demand: &Demand) -> Result<usize, PlacementError> {
        let Self { cells, zones, settings, compatible, .. } = self;
        let constraint = (demand.rootfs.clone(), demand.placement_tags.clone());
        let compatible = compatible
            .entry(constraint)
            .or_insert_with(|| filter::compatible(zones, cells, demand))
            .as_ref()
            .map_err(Clone::clone)?;
        let groups = match work {
            WorkKind::Lrp(key) => zone::groups_for_lrp(zones, compatible, cells, &key.process_guid),
            WorkKind::Task(_) => vec![compatible.iter().collect()],
        };
        let score = |ranked: &RankedCell| {
            let cell = &cells[ranked.cell];
            match work {
                WorkKind::Lrp(key) => {
                    score::for_lrp(cell, ranked.rank, &key.process_guid, demand.resources, settings)
                }
                WorkKind::Task(_) => score::for_task(cell, demand.resources, settings),
            }
        };
        best_of_first_group(cells, &groups, demand, score)
    }
}

/// The best cell of the first group that has one with room; else what all of them lack.
fn best_of_first_group(
    cells: &[CellState],
    groups: &[Vec<&ZoneCells>],
    demand: &Demand,
    score: impl Fn(&RankedCell) -> f64,
) -> Result<usize, PlacementError> {
    let mut lacking_everywhere = BTreeSet::from(["containers", "disk", "memory"]);
    for group in groups {
        let mut best: Option<(f64, usize)> = None;
        for ranked in group.iter().flat_map(|zone| &zone.cells) {
            let lacking = cells[ranked.cell].free.lacking(demand.resources);
            if !lacking.is_empty() {
                lacking_everywhere.retain(|amount| lacking.contains(amount));
                continue;
            }
            let candidate = (score(ranked), ranked.cell);
            // Cells are sorted by id, so the lower place breaks a tie by id, across zones too.
            let is_better = best.is_none_or(|best| {
                candidate.0.total_cmp(&best.0).then(candidate.1.cmp(&best.1)).is_lt()
            });
            if is_better {
                best = Some(candidate);
            }
        }
        if let Some((_, cell)) = best {
            return Ok(cell);
        }
    }
    Err(PlacementError::InsufficientResources(lacking_everywhere))
}
