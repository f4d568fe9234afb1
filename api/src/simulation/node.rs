//! One control-plane node of a simulation: the real decider and the real world on a shared log, a
//! queue of requests, and its share of the lease. It dies and starts anew at any moment.

use std::collections::{BTreeMap, VecDeque};

use domain::{
    aggregates::Aggregates,
    command::Envelope,
    log::{LeaseEpoch, Position, Stamp},
    units::{Milliseconds, Timestamp},
};
use projections::{
    event_store::{BatchId, memory::MemoryLog},
    history::{decode, encode},
    presence::{Presence, Routers},
    snapshot::ShardId,
    world::World,
};

use super::{
    cluster::{Loop, MachineIndex},
    message::{Reply, Token},
    network::Cut,
    store::{Store, same},
    witness::{Violation, ensure},
};
use crate::command_bus::{Decider, Outcome, Tentative};

/// A node, as an index into the nodes.
pub(super) type NodeIndex = usize;

/// A snapshot as it would be stored.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    shards: Vec<(ShardId, Vec<u8>)>,
}

/// Commands that came together, until all of them have an outcome.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) envelopes: Vec<Envelope>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) reply: Reply,
}

/// A batch under way to the store.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) batch: BatchId,
    pub(super) tentative: Tentative,
    /// Its node has given up waiting for the answer: nothing is decided until it knows.
    pub(super) is_unsure: bool,
}

/// A request for an assignment that is held back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) life: u64,
    pub(super) token: Token,
    pub(super) after: Position,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// How often it was started: what an earlier life planned does not happen.
    pub(super) life: u64,
    pub(super) is_up: bool,
    /// How far its clock is from the others', in milliseconds.
    pub(super) clock_ahead: i64,
    pub(super) decider: Decider,
    pub(super) world: World,
    pub(super) presence: Presence,
    pub(super) routers: Routers,
    /// The epoch under which its loops may act.
    pub(super) lease: Option<LeaseEpoch>,
    /// When the renewal that was granted last had been asked for.
    pub(super) renewed: Option<Timestamp>,
    pub(super) queue: VecDeque<Pending>,
    pub(super) in_flight: Option<InFlight>,
    /// Decided on top of the one under way, and sent once that is written.
    pub(super) next: Option<Tentative>,
    pub(super) held: BTreeMap<MachineIndex, Held>,
    /// When each loop wakes; none while its commands are under way.
    pub(super) wakes: BTreeMap<Loop, Timestamp>,
    /// How it is cut off from the store.
    pub(super) store_cut: Option<Cut>,
    /// Cut off from cells and users.
    pub(super) is_edge_cut: bool,
    kept: Option<Kept>,
}

impl Node {
    pub(super) fn new(index: NodeIndex) -> Self {
        let world = World::empty();
        let name = format!("node-{}", index + 1);
        Self {
            routers: Routers::shared(&name, Milliseconds(0)),
            name,
            life: 0,
            is_up: true,
            clock_ahead: 0,
            decider: decider(&world),
            world,
            presence: Presence::new(Milliseconds(0)),
            lease: None,
            renewed: None,
            queue: VecDeque::new(),
            in_flight: None,
            next: None,
            held: BTreeMap::new(),
            wakes: BTreeMap::new(),
            store_cut: None,
            is_edge_cut: false,
            kept: None,
        }
    }

    /// Another at each start of its process.
    pub(super) fn holder(&self) -> String {
        format!("{}#{}", self.name, self.life)
    }

