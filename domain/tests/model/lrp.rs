//! Two slots of one process on three cells: every order of placing, reporting, converging, and of
//! two faults among cells that are cut off, die, are replaced or evacuated, instances that crash,
//! and users who restart or remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use domain::{
    bbs::{
        actual_lrp::{self, ActualLrp, Instance, InstanceReference, State},
        cell, desired_lrp,
        placement::Placement,
    },
    command::Command,
    convergence::{self, Discrepancies},
    id::{ActualLrpKey, CellId, InstanceGuid},
    testing::{
        cell_id, crash_report, desire, instance_guid, key, net_info, process_guid, register,
    },
    units::{Milliseconds, Timestamp},
};

use crate::{
    is_full,
    search::{Log, Model, search},
};

const SLOTS: u32 = 2;
/// What a container does, whether or not anybody has heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Made,
    Claimed,
    Healthy,
    /// It ended, and its cell has not told yet.
    Ended,
}

#[derive(Debug, Clone)]
struct Container {
    reference: InstanceReference,
    phase: Phase,
    /// Whether it was given up with its cell, and came back with it: it is on no list then.
    is_stray: bool,
}

#[derive(Debug, Clone)]
struct Cluster {
    log: Log,
    cells: Vec<CellId>,
    /// The machine behind each cell, by number: another one when it was replaced.
    machines: Vec<u128>,
    containers: BTreeMap<InstanceGuid, Container>,
    faults_left: u8,
    placed: u32,
}

#[derive(Debug, Clone)]
enum Action {
    Converge(Command),
    Place(ActualLrpKey, usize),
    /// A cell begins what it is assigned, goes on, or stops what it is not.
    Begin(InstanceReference),
    GoOn(InstanceGuid),
    Stop(InstanceGuid),
    Return(usize),
    Fault(Fault),
}

#[derive(Debug, Clone)]
enum Fault {
    CutOff(usize),
    Dies(usize),
    Replaced(usize),
    Evacuated(usize),
    Crash(InstanceGuid),
    Restart(ActualLrpKey),
    Scale(u32),
    TimePasses,
}

fn reference(slot: &ActualLrp, placement: &Placement) -> InstanceReference {
    let Placement { instance_guid, cell_id, cell_epoch, placement_epoch, .. } = placement.clone();
    let key = slot.key.clone();
    InstanceReference { key, instance_guid, placement_epoch, cell_id, cell_epoch }
}

impl Cluster {
    fn new(cells: u32, faults_left: u8) -> Self {
        let cells: Vec<CellId> = (0..cells).map(|it| cell_id(&format!("cell-{it}"))).collect();
        let mut log = Log::new();
        let machines: Vec<u128> = (0..cells.len() as u128).collect();
        for (cell_id, machine) in cells.iter().zip(&machines) {
            log.submit(register(cell_id.as_str(), *machine)).unwrap();
        }
        log.submit(desire("web", SLOTS)).unwrap();
        Self { log, cells, machines, containers: BTreeMap::new(), faults_left, placed: 0 }
    }

    fn is_present(&self, cell: usize) -> bool {
        let cell = self.log.aggregates.cell(&self.cells[cell]).unwrap();
        cell.is_present()
    }

    fn number(&self, cell_id: &CellId) -> usize {
        self.cells.iter().position(|it| it == cell_id).unwrap()
    }

    /// Whether a container's cell can speak for it: it is there, and the machine it was.
    fn can_speak(&self, container: &Container) -> bool {
        let cell = self.log.aggregates.cell(&container.reference.cell_id).unwrap();
        cell.is_present() && cell.cell_epoch == container.reference.cell_epoch
    }

    fn slots(&self) -> impl Iterator<Item = &ActualLrp> {
        self.log.aggregates.slots()
    }

    /// The instances that cells are assigned, and whether each is wanted.
    fn assigned(&self) -> Vec<(InstanceReference, bool)> {
        let of =
            |slot: &ActualLrp, it: Instance<'_>| (reference(slot, it.placement), !it.is_stopping);
        self.slots().flat_map(|slot| slot.instances().map(move |it| of(slot, it))).collect()
    }

    fn planned(&self) -> Vec<Command> {
        let aggregates = &self.log.aggregates;
        convergence::plan(&Discrepancies::of(aggregates), aggregates, self.log.now)
    }

    fn lose(&mut self, cell: usize) {
        let lose = cell::Command::Lose {
            cell_id: self.cells[cell].clone(),
            last_heard_at: Timestamp(0),
            heard_by: "model".to_owned(),
        };
        self.log.submit(lose).unwrap();
    }

    fn say(&mut self, command: actual_lrp::Command) {
        // Whoever is told that it comes too late stops what it has: that is seen by the assignment.
        let _told = self.log.submit(command);
    }

