//! The cluster behind a workload: who is where, and what may happen to it next.
//!
//! What follows from a thing that happened (placed, claimed, started) waits in a queue while
//! other things happen, as on real cells, so that the events of one slot lie apart in the log.

use std::{collections::VecDeque, sync::Arc};

use super::{Dice, Shape, Step, WORKLOAD_START, texts};
use crate::{
    bbs::{
        actual_lrp::{self, Restart},
        cell, desired_lrp, freshness_domain,
        placement::Resources,
        restart_policy::RestartPolicy,
    },
    command::ReportNumber,
    event::Event,
    exit::{ExitStatus, ProcessExit},
    id::{ActualLrpKey, CellId, CommandId, InstanceGuid, ProcessGuid},
    log::{Actor, ActorKind, CellEpoch, StreamId, StreamVersion},
    sealed::Digest,
    units::Timestamp,
};

/// How many LRPs there are to each cell.
const LRPS_PER_CELL: u32 = 200;
/// How many slots are on their way at a time.
const ON_THE_WAY: usize = 400;
/// Every this many LRPs one may be scaled to two instances.
const SCALABLE_ONE_IN: u32 = 8;
/// The slots that one LRP may have.
const SLOTS: usize = 2;
const CELL_EPOCH: CellEpoch = CellEpoch(1);

#[derive(Debug)]
pub(super) struct Cluster {
    dice: Dice,
    now: Timestamp,
    cells: Vec<MachineOfCell>,
    cells_registered: usize,
    lrps: Vec<Lrp>,
    lrps_wanted: usize,
    on_the_way: VecDeque<Next>,
    has_vouched: bool,
}

#[derive(Debug)]
struct MachineOfCell {
    cell_id: CellId,
    reports: u64,
}

#[derive(Debug)]
struct Lrp {
    process_guid: ProcessGuid,
    digest: Digest,
    resources: Resources,
    version: u64,
    instances: u32,
    slots: [Slot; SLOTS],
}

#[derive(Debug, Clone)]
struct Slot {
    state: State,
    version: u64,
    cell: usize,
    instance_guid: Option<InstanceGuid>,
    crash_count: u32,
    since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Unclaimed,
    Placed,
    Claimed,
    Running,
    Crashed(Timestamp),
}

/// What is to follow.
#[derive(Debug)]
enum Next {
    /// The next step of a slot.
    Advance { lrp: usize, index: usize },
    /// A retired instance has ended.
    Gone { key: ActualLrpKey, cell: usize, version: u64, slot: Option<(usize, usize)> },
}

const NO_SLOT: Slot = Slot {
    state: State::Absent,
    version: 0,
    cell: 0,
    instance_guid: None,
    crash_count: 0,
    since: WORKLOAD_START,
};

impl Cluster {
    pub(super) fn new(shape: Shape) -> Self {
        let cells = (0..shape.lrps / LRPS_PER_CELL + 2)
            .map(|number| MachineOfCell { cell_id: texts::cell_id(number), reports: 0 })
            .collect();
        Self {
            dice: Dice::new(shape.seed),
            now: WORKLOAD_START,
            cells,
            cells_registered: 0,
            lrps: Vec::new(),
            lrps_wanted: usize::try_from(shape.lrps).unwrap_or(usize::MAX),
            on_the_way: VecDeque::new(),
            has_vouched: false,
        }
    }

    /// What the next command comes to: one event at least.
    pub(super) fn step(&mut self) -> Step {
        self.now.0 += i64::from(self.dice.below(1_000_000)) + 1;
        if self.cells_registered < self.cells.len() {
            return self.register();
        }
        if !self.has_vouched {
            self.has_vouched = true;
            return self.vouch();
        }
        let in_flight_max = ON_THE_WAY.min(self.lrps_wanted / 2);
        if self.on_the_way.len() > in_flight_max
            && let Some(next) = self.on_the_way.pop_front()
        {
            return self.follow(next);
        }
        if self.lrps.len() < self.lrps_wanted {
            return self.desire(None);
        }
        self.happen()
    }

    fn register(&mut self) -> Step {
        let number = u32::try_from(self.cells_registered).unwrap_or(u32::MAX);
        self.cells_registered += 1;
        let registration = Box::new(texts::registration(number));
        let cell_id = texts::cell_id(number);
        let registered = cell::Registered { cell_epoch: CELL_EPOCH, registration };
        let events = vec![(StreamId::Cell(cell_id), None, cell::Event::from(registered).into())];
        self.by_loop("gateway", events)
    }