    /// Its wall clock.
    pub(super) fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add(self.clock_ahead.saturating_mul(1_000_000)))
    }

    pub(super) fn is_life(&self, life: u64) -> bool {
        self.is_up && self.life == life
    }

    /// What its process held in memory is gone.
    pub(super) fn kill(&mut self) -> (VecDeque<Pending>, BTreeMap<MachineIndex, Held>) {
        self.is_up = false;
        self.lease = None;
        self.renewed = None;
        self.in_flight = None;
        self.next = None;
        self.wakes.clear();
        (std::mem::take(&mut self.queue), std::mem::take(&mut self.held))
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

    /// Its process starts, from the log alone or from a snapshot and the log behind it.
    pub(super) fn start(
        &mut self,
        store: &Store,
        monotonic: Milliseconds,
        from_snapshot: bool,
    ) -> Result<(), Violation> {
        let mut world = match self.kept.as_ref().filter(|_| from_snapshot) {
            None => World::empty(),
            Some(kept) => World::of(decoded(kept)?, kept.stamp),
        };
        for recorded in store.log.read_all(world.position(), usize::MAX) {
            world.apply(recorded);
        }
        same(&world, &store.world, "a start gives the same world")?;
        self.life += 1;
        self.is_up = true;
        self.decider = decider(&world);
        self.world = world;
        self.presence = Presence::new(monotonic);
        self.routers = Routers::shared(&self.name, monotonic);
        Ok(())
    }

    /// The view folds what was committed, and so does the decider when nothing is tentative.
    /// Whether the view has moved.
    pub(super) fn follow(&mut self, log: &MemoryLog) -> bool {
        let before = self.world.position();
        for recorded in log.read_all(before, usize::MAX) {
            self.world.apply(recorded);
        }
        if self.is_idle() {
            self.catch_up(log);
        }
        self.world.position() != before
    }

    /// The decider folds what others wrote.
    pub(super) fn catch_up(&mut self, log: &MemoryLog) {
        for recorded in log.read_all(self.decider.head().position, usize::MAX) {
            self.decider.fold(recorded);
        }
    }

    /// Remembers what the log says of users' commands.
    pub(super) fn look_up(&mut self, envelopes: &[Envelope], log: &MemoryLog) {
        for envelope in envelopes {
            if !self.decider.remembers(&envelope.command_id)
                && let Some(events) = log.find_command(&envelope.command_id)
            {
                self.decider.remember(envelope, &events);
            }
        }
    }

    /// Decides what waits behind all that is decided, as much as finds room in the next batch.
    pub(super) fn decide(&mut self, clock: Timestamp) {
        if self.in_flight.as_ref().is_some_and(|it| it.is_unsure) {
            return;
        }
        let left = self.queue.iter().flat_map(|pending| {
            pending.envelopes.get(pending.outcomes.len()..).unwrap_or_default()
        });
        let mut undecided = left.skip(self.decided()).peekable();
        if undecided.peek().is_none() {
            return;
        }
        self.decider.set_lease(self.lease);
        let next = self.next.get_or_insert_with(|| self.decider.begin(clock));
        if !next.is_full {
            self.decider.decide_more(next, undecided);
        }
    }

    /// Whether all that it decided is committed.
    fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.next.is_none()
    }

    /// How many commands are decided and have no outcome yet.
    pub(super) fn decided(&self) -> usize {
        let under_way = self.in_flight.as_ref().map(|it| &it.tentative);
        under_way.into_iter().chain(&self.next).map(|it| it.outcomes.len()).sum()
    }

    /// Puts back what was decided on top of a batch whose outcome is not known, or is none.
    pub(super) fn undo_next(&mut self) {
        if let Some(next) = self.next.take() {
            self.decider.undo(next);
        }
    }

    /// Gives the first commands without an outcome theirs; who has all of them is answered.
    pub(super) fn settle(&mut self, outcomes: Vec<Outcome>) -> Vec<Pending> {
        let mut outcomes = outcomes.into_iter();
        let mut answered = Vec::new();
        while let Some(first) = self.queue.front_mut() {
            let missing = first.envelopes.len() - first.outcomes.len();
            first.outcomes.extend(outcomes.by_ref().take(missing));
            if first.outcomes.len() < first.envelopes.len() {
                break;
            }
            answered.extend(self.queue.pop_front());
        }
        answered
    }

    /// Takes those away that the next so many commands are of.
    pub(super) fn refuse(&mut self, commands: usize) -> Vec<Pending> {
        let mut refused = Vec::new();
        let mut counted = 0;
        while counted < commands
            && let Some(first) = self.queue.pop_front()
        {
            counted += first.envelopes.len() - first.outcomes.len();
            refused.push(first);
        }
        refused
    }

    /// Puts back what was decided and not written.
    pub(super) fn undo(&mut self, tentative: Tentative, store: &Store) -> Result<(), Violation> {
        self.undo_next();
        self.decider.undo(tentative);
        self.check(store)
    }

    /// Who is at the head, and decides nothing just now, knows what the log says.
    pub(super) fn check(&self, store: &Store) -> Result<(), Violation> {
        let head = store.log.head();
        if self.is_up && self.is_idle() && self.decider.head().position == head.position {
            let is_same = self.decider.aggregates() == store.world.aggregates()
                && self.decider.head().recorded_at == head.recorded_at;
            ensure(is_same, "a decider at the head knows what the log says", || {
                format!("{} at position {}", self.name, head.position)
            })?;
        }
        Ok(())
    }
}

fn decider(world: &World) -> Decider {
    let head = Stamp { position: world.position(), recorded_at: world.recorded_at() };
    Decider::new(world.aggregates().clone(), head, None)
}

fn decoded(kept: &Kept) -> Result<Aggregates, Violation> {
    decode(&kept.shards).map_err(|failure| Violation {
        invariant: "a snapshot can be read",
        detail: failure.to_string(),
    })
}
