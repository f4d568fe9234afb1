//! A cell that falls silent, until all that ran on it is placed elsewhere: in virtual time.
//!
//! The steps of the loops and the decisions are the product's own, each loop woken as in a node: by
//! its period, and when the view has moved. What they take of the processor counts on top of the
//! virtual time.

use std::time::Duration;

use domain::{
    auction::Settings,
    command::{Command, Envelope, Seen},
    id::CellId,
    log::{Actor, ActorKind, LeaseEpoch, Position, Recorded, Stamp, StreamVersion},
    units::{Milliseconds, Timestamp},
};
use projections::{presence::Presence, world::World};

use super::{
    Effort, cell_id,
    converging::{NOW, ON_A_CELL, SIZES, world},
    processor_time,
};
use crate::{
    auctioneer,
    bench::{
        Error,
        measure::{Goal, Report, Round, Row},
    },
    clock,
    command_bus::{Decider, Tentative},
    converger,
    presence_watch::{self, HEARTBEAT_INTERVAL, PRESENCE_TIME_TO_LIVE},
    reconciler,
};

/// How long it may take beyond the cell's time to live.
const BEYOND: Duration = Duration::from_secs(1);
/// How fine virtual time is.
const TICK: Milliseconds = Milliseconds(50);
/// When in a period of the loops the cell was heard last: the worst of these counts.
const PHASES_MS: [u64; 5] = [0, 50, 150, 300, 450];
/// Longer than this means never.
const PATIENCE: Milliseconds = Milliseconds::from_seconds(120);
const LEASE: LeaseEpoch = LeaseEpoch(1);

pub(super) fn all(report: &mut Report, effort: Effort) -> Result<(), Error> {
    if !report.wants("lost") {
        return Ok(());
    }
    for size in SIZES {
        // There must be another cell.
        let lrps = (size / effort.one_in).max(2 * ON_A_CELL);
        let cell_count = lrps.div_ceil(ON_A_CELL);
        report.progress(format!("one of {cell_count} cells lost"));
        let world = world(lrps)?;
        world.fill_views();
        let mut worst = Duration::ZERO;
        for phase in PHASES_MS {
            worst = worst.max(Node::new(&world, cell_count)?.lose(Milliseconds(phase))?);
        }
        let rounds = [Round { ours: worst.as_secs_f64(), peer: None }];
        let goal = Goal::AtMost((PRESENCE_TIME_TO_LIVE.duration() + BEYOND).as_secs_f64());
        let size = format!("lrps={ON_A_CELL} cells={cell_count}");
        report.add(Row { name: "lost", size, unit: "s virtual", goal }, &rounds);
    }
    Ok(())
}

/// A node in virtual time.
struct Node {
    decider: Decider,
    world: World,
    presence: Presence,
    cells: Vec<CellId>,
    /// Since it began.
    now: Milliseconds,
    /// What the steps and the decisions took.
    took: Duration,
}

impl Node {
    fn new(world: &World, cell_count: u32) -> Result<Self, Error> {
        let world = world.clone();
        let head = Stamp { position: world.position(), recorded_at: world.recorded_at() };
        let decider = Decider::new(world.aggregates().clone(), head, Some(LEASE));
        let cells = (0..cell_count).map(cell_id).collect::<Result<_, _>>()?;
        let presence = Presence::new(Milliseconds(0));
        Ok(Self { decider, world, presence, cells, now: Milliseconds(0), took: Duration::ZERO })
    }

    /// Loses the first cell, which is heard last at `phase`; gives how long it then takes until
    /// nothing is on it any more.
    fn lose(&mut self, phase: Milliseconds) -> Result<Duration, Error> {
        let lost = cell_id(0)?;
        let period = reconciler::PERIOD.as_millis();
        while self.now <= PATIENCE {
            let at = self.now.0;
            if at == phase.0 {
                self.presence.heard(&lost, self.now, self.wall());
            }
            if at.is_multiple_of(HEARTBEAT_INTERVAL.0) {
                for cell in self.cells.iter().filter(|cell| **cell != lost) {
                    self.presence.heard(cell, self.now, Timestamp(0));
                }
            }
            if u128::from(at).is_multiple_of(period)
                && self.act_until_idle()?
                && self.is_empty(&lost)
            {
                return Ok(Milliseconds(at - phase.0).duration() + self.took);
            }
            self.now = Milliseconds(at + TICK.0);
        }
        Err(Error::Unexpected("what ran on a lost cell was never placed again".to_owned()))
    }

    /// Lets the loops act until the view moves no more; whether anything was done.
    fn act_until_idle(&mut self) -> Result<bool, Error> {
        let mut has_acted = false;
        loop {
            let (commands, took) = processor_time(|| self.commands())?;
            self.took += if commands.is_empty() { Duration::ZERO } else { took };
            if commands.is_empty() {
                return Ok(has_acted);
            }
            let (decided, took) = processor_time(|| self.decide(commands))?;
            decided?;
            self.took += took;
            has_acted = true;
        }
    }

    fn commands(&mut self) -> Vec<Command> {
        let now = self.wall();
        let mut commands = presence_watch::step(&self.world, &mut self.presence, "bench", self.now);
        commands.extend(converger::step(&self.world, now));
        let settings = Settings::default();
        commands.extend(auctioneer::step(&self.world, now, &settings, clock::new_instance_guid));
        commands.truncate(reconciler::COMMANDS_MAX);
        commands
    }

    /// Decides commands as the bus does, and folds what they cause.
    fn decide(&mut self, commands: Vec<Command>) -> Result<(), Error> {
        let actor = Actor { kind: ActorKind::Loop, name: "bench".into(), via: "bench".into() };
        let seen = Seen { position: self.world.position(), lease_epoch: LEASE };
        let envelopes: Vec<Envelope> = commands
            .into_iter()
            .map(|command| reconciler::envelope(&self.world, &actor, seen, command))
            .collect();
        let mut judged = 0;
        while let Some(rest) = envelopes.get(judged..).filter(|rest| !rest.is_empty()) {
            let tentative = self.decider.decide(rest, self.wall());
            judged += tentative.outcomes.len();
            if tentative.events.is_empty() && tentative.outcomes.iter().all(Result::is_err) {
                let refused = "the commands of a loop were refused";
                return Err(Error::Unexpected(refused.to_owned()));
            }
            self.fold(tentative);
        }
        Ok(())
    }

    fn fold(&mut self, tentative: Tentative) {
        let mut position: Position = tentative.decided_on;
        let recorded: Vec<_> = tentative
            .events
            .into_iter()
            .map(|new| {
                position = position.next();
                Recorded {
                    position,
                    stream: new.stream,
                    version: StreamVersion(0),
                    recorded_at: tentative.recorded_at,
                    actor: new.actor,
                    command_id: new.command_id,
                    causation: new.causation,
                    correlation: new.correlation,
                    event: new.event.into_parts().0,
                }
            })
            .collect();
        self.world.apply_all(&recorded);
    }

    fn wall(&self) -> Timestamp {
        NOW.plus(self.now)
    }

    /// Whether every slot is placed, and none on this cell.
    fn is_empty(&self, lost: &CellId) -> bool {
        self.world
            .aggregates()
            .slots()
            .all(|slot| slot.placement().is_some_and(|placement| placement.cell_id != *lost))
    }
}
