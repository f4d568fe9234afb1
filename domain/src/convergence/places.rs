//! Which work is on which cell, both ways: the ordinary instances and tasks, and what stands beside
//! a slot's ordinary instance.

use crate::{
    bbs::{
        actual_lrp::{ActualLrp, InstancePresence},
        placement::Placement,
    },
    hash_index::HashIndex,
    id::{ActualLrpKey, CellId},
    rep::WorkKind,
};

/// Which work is on which cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Places {
    cell_of: HashIndex<WorkKind, CellId>,
    /// Beside the cell of the ordinary instance, where there is something beside that: few have.
    twins_on: HashIndex<ActualLrpKey, Vec<CellId>>,
    placed_on: HashIndex<CellId, HashIndex<WorkKind, ()>>,
}

impl Places {
    pub(super) fn with_capacity(owners: usize) -> Self {
        Self { cell_of: HashIndex::with_capacity(owners), ..Self::default() }
    }

    /// The work on a cell, in order.
    pub(super) fn on(&self, cell_id: &CellId) -> Vec<WorkKind> {
        let there = self.placed_on.get(cell_id).map(|there| there.keys_where(|()| true));
        there.into_iter().flatten().cloned().collect()
    }

    /// Notes where a slot's instances are.
    pub(super) fn note_slot(&mut self, key: &ActualLrpKey, slot: Option<&ActualLrp>) {
        self.note_twins(key, slot);
        self.note(&WorkKind::Lrp(key.clone()), slot.and_then(ActualLrp::placement));
    }

    /// Notes where a task, or a slot's ordinary instance, is.
    pub(super) fn note(&mut self, work: &WorkKind, placement: Option<&Placement>) {
        let cell_id = placement.map(|placement| &placement.cell_id);
        if self.cell_of.get(work) == cell_id {
            return;
        }
        if let Some(before) = self.cell_of.remove(work)
            && !self.has_twin_on(&before, work)
        {
            self.leave(&before, work);
        }
        if let Some(cell_id) = cell_id {
            self.cell_of.insert(work.clone(), cell_id.clone());
            self.enter(cell_id, work);
        }
    }

    fn note_twins(&mut self, key: &ActualLrpKey, slot: Option<&ActualLrp>) {
        let cells = slot.map(cells_of_twins).unwrap_or_default();
        if self.twins_on.get(key).map_or(&[][..], Vec::as_slice) == cells {
            return;
        }
        let work = WorkKind::Lrp(key.clone());
        let before = self.twins_on.remove(key).unwrap_or_default();
        for cell_id in before.iter().filter(|cell_id| !cells.contains(cell_id)) {
            if self.cell_of.get(&work) != Some(cell_id) {
                self.leave(cell_id, &work);
            }
        }
        for cell_id in &cells {
            self.enter(cell_id, &work);
        }
        if !cells.is_empty() {
            self.twins_on.insert(key.clone(), cells);
        }
    }

    fn has_twin_on(&self, cell_id: &CellId, work: &WorkKind) -> bool {
        match work {
            WorkKind::Lrp(key) => self.twins_on.get(key).is_some_and(|on| on.contains(cell_id)),
            WorkKind::Task(_) => false,
        }
    }

    fn enter(&mut self, cell_id: &CellId, work: &WorkKind) {
        let there = self.placed_on.get_or_insert_with(cell_id.clone(), HashIndex::default);
        there.insert(work.clone(), ());
    }

    fn leave(&mut self, cell_id: &CellId, work: &WorkKind) {
        if let Some(there) = self.placed_on.get_mut(cell_id) {
            there.remove(work);
            if there.is_empty() {
                self.placed_on.remove(cell_id);
            }
        }
    }
}

/// In order, each once.
fn cells_of_twins(slot: &ActualLrp) -> Vec<CellId> {
    let twins = slot.instances().filter(|it| it.presence != InstancePresence::Ordinary);
    let mut cells: Vec<CellId> = twins.map(|twin| twin.placement.cell_id.clone()).collect();
    cells.sort_unstable();
    cells.dedup();
    cells
}
