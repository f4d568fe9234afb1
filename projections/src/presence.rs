//! Which cell was heard when: a table in memory, never in the log.
//!
//! A control plane that has just started has heard nobody: every cell gets one whole time to
//! live from the start before it can be overdue. Time is always the caller's.

use std::collections::BTreeMap;

use domain::{
    id::CellId,
    units::{Milliseconds, Timestamp},
};

/// When each cell was last heard.
#[derive(Debug, Clone)]
pub struct Presence {
    started_at: Timestamp,
    heard: BTreeMap<CellId, Timestamp>,
}

impl Presence {
    /// A table of a control plane that starts now.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self { started_at, heard: BTreeMap::new() }
    }

    /// Notes that a cell was heard. An older time than the known one changes nothing.
    pub fn heard(&mut self, cell_id: &CellId, at: Timestamp) {
        let last = self.heard.entry(cell_id.clone()).or_insert(at);
        *last = at.max(*last);
    }

    /// When a cell was last heard by this control plane.
    #[must_use]
    pub fn last_heard(&self, cell_id: &CellId) -> Option<Timestamp> {
        self.heard.get(cell_id).copied()
    }

    /// Whether a cell has been silent for longer than its time to live, the start counting as
    /// heard.
    #[must_use]
    pub fn is_overdue(&self, cell_id: &CellId, now: Timestamp, time_to_live: Milliseconds) -> bool {
        let last = self.last_heard(cell_id).unwrap_or(self.started_at).max(self.started_at);
        now > last.plus(time_to_live)
    }

    /// The cells among `cells` that are overdue, in the order given.
    pub fn overdue<'c>(
        &self,
        cells: impl IntoIterator<Item = &'c CellId>,
        now: Timestamp,
        time_to_live: Milliseconds,
    ) -> Vec<CellId> {
        let is_overdue = |cell_id: &&CellId| self.is_overdue(cell_id, now, time_to_live);
        cells.into_iter().filter(is_overdue).cloned().collect()
    }

    /// Drops a cell that is gone for good.
    pub fn forget(&mut self, cell_id: &CellId) {
        self.heard.remove(cell_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000_000)
    }

    #[test]
    fn a_cell_is_overdue_only_after_a_whole_time_to_live_of_silence() {
        let time_to_live = Milliseconds::from_seconds(30);
        let cells = [CellId::new("a").unwrap(), CellId::new("b").unwrap()];
        let mut presence = Presence::new(at(100));

        assert!(presence.overdue(&cells, at(130), time_to_live).is_empty());
        assert_eq!(presence.overdue(&cells, at(131), time_to_live), cells);

        presence.heard(&cells[0], at(125));
        presence.heard(&cells[0], at(110));
        assert_eq!(presence.last_heard(&cells[0]), Some(at(125)));
        assert_eq!(presence.overdue(&cells, at(155), time_to_live), [cells[1].clone()]);
        assert_eq!(presence.overdue(&cells, at(156), time_to_live), cells);

        presence.forget(&cells[0]);
        assert_eq!(presence.last_heard(&cells[0]), None);
    }
}
