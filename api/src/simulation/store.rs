//! The store that all nodes of a simulation share: the log, the lease, who was heard. It keeps
//! what was committed, whoever dies, and knows by a second fold what every node should know.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    event::Event,
    id::CellId,
    log::{Incarnation, LeaseEpoch, Position, Recorded, Stamp},
    units::{Milliseconds, Timestamp},
};
use projections::{
    event_store::{AppendError, Batch, BatchId, Row, memory::MemoryLog},
    leases::{LEASE_TIME_TO_LIVE, LeaseState},
    presence::{ROUTER_TIME_TO_LIVE, RouterSeen},
    world::World,
};

use super::{
    invariants,
    witness::{Violation, Witness, ensure},
};

/// What a node is told of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// All of it is in the log; or it was empty, and rests on the head.
    Written,
    /// Another node wrote first.
    HeadMoved,
    /// Another node has the lease under which its loops acted.
    LeasePassed(LeaseEpoch),
    /// Nothing was written.
    Failed,
}

/// Who has the lease, under which epoch, until when.
#[derive(Debug)]
struct Held {
    holder: String,
    lease_epoch: LeaseEpoch,
    ends: Timestamp,
}

/// What outlives every node.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) log: MemoryLog,
    /// What the log says up to its head.
    pub(super) world: World,
    pub(super) witness: Witness,
    lease: Option<Held>,
    heard: BTreeMap<CellId, Timestamp>,
    /// How far each node's router was, and when it said so.
    routers: BTreeMap<String, (Position, Timestamp)>,
    /// When a router was heard again that had been silent for long.
    router_returned: BTreeMap<String, Timestamp>,
    /// What was asked for and not there: it is refused if it arrives after all.
    abandoned: BTreeSet<BatchId>,
    /// Until when it answers late.
    pub(super) slow_until: Timestamp,
}

impl Store {
    pub(super) fn new(incarnation: uuid::Uuid) -> Self {
        Self {
            log: MemoryLog::new(Incarnation(incarnation)),
            world: World::empty(),
            witness: Witness::default(),
            lease: None,
            heard: BTreeMap::new(),
            routers: BTreeMap::new(),
            router_returned: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            slow_until: Timestamp(0),
        }
    }

    /// A batch arrives: written if it rests on the head and on the lease as they are, and if its
    /// node was not told that it never will be.
    pub(super) fn append(&mut self, batch: Batch) -> Result<Told, Violation> {
        if self.abandoned.contains(&batch.id) {
            return Ok(Told::HeadMoved);
        }
        let held = self.lease.as_ref().map(|held| held.lease_epoch);
        if let Some(lease_epoch) = batch.lease.filter(|lease_epoch| Some(*lease_epoch) != held) {
            return Ok(Told::LeasePassed(lease_epoch));
        }
        if batch.events.is_empty() {
            let is_head = batch.decided_on == self.log.head().position;
            return Ok(if is_head { Told::Written } else { Told::HeadMoved });
        }
        let id = batch.id;
        match self.log.append(batch) {
            Ok(recorded) => {
                for recorded in &recorded {
                    self.world.apply(recorded);
                    self.witness.see(recorded, self.world.aggregates())?;
                }
                let is_there = self.log.find_batch(id).is_some();
                ensure(is_there, "a written batch is found", || id.to_string())?;
                invariants::check_reservations(self.world.aggregates())?;
                Ok(Told::Written)
            }
            Err(AppendError::HeadMoved { .. }) => Ok(Told::HeadMoved),
            Err(failure) => Err(Violation {
                invariant: "what is decided can be written",
                detail: failure.to_string(),
            }),
        }
    }

    /// A node asks whether its batch was written. If not, it never will be.
    pub(super) fn has_batch(&mut self, id: BatchId) -> bool {
        let is_written = self.log.find_batch(id).is_some();
        if !is_written {
            self.abandoned.insert(id);
        }
        is_written
    }

    /// A node asks for the lease.
    pub(super) fn acquire(&mut self, holder: &str, now: Timestamp) -> LeaseState {
        let lease_epoch = match &self.lease {
            Some(held) if held.holder == holder => held.lease_epoch,
            Some(held) if held.ends > now => {
                return LeaseState::HeldByOther {
                    holder: held.holder.clone(),
                    lease_epoch: held.lease_epoch,
                    left: held.ends.since(now),
                };
            }
            Some(held) => LeaseEpoch(held.lease_epoch.0 + 1),
            None => LeaseEpoch(1),
        };
        let ends = now.plus(LEASE_TIME_TO_LIVE);
        self.lease = Some(Held { holder: holder.to_owned(), lease_epoch, ends });
        LeaseState::Held { lease_epoch }
    }

    /// The epoch under which the lease was given last.
    pub(super) fn lease_epoch(&self) -> Option<LeaseEpoch> {
        self.lease.as_ref().map(|held| held.lease_epoch)
    }

    /// A node tells whom it heard, and learns how long ago any node heard whom.
    pub(super) fn share(
        &mut self,
        untold: BTreeSet<CellId>,
        now: Timestamp,
    ) -> BTreeMap<CellId, Milliseconds> {
        self.heard.extend(untold.into_iter().map(|cell_id| (cell_id, now)));
        self.heard.iter().map(|(cell_id, at)| (cell_id.clone(), now.since(*at))).collect()
    }

    /// How far all routers are, as a node tells and learns it.
    pub(super) fn share_router(
        &mut self,
        node: &str,
        position: Position,
        now: Timestamp,
    ) -> BTreeMap<String, RouterSeen> {
        if self.is_router_silent(node, now) {
            self.router_returned.insert(node.to_owned(), now);
        }
        self.routers.insert(node.to_owned(), (position, now));
        let seen = |(node, (position, at)): (&String, &(Position, Timestamp))| {
            (node.clone(), RouterSeen { position: *position, age: now.since(*at) })
        };
        self.routers.iter().map(seen).collect()
    }

    /// Whether others may lately have taken a node's router for one that lives no more.
    pub(super) fn may_be_passed_over(&self, node: &str, now: Timestamp) -> bool {
        let returned = self.router_returned.get(node);
        self.is_router_silent(node, now)
            || returned.is_some_and(|at| now.since(*at) < Milliseconds::from_seconds(60))
    }

    fn is_router_silent(&self, node: &str, now: Timestamp) -> bool {
        let at = self.routers.get(node).map(|(_, at)| *at);
        at.is_none_or(|at| now.since(at).0 >= ROUTER_TIME_TO_LIVE.0 / 2)
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
        same(&rebuilt, &self.world, "a view equals its rebuild")
    }
}

/// The event as it comes back out of a store.
fn as_stored(recorded: &Recorded<Event>) -> Result<Recorded<Event>, Violation> {
    let row = Row::encode(recorded).and_then(Row::decode);
    row.map_err(|failure| Violation {
        invariant: "an event can be written and read",
        detail: format!("position {}: {failure}", recorded.position),
    })
}

/// Two worlds show the same in every view, byte for byte.
pub(super) fn same(one: &World, other: &World, invariant: &'static str) -> Result<(), Violation> {
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