    fn vouch(&mut self) -> Step {
        let upserted = freshness_domain::Upserted { fresh_until: None };
        let event = freshness_domain::Event::from(upserted).into();
        self.by_user(vec![(StreamId::FreshnessDomain(texts::domain()), None, event)])
    }

    /// A new LRP, or another one under the number of one that was removed.
    fn desire(&mut self, replaced: Option<usize>) -> Step {
        let definition = texts::definition(&mut self.dice);
        let lrp = Lrp {
            process_guid: texts::process_guid(&mut self.dice),
            digest: definition.digest(),
            resources: Resources {
                memory_mb: definition.memory_mb,
                disk_mb: definition.disk_mb,
                containers: 1,
            },
            version: 1,
            instances: 1,
            slots: [NO_SLOT; SLOTS],
        };
        let desired = desired_lrp::Desired {
            domain: texts::domain(),
            instances: 1,
            definition: Arc::new(definition),
            routes: texts::routes(&mut self.dice),
            annotation: texts::annotation(&mut self.dice).into(),
            restart: None,
            labels: Arc::default(),
            client_routes: None,
        };
        let stream = StreamId::DesiredLrp(lrp.process_guid.clone());
        let number = match replaced {
            Some(number) => {
                self.lrps[number] = lrp;
                number
            }
            None => {
                self.lrps.push(lrp);
                self.lrps.len() - 1
            }
        };
        self.on_the_way.push_back(Next::Advance { lrp: number, index: 0 });
        let event = desired_lrp::Event::from(desired).into();
        self.by_user(vec![(stream, Some(StreamVersion(1)), event)])
    }

    /// Something new, to an LRP that is at rest.
    fn happen(&mut self) -> Step {
        let bound = u32::try_from(self.lrps.len()).unwrap_or(u32::MAX);
        let mut number = usize::try_from(self.dice.below(bound)).unwrap_or(0);
        while !self.is_at_rest(number) {
            // Fewer slots are on their way than there are LRPs.
            number = (number + 1) % self.lrps.len();
        }
        match self.dice.below(100) {
            0..=5 => self.remove(number),
            6..=9 if number.is_multiple_of(SCALABLE_ONE_IN as usize) => self.scale(number),
            6..=63 => self.annotate(number),
            64..=69 => self.reroute(number),
            _ => self.crash(number),
        }
    }

    fn is_at_rest(&self, number: usize) -> bool {
        let is_at_rest = |slot: &Slot| matches!(slot.state, State::Absent | State::Running);
        let lrp = &self.lrps[number];
        let running = lrp.slots.iter().filter(|slot| slot.state == State::Running).count();
        lrp.slots.iter().all(is_at_rest) && u32::try_from(running) == Ok(lrp.instances)
    }

    fn of_desired(&mut self, number: usize, event: impl Into<desired_lrp::Event>) -> StepEvent {
        let lrp = &mut self.lrps[number];
        lrp.version += 1;
        let stream = StreamId::DesiredLrp(lrp.process_guid.clone());
        (stream, Some(StreamVersion(lrp.version)), event.into().into())
    }

    fn of_slot(
        &mut self,
        number: usize,
        index: usize,
        event: impl Into<actual_lrp::Event>,
    ) -> StepEvent {
        let key = self.key(number, index);
        let slot = &mut self.lrps[number].slots[index];
        slot.version += 1;
        (StreamId::ActualLrp(key), Some(StreamVersion(slot.version)), event.into().into())
    }

    fn key(&self, number: usize, index: usize) -> ActualLrpKey {
        let process_guid = self.lrps[number].process_guid.clone();
        ActualLrpKey { process_guid, index: u32::try_from(index).unwrap_or(u32::MAX) }
    }

    fn annotate(&mut self, number: usize) -> Step {
        let annotation = texts::annotation(&mut self.dice).into();
        let event = self.of_desired(number, desired_lrp::AnnotationChanged { annotation });
        self.by_user(vec![event])
    }

    fn reroute(&mut self, number: usize) -> Step {
        let routes = texts::routes(&mut self.dice);
        let event =
            self.of_desired(number, desired_lrp::RoutesChanged { routes, client_routes: None });
        self.by_user(vec![event])
    }

