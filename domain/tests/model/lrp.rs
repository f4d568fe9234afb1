//! Two slots of one process on three cells: every order of placing, reporting, converging, and of
//! two faults among cells that are cut off, die, are replaced or evacuated, instances that crash,
//! and users who restart or remove.
//!
//! What makes no difference is left out. Guids, positions and instants are; cells that are alike are
//! one, and so are the slots once no scaling can come; a crash count is, while it cannot lead to a
//! back-off any more. A container of which no slot
//! knows is taken out of the model once it was seen that nothing that it could say counts: it never
//! is a slot's again, and its cell stops it unseen.

use std::{collections::BTreeSet, sync::LazyLock};

use domain::{
    bbs::{
        actual_lrp::{
            self, ActualLrp, CRASH_COUNT_RESET_AFTER, Instance, InstanceReference, LEAVING_MAX,
            State,
        },
        cell, desired_lrp,
        placement::Placement,
    },
    command::Command,
    id::{ActualLrpKey, InstanceGuid, ProcessGuid},
    testing::{crash_report, desire, key, net_info, process_guid},
    units::Milliseconds,
};

use crate::{
    is_full,
    log::Bug,
    machines::{Machines, Unheld},
    search::Model,
    search_all,
};

const SLOTS: u32 = 2;
/// The slots by their own names, and by each other's.
const AS_THEY_ARE: [u8; 2] = [0, 1];
const SWAPPED: [u8; 2] = [1, 0];
/// Checked once: they are looked up in every step.
static WEB: LazyLock<ProcessGuid> = LazyLock::new(|| process_guid("web"));
static KEYS: LazyLock<[ActualLrpKey; 2]> = LazyLock::new(|| [0, 1].map(|it| key("web", it)));
/// A crash with this number in a row is the first that is not followed by a restart at once.
const BACK_OFF_FROM: u32 = 3;
/// Longer than an evacuation may take.
const LONG: Milliseconds = Milliseconds::from_seconds(601);

/// What a container does, whether or not anybody has heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    Made,
    Claimed,
    Healthy,
    /// It ended, and its cell has not told yet.
    Ended,
}

#[derive(Debug, Clone)]
pub(crate) struct Cluster(Machines<InstanceReference, Phase>);

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Converge(Command),
    Place(ActualLrpKey, usize),
    /// A cell begins what it is assigned, goes on, or stops what it is to stop.
    Begin(InstanceReference),
    GoOn(InstanceGuid),
    Stop(InstanceReference),
    Return(usize),
    Fault(Fault),
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    CutOff(usize),
    Dies(usize),
    Replaced(usize),
    Evacuated(usize),
    Crash(InstanceGuid),
    Restart(ActualLrpKey),
    Scale(u32),
    TimePasses,
}

fn slot_key(index: u8) -> &'static ActualLrpKey {
    &KEYS[usize::from(index)]
}

fn reference(slot: &ActualLrp, placement: &Placement) -> InstanceReference {
    let Placement { instance_guid, cell_id, cell_epoch, placement_epoch, .. } = placement.clone();
    let key = slot.key.clone();
    InstanceReference { key, instance_guid, placement_epoch, cell_id, cell_epoch }
}

impl Cluster {
    pub(crate) fn new(cells: u32, faults_left: u8, bug: Option<Bug>) -> Self {
        let mut machines = Machines::new(cells, faults_left, bug);
        machines.log.submit(desire("web", SLOTS)).unwrap();
        Self(machines)
    }

    fn slots(&self) -> impl Iterator<Item = &ActualLrp> {
        AS_THEY_ARE.into_iter().filter_map(|index| self.0.log.aggregates.slot(slot_key(index)))
    }

    fn instances(&self) -> impl Iterator<Item = (&ActualLrp, Instance<'_>)> {
        self.slots().flat_map(|slot| slot.instances().map(move |instance| (slot, instance)))
    }

    /// The instances that cells are assigned, and whether each is wanted.
    fn assigned(&self) -> Vec<(InstanceReference, bool)> {
        let of = |(slot, it): (&ActualLrp, Instance<'_>)| {
            (reference(slot, it.placement), !it.is_stopping)
        };
        self.instances().map(of).collect()
    }

