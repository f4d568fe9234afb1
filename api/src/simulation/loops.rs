//! The loops of a simulation: the real step functions, on a view that may have moved by the time
//! their commands are judged.

use domain::{
    auction::{self, Input},
    command::{Command, Envelope, Seen},
    id::{CommandId, InstanceGuid},
    log::{Actor, ActorKind},
    units::Milliseconds,
};

use super::{
    chance::Chance,
    cluster::{Cluster, Happening, Loop, told},
    plane::Unavailable,
    witness::Violation,
};
use crate::{auctioneer, command_bus::Outcome, converger, presence_watch};

/// Longer than the real period: what is due by time alone may wait for it.
const PERIOD: Milliseconds = Milliseconds::from_seconds(3);
const RETRY_PAUSE: Milliseconds = Milliseconds(500);

const NODE: &str = "node-1";

impl Loop {
    pub(super) const ALL: [Self; 3] = [Self::Auctioneer, Self::Converger, Self::PresenceWatch];

    fn name(self) -> &'static str {
        match self {
            Self::Auctioneer => "auctioneer",
            Self::Converger => "converger",
            Self::PresenceWatch => "presence watch",
        }
    }
}

impl Cluster {
    /// The view has moved: loops wake soon, and changed lists are sent.
    pub(super) fn world_moved(&mut self) {
        for which in Loop::ALL {
            let soon = self.chance.span(0, 20);
            let is_later = self.wakes.get(&which).is_some_and(|wakes| *wakes > self.now.plus(soon));
            if is_later {
                self.wake_after(which, soon);
            }
        }
        self.answer_moved();
    }

    /// Sets when a loop looks next, in place of any other time.
    pub(super) fn wake_after(&mut self, which: Loop, span: Milliseconds) {
        self.wakes.insert(which, self.now.plus(span));
        self.after(span, Happening::Wake(which));
    }

    pub(super) fn wake(&mut self, which: Loop) {
        if self.wakes.get(&which) != Some(&self.now) {
            return;
        }
        let envelopes = self.look(which);
        if envelopes.is_empty() {
            return self.wake_after(which, PERIOD);
        }
        self.wakes.remove(&which);
        if which == Loop::Auctioneer && self.config.faults.control_plane {
            self.other_auctioneer_acts();
        }
        let span = if !self.is_calm && self.chance.per_mille(100) {
            self.chance.span(0, 5000)
        } else {
            self.chance.span(0, 5)
        };
        let restarts = self.restarts;
        self.after(span, Happening::Submit { by: Some(which), restarts, envelopes });
    }

    /// Another node's loops act on the same view.
    pub(super) fn double_loops(&mut self) {
        for which in Loop::ALL {
            let envelopes = self.look(which);
            if !envelopes.is_empty() {
                let latest = self.chance.pick(&[10, 100, 5000]).copied().unwrap_or(0);
                let (span, restarts) = (self.chance.span(0, latest), self.restarts);
                self.after(span, Happening::Submit { by: None, restarts, envelopes });
            }
        }
    }

    /// Now and then another node's auctioneer, which sees only some of what waits on the same
    /// view, is a moment earlier: what it takes on a cell is not there for ours.
    fn other_auctioneer_acts(&mut self) {
        if self.is_calm || !self.chance.per_mille(100) {
            return;
        }
        let world = &self.plane.world;
        let mut auctions = world.auction_queue().auctions(world.aggregates(), self.clock());
        auctions.retain(|_| self.chance.per_mille(500));
        let (cells, seen) = (world.cell_capacity().cells(), world.position());
        let outcome = auction::schedule(Input { auctions, cells, settings: self.settings, seen });
        let chance = &mut self.chance;
        let placements = outcome.placements.into_iter();
        let commands = placements.map(|placement| placement.into_command(instance_guid(chance)));
        let commands = commands.collect();
        let (envelopes, restarts) = (self.envelopes(Loop::Auctioneer, commands), self.restarts);
        if !envelopes.is_empty() {
            let happening = Happening::Submit { by: None, restarts, envelopes };
            self.after(Milliseconds(0), happening);
        }
    }

    fn look(&mut self, which: Loop) -> Vec<Envelope> {
        let world = &self.plane.world;
        let now = self.now.plus(self.clock_ahead).max(world.recorded_at());
        let virtual_time = self.virtual_time();
        let chance = &mut self.chance;
        let commands = match which {
            Loop::Auctioneer => {
                auctioneer::step(world, now, &self.settings, || instance_guid(chance))
            }
            Loop::Converger => converger::step(world, now),
            Loop::PresenceWatch => {
                presence_watch::step(world, &mut self.plane.presence, NODE, virtual_time)
            }
        };
        self.envelopes(which, commands)
    }

    /// A loop's commands, with what it looked at: the view as it is now.
    fn envelopes(&mut self, which: Loop, commands: Vec<Command>) -> Vec<Envelope> {
        let world = &self.plane.world;
        let seen = Seen { position: world.position(), lease_epoch: self.plane.lease_epoch };
        let actor = Actor { kind: ActorKind::Loop, name: which.name().into(), via: NODE.into() };
        commands
            .into_iter()
            .map(|command| {
                let causation = world.aggregates().last_position(&command.stream());
                let envelope = envelope(&actor, seen, command, &mut self.chance);
                Envelope { causation, ..envelope }
            })
            .collect()
    }

    pub(super) fn loop_submits(
        &mut self,
        by: Option<Loop>,
        restarts: u64,
        envelopes: &[Envelope],
    ) -> Result<(), Violation> {
        if restarts != self.restarts {
            return Ok(());
        }
        let outcomes = self.submit(envelopes)?;
        let has_changed = outcomes.as_ref().map_or(true, |outcomes| {
            outcomes.iter().any(|outcome| !matches!(outcome, Ok(accepted) if accepted.events == 0))
        });
        if has_changed {
            self.note_loop(by, envelopes, &outcomes);
        }
        if let Some(which) = by {
            let seen = envelopes.first().and_then(|envelope| envelope.seen);
            let has_moved = seen.is_none_or(|seen| self.plane.world.position() > seen.position);
            let pause = match outcomes {
                Err(Unavailable) => RETRY_PAUSE,
                Ok(_) if has_moved => self.chance.span(1, 5),
                Ok(_) => PERIOD,
            };
            self.wake_after(which, pause);
        }
        Ok(())
    }

    fn note_loop(
        &mut self,
        by: Option<Loop>,
        envelopes: &[Envelope],
        outcomes: &Result<Vec<Outcome>, Unavailable>,
    ) {
        self.note(|_| {
            let results = match outcomes {
                Err(Unavailable) => vec!["unavailable".to_owned()],
                Ok(outcomes) => outcomes
                    .iter()
                    .zip(envelopes)
                    .map(|(outcome, envelope)| {
                        let result = outcome.as_ref().map_or_else(|no| no.code(), |_| "ok");
                        format!("{} {result}", told(&envelope.command))
                    })
                    .collect(),
            };
            format!("{}: {}", by.map_or("another node", Loop::name), results.join("; "))
        });
    }
}

fn envelope(actor: &Actor, seen: Seen, command: Command, chance: &mut Chance) -> Envelope {
    let command_id = CommandId::from_uuid(chance.uuid());
    Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: actor.clone(),
        seen: Some(seen),
        causation: None,
        command,
    }
}

fn instance_guid(chance: &mut Chance) -> InstanceGuid {
    InstanceGuid::new(&chance.uuid().to_string())
        .unwrap_or_else(|_| unreachable!("a uuid is a well-formed guid"))
}
