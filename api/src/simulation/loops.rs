//! The loops of a node in a simulation: the real step functions, on a view that may have moved by
//! the time their commands are judged, under a lease that may have passed.

use domain::{
    command::{Command, Envelope, Seen},
    id::{CommandId, InstanceGuid},
    log::{Actor, ActorKind, LeaseEpoch, Position},
    units::{Milliseconds, Timestamp},
};
use projections::leases::{LEASE_TIME_TO_LIVE, LeaseState};

use super::{
    bus::{Outcomes, Unavailable},
    chance::Chance,
    cluster::{Cluster, Happening, Loop, told},
    message::Reply,
    node::NodeIndex,
    witness::Violation,
};
use crate::{
    auctioneer, converger,
    presence_watch::{self, PRESENCE_TIME_TO_LIVE},
    reconciler, route_withdrawal, task_callbacks,
};

/// Longer than the real period: what is due by time alone may wait for it.
const PERIOD: Milliseconds = Milliseconds::from_seconds(3);
const RETRY_PAUSE: Milliseconds = Milliseconds(500);
/// How often a node tells whom it heard, looks at the log unasked, and looks after its lease.
const TICK: Milliseconds = Milliseconds::from_seconds(1);
/// How often the lease is asked for; without an answer for twice this long it is let go.
const LEASE_THIRD: Milliseconds = Milliseconds(LEASE_TIME_TO_LIVE.0 / 3);

impl Loop {
    pub(super) const ALL: [Self; 5] = [
        Self::Auctioneer,
        Self::Converger,
        Self::PresenceWatch,
        Self::RouteWithdrawal,
        Self::TaskCallbacks,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Auctioneer => "auctioneer",
            Self::Converger => "converger",
            Self::PresenceWatch => "presence watch",
            Self::RouteWithdrawal => "route withdrawal",
            Self::TaskCallbacks => "task callbacks",
        }
    }
}

impl Cluster {
    /// A node's view has moved: loops wake soon, and changed lists are sent.
    pub(super) fn world_moved(&mut self, node: NodeIndex) {
        for which in Loop::ALL {
            let soon = self.chance.span(0, 20);
            let wakes = self.nodes.get(node).and_then(|node| node.wakes.get(&which));
            if wakes.is_some_and(|wakes| *wakes > self.now.plus(soon)) {
                self.wake_after(node, which, soon);
            }
        }
        self.answer_moved(node);
    }

    /// Sets when a loop looks next, in place of any other time.
    fn wake_after(&mut self, index: NodeIndex, which: Loop, span: Milliseconds) {
        let Some(node) = self.nodes.get_mut(index) else { return };
        node.wakes.insert(which, self.now.plus(span));
        let life = node.life;
        self.after(span, Happening::Wake { node: index, life, which });
    }

