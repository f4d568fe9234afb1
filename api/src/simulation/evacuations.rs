//! What must be so of evacuations: one that is told to be over left nothing behind, and with nothing
//! breaking none stands still without a reason.

use domain::{
    bbs::{
        actual_lrp::{self, ActualLrp, Instance, InstancePresence},
        cell::{self, Cell, Evacuation},
        placement::Resources,
    },
    event::Event,
    id::ProcessGuid,
    log::{Position, StreamId},
};

use super::{
    cluster::Cluster,
    witness::{Violation, ensure},
};

/// A container that is still where it should go away from, and why it could have gone.
pub(super) struct Standing {
    pub(super) what: String,
    pub(super) why: String,
}

impl Cluster {
    /// What was committed behind a position says of no cell that it is evacuated while its machine
    /// holds something; but for what nobody heard of any more when the cell was lost.
    pub(super) fn check_evacuated(&self, after: Position) -> Result<(), Violation> {
        let events = self.store.log.read_all(after, usize::MAX);
        let mut told = events.filter_map(|recorded| {
            let StreamId::Cell(cell_id) = &recorded.stream else { return None };
            let is_end = matches!(recorded.event, Event::Cell(cell::Event::Evacuated(_)));
            is_end.then_some(cell_id)
        });
        told.try_for_each(|cell_id| {
            let epoch = self.store.world.aggregates().cell(cell_id).map(|cell| cell.cell_epoch);
            let machines = self.machines.iter().filter(|it| it.cell_id == *cell_id);
            let mut held = machines
                .filter(|machine| machine.is_powered && machine.disk.epoch == epoch)
                .flat_map(|machine| machine.containers.keys())
                .filter(|guid| !self.store.witness.was_on_a_lost_cell(guid));
            let first = held.next();
            ensure(first.is_none(), "an evacuated cell holds nothing", || {
                format!("{cell_id} is told to be empty and holds {first:?}")
            })
        })
    }

    /// What stands still of all evacuations though it could go on.
    pub(super) fn standing(&self) -> impl Iterator<Item = Standing> {
        let cells = self.store.world.aggregates().cells().filter(|cell| cell.is_present());
        cells.filter_map(|cell| Some((cell, cell.evacuation?))).flat_map(|(cell, evacuation)| {
            let is_empty =
                self.store.world.aggregates().reserved_on(&cell.cell_id) == Resources::default();
            let is_untold = is_empty && evacuation.evacuated_at.is_none();
            let untold = is_untold.then(|| Standing {
                what: cell.cell_id.to_string(),
                why: format!("{} is empty, and that is not told", cell.cell_id),
            });
            untold.into_iter().chain(self.standing_on(cell, evacuation))
        })
    }

    fn standing_on(&self, cell: &Cell, evacuation: Evacuation) -> impl Iterator<Item = Standing> {
        let slots = self.store.world.aggregates().slots();
        let instances = slots.flat_map(|slot| slot.instances().map(move |it| (slot, it)));
        let here = instances.filter(|(_, it)| it.placement.cell_id == cell.cell_id);
        here.filter(move |(slot, it)| !self.may_stand(slot, it, evacuation)).map(|(slot, it)| {
            Standing {
                what: format!("{} {:?}", it.placement.instance_guid, it.presence),
                why: format!("{}: {it:?} stays on a cell that is evacuated", slot.key),
            }
        })
    }

    /// A healthy instance waits until so few of its process are away that it may go too, one that
    /// was replaced for its replacement; neither longer than the evacuation may take.
    fn may_stand(&self, slot: &ActualLrp, it: &Instance<'_>, evacuation: Evacuation) -> bool {
        let now = self.clock();
        match it.presence {
            InstancePresence::Ordinary => {
                let is_healthy = it.running.is_some() && !it.is_stopping;
                let away = self.away(&slot.key.process_guid);
                is_healthy && now < evacuation.forced_at() && away >= evacuation.instances_away_max
            }
            InstancePresence::Evacuating => {
                let is_replaced = match &slot.state {
                    actual_lrp::State::Running(running) => running.is_ready,
                    actual_lrp::State::Unclaimed
                    | actual_lrp::State::Placed(_)
                    | actual_lrp::State::Claimed(_)
                    | actual_lrp::State::Crashed(_)
                    | actual_lrp::State::Removed => false,
                };
                now < evacuation.ends_at && !is_replaced
            }
            InstancePresence::Suspect | InstancePresence::Leaving => false,
        }
    }

    /// How many of the desired instances of a process neither run nor are given up for now.
    fn away(&self, process_guid: &ProcessGuid) -> u32 {
        let aggregates = self.store.world.aggregates();
        let desired = aggregates.desired_lrp(process_guid).map_or(0, |lrp| lrp.instances);
        let is_away = |index: &u32| {
            let mut slots = aggregates.slots_of(process_guid);
            slots.find(|slot| slot.key.index == *index).is_none_or(|slot| match slot.state {
                actual_lrp::State::Running(_) => slot.is_stopping,
                actual_lrp::State::Crashed(_) => false,
                actual_lrp::State::Unclaimed
                | actual_lrp::State::Placed(_)
                | actual_lrp::State::Claimed(_)
                | actual_lrp::State::Removed => true,
            })
        };
        u32::try_from((0..desired).filter(is_away).count()).unwrap_or(u32::MAX)
    }
}
