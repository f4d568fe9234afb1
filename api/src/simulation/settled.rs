//! What must be so once nothing breaks any more and time has passed: the actual state is the
//! desired one, or there is a reason that can be computed again.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    auction::{self, Input, PlacementError},
    bbs::{
        actual_lrp::{self, ActualLrp, InstancePresence, Restart, Running},
        cell::Cell,
        desired_lrp::DesiredLrp,
        placement::Placement,
        task::{self, Task},
    },
    id::{ActualLrpKey, InstanceGuid},
    rep::WorkKind,
    units::{Milliseconds, Timestamp},
};

use super::{
    cluster::{Cluster, MachineIndex},
    machine::{Machine, Process, Stage},
    node::NodeIndex,
    store::same,
    witness::{Violation, ensure},
};

/// How long settling may take: back-offs, evacuations and tasks included.
const SETTLING_MAX: Milliseconds = Milliseconds::from_seconds(15 * 60);
/// How long a desired slot may neither run nor wait for a good reason.
const UNWELL_MAX: Milliseconds = Milliseconds::from_seconds(60);
/// How often it is looked whether all has settled.
const LOOK_EVERY: Milliseconds = Milliseconds::from_seconds(5);
/// More events than this a minute while settling: something goes round in circles.
const EVENTS_A_MINUTE_MAX: u64 = 600;
/// And so many more for each slot, which has to be placed, claimed and started.
const EVENTS_A_SLOT_MAX: u64 = 20;
/// As long may each slot take longer: few may be starting at once.
const SETTLING_A_SLOT_MAX: Milliseconds = Milliseconds::from_seconds(5);

impl Cluster {
    /// Ends all faults, lets time pass, and says how long it took until all was settled.
    pub(super) fn settle(&mut self) -> Result<Milliseconds, Violation> {
        self.note(|_| "== nothing breaks any more".to_owned());
        self.is_calm = true;
        for index in 0..self.nodes.len() {
            self.repair_node(index)?;
        }
        for index in 0..self.machines.len() {
            self.repair(index);
        }
        let began = self.now;
        let first = self.store.world.position().0;
        let mut unwell = BTreeMap::new();
        let slots = u64::try_from(self.store.world.aggregates().slots().count()).unwrap_or(0);
        let longest = Milliseconds(SETTLING_MAX.0 + slots * SETTLING_A_SLOT_MAX.0);
        loop {
            self.advance(LOOK_EVERY)?;
            super::invariants::check(self)?;
            self.check_unwell(&mut unwell)?;
            let Some(reason) = self.unsettled() else { break };
            ensure(self.now.since(began) < longest, "all settles in time", || reason)?;
        }
        let took = self.now.since(began);
        let events = self.store.world.position().0.saturating_sub(first);
        let minutes = took.0 / 60_000 + 1;
        let most = minutes * EVENTS_A_MINUTE_MAX + slots * EVENTS_A_SLOT_MAX;
        ensure(events <= most, "settling does not go round", || {
            format!("{events} events in {minutes} minutes")
        })?;
        Ok(took)
    }

    /// Every node runs, hears everybody, and its clock is right.
    fn repair_node(&mut self, index: NodeIndex) -> Result<(), Violation> {
        self.store.slow_until = self.now;
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        node.store_cut = None;
        node.is_edge_cut = false;
        node.clock_ahead = 0;
        if node.is_up { Ok(()) } else { self.start_node(index) }
    }

    /// Each desired slot runs, waits its back-off, or is unplaced for the right reason, and each
    /// evacuation goes on or waits, but for a minute at a time.
    fn check_unwell(&self, unwell: &mut BTreeMap<String, Timestamp>) -> Result<(), Violation> {
        let slots = self.unwell_slots().into_iter().map(|(key, why)| (key.to_string(), why));
        let slots = slots.map(|it| ("a slot runs, or waits for a good reason, within 60 s", it));
        let standing = self.standing().map(|it| (it.what, it.why));
        let standing = standing
            .map(|it| ("an evacuation goes on, or waits for a good reason, within 60 s", it));
        let found: Vec<_> = slots.chain(standing).collect();
        unwell.retain(|what, _| found.iter().any(|(_, (it, _))| it == what));
        for (invariant, (what, why)) in found {
            let since = *unwell.entry(what).or_insert(self.now);
            ensure(self.now.since(since) <= UNWELL_MAX, invariant, || why)?;
        }
        Ok(())
    }

