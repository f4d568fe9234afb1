//! One step of a simulation: a user asks, time passes, or something breaks.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use domain::{
    bbs::{cell::Registration, placement::Resources, rootfs::RootfsProviders},
    id::{CellId, MachineId, Zone},
    units::{Mebibytes, Milliseconds},
};

use super::{
    chance::Chance,
    cluster::{Cluster, Happening, MachineIndex, Mended},
    machine::{Deed, Machine},
    network::Cut,
    node::NodeIndex,
    witness::Violation,
};

/// How often a user's command is tried again.
const USER_TRIES: u32 = 5;

/// What a step may be.
#[derive(Debug, Clone, Copy)]
enum Step {
    UserAsks,
    Instant,
    Moment,
    Seconds,
    Minutes,
    AgentDies,
    AgentReturns,
    PowerFails,
    PowerReturns,
    MachineReplaced,
    ManyLost,
    MachineCutOff,
    NodeDies,
    NodeReturns,
    NodeCutOff,
    Snapshot,
    LoopsDoubled,
    ClockJumps,
    StoreSlow,
}

impl Cluster {
    /// Sets the machines up and lets them register.
    pub(super) fn begin(&mut self) -> Result<(), Violation> {
        for number in 0..self.config.cells {
            let Ok(cell_id) = CellId::new(&format!("cell-{number}")) else { continue };
            self.add_machine(cell_id, number);
        }
        for envelope in self.users.first(&mut self.chance) {
            self.user_sends(Box::new(envelope), USER_TRIES, Milliseconds(0));
        }
        for node in 0..self.nodes.len() {
            self.after(Milliseconds(0), Happening::Tick { node, life: 0 });
        }
        self.advance(Milliseconds::from_seconds(1))
    }

    fn add_machine(&mut self, cell_id: CellId, number: u32) {
        let registration = self.registration(number);
        let machine = Machine::new(cell_id, registration, self.config.defect);
        self.machines.push(machine);
        let machine = self.machines.len() - 1;
        self.after(Milliseconds(0), Happening::Deed { machine, deed: Deed::AgentStarts });
    }

    fn registration(&mut self, number: u32) -> Registration {
        let wanted = self.config.manifest.as_ref().and_then(|manifest| manifest.cell(number));
        if let Some(wanted) = wanted.cloned() {
            return Registration {
                machine_id: MachineId(self.chance.uuid()),
                capacity: wanted.capacity(),
                zone: wanted.zone,
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                rootfs_providers: RootfsProviders::preloaded(wanted.rootfs),
                volume_drivers: wanted.volume_drivers,
                placement_tags: wanted.placement_tags,
                optional_placement_tags: wanted.optional_placement_tags,
            };
        }
        let zone = if number.is_multiple_of(2) { "z1" } else { "z2" };
        let tags = if number == 0 { BTreeSet::from(["gpu".to_owned()]) } else { BTreeSet::new() };
        Registration {
            machine_id: MachineId(self.chance.uuid()),
            capacity: Resources {
                memory_mb: Mebibytes(self.chance.pick(&[512, 1024, 2048]).copied().unwrap_or(512)),
                disk_mb: Mebibytes(1024),
                containers: 4 + self.chance.small(12),
            },
            zone: Zone::new(zone).unwrap_or_else(|_| unreachable!("a constant, well formed")),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            rootfs_providers: RootfsProviders::preloaded(["diario"]),
            volume_drivers: BTreeSet::new(),
            placement_tags: BTreeSet::new(),
            optional_placement_tags: tags,
        }
    }

    /// One step. Its chance is its own, so that a step left out changes no other one's.
    pub(super) fn step(&mut self, number: u32) -> Result<(), Violation> {
        self.chance = Chance::of_step(self.config.seed, number);
        let faults = self.config.faults;
        let breaks = |weight, returns| if weight > 0 { returns } else { 0 };
        let weights = [
            (300, Step::UserAsks),
            (150, Step::Instant),
            (200, Step::Moment),
            (200, Step::Seconds),
            (30, Step::Minutes),
            (20, Step::Snapshot),
            (faults.agent_killed, Step::AgentDies),
            (breaks(faults.agent_killed + faults.many_cells_lost, 100), Step::AgentReturns),
            (faults.power_failed, Step::PowerFails),
            (breaks(faults.power_failed + faults.many_cells_lost, 60), Step::PowerReturns),
            (faults.machine_replaced, Step::MachineReplaced),
            (faults.many_cells_lost, Step::ManyLost),
            (faults.machine_cut_off, Step::MachineCutOff),
            (faults.node_killed, Step::NodeDies),
            (breaks(faults.node_killed, 80), Step::NodeReturns),
            (faults.node_cut_off, Step::NodeCutOff),
            (faults.loops_doubled, Step::LoopsDoubled),
            (faults.clock_jumped, Step::ClockJumps),
            (faults.store_slow, Step::StoreSlow),
        ];
        let step = self.chance.weighed(&weights, Step::Moment);
        self.note(|_| format!("-- step {number}: {step:?}"));
        self.take(step)?;
        self.advance(Milliseconds(0))
    }

