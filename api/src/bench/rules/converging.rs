//! Converging and looking: what the loops cost when nothing is to be done, what a look at everything
//! costs, and how much memory it all takes.

use std::{hint::black_box, sync::Arc};

use domain::{
    auction::Settings,
    bbs::{
        actual_lrp::{self, NetInfo},
        cell, desired_lrp,
        placement::Resources,
    },
    convergence::{self, Discrepancies},
    event::Event,
    id::{ActualLrpKey, CommandId, FreshnessDomainName, InstanceGuid, ProcessGuid},
    log::{Actor, ActorKind, CellEpoch, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use projections::world::World;

use super::{Effort, cell_id, malformed, processor_time, registration};
use crate::{
    auctioneer,
    bench::{
        Error,
        load::definition,
        measure::{Goal, Report, Round, Row},
    },
    clock, converger,
};

/// How many LRPs run, ten-fold apart.
pub(super) const SIZES: [u32; 3] = [2_500, 25_000, 250_000];
/// How many run on a cell, and how many are of one process: they share its wish.
pub(super) const ON_A_CELL: u32 = 250;
const OF_A_PROCESS: u32 = 250;
/// What one turn of both loops may take when nothing is to be done.
const TICK_MS_MAX: f64 = 10.0;
/// What a look at everything may take.
const AUDIT_S_MAX: f64 = 1.0;
/// What listing one may take.
const LIST_US_MAX: f64 = 1.0;
/// What one actual LRP may take in all views.
const LRP_BYTES_MAX: f64 = 1024.0;
/// When all of it happened.
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

pub(super) fn all(report: &mut Report, effort: Effort) -> Result<(), Error> {
    if report.wants("memory") {
        memory(report, effort)?;
    }
    if !["converge", "list"].iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    for size in SIZES {
        of_size(report, size / effort.one_in, effort)?;
    }
    Ok(())
}

fn of_size(report: &mut Report, lrps: u32, effort: Effort) -> Result<(), Error> {
    report.progress(format!("{lrps} LRPs that run"));
    let size = format!("lrps={lrps}");
    let mut add = |name, unit, goal, rounds: &[Round]| {
        report.add(Row { name, size: size.clone(), unit, goal }, rounds);
    };
    let world = world(lrps)?;
    world.fill_views();
    let tick = rounds(effort, 1e3, || {
        let placed = auctioneer::step(&world, NOW, &Settings::default(), clock::new_instance_guid);
        converger::step(&world, NOW).len() + placed.len()
    })?;
    add("converge/tick", "ms CPU", Goal::AtMost(TICK_MS_MAX), &tick);
    let audit = rounds(effort, 1.0, || {
        let found = Discrepancies::of(world.aggregates());
        convergence::plan(&found, world.aggregates(), NOW).len()
    })?;
    add("converge/audit", "s CPU", Goal::AtMost(AUDIT_S_MAX), &audit);
    let aggregates = world.aggregates();
    let actual = rounds(effort, 1e6 / f64::from(lrps), || {
        let listed: Vec<_> =
            aggregates.slots().map(|slot| (&slot.key, slot.state_name())).collect();
        black_box(listed.len()) - listed.len()
    })?;
    add("list/actual", "us CPU each", Goal::AtMost(LIST_US_MAX), &actual);
    let wishes = (lrps / OF_A_PROCESS).max(1);
    let desired = rounds(effort, 1e6 / f64::from(wishes), || {
        let listed: Vec<_> =
            aggregates.desired_lrps().map(|lrp| (&lrp.process_guid, lrp.instances)).collect();
        black_box(listed.len()) - listed.len()
    })?;
    add("list/desired", "us CPU each", Goal::AtMost(LIST_US_MAX), &desired);
    Ok(())
}

/// What one LRP takes in worlds of each size. So many are held that they come to the largest size,
/// and all are held to the end: what the process takes once only counts for little, and no world
/// lies in memory that another one left.
fn memory(report: &mut Report, effort: Effort) -> Result<(), Error> {
    let [.., largest] = SIZES;
    let mut worlds = Vec::new();
    for size in SIZES {
        let lrps = size / effort.one_in;
        report.progress(format!("memory of {lrps} LRPs"));
        let before = resident_bytes()?;
        for _ in 0..largest / size {
            let world = world(lrps)?;
            world.fill_views();
            worlds.push(world);
        }
        let taken = resident_bytes()?.saturating_sub(before);
        let ours = each(taken, largest / effort.one_in);
        let (name, size, unit) = ("memory/lrp", format!("lrps={lrps}"), "bytes");
        let goal = Goal::AtMost(LRP_BYTES_MAX);
        report.add(Row { name, size, unit, goal }, &[Round { ours, peer: None }]);
    }
    Ok(())
}

/// The processor time of something that finds nothing to do, times a unit.
fn rounds(effort: Effort, unit: f64, mut what: impl FnMut() -> usize) -> Result<Vec<Round>, Error> {
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let (found, took) = processor_time(&mut what)?;
        if found != 0 {
            return Err(Error::Unexpected(format!("the bench found {found} things to do")));
        }
        rounds.push(Round { ours: took.as_secs_f64() * unit, peer: None });
    }
    Ok(rounds)
}

/// Healthy instances on cells that are there, as desired.
pub(super) fn world(lrps: u32) -> Result<World, Error> {
    let mut world = World::empty();
    let mut history = History::default();
    let definition = Arc::new(definition());
    let (memory_mb, disk_mb) = (definition.memory_mb, definition.disk_mb);
    let resources = Resources { memory_mb, disk_mb, containers: 1 };
    let domain = FreshnessDomainName::new("bench").map_err(malformed)?;
    for cell in 0..lrps.div_ceil(ON_A_CELL) {
        history.happens(StreamId::Cell(cell_id(cell)?), registered(cell)?);
    }
    for process in 0..lrps.div_ceil(OF_A_PROCESS) {
        let process_guid = ProcessGuid::new(&format!("app-{process}")).map_err(malformed)?;
        let desired = desired_lrp::Desired {
            client_routes: None,
            domain: domain.clone(),
            instances: OF_A_PROCESS.min(lrps - process * OF_A_PROCESS),
            definition: Arc::clone(&definition),
            routes: Vec::new(),
            annotation: "".into(),
            restart: None,
            labels: Arc::default(),
        };
        let instances = desired.instances;
        let event = desired_lrp::Event::from(desired);
        history.happens(StreamId::DesiredLrp(process_guid.clone()), event);
        for index in 0..instances {
            let number = process * OF_A_PROCESS + index;
            let key = ActualLrpKey { process_guid: process_guid.clone(), index };
            let stream = StreamId::ActualLrp(key);
            let created = actual_lrp::Created { domain: domain.clone() };
            history.happens(stream.clone(), actual_lrp::Event::from(created));
            let instance_guid = InstanceGuid::new(&format!("i-{number}")).map_err(malformed)?;
            let placed = actual_lrp::Placed {
                instance_guid: instance_guid.clone(),
                cell_id: cell_id(number % lrps.div_ceil(ON_A_CELL))?,
                cell_epoch: CellEpoch(1),
                definition: definition.digest(),
                resources,
                candidates: None,
            };
            history.happens(stream.clone(), actual_lrp::Event::from(placed));
            let net_info = NetInfo { instance_address: [10, 0, 0, 1].into(), ports: vec![8080] };
            let started = actual_lrp::Started { instance_guid, net_info, is_ready: true };
            history.happens(stream, actual_lrp::Event::from(started));
        }
        world.apply_all(&history.events);
        history.events.clear();
    }
    Ok(world)
}

/// Events one after the other.
#[derive(Default)]
struct History {
    position: Position,
    events: Vec<Recorded<Event>>,
}

impl History {
    fn happens(&mut self, stream: StreamId, event: impl Into<Event>) {
        self.position = self.position.next();
        let command_id = CommandId::from_uuid(uuid::Uuid::from_u128(self.position.0.into()));
        self.events.push(Recorded {
            position: self.position,
            stream,
            version: StreamVersion(1),
            recorded_at: NOW,
            actor: Actor { kind: ActorKind::Loop, name: "bench".into(), via: "bench".into() },
            command_id: command_id.clone(),
            causation: None,
            correlation: command_id,
            event: event.into(),
        });
    }
}

fn registered(number: u32) -> Result<cell::Event, Error> {
    let registration = Box::new(registration(number)?);
    Ok(cell::Registered { cell_epoch: CellEpoch(1), registration }.into())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn each(bytes: u64, count: u32) -> f64 {
    bytes as f64 / f64::from(count.max(1))
}

/// What this process holds in memory.
fn resident_bytes() -> Result<u64, Error> {
    let read = std::fs::read_to_string("/proc/self/statm");
    let text = read.map_err(|source| Error::Io { what: "read /proc/self/statm", source })?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| Error::Unexpected("/proc/self/statm is malformed".into()))?;
    Ok(pages.saturating_mul(4096))
}
