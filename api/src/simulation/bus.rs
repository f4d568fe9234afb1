//! The nodes' command buses in a simulation: what comes is decided in memory, travels to the store
//! as a batch, and is answered when the store has said what became of it. What comes meanwhile is
//! decided on top of it.
//!
//! As the real bus does where nobody else writes at the time; one that was refused waits for its
//! turn first, which leaves fewer ways for things to happen.

use std::collections::VecDeque;

use domain::{command::Envelope, log::ActorKind};
use projections::event_store::{Batch, BatchId};

use super::{
    cluster::{Cluster, Happening},
    message::Reply,
    network::{Cut, Way},
    node::{InFlight, NodeIndex, Pending},
    store::Told,
    witness::Violation,
};
use crate::command_bus::Outcome;

/// How long a connection that was cut off goes unnoticed.
const UNNOTICED_MAX: u64 = 3000;
/// How often a store that does not answer is asked again what became of a batch.
const LOOK_UP_PAUSE: u64 = 200;
/// How late an append may arrive.
const LATE_MAX: u64 = 10_000;

/// The log could not be written, as far as the caller knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unavailable;

/// What commands came to.
pub(super) type Outcomes = Result<Vec<Outcome>, Unavailable>;

impl Cluster {
    /// Commands reach a node's bus.
    pub(super) fn submit(
        &mut self,
        node: NodeIndex,
        envelopes: Vec<Envelope>,
        reply: Reply,
    ) -> Result<(), Violation> {
        let Some(found) = self.nodes.get_mut(node) else { return Ok(()) };
        // It may be in the log already, and in no memory any more.
        if envelopes.iter().any(|envelope| envelope.actor.kind == ActorKind::User) {
            if found.store_cut.is_some() {
                return self.reply(node, envelopes, reply, Err(Unavailable));
            }
            found.look_up(&envelopes, &self.store.log);
        }
        found.queue.push_back(Pending { envelopes, outcomes: Vec::new(), reply });
        self.serve(node)
    }