    fn go_on(&mut self, guid: &InstanceGuid) {
        let container = self.containers.get_mut(guid).unwrap();
        let instance = container.reference.clone();
        let command = match container.phase {
            Phase::Made => {
                container.phase = Phase::Claimed;
                actual_lrp::Command::Claim { instance }
            }
            Phase::Claimed => {
                container.phase = Phase::Healthy;
                actual_lrp::Command::Start { instance, net_info: net_info() }
            }
            Phase::Healthy => return,
            Phase::Ended => {
                self.containers.remove(guid);
                actual_lrp::Command::Crash { instance, report: crash_report() }
            }
        };
        self.say(command);
    }

    fn fault(&mut self, fault: &Fault) -> bool {
        let before = self.log.aggregates.clone();
        match fault {
            Fault::CutOff(cell) => self.lose(*cell),
            Fault::Dies(cell) => {
                for container in self.containers.values_mut() {
                    if container.reference.cell_id == self.cells[*cell] {
                        container.phase = Phase::Ended;
                    }
                }
                self.lose(*cell);
            }
            Fault::Replaced(cell) => {
                let cell_id = self.cells[*cell].clone();
                self.containers.retain(|_, it| it.reference.cell_id != cell_id);
                self.machines[*cell] += 100;
                self.lose(*cell);
                self.log.submit(register(cell_id.as_str(), self.machines[*cell])).unwrap();
            }
            Fault::Evacuated(cell) => {
                let evacuate = cell::Command::Evacuate {
                    cell_id: self.cells[*cell].clone(),
                    timeout: Milliseconds::from_seconds(600),
                    instances_away_max: 1,
                };
                self.log.submit(evacuate).unwrap();
            }
            Fault::Crash(guid) => {
                self.containers.get_mut(guid).unwrap().phase = Phase::Ended;
                return true;
            }
            Fault::Restart(key) => {
                self.say(actual_lrp::Command::Retire { key: key.clone() });
            }
            Fault::Scale(instances) => {
                let update = desired_lrp::Update {
                    instances: Some(*instances),
                    ..desired_lrp::Update::default()
                };
                let process_guid = process_guid("web");
                self.log.submit(desired_lrp::Command::Update { process_guid, update }).unwrap();
            }
            Fault::TimePasses => {
                self.log.now = self.log.now.plus(Milliseconds::from_seconds(601));
                return true;
            }
        }
        before != self.log.aggregates
    }

    fn faults(&self) -> Vec<Fault> {
        if self.faults_left == 0 {
            return Vec::new();
        }
        let present = (0..self.cells.len()).filter(|cell| self.is_present(*cell));
        let of_cells = present.flat_map(|cell| {
            [Fault::CutOff(cell), Fault::Dies(cell), Fault::Replaced(cell), Fault::Evacuated(cell)]
        });
        let alive = self.containers.iter().filter(|(_, it)| it.phase != Phase::Ended);
        let crashes = alive.map(|(guid, _)| Fault::Crash(guid.clone()));
        let restarts = self.slots().map(|slot| Fault::Restart(slot.key.clone()));
        let others = [Fault::Scale(1), Fault::Scale(SLOTS), Fault::TimePasses];
        of_cells.chain(crashes).chain(restarts).chain(others).collect()
    }
}

impl Model for Cluster {
    type Action = Action;
    type Key = Vec<u8>;

    /// Cells, slots and containers by what they are to each other; guids, positions and instants
    /// left out. Of states that differ in the names of cells alone the least is taken.
    fn key(&self) -> Vec<u8> {
        let numbers: Vec<usize> = (0..self.cells.len()).collect();
        permutations(&numbers).into_iter().map(|names| self.key_by(&names)).min().unwrap()
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<Action> = self.planned().into_iter().map(Action::Converge).collect();
        let assigned = self.assigned();
        for (guid, container) in self.containers.iter().filter(|(_, it)| self.can_speak(it)) {
            let is_wanted = assigned
                .iter()
                .any(|(reference, is_wanted)| *reference == container.reference && *is_wanted);
            match container.phase {
                Phase::Ended => actions.push(Action::GoOn(guid.clone())),
                _ if !is_wanted => actions.push(Action::Stop(guid.clone())),
                Phase::Made | Phase::Claimed => actions.push(Action::GoOn(guid.clone())),
                Phase::Healthy => {}
            }
        }
        for (reference, is_wanted) in assigned {
            let Some(cell) = self.log.aggregates.cell(&reference.cell_id) else { continue };
            let is_its = cell.is_present() && cell.cell_epoch == reference.cell_epoch;
            if is_its && !self.containers.contains_key(&reference.instance_guid) {
                actions.push(if is_wanted {
                    Action::Begin(reference)
                } else {
                    Action::Stop(reference.instance_guid)
                });
            }
        }
        for slot in self.slots().filter(|slot| slot.state == State::Unclaimed) {
            for cell in 0..self.cells.len() {
                let takes_work = self.log.aggregates.cell(&self.cells[cell]).unwrap().takes_work();
                if takes_work {
                    actions.push(Action::Place(slot.key.clone(), cell));
                }
            }
        }
        let lost = (0..self.cells.len()).filter(|cell| !self.is_present(*cell));
        actions.extend(lost.map(Action::Return));
        actions.extend(self.faults().into_iter().map(Action::Fault));
        actions
    }