    pub(super) fn wake(&mut self, index: NodeIndex, life: u64, which: Loop) {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_life(life)) else {
            return;
        };
        if node.wakes.get(&which) != Some(&self.now) {
            return;
        }
        node.wakes.remove(&which);
        // Another node's loops act; these begin again with the lease.
        let Some(lease_epoch) = node.lease else { return };
        let commands = self.look(index, which, lease_epoch);
        if commands.is_empty() {
            return self.wake_after(index, which, PERIOD);
        }
        let envelopes = self.envelopes(index, which, lease_epoch, commands);
        let span = if !self.is_calm && self.chance.per_mille(100) {
            self.chance.span(0, 5000)
        } else {
            self.chance.span(0, 5)
        };
        self.after(span, Happening::Submit { node: index, life, which, envelopes });
    }

    fn look(&mut self, index: NodeIndex, which: Loop, lease_epoch: LeaseEpoch) -> Vec<Command> {
        let monotonic = self.virtual_time();
        let Some(node) = self.nodes.get_mut(index) else { return Vec::new() };
        let now = node.clock(self.now).max(node.world.recorded_at());
        let chance = &mut self.chance;
        match which {
            Loop::Auctioneer => {
                auctioneer::step(&node.world, now, &self.settings, || instance_guid(chance))
            }
            Loop::Converger => converger::step(&node.world, now),
            Loop::TaskCallbacks => task_callbacks::step(&node.world, now),
            Loop::RouteWithdrawal => {
                node.routers.note_own(node.world.position());
                route_withdrawal::step(&node.world, &node.routers, now, monotonic)
            }
            Loop::PresenceWatch => {
                node.presence.watch_under(lease_epoch, monotonic);
                if node.presence.is_deaf(monotonic, PRESENCE_TIME_TO_LIVE) {
                    return Vec::new();
                }
                presence_watch::step(&node.world, &mut node.presence, &node.name, monotonic)
            }
        }
    }

    /// A loop's commands, with what it looked at: the view as it is now.
    fn envelopes(
        &mut self,
        index: NodeIndex,
        which: Loop,
        lease_epoch: LeaseEpoch,
        commands: Vec<Command>,
    ) -> Vec<Envelope> {
        let Some(node) = self.nodes.get(index) else { return Vec::new() };
        let seen = Seen { position: node.world.position(), lease_epoch };
        let actor = Actor {
            kind: ActorKind::Loop,
            name: which.name().into(),
            via: node.name.as_str().into(),
        };
        let chance = &mut self.chance;
        commands
            .into_iter()
            .map(|command| {
                // Its own chance, not the clock's.
                let command_id = CommandId::from_uuid(chance.uuid());
                let envelope = reconciler::envelope(&node.world, &actor, seen, command);
                Envelope { correlation: command_id.clone(), command_id, ..envelope }
            })
            .collect()
    }

    pub(super) fn loop_submits(
        &mut self,
        index: NodeIndex,
        life: u64,
        which: Loop,
        envelopes: Vec<Envelope>,
    ) -> Result<(), Violation> {
        if !self.nodes.get(index).is_some_and(|node| node.is_life(life)) {
            return Ok(());
        }
        let seen = envelopes.first().and_then(|envelope| envelope.seen);
        let seen = seen.map_or(Position(0), |seen| seen.position);
        self.submit(index, envelopes, Reply::Loop { which, seen })
    }

    /// A loop is answered, and looks again: at once if the view has moved, else after its period.
    pub(super) fn loop_hears(
        &mut self,
        index: NodeIndex,
        which: Loop,
        seen: Position,
        envelopes: &[Envelope],
        outcomes: &Outcomes,
    ) {
        self.note_loop(index, which, envelopes, outcomes);
        self.begin_calls(index, envelopes, outcomes);
        let Some(node) = self.nodes.get(index) else { return };
        let has_moved = node.world.position() > seen;
        let pause = match outcomes {
            Err(Unavailable) => RETRY_PAUSE,
            Ok(_) if has_moved => self.chance.span(1, 5),
            Ok(_) => PERIOD,
        };
        self.wake_after(index, which, pause);
    }

    fn note_loop(
        &mut self,
        index: NodeIndex,
        which: Loop,
        envelopes: &[Envelope],
        outcomes: &Outcomes,
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
            format!("node {index} {}: {}", which.name(), results.join("; "))
        });
    }

    /// Once a second a node tells whom it heard, looks at the log, and looks after its lease.
    pub(super) fn tick(&mut self, index: NodeIndex, life: u64) -> Result<(), Violation> {
        if !self.nodes.get(index).is_some_and(|node| node.is_life(life)) {
            return Ok(());
        }
        self.after(TICK, Happening::Tick { node: index, life });
        self.keep_lease(index, life);
        if !self.reaches_store(index) {
            return Ok(());
        }
        let monotonic = self.virtual_time();
        if let Some(node) = self.nodes.get_mut(index) {
            let ages = self.store.share(node.presence.take_untold(), self.now);
            let wall = node.clock(self.now);
            node.presence.learn(&ages, monotonic, wall);
            let routers = self.store.share_router(&node.name, node.world.position(), self.now);
            node.routers.learn(routers, monotonic);
        }
        self.follow(index)
    }

    /// Lets go of a lease that was not renewed in time, and asks for it when that is due.
    fn keep_lease(&mut self, index: NodeIndex, life: u64) {
        let Some(node) = self.nodes.get_mut(index) else { return };
        let since = node.renewed.map(|renewed| self.now.since(renewed));
        if since.is_some_and(|since| since.0 >= 2 * LEASE_THIRD.0) {
            node.lease = None;
            node.renewed = None;
        }
        let is_due = since.is_none_or(|since| since >= LEASE_THIRD) || node.lease.is_none();
        if is_due && self.reaches_store(index) {
            let (asked, there) = (self.now, self.store_delay());
            self.after(there, Happening::LeaseAsked { node: index, life, asked });
        }
    }

    /// A question for the lease arrives at the store.
    pub(super) fn lease_asked(&mut self, index: NodeIndex, life: u64, asked: Timestamp) {
        let Some(node) = self.nodes.get(index).filter(|node| node.is_life(life)) else { return };
        let state = self.store.acquire(&node.holder(), self.now);
        let back = self.store_delay();
        self.after(back, Happening::LeaseAnswered { node: index, life, asked, state });
    }

    pub(super) fn lease_answered(
        &mut self,
        index: NodeIndex,
        life: u64,
        asked: Timestamp,
        state: &LeaseState,
    ) {
        if !self.reaches_store(index) {
            return;
        }
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_life(life)) else {
            return;
        };
        let lease = match state {
            // An answer that is as old as this is worth nothing.
            LeaseState::Held { .. } if self.now.since(asked) >= LEASE_THIRD => {
                return;
            }
            LeaseState::Held { lease_epoch } => {
                node.renewed = Some(asked);
                Some(*lease_epoch)
            }
            LeaseState::HeldByOther { .. } => {
                node.renewed = None;
                None
            }
        };
        self.set_lease(index, lease);
    }

    /// A node takes its lease to be so: its loops begin with it.
    pub(super) fn set_lease(&mut self, index: NodeIndex, lease: Option<LeaseEpoch>) {
        let Some(node) = self.nodes.get_mut(index) else { return };
        if node.lease == lease {
            return;
        }
        node.lease = lease;
        self.note(|_| format!("node {index} acts under {lease:?}"));
        for which in Loop::ALL {
            self.wake_after(index, which, Milliseconds(0));
        }
    }
}

pub(super) fn instance_guid(chance: &mut Chance) -> InstanceGuid {
    InstanceGuid::new(&chance.uuid().to_string())
        .unwrap_or_else(|_| unreachable!("a uuid is a well-formed guid"))
}