    /// Decides what waits, and sends it to the store unless a batch is under way.
    fn serve(&mut self, index: NodeIndex) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_up) else {
            return Ok(());
        };
        let clock = node.clock(self.now);
        node.decide(clock);
        if node.in_flight.is_some() {
            return Ok(());
        }
        let Some(mut tentative) = node.next.take() else { return Ok(()) };
        let batch = Batch {
            id: BatchId(self.chance.uuid()),
            decided_on: tentative.decided_on,
            recorded_at: tentative.recorded_at,
            lease: tentative.lease,
            events: std::mem::take(&mut tentative.events),
        };
        let (id, life) = (batch.id, node.life);
        node.in_flight = Some(InFlight { batch: id, tentative, is_unsure: false });
        match self.way_to_store(index) {
            Way::Lost => self.look_up_later(index, life, id, UNNOTICED_MAX),
            way @ Way::Late => {
                self.look_up_later(index, life, id, UNNOTICED_MAX);
                let span = self.chance.span(0, LATE_MAX);
                self.after(span, Happening::Append { node: index, life, batch, way });
            }
            way @ (Way::Open | Way::Refused | Way::Unanswered) => {
                let span = self.store_delay();
                self.after(span, Happening::Append { node: index, life, batch, way });
            }
        }
        Ok(())
    }

    /// A batch arrives at the store, whether the node that sent it still lives or not.
    pub(super) fn append_arrives(
        &mut self,
        index: NodeIndex,
        life: u64,
        batch: Batch,
        way: Way,
    ) -> Result<(), Violation> {
        let id = batch.id;
        let cut = self.nodes.get(index).and_then(|node| node.store_cut);
        if way != Way::Late && cut.is_some_and(Cut::stops_sending) {
            self.look_up_later(index, life, id, UNNOTICED_MAX);
            return Ok(());
        }
        let before = self.store.world.position();
        let told = match way {
            Way::Refused => Told::Failed,
            Way::Open | Way::Unanswered | Way::Late | Way::Lost => self.store.append(batch)?,
        };
        self.count(self.store.world.position().0 - before.0);
        if self.store.world.position() != before {
            self.check_evacuated(before)?;
            self.notify();
        }
        match way {
            Way::Late | Way::Lost => {}
            Way::Unanswered => self.look_up_later(index, life, id, UNNOTICED_MAX),
            Way::Open | Way::Refused => {
                let span = self.store_delay();
                self.after(span, Happening::Appended { node: index, life, batch: id, told });
            }
        }
        Ok(())
    }

    /// The store's answer arrives at the node.
    pub(super) fn append_answered(
        &mut self,
        index: NodeIndex,
        life: u64,
        id: BatchId,
        told: Told,
    ) -> Result<(), Violation> {
        let cut = self.nodes.get(index).and_then(|node| node.store_cut);
        if cut.is_some_and(Cut::stops_hearing) {
            self.look_up_later(index, life, id, UNNOTICED_MAX);
            return Ok(());
        }
        self.judge(index, life, id, told)
    }

    fn look_up_later(&mut self, node: NodeIndex, life: u64, batch: BatchId, latest: u64) {
        let span = self.chance.span(LOOK_UP_PAUSE / 2, latest);
        self.after(span, Happening::LookUp { node, life, batch });
    }

    /// A node that heard nothing asks what became of its batch. Nothing is decided on top of it any
    /// more.
    pub(super) fn look_up(
        &mut self,
        index: NodeIndex,
        life: u64,
        id: BatchId,
    ) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_life(life)) else {
            return Ok(());
        };
        let Some(in_flight) = node.in_flight.as_mut().filter(|it| it.batch == id) else {
            return Ok(());
        };
        in_flight.is_unsure = true;
        node.undo_next();
        if !self.reaches_store(index) {
            self.look_up_later(index, life, id, LOOK_UP_PAUSE);
            return self.refuse_undecided(index);
        }
        let is_written = self.store.has_batch(id);
        self.judge(index, life, id, if is_written { Told::Written } else { Told::HeadMoved })
    }

    /// Who came behind a batch whose outcome is unknown is told that the log does not answer.
    fn refuse_undecided(&mut self, index: NodeIndex) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let decided = node.decided();
        let mut commands = 0;
        let is_decided = |pending: &Pending| {
            let is_decided = commands < decided;
            commands += pending.envelopes.len() - pending.outcomes.len();
            is_decided
        };
        let queue = std::mem::take(&mut node.queue);
        let (kept, refused): (VecDeque<_>, VecDeque<_>) = queue.into_iter().partition(is_decided);
        node.queue = kept;
        refused
            .into_iter()
            .try_for_each(|it| self.reply(index, it.envelopes, it.reply, Err(Unavailable)))
    }

    /// What became of a batch is known.
    fn judge(
        &mut self,
        index: NodeIndex,
        life: u64,
        id: BatchId,
        told: Told,
    ) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_life(life)) else {
            return Ok(());
        };
        let Some(InFlight { tentative, .. }) = node.in_flight.take_if(|it| it.batch == id) else {
            return Ok(());
        };
        let answered: Vec<(Pending, bool)> = match told {
            Told::Written => {
                node.settle(tentative.outcomes).into_iter().map(|it| (it, true)).collect()
            }
            Told::HeadMoved => {
                node.undo(tentative, &self.store)?;
                if node.store_cut.is_none() {
                    node.catch_up(&self.store.log);
                }
                Vec::new()
            }
            Told::LeasePassed(lease_epoch) => {
                node.undo(tentative, &self.store)?;
                if node.lease == Some(lease_epoch) {
                    node.lease = None;
                }
                Vec::new()
            }
            Told::Failed => {
                let commands = tentative.outcomes.len();
                node.undo(tentative, &self.store)?;
                node.refuse(commands).into_iter().map(|it| (it, false)).collect()
            }
        };
        for (Pending { envelopes, outcomes, reply }, is_judged) in answered {
            let outcomes = if is_judged { Ok(outcomes) } else { Err(Unavailable) };
            self.reply(index, envelopes, reply, outcomes)?;
        }
        self.serve(index)
    }

    /// Whoever asked goes on.
    pub(super) fn reply(
        &mut self,
        node: NodeIndex,
        envelopes: Vec<Envelope>,
        reply: Reply,
        outcomes: Outcomes,
    ) -> Result<(), Violation> {
        match reply {
            Reply::User(asked) => self.user_hears(&asked, &outcomes),
            Reply::Loop { which, seen } => {
                self.loop_hears(node, which, seen, &envelopes, &outcomes);
                Ok(())
            }
            Reply::Calls { envelope, tries } => {
                self.calls_noted(node, envelope, tries, &outcomes);
                Ok(())
            }
            Reply::Cell { caller, then } => self.cell_goes_on(node, caller, then, outcomes),
        }
    }

    /// All nodes are told that the log has moved; who is cut off, or loses this, looks each second.
    fn notify(&mut self) {
        for node in 0..self.nodes.len() {
            let span = self.chance.span(0, 20);
            if self.is_calm || !self.chance.per_mille(20) {
                self.after(span, Happening::Follow { node });
            }
        }
    }

    /// A node looks what was committed.
    pub(super) fn follow(&mut self, index: NodeIndex) -> Result<(), Violation> {
        if !self.reaches_store(index) {
            return Ok(());
        }
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        if node.follow(&self.store.log) {
            node.check(&self.store)?;
            self.world_moved(index);
        }
        Ok(())
    }
}