    fn after(&self, action: &Action) -> Option<Self> {
        let mut next = self.clone();
        match action {
            Action::Converge(command) => {
                let decided = next.log.submit(command.clone());
                decided.ok().filter(|decision| !decision.events.is_empty())?;
            }
            Action::Place(key, cell) => {
                next.placed += 1;
                let place = actual_lrp::Command::Place {
                    key: key.clone(),
                    instance_guid: instance_guid(&format!("i-{}", next.placed)),
                    cell_id: self.cells[*cell].clone(),
                    cell_epoch: self.log.aggregates.cell(&self.cells[*cell])?.cell_epoch,
                    candidates: None,
                };
                next.log.submit(place).ok()?;
            }
            Action::Begin(reference) => {
                let (reference, phase, is_stray) = (reference.clone(), Phase::Made, false);
                let guid = reference.instance_guid.clone();
                next.containers.insert(guid, Container { reference, phase, is_stray });
            }
            Action::GoOn(guid) => next.go_on(guid),
            Action::Stop(guid) => {
                let known = next.containers.remove(guid).map(|it| it.reference);
                let assigned = || {
                    let mut all = self.assigned().into_iter().map(|(reference, _)| reference);
                    all.find(|reference| reference.instance_guid == *guid)
                };
                let instance = known.or_else(assigned)?;
                next.say(actual_lrp::Command::Remove { instance });
            }
            Action::Return(cell) => {
                let cell_id = self.cells[*cell].as_str();
                next.log.submit(register(cell_id, self.machines[*cell])).ok()?;
                let assigned = next.assigned();
                for container in next.containers.values_mut() {
                    let is_here = container.reference.cell_id == self.cells[*cell];
                    let is_listed = assigned.iter().any(|(it, _)| *it == container.reference);
                    container.is_stray |= is_here && !is_listed;
                }
            }
            Action::Fault(fault) => {
                next.faults_left -= 1;
                if !next.fault(fault) {
                    return None;
                }
            }
        }
        Some(next)
    }

    fn check(&self) -> Result<(), String> {
        for slot in self.slots() {
            let is_healthy = matches!(slot.state, State::Running(_));
            if is_healthy && slot.has_twin() {
                return Err(format!("{}: something stands beside a healthy instance", slot.key));
            }
            let guids: BTreeSet<_> =
                slot.instances().map(|it| it.placement.instance_guid.clone()).collect();
            if guids.len() != slot.instances().count() {
                return Err(format!("{}: one instance in two places", slot.key));
            }
        }
        for cell in self.log.aggregates.cells() {
            let instances = self.slots().flat_map(|slot| slot.instances());
            let here = instances.filter(|it| it.placement.cell_id == cell.cell_id).count();
            let reserved = self.log.aggregates.reserved_on(&cell.cell_id).containers;
            if usize::try_from(reserved) != Ok(here) {
                return Err(format!("{}: {reserved} reserved, {here} there", cell.cell_id));
            }
        }
        let assigned = self.assigned();
        let unlisted = self.containers.values().find(|container| {
            let is_listed = assigned.iter().any(|(it, _)| *it == container.reference);
            container.phase != Phase::Ended
                && self.can_speak(container)
                && !container.is_stray
                && !is_listed
        });
        if let Some(unlisted) = unlisted {
            return Err(format!("on its cell and on no list: {unlisted:?}"));
        }
        for command in self.planned() {
            let decided = self.log.clone().submit(command.clone());
            if !decided.is_ok_and(|decision| !decision.events.is_empty()) {
                return Err(format!("planned in vain: {command:?}"));
            }
        }
        Ok(())
    }

    fn settling(&self) -> Option<Self> {
        let calm = self.actions().into_iter().find(|action| match action {
            Action::Fault(_) => false,
            // A cell that is lost stays so, but for the last: something must take the work.
            Action::Return(_) => (0..self.cells.len()).all(|cell| !self.is_present(cell)),
            Action::Converge(_)
            | Action::Place(..)
            | Action::Begin(_)
            | Action::GoOn(_)
            | Action::Stop(_) => true,
        });
        calm.and_then(|action| self.after(&action))
    }