    fn unwell_slots(&self) -> BTreeMap<ActualLrpKey, String> {
        let aggregates = self.store.world.aggregates();
        let mut unwell: BTreeMap<ActualLrpKey, String> = aggregates
            .desired_lrps()
            .flat_map(|lrp| {
                (0..lrp.instances)
                    .map(|index| ActualLrpKey { process_guid: lrp.process_guid.clone(), index })
            })
            .filter_map(|key| {
                let Some(slot) = aggregates.slot(&key) else {
                    return Some((key, "it is missing".to_owned()));
                };
                let is_served = slot.instances().any(|instance| {
                    instance.running.is_some() && self.runs(instance.placement, true)
                });
                let why = self.unsettled_slot(slot).filter(|_| !is_served)?;
                Some((key, why))
            })
            .collect();
        if let Some((WorkKind::Lrp(key), why)) = self.wrongly_unplaced() {
            unwell.insert(key, why);
        }
        unwell
    }

    /// How many slots have a healthy instance.
    pub(super) fn running(&self) -> u64 {
        let slots = self.store.world.aggregates().slots();
        let running = slots.filter(|slot| slot.instances().any(|it| it.running.is_some()));
        u64::try_from(running.count()).unwrap_or(u64::MAX)
    }

    /// How many slots and tasks wait for a cell, by why.
    pub(super) fn waiting(&self) -> BTreeMap<String, u64> {
        let aggregates = self.store.world.aggregates();
        let slots = aggregates.slots().filter_map(|slot| slot.placement_error.clone());
        let tasks = aggregates.tasks().filter(|task| task.state == task::State::Pending);
        let tasks = tasks.filter_map(|task| task.rejection_reason.clone());
        let mut waiting = BTreeMap::new();
        for why in slots.chain(tasks) {
            *waiting.entry(why).or_default() += 1;
        }
        waiting
    }

    /// What all nodes, and the log read again, say is the same.
    pub(super) fn check_replay(&self) -> Result<(), Violation> {
        self.store.check_replay()?;
        let nodes = self.nodes.iter().filter(|node| node.is_up);
        nodes
            .filter(|node| node.world.position() == self.store.world.position())
            .try_for_each(|node| same(&node.world, &self.store.world, "all nodes show the same"))
    }

    /// The control plane's time.
    pub(super) fn clock(&self) -> Timestamp {
        self.now.max(self.store.world.recorded_at())
    }

    /// Every machine with power gets its agent back; of those without, one in two stays off.
    fn repair(&mut self, index: MachineIndex) {
        let stays_off = self.chance.per_mille(500);
        let Some(machine) = self.machines.get_mut(index) else { return };
        machine.cut = None;
        if !machine.is_scrapped && machine.agent.is_none() && (machine.is_powered || !stays_off) {
            self.bring_back(index);
        }
    }

    /// The first thing that is not as it should be in the end.
    fn unsettled(&self) -> Option<String> {
        let aggregates = self.store.world.aggregates();
        let cells = aggregates.cells().find_map(|cell| self.unsettled_cell(cell));
        let slots = || aggregates.slots().find_map(|slot| self.unsettled_slot(slot));
        let twins = || aggregates.slots().find_map(|slot| self.unsettled_twin(slot));
        let tasks = || aggregates.tasks().find_map(|task| self.unsettled_task(task));
        let machines = || self.machines.iter().find_map(|machine| self.unsettled_machine(machine));
        let unplaced = || self.wrongly_unplaced().map(|(_, why)| why);
        let missing = || self.missing_slot();
        let standing = || self.standing().next().map(|it| it.why);
        cells
            .or_else(missing)
            .or_else(standing)
            .or_else(slots)
            .or_else(twins)
            .or_else(tasks)
            .or_else(machines)
            .or_else(unplaced)
    }