    fn go_on(&mut self, guid: &InstanceGuid) {
        let container = self.0.containers.get_mut(guid).unwrap();
        let instance = container.reference.clone();
        let command = match container.phase {
            Phase::Made => {
                container.phase = Phase::Claimed;
                actual_lrp::Command::Claim { instance }
            }
            Phase::Claimed => {
                container.phase = Phase::Healthy;
                actual_lrp::Command::Start { instance, net_info: net_info(), is_ready: true }
            }
            Phase::Healthy => return,
            Phase::Ended => {
                self.0.containers.remove(guid);
                actual_lrp::Command::Crash { instance, report: crash_report() }
            }
        };
        self.say(command);
    }

    fn say(&mut self, command: actual_lrp::Command) {
        // Whoever is told that it comes too late stops what it has: that is seen by the assignment.
        let _told = self.0.log.submit(command);
    }

    /// Whether anything changed.
    fn fault(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::CutOff(cell) => self.0.lose(*cell),
            Fault::Dies(cell) => {
                self.0.on(*cell).for_each(|container| container.phase = Phase::Ended);
                self.0.lose(*cell);
            }
            Fault::Replaced(cell) => self.0.replace(*cell),
            Fault::Evacuated(cell) => {
                let evacuate = cell::Command::Evacuate {
                    cell_id: self.0.id(*cell).clone(),
                    timeout: cell::EVACUATION_TIMEOUT,
                    instances_away_max: 1,
                };
                return self.0.log.submit(evacuate).unwrap();
            }
            Fault::Crash(guid) => {
                self.0.containers.get_mut(guid).unwrap().phase = Phase::Ended;
            }
            Fault::Restart(key) => {
                let retire = actual_lrp::Command::Retire { key: key.clone() };
                return self.0.log.submit(retire).is_ok_and(|is_something| is_something);
            }
            Fault::Scale(instances) => {
                let update = desired_lrp::Update {
                    instances: Some(*instances),
                    ..desired_lrp::Update::default()
                };
                let process_guid = WEB.clone();
                let update = desired_lrp::Command::Update { process_guid, update };
                return self.0.log.submit(update).unwrap();
            }
            Fault::TimePasses => self.0.log.now = self.0.log.now.plus(LONG),
        }
        true
    }

    fn faults(&self, cells: &[usize]) -> Vec<Fault> {
        if self.0.faults_left == 0 {
            return Vec::new();
        }
        let present = cells.iter().copied().filter(|cell| self.0.is_present(*cell));
        let of_cells = present.flat_map(|cell| {
            [Fault::CutOff(cell), Fault::Dies(cell), Fault::Replaced(cell), Fault::Evacuated(cell)]
        });
        let alive = self.0.containers.iter().filter(|(_, it)| it.phase != Phase::Ended);
        let crashes = alive.map(|(guid, _)| Fault::Crash(guid.clone()));
        let restarts = self.slots().map(|slot| Fault::Restart(slot.key.clone()));
        let others = [Fault::Scale(1), Fault::Scale(SLOTS), Fault::TimePasses];
        of_cells.chain(crashes).chain(restarts).chain(others).collect()
    }

    /// What a container goes through, 0 when there is none.
    fn phase(&self, guid: &InstanceGuid) -> u8 {
        self.0.containers.get(guid).map_or(0, |container| 1 + container.phase as u8)
    }

    /// What a cell is and what is on it, whatever its name and with these names of the slots.
    fn told_of(&self, cell: usize, name_of: [u8; 2]) -> Vec<u8> {
        let (aggregates, cell) = (&self.0.log.aggregates, self.0.cell(cell));
        let evacuation = cell.evacuation.map_or(0, |it| {
            1 + u8::from(it.evacuated_at.is_some()) + 2 * u8::from(self.0.log.now >= it.ends_at)
        });
        let here = self.instances().filter(|(_, it)| it.placement.cell_id == cell.cell_id);
        let mut here: Vec<[u8; 5]> = here
            .map(|(slot, it)| {
                let index = name_of[usize::try_from(slot.key.index).unwrap()];
                let is_running = u8::from(it.running.is_some());
                let is_of_now = u8::from(!aggregates.is_replaced(it.placement));
                let phase = self.phase(&it.placement.instance_guid);
                [index, it.presence as u8, is_running, is_of_now, phase]
            })
            .collect();
        here.sort_unstable();
        let mut told = vec![u8::from(cell.is_present()), evacuation];
        told.extend(here.into_iter().flatten());
        told
    }

    /// What matters of all, with these names of the slots.
    fn told(&self, name_of: [u8; 2]) -> Vec<u8> {
        let aggregates = &self.0.log.aggregates;
        let desired = aggregates.desired_lrp(&WEB);
        let desired = u8::try_from(desired.map_or(0, |lrp| lrp.instances)).unwrap();
        let mut told = vec![self.0.faults_left, desired];
        for index in name_of {
            let Some(slot) = aggregates.slot(slot_key(index)) else {
                told.push(255);
                continue;
            };
            told.push(match &slot.state {
                State::Unclaimed => 0,
                State::Placed(_) => 1,
                State::Claimed(_) => 2,
                State::Running(_) => 3,
                State::Crashed(_) => 4,
                State::Removed => 5,
            });
            let may_back_off = slot.crash_count + u32::from(self.0.faults_left) >= BACK_OFF_FROM;
            let count = if may_back_off { slot.crash_count } else { 0 };
            told.extend([u8::from(slot.is_stopping), u8::try_from(count).unwrap()]);
        }
        told.extend(self.0.told(|cell| self.told_of(cell, name_of)));
        told
    }

    /// Takes out the containers of which no slot knows.
    fn forget_strays(&mut self) -> Result<(), String> {
        let assigned = self.assigned();
        for stray in self.0.take_strays(&assigned) {
            // One that ended is gone when its cell has told so; one that comes back with its cell
            // is on no list of it, and nobody was told that the cell is empty.
            if stray.phase != Phase::Ended && self.0.can_speak(&stray.reference) {
                return Err(format!("on its cell and on no list: {stray:?}"));
            }
            let instance = || stray.reference.clone();
            let says = [
                actual_lrp::Command::Claim { instance: instance() },
                actual_lrp::Command::Start {
                    instance: instance(),
                    net_info: net_info(),
                    is_ready: true,
                },
                actual_lrp::Command::Crash { instance: instance(), report: crash_report() },
                actual_lrp::Command::Remove { instance: instance() },
            ];
            self.0.check_unheard(&says.map(Command::from))?;
        }
        Ok(())
    }
}

