//! The control plane of a simulation: the real decider on a memory log, the real world, presence.
//!
//! Does what the command bus's writer does, step by step and without a runtime, with a store that
//! fails as told.

use domain::{
    aggregates::Aggregates,
    command::Envelope,
    event::Event,
    log::{ActorKind, Incarnation, LeaseEpoch, Position, Recorded, Stamp},
    units::{Milliseconds, Timestamp},
};
use projections::{
    event_store::{AppendError, Batch, BatchId, Row, memory::MemoryLog},
    history::{decode, encode},
    presence::Presence,
    snapshot::ShardId,
    world::World,
};

use super::{
    chance::Chance,
    witness::{Violation, Witness, ensure},
};
use crate::command_bus::{Decider, Outcome, Tentative};

/// What the store does with the next batch.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Written,
    Failed,
    /// Written or not, and the writer must look.
    Unknown {
        is_written: bool,
    },
    /// Another node wrote this first.
    OtherFirst(Box<Envelope>),
}

/// The log could not be written; nothing was changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unavailable;

/// A snapshot as it would be stored.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    shards: Vec<(ShardId, Vec<u8>)>,
}

/// One node that is ended and started again and again, over one log.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) log: MemoryLog,
    pub(super) decider: Decider,
    pub(super) world: World,
    pub(super) presence: Presence,
    pub(super) lease_epoch: LeaseEpoch,
    pub(super) witness: Witness,
    /// What the other node was answered, for the users' ledger.
    pub(super) other_node: Vec<(Envelope, Outcome)>,
    kept: Option<Kept>,
}

impl Plane {
    pub(super) fn new(incarnation: uuid::Uuid, monotonic: Milliseconds) -> Self {
        let world = World::empty();
        let lease_epoch = LeaseEpoch(1);
        Self {
            log: MemoryLog::new(Incarnation(incarnation)),
            decider: decider(&world, lease_epoch),
            world,
            presence: Presence::new(monotonic),
            lease_epoch,
            witness: Witness::default(),
            other_node: Vec::new(),
            kept: None,
        }
    }

