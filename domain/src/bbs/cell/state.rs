//! A cell as its events tell it.

use serde::{Deserialize, Serialize};

use super::{Event, Registration};
use crate::{
    id::CellId,
    log::{CellEpoch, Position, Stamp},
    units::{Milliseconds, Timestamp},
};

/// A machine that registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Its id.
    pub cell_id: CellId,
    /// Which registration.
    pub cell_epoch: CellEpoch,
    /// What it is and offers.
    pub registration: Registration,
    /// Whether it is there.
    pub presence: Presence,
    /// What moves everything off it, while something does. Another machine under its id begins
    /// without.
    pub evacuation: Option<Evacuation>,
    /// Why it cannot make containers, as it found out itself; absent when it can.
    pub failure: Option<String>,
    /// The highest sequence of its reports in this epoch that left an event.
    pub reports_seen: u64,
    /// Its last event.
    pub last_position: Position,
}

/// Whether a cell is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It is heard.
    Present {
        /// Since when.
        since: Timestamp,
    },
    /// It was not heard for a whole presence time to live.
    Lost {
        /// Since when.
        since: Timestamp,
    },
}

/// What moves everything off a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evacuation {
    /// Since when.
    pub started_at: Timestamp,
    /// When instances that are still there are stopped.
    pub ends_at: Timestamp,
    /// How many instances of one process guid may be away from RUNNING at a time.
    pub instances_away_max: u32,
    /// How many containers were on the cell when it began.
    pub containers: u32,
    /// When nothing was left.
    pub evacuated_at: Option<Timestamp>,
}

impl Evacuation {
    /// From when on instances are moved whatever else of their process runs: in the last quarter of
    /// the time, so that there is some left for their replacements.
    #[must_use]
    pub fn forced_at(&self) -> Timestamp {
        let whole = self.ends_at.since(self.started_at);
        self.started_at.plus(Milliseconds(whole.0 / 4 * 3))
    }
}

impl Cell {
    /// Whether something may be placed on it.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.is_present() && self.evacuation.is_none() && self.failure.is_none()
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_present(&self) -> bool {
        matches!(self.presence, Presence::Present { .. })
    }
}

/// Folds one event. Total: history is never refused.
pub(crate) fn evolve(state: &mut Option<Cell>, cell_id: &CellId, event: &Event, stamp: Stamp) {
    let since = stamp.recorded_at;
    match (event, state.as_mut()) {
        (Event::Registered(registered), before) => {
            let same = before.filter(|cell| cell.cell_epoch == registered.cell_epoch);
            let (reports_seen, evacuation, failure) = same.map_or((0, None, None), |cell| {
                (cell.reports_seen, cell.evacuation, cell.failure.take())
            });
            *state = Some(Cell {
                cell_id: cell_id.clone(),
                cell_epoch: registered.cell_epoch,
                registration: (*registered.registration).clone(),
                presence: Presence::Present { since },
                evacuation,
                failure,
                reports_seen,
                last_position: stamp.position,
            });
        }
        (Event::Lost(_), Some(cell)) => {
            cell.presence = Presence::Lost { since };
            cell.last_position = stamp.position;
        }
        (Event::Returned(_), Some(cell)) => {
            cell.presence = Presence::Present { since };
            cell.last_position = stamp.position;
        }
        (Event::EvacuationStarted(started), Some(cell)) => {
            cell.evacuation = Some(Evacuation {
                started_at: since,
                ends_at: started.ends_at,
                instances_away_max: started.instances_away_max,
                containers: started.containers,
                evacuated_at: None,
            });
            cell.last_position = stamp.position;
        }
        (Event::EvacuationCancelled(_), Some(cell)) => {
            cell.evacuation = None;
            cell.last_position = stamp.position;
        }
        (Event::Evacuated(_), Some(cell)) => {
            if let Some(evacuation) = &mut cell.evacuation {
                evacuation.evacuated_at = Some(since);
            }
            cell.last_position = stamp.position;
        }
        (Event::HealthChanged(changed), Some(cell)) => {
            cell.failure = changed.failure.clone();
            cell.last_position = stamp.position;
        }
        (
            Event::Lost(_)
            | Event::Returned(_)
            | Event::EvacuationStarted(_)
            | Event::EvacuationCancelled(_)
            | Event::Evacuated(_)
            | Event::HealthChanged(_),
            None,
        ) => {}
    }
}