    fn scale(&mut self, number: usize) -> Step {
        let from = self.lrps[number].instances;
        let to = if from == 1 { 2 } else { 1 };
        self.lrps[number].instances = to;
        let mut events = vec![self.of_desired(number, desired_lrp::Scaled { from, to })];
        if to > from {
            self.on_the_way.push_back(Next::Advance { lrp: number, index: 1 });
        } else {
            events.extend(self.retire(number, 1));
            self.leave(number, 1, true);
        }
        self.by_user(events)
    }

    fn remove(&mut self, number: usize) -> Step {
        let mut events = vec![self.of_desired(number, desired_lrp::Removed {})];
        for index in 0..SLOTS {
            if self.lrps[number].slots[index].state == State::Running {
                events.extend(self.retire(number, index));
                self.leave(number, index, false);
            }
        }
        // Desired anew at once, by the next command: until then nothing looks at it.
        let removed = self.by_user(events);
        self.lrps[number].instances = 0;
        self.on_the_way.push_front(Next::Advance { lrp: number, index: 0 });
        removed
    }

    /// A healthy instance is to be stopped: its routes go first. It ends before a loop could look
    /// whether routers have followed.
    fn retire(&mut self, number: usize, index: usize) -> [StepEvent; 2] {
        let cell = self.lrps[number].slots[index].cell;
        let withdrawal = actual_lrp::WithdrawalStarted {
            instance_guid: self.instance_guid(number, index),
            cell_id: self.cells[cell].cell_id.clone(),
        };
        [
            self.of_slot(number, index, withdrawal),
            self.of_slot(number, index, actual_lrp::Retired {}),
        ]
    }

    /// A retired instance waits for its end.
    fn leave(&mut self, lrp: usize, index: usize, stays: bool) {
        let key = self.key(lrp, index);
        let slot = &mut self.lrps[lrp].slots[index];
        slot.state = State::Placed;
        let (cell, version) = (slot.cell, slot.version + 1);
        let slot = stays.then_some((lrp, index));
        self.on_the_way.push_back(Next::Gone { key, cell, version, slot });
    }

    fn crash(&mut self, number: usize) -> Step {
        let mut index = usize::from(self.dice.one_in(2));
        if self.lrps[number].slots[index].state != State::Running {
            index = 0;
        }
        let (now, reason) = (self.now, texts::crash_reason(&mut self.dice));
        let evidence = Some(Digest::of(reason.as_bytes()));
        let slot = &mut self.lrps[number].slots[index];
        let ran_long = now.since(slot.since) > actual_lrp::CRASH_COUNT_RESET_AFTER;
        slot.crash_count = if ran_long { 1 } else { slot.crash_count + 1 };
        let (crash_count, cell) = (slot.crash_count, slot.cell);
        let restart = RestartPolicy::default().after_count(crash_count, now);
        slot.state = match restart {
            Restart::Immediately => State::Unclaimed,
            Restart::NotBefore(instant) => State::Crashed(instant),
            // Nobody would start it again: it is as if it waited for ever.
            Restart::Never => State::Crashed(Timestamp(i64::MAX)),
        };
        if restart != Restart::Never {
            self.on_the_way.push_back(Next::Advance { lrp: number, index });
        }
        let crashed = actual_lrp::Crashed {
            instance_guid: self.instance_guid(number, index),
            cell_id: self.cells[cell].cell_id.clone(),
            reason: reason.into(),
            exit: Some(ProcessExit { status: ExitStatus::Exited(1), out_of_memory: None }),
            crash_count,
            restart,
            evidence,
        };
        let event = self.of_slot(number, index, crashed);
        self.by_cell(cell, vec![event])
    }

    fn follow(&mut self, next: Next) -> Step {
        match next {
            Next::Gone { key, cell, version, slot } => {
                if let Some((lrp, index)) = slot {
                    let version = self.lrps[lrp].slots[index].version + 1;
                    self.lrps[lrp].slots[index] = Slot { version, ..NO_SLOT };
                }
                let event = actual_lrp::Event::from(actual_lrp::Removed {}).into();
                let version = Some(StreamVersion(version));
                self.by_cell(cell, vec![(StreamId::ActualLrp(key), version, event)])
            }
            Next::Advance { lrp, .. } if self.lrps[lrp].instances == 0 => self.desire(Some(lrp)),
            Next::Advance { lrp, index } => self.advance(lrp, index),
        }
    }

