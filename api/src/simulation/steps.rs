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
    cluster::{Cluster, Happening, Loop, MachineIndex},
    machine::{Deed, Machine},
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
    CutOff,
    Restart,
    Snapshot,
    LoopsDoubled,
}

impl Cluster {
    /// Sets the machines up and lets them register.
    pub(super) fn begin(&mut self) -> Result<(), Violation> {
        for number in 0..self.config.cells {
            let Ok(cell_id) = CellId::new(&format!("cell-{number}")) else { continue };
            self.add_machine(cell_id, number);
        }
        for which in Loop::ALL {
            self.wake_after(which, Milliseconds(0));
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

    /// One step.
    pub(super) fn step(&mut self) -> Result<(), Violation> {
        let faults = self.config.faults;
        let if_on = |is_on: bool, weight| if is_on { weight } else { 0 };
        let weights = [
            (300, Step::UserAsks),
            (150, Step::Instant),
            (200, Step::Moment),
            (200, Step::Seconds),
            (30, Step::Minutes),
            (if_on(faults.cells, 50), Step::AgentDies),
            (if_on(faults.cells, 100), Step::AgentReturns),
            (if_on(faults.cells, 20), Step::PowerFails),
            (if_on(faults.cells, 60), Step::PowerReturns),
            (if_on(faults.cells, 25), Step::MachineReplaced),
            (if_on(faults.network, 30), Step::CutOff),
            (if_on(faults.control_plane, 40), Step::Restart),
            (if_on(faults.control_plane, 20), Step::Snapshot),
            (if_on(faults.control_plane, 30), Step::LoopsDoubled),
        ];
        let step = self.chance.weighed(&weights, Step::Moment);
        self.note(|_| format!("-- {step:?}"));
        self.take(step)?;
        self.advance(Milliseconds(0))
    }

    fn take(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::UserAsks => {
                for _ in 0..=self.chance.small(3) {
                    let envelope = Box::new(self.users.next(&mut self.chance));
                    self.after(Milliseconds(0), Happening::User { envelope, tries: USER_TRIES });
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
            Step::CutOff => self.cut_one_off(),
            Step::Restart => return self.restart(),
            Step::Snapshot => return self.plane.keep_snapshot(),
            Step::LoopsDoubled => self.double_loops(),
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
        let found = self.pick_machine(|machine| machine.agent.is_none() || machine.is_cut_off);
        let Some(old) = found else { return };
        let Some(machine) = self.machines.get_mut(old) else { return };
        machine.is_scrapped = !machine.is_powered;
        let cell_id = machine.cell_id.clone();
        self.note(|_| format!("another machine takes {cell_id} from machine {old}"));
        let number = u32::try_from(old).unwrap_or(0);
        self.add_machine(cell_id, number);
    }

    fn cut_one_off(&mut self) {
        let Some(index) = self.pick_machine(|machine| !machine.is_cut_off) else { return };
        let span = self.chance.span(100, 60_000);
        self.note(|_| format!("machine {index} is cut off for {} ms", span.0));
        if let Some(machine) = self.machines.get_mut(index) {
            machine.is_cut_off = true;
        }
        self.after(span, Happening::Reconnect { machine: index });
    }

    /// The control plane ends and starts; its machine's clock may have been set meanwhile.
    fn restart(&mut self) -> Result<(), Violation> {
        self.restarts += 1;
        self.clock_ahead = self.chance.span(0, 3000);
        let from_snapshot = self.chance.per_mille(500);
        self.plane.restart(self.virtual_time(), from_snapshot)?;
        self.cut_connections();
        for which in Loop::ALL {
            self.wake_after(which, Milliseconds(0));
        }
        self.users.check_promises(&self.plane.log)
    }
}
