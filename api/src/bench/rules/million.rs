//! A million LRPs on ten thousand cells, through the log: wished for, created, placed, claimed and
//! started, every event durable on SQLite.
//!
//! The bus, the store, the view and the loops' steps are the product's own; the cells are simulated:
//! each answers its placements at once with the reports of a real one, numbered, in one request. All
//! is wished for and created before any of it is placed: a million wait at once.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    auction::Settings,
    bbs::{
        actual_lrp::{self, NetInfo},
        cell, desired_lrp,
    },
    command::{Command, Envelope, ReportNumber, Seen},
    id::{CellId, FreshnessDomainName, ProcessGuid},
    labels::Labels,
    log::{Actor, ActorKind, CellEpoch, LeaseEpoch, PlacementEpoch, Position},
    rep::{Observed, Report as CellReport, WorkKind, WorkReference},
    units::Timestamp,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use projections::{leases::LeaseState, projector::Now, world::World};

use super::{Effort, cell_id, malformed, registration};
use crate::{
    auctioneer,
    bench::{
        Error, load,
        measure::{self, Goal, Report, Round, Row},
        place::{self, BenchLog, Place},
    },
    clock::{self, Clock, Stopwatch},
    command_bus::Outcome,
    converger, reconciler,
};

/// How many LRPs and cells there are.
const LRPS: u32 = 1_000_000;
const CELLS: u32 = 10_000;
/// How many instances a process has.
const OF_A_PROCESS: u32 = 250;
/// How long all of it may take.
const SECONDS_MAX: f64 = 480.0;
/// How many cells' requests are on their way at once.
const REQUESTS_MAX: usize = 1_000;
const LEASE: LeaseEpoch = LeaseEpoch(1);

/// A cell as its reports name it.
#[derive(Debug)]
struct Cell {
    cell_epoch: CellEpoch,
    /// Of its last report.
    sequence: u64,
}

/// A placement that its cell has not answered yet.
#[derive(Debug)]
struct Placed {
    work: WorkReference,
    cell: u32,
}

/// What takes part.
struct Cluster {
    log: BenchLog,
    now: Now,
    clock: Clock,
    cells: Vec<Cell>,
}

pub(super) async fn all(report: &mut Report, effort: Effort) -> Result<(), Error> {
    if !report.wants("million") {
        return Ok(());
    }
    // Not measured is measured fast: a smoke test is of some processes only.
    let lrps = (LRPS / effort.one_in / effort.one_in).max(OF_A_PROCESS);
    let cell_count = CELLS / effort.one_in;
    report.progress(format!("{lrps} LRPs on {cell_count} cells through the log, once"));
    let place = Place::new()?;
    let mut cluster = Cluster::of(&place, cell_count).await?;
    let started = Stopwatch::start();
    cluster.run(lrps).await?;
    let elapsed = started.elapsed();
    let events = cluster.now.read(World::position).0;
    cluster.log.storage.close().await;
    let size = format!("lrps={lrps} cells={cell_count}");
    let row = |name, unit, goal| Row { name, size: size.clone(), unit, goal };
    let once = |ours| [Round { ours, peer: None }];
    let goal = Goal::AtMost(SECONDS_MAX);
    report.add(row("million", "s", goal), &once(elapsed.as_secs_f64()));
    let rate = measure::per_second(events, elapsed);
    report.add(row("million/events", "events/s", Goal::None), &once(rate));
    Ok(())
}

impl Cluster {
    async fn of(place: &Place, cell_count: u32) -> Result<Self, Error> {
        let log = place::open_with_bus(&place.new_sqlite()?).await?;
        if log.storage.take_lease().await? != (LeaseState::Held { lease_epoch: LEASE }) {
            return Err(Error::Unexpected("the bench's log has a lease already".to_owned()));
        }
        let now = Now::follow(Arc::clone(&log.storage.store), World::empty());
        let mut cluster = Self { log, now, clock: Clock::default(), cells: Vec::new() };
        let mut registers = Vec::new();
        for number in 0..cell_count {
            let registration = Box::new(registration(number)?);
            let command = cell::Command::Register { cell_id: cell_id(number)?, registration };
            registers.push(reported(&cell_id(number)?, command.into()));
        }
        cluster.submit(registers).await?;
        cluster.cells = cluster.now.read(|world| registered(world, cell_count))?;
        Ok(cluster)
    }

