//! A cell as its events tell it.

use serde::{Deserialize, Serialize};

use super::{Event, Registration};
use crate::{
    id::CellId,
    log::{CellEpoch, Position, Stamp},
    units::Timestamp,
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

impl Cell {
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
            let reports_seen = before
                .filter(|cell| cell.cell_epoch == registered.cell_epoch)
                .map_or(0, |cell| cell.reports_seen);
            *state = Some(Cell {
                cell_id: cell_id.clone(),
                cell_epoch: registered.cell_epoch,
                registration: (*registered.registration).clone(),
                presence: Presence::Present { since },
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
        (Event::Lost(_) | Event::Returned(_), None) => {}
    }
}
