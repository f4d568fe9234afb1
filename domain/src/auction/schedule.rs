//! One round: the work in its order, each on the best cell that is left, each reservation seen by
//! the next.
//!
//! Where Diego places tasks before LRPs when a batch happens to hold only first instances (its
//! `splitLRPS`), first instances always come first here: what an LRP waits for does not depend on
//! what else is in the batch.

use super::{
    Auction, Candidates, Cells, Input, PlacementError, Settings, Waiting, order::OrderedCell,
    round::Round, waiting::Rank,
};
use crate::{
    bbs::{actual_lrp, task},
    command::Command,
    id::{CellId, InstanceGuid},
    log::{CellEpoch, Position},
    rep::WorkKind,
    units::Timestamp,
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
    fn on(cell: &OrderedCell, work: &WorkKind, candidates: Box<Candidates>) -> Self {
        let (cell_id, cell_epoch) = (cell.cell_id.clone(), cell.cell_epoch);
        Self { work: work.clone(), cell_id, cell_epoch, candidates }
    }

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
    /// Whether a task is rejected for a reason, or just has to wait.
    pub(super) fn is_a_rejection(error: &PlacementError) -> bool {
        match error {
            PlacementError::NoCells | PlacementError::InFlightLimit => false,
            PlacementError::Rootfs
            | PlacementError::VolumeDrivers
            | PlacementError::PlacementTags(_)
            | PlacementError::InsufficientResources(_) => true,
        }
    }

    /// The command that notes it, where there is something to note.
    ///
    /// Better than Diego on purpose: a task that no cell at all was there for, or that had to wait
    /// while others start, was not rejected. It waits, and is placed as soon as may be.
    #[must_use]
    pub fn into_command(self) -> Option<Command> {
        let error = self.error.to_string();
        let candidates = self.candidates;
        let is_a_rejection = Self::is_a_rejection(&self.error);
        match self.work {
            WorkKind::Lrp(key) => {
                Some(actual_lrp::Command::FailPlacement { key, error, candidates }.into())
            }
            WorkKind::Task(task_guid) => is_a_rejection
                .then(|| task::Command::FailPlacement { task_guid, error, candidates }.into()),
        }
    }
}

/// Decides one round of all that is given. Equal cells: the lowest id wins.
#[must_use]
pub fn schedule(input: Input<'_>) -> Outcome {
    let Input { mut auctions, cells, settings, seen } = input;
    auctions.sort_by_key(|it| Rank::of(&it.work, &it.demand));
    let order = cells.order(&settings);
    let mut round = Round::new(cells, &order, settings, seen);
    let placements = Vec::with_capacity(auctions.len());
    let mut outcome = Outcome { placements, failures: Vec::new() };
    for Auction { work, demand } in &auctions {
        match round.place(work, demand) {
            Ok((cell, candidates)) => {
                outcome.placements.push(Placement::on(cell, work, candidates));
            }
            Err((error, candidates)) => {
                outcome.failures.push(Failure { work: work.clone(), error, candidates });
            }
        }
    }
    outcome
}

/// What a step is decided from: as [`Input`], but that what waits is only looked at.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// What waits.
    pub waiting: &'a Waiting,
    /// What may be auctioned at this instant is.
    pub now: Timestamp,
    /// The most that is decided.
    pub decisions_max: usize,
    /// The cells.
    pub cells: &'a Cells,
    /// How to weigh them.
    pub settings: Settings,
    /// Up to which event of the log all this is known.
    pub seen: Position,
}

/// What a round decides first: of [`schedule()`]'s placements so many as asked for, and where these
/// are fewer, its failures that are not shown yet.
///
/// What waits and shows why is not looked at again while others are placed: when that leaves it
/// without something else too, the step after says so.
#[must_use]
pub fn step(step: Step<'_>) -> Outcome {
    let Step { waiting, now, decisions_max, cells, settings, seen } = step;
    let order = cells.order(&settings);
    let mut round = Round::new(cells, &order, settings, seen);
    let mut queue = waiting.queue(now);
    let mut outcome = Outcome::default();
    while outcome.placements.len() < decisions_max
        && let Some(first) = queue.first()
    {
        match round.place(first.work, &first.lane.demand) {
            Ok((cell, candidates)) => {
                outcome.placements.push(Placement::on(cell, first.work, candidates));
                queue.go_on(&first);
            }
            // A round only takes room away: whoever else is in the lane has none either.
            Err((error, candidates)) => {
                if outcome.failures.len() < decisions_max && first.lane.is_news(&error) {
                    let work = first.work.clone();
                    outcome.failures.push(Failure { work, error, candidates });
                    queue.go_on(&first);
                }
            }
        }
    }
    outcome.failures.truncate(decisions_max - outcome.placements.len());
    outcome
}