    /// Wishes for all, creates all, and places it step by step; while one step is being placed, the
    /// cells tell of the one before.
    async fn run(&mut self, lrps: u32) -> Result<(), Error> {
        let processes = lrps / OF_A_PROCESS;
        self.submit((0..processes).map(desire).collect::<Result<_, _>>()?).await?;
        loop {
            let create = self.look("converger", converger::step);
            if create.is_empty() {
                break;
            }
            self.submit(create).await?;
        }
        let mut placed = Vec::new();
        loop {
            let requests = self.reports(std::mem::take(&mut placed))?;
            let is_last = requests.is_empty();
            let (next, ()) = tokio::try_join!(self.place(), self.tell(requests))?;
            if is_last && next.is_empty() {
                break;
            }
            placed = next;
        }
        let running = self.now.read(|world| {
            world.aggregates().slots().filter(|slot| slot.state_name() == "RUNNING").count()
        });
        let wanted = processes * OF_A_PROCESS;
        if u32::try_from(running) == Ok(wanted) {
            return Ok(());
        }
        Err(Error::Unexpected(format!("{running} of {wanted} instances run in the end")))
    }

    /// Places what one step of the auctioneer does.
    async fn place(&self) -> Result<Vec<Placed>, Error> {
        let settings = Settings::default();
        let places = self.look("auctioneer", |world, now| {
            auctioneer::step(world, now, &settings, clock::new_instance_guid)
        });
        let commands: Vec<Command> = places.iter().map(|it| it.command.clone()).collect();
        let positions = self.submit(places).await?;
        commands
            .into_iter()
            .zip(positions)
            .map(|(it, position)| Self::placed(it, position))
            .collect()
    }

    /// What a loop would do now.
    fn look(
        &self,
        name: &'static str,
        step: impl Fn(&World, Timestamp) -> Vec<Command>,
    ) -> Vec<Envelope> {
        let actor = Actor { kind: ActorKind::Loop, name: name.into(), via: "bench".into() };
        self.now.read(|world| {
            let now = self.clock.now().max(world.recorded_at());
            let seen = Seen { position: world.position(), lease_epoch: LEASE };
            let commands = step(world, now).into_iter();
            commands.map(|it| reconciler::envelope(world, &actor, seen, it)).collect()
        })
    }

    /// What a cell is told of a placement: the work, named by the position of the event.
    fn placed(command: Command, position: Position) -> Result<Placed, Error> {
        let Command::ActualLrp(actual_lrp::Command::Place { key, instance_guid, cell_id, .. }) =
            command
        else {
            return Err(Error::Unexpected("the bench's cells have no room".to_owned()));
        };
        let number = cell_id.as_str().rsplit('-').next().and_then(|number| number.parse().ok());
        let cell = number.ok_or_else(|| Error::Unexpected("a cell has another name".to_owned()))?;
        let placement_epoch = PlacementEpoch(position);
        let work = WorkReference { kind: WorkKind::Lrp(key), instance_guid, placement_epoch };
        Ok(Placed { work, cell })
    }