impl Model for Cluster {
    type Action = Action;

    fn key(&self) -> Vec<u8> {
        let as_they_are = self.told(AS_THEY_ARE);
        let desired = self.0.log.aggregates.desired_lrp(&WEB);
        // Only scaling tells one slot from the other.
        if self.0.faults_left == 0 && desired.is_some_and(|lrp| lrp.instances == SLOTS) {
            return as_they_are.min(self.told(SWAPPED));
        }
        as_they_are
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<Action> =
            self.0.log.planned().into_iter().map(Action::Converge).collect();
        let assigned = self.assigned();
        for (reference, is_wanted) in &assigned {
            let guid = &reference.instance_guid;
            let Some(container) = self.0.containers.get(guid) else { continue };
            if !self.0.can_speak(reference) {
                continue;
            }
            match container.phase {
                Phase::Ended => actions.push(Action::GoOn(guid.clone())),
                Phase::Made | Phase::Claimed | Phase::Healthy if !is_wanted => {
                    actions.push(Action::Stop(reference.clone()));
                }
                Phase::Made | Phase::Claimed => actions.push(Action::GoOn(guid.clone())),
                Phase::Healthy => {}
            }
        }
        actions.extend(self.0.unheld(assigned).map(|unheld| match unheld {
            Unheld::Begin(reference) => Action::Begin(reference),
            Unheld::Stop(reference) => Action::Stop(reference),
        }));
        let cells = self.0.unlike(|cell| self.told_of(cell, AS_THEY_ARE));
        for slot in self.slots().filter(|slot| slot.state == State::Unclaimed) {
            let taking = cells.iter().filter(|cell| self.0.cell(**cell).takes_work());
            actions.extend(taking.map(|cell| Action::Place(slot.key.clone(), *cell)));
        }
        let lost = cells.iter().filter(|cell| !self.0.is_present(**cell));
        actions.extend(lost.map(|cell| Action::Return(*cell)));
        actions.extend(self.faults(&cells).into_iter().map(Action::Fault));
        actions
    }