    /// The machine that is a cell now.
    fn machine_of(&self, cell: &Cell) -> Option<&Machine> {
        self.machines.iter().find(|machine| {
            let agent = machine.agent.as_ref();
            machine.cell_id == cell.cell_id
                && machine.registration.machine_id == cell.registration.machine_id
                && agent.is_some_and(|agent| agent.epoch == Some(cell.cell_epoch))
        })
    }

    fn unsettled_cell(&self, cell: &Cell) -> Option<String> {
        let is_there = self.machine_of(cell).is_some();
        let candidates = || {
            self.machines
                .iter()
                .any(|machine| machine.cell_id == cell.cell_id && machine.agent.is_some())
        };
        (is_there != cell.is_present() || (!is_there && candidates())).then(|| {
            format!("{} counts as present {}, there {is_there}", cell.cell_id, cell.is_present())
        })
    }

    fn missing_slot(&self) -> Option<String> {
        let aggregates = self.store.world.aggregates();
        aggregates.desired_lrps().find_map(|lrp| {
            let process_guid = &lrp.process_guid;
            let desired: BTreeSet<u32> = (0..lrp.instances).collect();
            let there: BTreeSet<u32> =
                aggregates.slots_of(process_guid).map(|slot| slot.key.index).collect();
            (desired != there).then(|| format!("{process_guid}: {there:?} of {desired:?}"))
        })
    }

    fn unsettled_slot(&self, slot: &ActualLrp) -> Option<String> {
        let aggregates = self.store.world.aggregates();
        let ActualLrpKey { process_guid, index } = &slot.key;
        let lrp = aggregates.desired_lrp(process_guid);
        let is_desired = lrp.is_some_and(|lrp| *index < lrp.instances) && !slot.is_stopping;
        let is_well = match &slot.state {
            actual_lrp::State::Running(running) => {
                self.runs(&running.placement, true) && self.is_as_told(lrp, running)
            }
            actual_lrp::State::Crashed(restart) => self.is_backing_off(*restart),
            // Whether for the right reason is asked of all that waits together.
            actual_lrp::State::Unclaimed => true,
            actual_lrp::State::Placed(_)
            | actual_lrp::State::Claimed(_)
            | actual_lrp::State::Removed => false,
        };
        (!is_desired || !is_well)
            .then(|| format!("{}: desired {is_desired}, {:?}", slot.key, slot.state))
    }

    /// Whether an instance's readiness is known, and its cell knows what it is labelled with.
    fn is_as_told(&self, lrp: Option<&DesiredLrp>, running: &Running) -> bool {
        let Placement { cell_id, instance_guid, .. } = &running.placement;
        let cell = self.store.world.aggregates().cell(cell_id);
        let Some(machine) = cell.and_then(|cell| self.machine_of(cell)) else { return false };
        let container = machine.containers.get(instance_guid);
        let labels = machine.agent.as_ref().and_then(|agent| agent.labels.get(instance_guid));
        let wanted = lrp.map(|lrp| &lrp.labels).filter(|labels| !labels.is_empty());
        container.is_some_and(|it| it.is_ready == running.is_ready) && labels == wanted
    }

    /// A crashed slot waits not beyond its pause; how long that is was looked at when it crashed.
    fn is_backing_off(&self, restart: Restart) -> bool {
        match restart {
            Restart::NotBefore(instant) => self.clock() < instant,
            Restart::Never => true,
            Restart::Immediately => false,
        }
    }

    /// A suspect is one as long as its cell is lost, an evacuating one as long as it runs on a cell
    /// that is there; neither when the slot runs. Nothing leaves for ever.
    fn unsettled_twin(&self, slot: &ActualLrp) -> Option<String> {
        let aggregates = self.store.world.aggregates();
        let runs = matches!(slot.state, actual_lrp::State::Running(_));
        slot.instances().find_map(|instance| {
            let is_well = match instance.presence {
                InstancePresence::Ordinary => true,
                InstancePresence::Suspect => aggregates.is_lost(instance.placement) && !runs,
                InstancePresence::Evacuating => self.runs(instance.placement, true) && !runs,
                InstancePresence::Leaving => false,
            };
            (!is_well).then(|| format!("{}: {instance:?} beside {:?}", slot.key, slot.state))
        })
    }