    /// What the cells tell of their placements, one request a cell.
    fn reports(&mut self, placed: Vec<Placed>) -> Result<Vec<Vec<Envelope>>, Error> {
        let mut requests: BTreeMap<u32, Vec<Envelope>> = BTreeMap::new();
        for Placed { work, cell: number } in placed {
            let cell_id = cell_id(number)?;
            let cell = usize::try_from(number).ok().and_then(|number| self.cells.get_mut(number));
            let cell = cell.ok_or_else(|| Error::Unexpected(format!("{cell_id} is unknown")))?;
            let net_info = NetInfo { instance_address: [10, 0, 0, 1].into(), ports: vec![8080] };
            let request = requests.entry(number).or_default();
            for observed in [Observed::Claimed, Observed::Healthy { net_info, is_ready: true }] {
                cell.sequence += 1;
                let number = ReportNumber { cell_epoch: cell.cell_epoch, sequence: cell.sequence };
                let report = CellReport { work: work.clone(), observed };
                let command = report.into_command(cell_id.clone(), cell.cell_epoch, None);
                let command =
                    command.ok_or_else(|| Error::Unexpected("a report says nothing".to_owned()))?;
                let command_id = number.command_id(&cell_id).map_err(malformed)?;
                let envelope = reported(&cell_id, command);
                let correlation = command_id.clone();
                request.push(Envelope { command_id, correlation, ..envelope });
            }
        }
        Ok(requests.into_values().collect())
    }

    async fn tell(&self, requests: Vec<Vec<Envelope>>) -> Result<(), Error> {
        let told = stream::iter(requests).map(|request| self.log.bus.submit_all(request));
        let told: Vec<Vec<Outcome>> =
            told.buffer_unordered(REQUESTS_MAX).map_err(Error::from).try_collect().await?;
        self.reach(told.into_iter().flatten().collect()).await.map(drop)
    }

    /// Submits commands that must all be accepted, and waits until the view shows what they caused.
    async fn submit(&self, envelopes: Vec<Envelope>) -> Result<Vec<Position>, Error> {
        let mut positions = Vec::with_capacity(envelopes.len());
        let mut envelopes = envelopes.into_iter().peekable();
        while envelopes.peek().is_some() {
            let some = envelopes.by_ref().take(reconciler::COMMANDS_MAX).collect();
            positions.extend(self.reach(self.log.bus.submit_all(some).await?).await?);
        }
        Ok(positions)
    }

    async fn reach(&self, outcomes: Vec<Outcome>) -> Result<Vec<Position>, Error> {
        let mut positions = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let accepted = outcome.map_err(crate::command_bus::Error::from)?;
            positions.push(accepted.position);
        }
        let last = positions.iter().max().copied().unwrap_or_default();
        if self.now.reach(last).await {
            return Ok(positions);
        }
        Err(Error::Unexpected("the bench's log cannot be followed".to_owned()))
    }
}

/// The cells by their numbers, as the view knows them.
fn registered(world: &World, cell_count: u32) -> Result<Vec<Cell>, Error> {
    let cell = |number| {
        let cell = world.aggregates().cell(&cell_id(number)?);
        let cell = cell.ok_or_else(|| Error::Unexpected("a cell is not registered".to_owned()))?;
        Ok(Cell { cell_epoch: cell.cell_epoch, sequence: cell.reports_seen })
    };
    (0..cell_count).map(cell).collect()
}

fn desire(number: u32) -> Result<Envelope, Error> {
    Ok(load::envelope(Command::DesiredLrp(desired_lrp::Command::Desire {
        client_routes: None,
        process_guid: ProcessGuid::new(&format!("app-{number}")).map_err(malformed)?,
        domain: FreshnessDomainName::new("bench").map_err(malformed)?,
        instances: OF_A_PROCESS,
        definition: Arc::new(load::definition()),
        routes: Vec::new(),
        annotation: String::new(),
        restart: None,
        labels: Labels::default(),
    })))
}

/// A cell's command under a new id.
fn reported(cell_id: &CellId, command: Command) -> Envelope {
    let name: Arc<str> = cell_id.as_str().into();
    let actor = Actor { kind: ActorKind::Cell, name: Arc::clone(&name), via: name };
    Envelope { actor, ..load::envelope(command) }
}