    fn check_settled(&self) -> Result<(), String> {
        let desired = self.log.aggregates.desired_lrp(&process_guid("web"));
        let desired = desired.map_or(0, |lrp| lrp.instances);
        let can_place = self.log.aggregates.cells().any(|cell| cell.takes_work());
        for index in 0..desired {
            let slot = self.log.aggregates.slot(&key("web", index));
            let serves = slot.is_some_and(|slot| {
                let there = self.containers.values();
                let healthy = there.filter(|it| it.phase == Phase::Healthy).map(|it| &it.reference);
                let mut healthy = healthy.map(|reference| &reference.instance_guid);
                let resolved = slot.resolved().map(|it| &it.placement.instance_guid);
                resolved.is_some_and(|resolved| healthy.any(|guid| guid == resolved))
            });
            if !serves && can_place {
                return Err(format!("slot {index} does not serve in the end: {slot:?}"));
            }
        }
        let assigned: BTreeSet<_> =
            self.assigned().into_iter().map(|(it, _)| it.instance_guid).collect();
        if let Some(slot) = self.slots().find(|slot| !slot.leaving.is_empty()) {
            return Err(format!("something leaves for ever: {slot:?}"));
        }
        let extra = self
            .containers
            .iter()
            .find(|(guid, container)| self.can_speak(container) && !assigned.contains(*guid));
        extra.map_or(Ok(()), |extra| Err(format!("left in the end: {extra:?}")))
    }
}

impl Cluster {
    fn key_by(&self, names: &[usize]) -> Vec<u8> {
        let name = |cell_id: &CellId| {
            u8::try_from(names.iter().position(|it| *it == self.number(cell_id)).unwrap()).unwrap()
        };
        let aggregates = &self.log.aggregates;
        let mut key = vec![self.faults_left];
        let desired = aggregates.desired_lrp(&process_guid("web"));
        key.push(u8::try_from(desired.map_or(0, |lrp| lrp.instances)).unwrap());
        for number in names {
            let cell = aggregates.cell(&self.cells[*number]).unwrap();
            let evacuation = cell.evacuation.map_or(0, |it| {
                1 + u8::from(it.evacuated_at.is_some()) + 2 * u8::from(self.log.now >= it.ends_at)
            });
            key.extend([u8::from(cell.is_present()), evacuation]);
        }
        let phase = |guid: &InstanceGuid| match self.containers.get(guid) {
            None => 0,
            Some(container) => 1 + container.phase as u8,
        };
        let is_of_now = |placement: &Placement| u8::from(!aggregates.is_replaced(placement));
        for index in 0..SLOTS {
            let Some(slot) = aggregates.slot(&domain::testing::key("web", index)) else {
                key.push(255);
                continue;
            };
            key.push(match &slot.state {
                State::Unclaimed => 0,
                State::Placed(_) => 1,
                State::Claimed(_) => 2,
                State::Running(_) => 3,
                State::Crashed(_) => 4,
                State::Removed => 5,
            });
            let count = u8::try_from(slot.crash_count).unwrap();
            key.extend([u8::from(slot.is_stopping), count]);
            for instance in slot.instances() {
                let placement = instance.placement;
                key.extend([
                    instance.presence as u8,
                    u8::from(instance.running.is_some()),
                    name(&placement.cell_id),
                    is_of_now(placement),
                    phase(&placement.instance_guid),
                ]);
            }
        }
        // Containers that no slot knows any more.
        let known: BTreeSet<_> =
            self.assigned().into_iter().map(|(it, _)| it.instance_guid).collect();
        let unknown = self
            .containers
            .values()
            .filter(|container| !known.contains(&container.reference.instance_guid));
        let mut unknown: Vec<_> = unknown
            .map(|container| {
                let can_return = aggregates
                    .cell(&container.reference.cell_id)
                    .is_some_and(|cell| cell.cell_epoch == container.reference.cell_epoch);
                [name(&container.reference.cell_id), u8::from(can_return), container.phase as u8]
            })
            .collect();
        unknown.sort_unstable();
        key.push(254);
        key.extend(unknown.into_iter().flatten());
        key
    }
}

fn permutations(numbers: &[usize]) -> Vec<Vec<usize>> {
    let Some((first, rest)) = numbers.split_first() else { return vec![Vec::new()] };
    let of_rest = permutations(rest);
    let places = |order: Vec<usize>| {
        (0..=order.len()).map(move |place| {
            let mut order = order.clone();
            order.insert(place, *first);
            order
        })
    };
    of_rest.into_iter().flat_map(places).collect()
}

#[test]
fn every_way_of_two_slots_holds() {
    let (cells, faults) = if is_full() { (3, 2) } else { (2, 1) };

    let found = search(Cluster::new(cells, faults));

    // Not by a macro, whose output a passing test would hide.
    let told = format!("{SLOTS} slots, {cells} cells, {faults} faults: {found:?}");
    writeln!(std::io::stderr(), "{told}").unwrap();
    assert!(found.states > 1000, "{found:?}");
}