    fn take(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::UserAsks => {
                for _ in 0..=self.chance.small(3) {
                    let envelope = Box::new(self.users.next(&mut self.chance));
                    self.user_sends(envelope, USER_TRIES, Milliseconds(0));
                }
            }
            Step::Instant => return self.pass(0, 30),
            Step::Moment => return self.pass(30, 3000),
            Step::Seconds => return self.pass(500, 30_000),
            Step::Minutes => return self.pass(60_000, 400_000),
            Step::AgentDies => self.break_one(Machine::kill_agent),
            Step::PowerFails => self.break_one(Machine::power_off),
            Step::AgentReturns => self.return_one(|machine| machine.is_powered),
            Step::PowerReturns => self.return_one(|machine| !machine.is_powered),
            Step::MachineReplaced => self.replace_one(),
            Step::ManyLost => self.break_many(),
            Step::MachineCutOff => self.cut_one_off(),
            Step::NodeDies => return self.kill_node(),
            Step::NodeReturns => return self.return_node(),
            Step::NodeCutOff => self.cut_node_off(),
            Step::Snapshot => return self.keep_snapshot(),
            Step::LoopsDoubled => self.double_loops(),
            Step::ClockJumps => self.jump_clock(),
            Step::StoreSlow => {
                let span = self.chance.span(1000, 60_000);
                self.store.slow_until = self.now.plus(span);
            }
        }
        Ok(())
    }

    fn pass(&mut self, from: u64, to: u64) -> Result<(), Violation> {
        let span = self.chance.span(from, to);
        self.advance(span)
    }

    fn pick_machine(&mut self, may_be: impl Fn(&Machine) -> bool) -> Option<MachineIndex> {
        let found = self.machines.iter().enumerate();
        let found: Vec<MachineIndex> = found
            .filter(|(_, machine)| !machine.is_scrapped && may_be(machine))
            .map(|(index, _)| index)
            .collect();
        self.chance.pick(&found).copied()
    }

    fn break_one(&mut self, how: impl FnOnce(&mut Machine)) {
        let Some(index) = self.pick_machine(|machine| machine.agent.is_some()) else { return };
        self.note(|_| format!("machine {index} breaks"));
        if let Some(machine) = self.machines.get_mut(index) {
            how(machine);
        }
    }

    fn return_one(&mut self, may_be: impl Fn(&Machine) -> bool) {
        let found = self.pick_machine(|machine| machine.agent.is_none() && may_be(machine));
        if let Some(index) = found {
            self.bring_back(index);
        }
    }

    /// Powers a machine on if it is off, and starts its agent.
    pub(super) fn bring_back(&mut self, index: MachineIndex) {
        if let Some(machine) = self.machines.get_mut(index)
            && !machine.is_powered
        {
            machine.power_on();
        }
        self.after(Milliseconds(0), Happening::Deed { machine: index, deed: Deed::AgentStarts });
    }

    /// Another machine takes over a cell's id. The old one is scrapped if it is off; if it is only
    /// cut off or without an agent, it will come back and be told that its id is in use.
    fn replace_one(&mut self) {
        let found = self.pick_machine(|machine| machine.agent.is_none() || machine.cut.is_some());
        let Some(old) = found else { return };
        let Some(machine) = self.machines.get_mut(old) else { return };
        machine.is_scrapped = !machine.is_powered;
        let cell_id = machine.cell_id.clone();
        self.note(|_| format!("another machine takes {cell_id} from machine {old}"));
        // Of its kind.
        let number = cell_id.as_str().strip_prefix("cell-").and_then(|it| it.parse().ok());
        self.add_machine(cell_id, number.unwrap_or(0));
    }

    /// About a third of the cells breaks at once: all lose their power, or are cut off together.
    fn break_many(&mut self) {
        let count = self.config.cells.div_ceil(3);
        let is_power = self.chance.per_mille(500);
        let span = self.chance.span(100, 60_000);
        for _ in 0..count {
            let found =
                self.pick_machine(|machine| machine.agent.is_some() && machine.cut.is_none());
            let Some(index) = found else { return };
            self.note(|_| format!("machine {index} breaks with others"));
            let Some(machine) = self.machines.get_mut(index) else { return };
            if is_power {
                machine.power_off();
            } else {
                machine.cut = Some(Cut::Both);
                self.after(span, Happening::Mended(Mended::Machine(index)));
            }
        }
    }

    fn cut_one_off(&mut self) {
        let Some(index) = self.pick_machine(|machine| machine.cut.is_none()) else { return };
        let cut = self.chance.pick(&Cut::ALL).copied();
        let span = self.chance.span(100, 60_000);
        self.note(|_| format!("machine {index} is cut off for {} ms: {cut:?}", span.0));
        if let Some(machine) = self.machines.get_mut(index) {
            machine.cut = cut;
        }
        self.after(span, Happening::Mended(Mended::Machine(index)));
    }

    fn pick_node(&mut self, is_up: bool) -> Option<NodeIndex> {
        let found: Vec<NodeIndex> =
            (0..).zip(&self.nodes).filter(|(_, node)| node.is_up == is_up).map(|it| it.0).collect();
        self.chance.pick(&found).copied()
    }

    /// A node is killed in the midst of whatever it does.
    fn kill_node(&mut self) -> Result<(), Violation> {
        let Some(index) = self.pick_node(true) else { return Ok(()) };
        self.note(|_| format!("node {index} is killed"));
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let (queue, held) = node.kill();
        self.connections_break(held);
        queue.into_iter().try_for_each(|pending| self.nobody_answers(pending.reply))?;
        // Often a supervisor starts it at once.
        if self.chance.per_mille(500) { self.start_node(index) } else { Ok(()) }
    }

    fn return_node(&mut self) -> Result<(), Violation> {
        self.pick_node(false).map_or(Ok(()), |index| self.start_node(index))
    }

    /// A node starts, from its log or from a snapshot.
    pub(super) fn start_node(&mut self, index: NodeIndex) -> Result<(), Violation> {
        let from_snapshot = self.chance.per_mille(500);
        let monotonic = self.virtual_time();
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        node.start(&self.store, monotonic, from_snapshot)?;
        let life = node.life;
        self.after(Milliseconds(0), Happening::Tick { node: index, life });
        self.users.check_promises(&self.store.log)
    }

    fn cut_node_off(&mut self) {
        let Some(index) = self.pick_node(true) else { return };
        let span = self.chance.span(100, 40_000);
        let cut = self.chance.pick(&Cut::ALL).copied();
        let is_from_store = self.chance.per_mille(600);
        self.note(|_| {
            let from = if is_from_store { "the store" } else { "cells and users" };
            format!("node {index} is cut off from {from} for {} ms", span.0)
        });
        let Some(node) = self.nodes.get_mut(index) else { return };
        let mended = if is_from_store {
            node.store_cut = cut;
            Mended::NodeToStore(index)
        } else {
            node.is_edge_cut = true;
            Mended::NodeToOthers(index)
        };
        self.after(span, Happening::Mended(mended));
    }

    fn keep_snapshot(&mut self) -> Result<(), Violation> {
        let Some(index) = self.pick_node(true) else { return Ok(()) };
        self.nodes.get_mut(index).map_or(Ok(()), |node| node.keep_snapshot())
    }

    /// A second node believes that it has the lease, until it is told that it has not.
    fn double_loops(&mut self) {
        let lease_epoch = self.store.lease_epoch();
        let Some(index) = self.pick_node(true) else { return };
        if let Some(node) = self.nodes.get_mut(index).filter(|node| node.lease.is_none()) {
            node.renewed = Some(self.now);
            self.set_lease(index, lease_epoch);
        }
    }

    fn jump_clock(&mut self) {
        let Some(index) = self.pick_node(true) else { return };
        let magnitude = self.chance.pick(&[10, 1000, 10_000, 60_000]).copied().unwrap_or(10);
        let ahead = self.chance.span(0, 2 * magnitude).0.cast_signed() - magnitude.cast_signed();
        self.note(|_| format!("the clock of node {index} is {ahead} ms ahead"));
        if let Some(node) = self.nodes.get_mut(index) {
            node.clock_ahead = ahead;
        }
    }
}