    /// Decides commands in order and commits what they cause.
    pub(super) fn submit(
        &mut self,
        envelopes: &[Envelope],
        clock: Timestamp,
        mut fate: Fate,
        chance: &mut Chance,
    ) -> Result<Result<Vec<Outcome>, Unavailable>, Violation> {
        self.look_up_old_commands(envelopes);
        let mut outcomes = Vec::with_capacity(envelopes.len());
        while let Some(rest) = envelopes.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            let this_fate = std::mem::replace(&mut fate, Fate::Written);
            match self.commit_some(rest, clock, this_fate, chance)? {
                Ok(some) => outcomes.extend(some),
                Err(unavailable) => return Ok(Err(unavailable)),
            }
        }
        Ok(Ok(outcomes))
    }

    fn look_up_old_commands(&mut self, envelopes: &[Envelope]) {
        for envelope in envelopes {
            let is_user = envelope.actor.kind == ActorKind::User;
            if is_user
                && !self.decider.remembers(&envelope.command_id)
                && let Some(events) = self.log.find_command(&envelope.command_id)
            {
                self.decider.remember(envelope, &events);
            }
        }
    }

    fn commit_some(
        &mut self,
        envelopes: &[Envelope],
        clock: Timestamp,
        mut fate: Fate,
        chance: &mut Chance,
    ) -> Result<Result<Vec<Outcome>, Unavailable>, Violation> {
        loop {
            let tentative = self.decider.decide(envelopes, clock);
            if tentative.events.is_empty() {
                return Ok(Ok(tentative.outcomes));
            }
            let batch = Batch {
                id: BatchId(chance.uuid()),
                decided_on: tentative.decided_on,
                recorded_at: tentative.recorded_at,
                lease: None,
                events: tentative.events.clone(),
            };
            match std::mem::replace(&mut fate, Fate::Written) {
                Fate::Written => {}
                Fate::Failed => {
                    self.undo(tentative)?;
                    return Ok(Err(Unavailable));
                }
                Fate::Unknown { is_written: false } => {
                    let is_there = self.log.find_batch(batch.id).is_some();
                    ensure(!is_there, "a batch that was not written is not found", || {
                        batch.id.to_string()
                    })?;
                    self.undo(tentative)?;
                    continue;
                }
                Fate::Unknown { is_written: true } => {
                    let id = batch.id;
                    self.append(batch)?;
                    let is_there = self.log.find_batch(id).is_some();
                    ensure(is_there, "a written batch is found", || id.to_string())?;
                    return Ok(Ok(tentative.outcomes));
                }
                Fate::OtherFirst(envelope) => self.other_node_writes(*envelope, clock, chance)?,
            }
            if batch.decided_on == self.log.head().position {
                self.append(batch)?;
                return Ok(Ok(tentative.outcomes));
            }
            let moved = self.log.append(batch);
            ensure(
                matches!(moved, Err(AppendError::HeadMoved { .. })),
                "the head is guarded",
                || format!("{moved:?}"),
            )?;
            self.undo(tentative)?;
            self.catch_up();
            self.look_up_old_commands(envelopes);
        }
    }

    fn append(&mut self, batch: Batch) -> Result<(), Violation> {
        let written = self.log.append(batch);
        ensure(written.is_ok(), "what is decided can be written", || format!("{written:?}"))?;
        self.follow()?;
        let (decided, stored) = (self.decider.head(), self.log.head());
        ensure(
            decided.position == stored.position && decided.recorded_at == stored.recorded_at,
            "the decider is at the head",
            || format!("decider {decided:?}, log {} {:?}", stored.position, stored.recorded_at),
        )
    }

    /// The view folds what was committed since.
    fn follow(&mut self) -> Result<(), Violation> {
        for recorded in self.log.read_all(self.world.position(), usize::MAX) {
            self.world.apply(recorded);
            self.witness.see(recorded)?;
        }
        Ok(())
    }

    fn undo(&mut self, tentative: Tentative) -> Result<(), Violation> {
        self.decider.undo(tentative);
        let head = self.decider.head();
        if head.position != self.world.position() {
            return Ok(());
        }
        ensure(self.decider.aggregates() == self.world.aggregates(), "an undo undoes all", || {
            format!("at position {}", head.position)
        })
    }

    fn catch_up(&mut self) {
        for recorded in self.log.read_all(self.decider.head().position, usize::MAX) {
            self.decider.fold(recorded);
        }
    }

    fn other_node_writes(
        &mut self,
        envelope: Envelope,
        clock: Timestamp,
        chance: &mut Chance,
    ) -> Result<(), Violation> {
        let head = self.log.head();
        let stamp = Stamp { position: head.position, recorded_at: head.recorded_at };
        let mut other =
            Decider::new(self.world.aggregates().clone(), stamp, Some(self.lease_epoch));
        if let Some(events) = self.log.find_command(&envelope.command_id) {
            other.remember(&envelope, &events);
        }
        let tentative = other.decide(std::slice::from_ref(&envelope), clock);
        if !tentative.events.is_empty() {
            let batch = Batch {
                id: BatchId(chance.uuid()),
                decided_on: tentative.decided_on,
                recorded_at: tentative.recorded_at,
                lease: None,
                events: tentative.events,
            };
            let written = self.log.append(batch);
            ensure(written.is_ok(), "what is decided can be written", || format!("{written:?}"))?;
            self.follow()?;
        }
        self.other_node
            .extend(tentative.outcomes.into_iter().map(|outcome| (envelope.clone(), outcome)));
        Ok(())
    }

    /// Keeps a snapshot, in the bytes of a real one.
    pub(super) fn keep_snapshot(&mut self) -> Result<(), Violation> {
        let stamp =
            Stamp { position: self.world.position(), recorded_at: self.world.recorded_at() };
        let encoded = encode(self.world.aggregates());
        let shards = encoded.map_err(|failure| Violation {
            invariant: "a snapshot can be written",
            detail: failure.to_string(),
        })?;
        let shards = shards.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        self.kept = Some(Kept { stamp, shards });
        Ok(())
    }

    /// The node ends and starts from its log, or from a snapshot and the log behind it.
    pub(super) fn restart(
        &mut self,
        monotonic: Milliseconds,
        from_snapshot: bool,
    ) -> Result<(), Violation> {
        let mut world = match self.kept.as_ref().filter(|_| from_snapshot) {
            None => World::empty(),
            Some(kept) => World::of(decoded(kept)?, kept.stamp),
        };
        for recorded in self.log.read_all(world.position(), usize::MAX) {
            world.apply(recorded);
        }
        same(&world, &self.world, "a start gives the same world")?;
        self.lease_epoch = LeaseEpoch(self.lease_epoch.0 + 1);
        self.decider = decider(&world, self.lease_epoch);
        self.world = world;
        self.presence = Presence::new(monotonic);
        Ok(())
    }

    /// The world is what a fold of the stored rows gives, and what its own aggregates give.
    pub(super) fn check_replay(&self) -> Result<(), Violation> {
        let mut replay = World::empty();
        for recorded in self.log.read_all(Position(0), usize::MAX) {
            replay.apply(&as_stored(recorded)?);
        }
        same(&replay, &self.world, "a view equals its replay")?;
        let stamp =
            Stamp { position: self.world.position(), recorded_at: self.world.recorded_at() };
        let rebuilt = World::from_aggregates(self.world.aggregates().all(), stamp);
        same(&rebuilt, &self.world, "a view equals its rebuild")?;
        let is_same = self.decider.aggregates() == self.world.aggregates();
        ensure(is_same, "decider and view hold the same", || "they differ".to_owned())
    }
}

fn decider(world: &World, lease_epoch: LeaseEpoch) -> Decider {
    let head = Stamp { position: world.position(), recorded_at: world.recorded_at() };
    Decider::new(world.aggregates().clone(), head, Some(lease_epoch))
}

fn decoded(kept: &Kept) -> Result<Aggregates, Violation> {
    decode(&kept.shards).map_err(|failure| Violation {
        invariant: "a snapshot can be read",
        detail: failure.to_string(),
    })
}

/// The event as it comes back out of a store.
fn as_stored(recorded: &Recorded<Event>) -> Result<Recorded<Event>, Violation> {
    let row = Row::encode(recorded).and_then(Row::decode);
    row.map_err(|failure| Violation {
        invariant: "an event can be written and read",
        detail: format!("position {}: {failure}", recorded.position),
    })
}

fn same(one: &World, other: &World, invariant: &'static str) -> Result<(), Violation> {
    for ((view, one), (_, other)) in one.content().into_iter().zip(other.content()) {
        let first = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        ensure(one == other, invariant, || {
            let around = |text: &str| {
                let from = first.saturating_sub(200);
                text.chars().skip(from).take(400).collect::<String>()
            };
            format!("{view} differs: …{}… against …{}…", around(&one), around(&other))
        })?;
    }
    Ok(())
}