    fn after(&self, action: &Action) -> Result<Option<Self>, String> {
        let mut next = self.clone();
        let is_something = match action {
            Action::Converge(command) => {
                if next.0.log.submit(command.clone()) != Ok(true) {
                    return Err("planned in vain".to_owned());
                }
                true
            }
            Action::Place(key, cell) => {
                let place = actual_lrp::Command::Place {
                    key: key.clone(),
                    instance_guid: next.0.next_guid(),
                    cell_id: self.0.id(*cell).clone(),
                    cell_epoch: self.0.cell(*cell).cell_epoch,
                    candidates: None,
                };
                next.0.log.submit(place).is_ok()
            }
            Action::Begin(reference) => {
                next.0.begin(reference.clone(), Phase::Made);
                true
            }
            Action::GoOn(guid) => {
                next.go_on(guid);
                true
            }
            Action::Stop(instance) => {
                next.0.containers.remove(&instance.instance_guid);
                next.say(actual_lrp::Command::Remove { instance: instance.clone() });
                true
            }
            Action::Return(cell) => {
                next.0.come_back(*cell);
                true
            }
            Action::Fault(fault) => {
                next.0.faults_left -= 1;
                next.fault(fault)
            }
        };
        if !is_something {
            return Ok(None);
        }
        next.forget_strays()?;
        Ok(Some(next))
    }

    fn check(&self) -> Result<(), String> {
        for slot in self.slots() {
            let is_healthy = matches!(slot.state, State::Running(_));
            if is_healthy && slot.has_twin() {
                return Err(format!("{}: something stands beside a healthy instance", slot.key));
            }
            let guids: BTreeSet<_> =
                slot.instances().map(|it| &it.placement.instance_guid).collect();
            if guids.len() != slot.instances().count() {
                return Err(format!("{}: one instance in two places", slot.key));
            }
            // Only then their order would tell states apart.
            if slot.leaving.len() >= LEAVING_MAX {
                return Err(format!("{}: too many leave", slot.key));
            }
        }
        for cell in self.0.numbers().map(|cell| self.0.cell(cell)) {
            let here = self.instances().filter(|(_, it)| it.placement.cell_id == cell.cell_id);
            let (here, aggregates) = (here.count(), &self.0.log.aggregates);
            let reserved = aggregates.reserved_on(&cell.cell_id).containers;
            if usize::try_from(reserved) != Ok(here) {
                return Err(format!("{}: {reserved} reserved, {here} there", cell.cell_id));
            }
        }
        Ok(())
    }

    fn is_calm(&self, action: &Action) -> bool {
        match action {
            Action::Fault(_) => false,
            // A cell that is lost stays so, but for the last: something must take the work.
            Action::Return(_) => self.0.are_all_lost(),
            Action::Converge(_)
            | Action::Place(..)
            | Action::Begin(_)
            | Action::GoOn(_)
            | Action::Stop(_) => true,
        }
    }

    fn check_settled(&self) -> Result<(), String> {
        let desired = self.0.log.aggregates.desired_lrp(&WEB);
        let desired = desired.map_or(0, |lrp| lrp.instances);
        let can_place = self.0.numbers().any(|cell| self.0.cell(cell).takes_work());
        for index in 0..desired {
            let slot = self.slots().find(|slot| slot.key.index == index);
            let serves = slot.and_then(ActualLrp::resolved).is_some_and(|resolved| {
                let container = self.0.containers.get(&resolved.placement.instance_guid);
                container.is_some_and(|container| container.phase == Phase::Healthy)
            });
            if !serves && can_place {
                return Err(format!("slot {index} does not serve in the end: {slot:?}"));
            }
        }
        match self.slots().find(|slot| !slot.leaving.is_empty()) {
            Some(slot) => Err(format!("something leaves for ever: {slot:?}")),
            None => Ok(()),
        }
    }
}

#[test]
fn every_way_of_two_slots_holds() {
    // Time that passes ends evacuations and crash counts at once: nothing lies between.
    assert!(LONG > cell::EVACUATION_TIMEOUT && LONG > CRASH_COUNT_RESET_AFTER);
    let (cells, faults) = if is_full() { (3, 2) } else { (2, 1) };

    let what = format!("{SLOTS} slots, {cells} cells, {faults} faults");
    search_all(&what, &Cluster::new(cells, faults, None));
}