    fn unsettled_task(&self, task: &Task) -> Option<String> {
        let is_well = match &task.state {
            task::State::Pending => true,
            task::State::Running(placement) => self.runs(placement, false),
            // Whoever is to be told is told, or given up.
            task::State::Completed(_) | task::State::Resolving { .. } => {
                task.placement().is_none() && task.callback.is_none()
            }
            task::State::Placed(_) | task::State::Deleting(_) => false,
        };
        (!is_well).then(|| format!("task {}: {:?}", task.task_guid, task.state))
    }

    /// Whether the container of a placement runs where it should.
    fn runs(&self, placement: &Placement, must_be_healthy: bool) -> bool {
        let cell = self.store.world.aggregates().cell(&placement.cell_id);
        let cell = cell.filter(|cell| cell.cell_epoch == placement.cell_epoch);
        let machine = cell.and_then(|cell| self.machine_of(cell));
        let container =
            machine.and_then(|machine| machine.containers.get(&placement.instance_guid));
        container.is_some_and(|container| {
            container.process == Process::Runs && (container.is_healthy || !must_be_healthy)
        })
    }

    /// A machine holds just what its cell is assigned; one that is no cell any more holds nothing.
    fn unsettled_machine(&self, machine: &Machine) -> Option<String> {
        machine.agent.as_ref()?;
        let world = &self.store.world;
        let cell = world.aggregates().cell(&machine.cell_id);
        let is_cell = cell
            .and_then(|cell| self.machine_of(cell))
            .is_some_and(|it| it.registration.machine_id == machine.registration.machine_id);
        let assignment = world.cell_assignments().of(world.aggregates(), &machine.cell_id);
        let assigned: BTreeSet<InstanceGuid> = assignment
            .into_iter()
            .filter(|_| is_cell)
            .flat_map(|assignment| assignment.work)
            .map(|work| work.reference.instance_guid)
            .collect();
        let containers: BTreeSet<InstanceGuid> = machine.containers.keys().cloned().collect();
        let book = machine.disk.book.iter();
        let held: BTreeSet<InstanceGuid> = book
            .filter(|(_, entry)| is_cell || entry.stage != Stage::Ended)
            .map(|(guid, _)| guid.clone())
            .collect();
        let is_told = machine.disk.spool.is_empty() || !is_cell;
        (containers != assigned || held != assigned || !is_told).then(|| {
            format!(
                "{} (its cell: {is_cell}): assigned {assigned:?}, runs {containers:?}, book {:?}, {} reports",
                machine.cell_id,
                machine.disk.book.values().map(|e| (&e.reference.instance_guid, e.stage)).collect::<Vec<_>>(),
                machine.disk.spool.len()
            )
        })
    }

    /// What waits must wait: an auction of all of it, now, places nothing and says what was said.
    fn wrongly_unplaced(&self) -> Option<(WorkKind, String)> {
        let world = &self.store.world;
        let aggregates = world.aggregates();
        let outcome = auction::schedule(Input {
            auctions: world.auction_queue().auctions(aggregates, self.clock()),
            cells: world.cell_capacity().cells(),
            settings: self.settings,
            seen: world.position(),
        });
        if let Some(placement) = outcome.placements.first() {
            let why = format!("{:?} could be on {}", placement.work, placement.cell_id);
            return Some((placement.work.clone(), why));
        }
        outcome.failures.into_iter().find_map(|failure| {
            let said = match &failure.work {
                WorkKind::Lrp(key) => aggregates.slot(key)?.placement_error.clone(),
                // A task for which no cell at all is there waits without a word.
                WorkKind::Task(_)
                    if matches!(
                        failure.error,
                        PlacementError::NoCells | PlacementError::InFlightLimit
                    ) =>
                {
                    return None;
                }
                WorkKind::Task(guid) => aggregates.task(guid)?.rejection_reason.clone(),
            };
            let error = failure.error.to_string();
            (said.as_ref() != Some(&error)).then(|| {
                let why = format!("{:?} waits because {error:?}, and shows {said:?}", failure.work);
                (failure.work.clone(), why)
            })
        })
    }
}