    fn advance(&mut self, number: usize, index: usize) -> Step {
        let state = self.lrps[number].slots[index].state;
        if state != State::Claimed {
            self.on_the_way.push_back(Next::Advance { lrp: number, index });
        }
        match state {
            State::Absent => {
                self.lrps[number].slots[index].state = State::Unclaimed;
                let created = actual_lrp::Created { domain: texts::domain() };
                let event = self.of_slot(number, index, created);
                self.by_loop("converger", vec![event])
            }
            State::Crashed(instant) => {
                self.now = self.now.max(instant);
                self.lrps[number].slots[index].state = State::Unclaimed;
                let reason = actual_lrp::UnclaimedReason::BackOffOver;
                let event = self.of_slot(number, index, actual_lrp::Unclaimed { reason });
                self.by_loop("converger", vec![event])
            }
            State::Unclaimed => self.place(number, index),
            State::Placed => {
                self.lrps[number].slots[index].state = State::Claimed;
                let instance_guid = self.instance_guid(number, index);
                let event = self.of_slot(number, index, actual_lrp::Claimed { instance_guid });
                self.by_cell(self.lrps[number].slots[index].cell, vec![event])
            }
            State::Claimed | State::Running => self.start(number, index),
        }
    }

    fn place(&mut self, number: usize, index: usize) -> Step {
        let bound = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        let cell = usize::try_from(self.dice.below(bound)).unwrap_or(0);
        let instance_guid = texts::instance_guid(&mut self.dice);
        let lrp = &mut self.lrps[number];
        let slot = &mut lrp.slots[index];
        slot.state = State::Placed;
        slot.cell = cell;
        slot.instance_guid = Some(instance_guid.clone());
        let placed = actual_lrp::Placed {
            instance_guid,
            cell_id: self.cells[cell].cell_id.clone(),
            cell_epoch: CELL_EPOCH,
            definition: lrp.digest,
            resources: lrp.resources,
            candidates: None,
        };
        let event = self.of_slot(number, index, placed);
        self.by_loop("auctioneer", vec![event])
    }

    fn start(&mut self, number: usize, index: usize) -> Step {
        let instance_guid = self.instance_guid(number, index);
        let address = 0x0aff_0000 | (self.dice.below(1 << 16));
        let slot = &mut self.lrps[number].slots[index];
        slot.state = State::Running;
        slot.since = self.now;
        let cell = slot.cell;
        let instance_address = std::net::Ipv4Addr::from_bits(address);
        let net_info = actual_lrp::NetInfo { instance_address, ports: vec![8080] };
        let started = actual_lrp::Started { instance_guid, net_info, is_ready: true };
        let event = self.of_slot(number, index, started);
        self.by_cell(cell, vec![event])
    }

    fn instance_guid(&mut self, number: usize, index: usize) -> InstanceGuid {
        match &self.lrps[number].slots[index].instance_guid {
            Some(instance_guid) => instance_guid.clone(),
            None => texts::instance_guid(&mut self.dice),
        }
    }

    fn by_user(&mut self, events: Vec<StepEvent>) -> Step {
        self.by(ActorKind::User, "cloud-controller", "graphql", events)
    }

    fn by_loop(&mut self, name: &str, events: Vec<StepEvent>) -> Step {
        self.by(ActorKind::Loop, name, "node-1", events)
    }

    fn by(&mut self, kind: ActorKind, name: &str, via: &str, events: Vec<StepEvent>) -> Step {
        let actor = Actor { kind, name: name.into(), via: via.into() };
        let command_id = texts::command_id(&mut self.dice);
        Step { recorded_at: self.now, actor, command_id, events }
    }

    fn by_cell(&mut self, cell: usize, events: Vec<StepEvent>) -> Step {
        let machine = &mut self.cells[cell];
        machine.reports += 1;
        let number = ReportNumber { cell_epoch: CELL_EPOCH, sequence: machine.reports };
        let name = machine.cell_id.as_str().into();
        let actor = Actor { kind: ActorKind::Cell, name, via: "gateway".into() };
        let command_id: CommandId = number
            .command_id(&machine.cell_id)
            .unwrap_or_else(|_| unreachable!("a cell's id is short here"));
        Step { recorded_at: self.now, actor, command_id, events }
    }
}

type StepEvent = (StreamId, Option<StreamVersion>, Event);
