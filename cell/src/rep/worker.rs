//! Carries out the plan: one worker for each container that something is done to, never two.
//!
//! Looks again whenever the assignment or a container changed. Decides nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::bbs::placement::Resources;
use domain::id::InstanceGuid;
use domain::rep::{
    self, Assignment, Held, Observed, Operation, Phase, Wanted, Work, WorkReference,
};
use tokio::time::timeout;

use super::adoption::{self, Found};
use super::book::{Entry, Stage};
use super::instance::{Instance, Orders, StopReason};
use super::reporter::Refusal;
use super::session::Session;
use crate::supervise::{self, Worker as Supervised};

/// Everything that is being done to containers.
#[derive(Debug)]
pub(super) struct Worker {
    session: Arc<Session>,
    active: BTreeMap<InstanceGuid, Active>,
    /// What was reported gone without ever having been here.
    told_gone: BTreeSet<InstanceGuid>,
}

#[derive(Debug)]
struct Active {
    orders: Arc<Orders>,
    is_done: Arc<AtomicBool>,
    worker: Supervised,
}

/// Tells that a worker is done, however it ended.
struct Done(Arc<AtomicBool>, Arc<Session>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.changed.notify_one();
    }
}

impl Worker {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session, active: BTreeMap::new(), told_gone: BTreeSet::new() }
    }

    /// Goes on with what an earlier agent left.
    pub(super) fn adopt(&mut self, found: Found) {
        let instance = self.instance(&found.entry.reference, found.entry.definition);
        let orders = Arc::clone(&instance.orders);
        let guid = found.entry.reference.instance_guid.clone();
        self.spawn(guid, orders, adoption::adopt(instance, found));
    }

    /// Carries out the plan for an assignment.
    pub(super) async fn work(&mut self, assignment: &Assignment) {
        self.active.retain(|_, active| !active.is_done.load(Ordering::Acquire));
        self.forget_definitions(assignment);
        let assigned: BTreeSet<_> =
            assignment.work.iter().map(|work| &work.reference.instance_guid).collect();
        self.told_gone.retain(|guid| assigned.contains(guid));
        for operation in rep::plan(&assignment.work, &self.held()) {
            match operation {
                Operation::Start(work) => self.start(work),
                Operation::Stop(reference) => {
                    let guid = &reference.instance_guid;
                    if let Some(active) = self.active.get(guid).filter(|_| !assigned.contains(guid))
                    {
                        // Replaced while this cell was lost: nothing is reserved for it.
                        active.orders.control.give_up();
                    }
                    self.stop(&reference, StopReason::Asked);
                }
                Operation::ReportGone(reference) => self.report_gone(reference).await,
                Operation::Forget(reference) => self.forget(&reference).await,
            }
        }
        // What is to be stopped keeps the labels that it had.
        for work in assignment.work.iter().filter(|work| work.wanted == Wanted::Run) {
            if let Some(active) = self.active.get(&work.reference.instance_guid) {
                active.orders.label(work);
            }
        }
    }

    /// Stops what the control plane refused to hear of.
    pub(super) fn refused(&mut self, reference: &WorkReference, refusal: Refusal) {
        let held = self.session.book.get(&reference.instance_guid);
        if held.is_none_or(|entry| entry.stage == Stage::Ended) {
            return;
        }
        self.stop(reference, StopReason::after(refusal));
    }

    /// Leaves everything running, once its place in the output is kept.
    pub(super) async fn detach(self, wait_max: Duration) {
        for active in self.active.values() {
            active.orders.control.detach.cancel();
        }
        // Whoever waits for something else is dropped: the book knows where it stood.
        drop(timeout(wait_max, self.ended()).await);
    }

    /// Stops and destroys everything.
    pub(super) async fn destroy_all(mut self, wait_max: Duration) {
        for entry in self.session.book.entries() {
            if entry.stage != Stage::Ended {
                self.stop(&entry.reference, StopReason::CellEnds);
            }
        }
        if timeout(wait_max, self.ended()).await.is_err() {
            tracing::warn!("Not every container was destroyed in time.");
        }
    }

    async fn ended(mut self) {
        for active in self.active.values_mut() {
            active.worker.ended().await;
        }
    }

    fn held(&self) -> Vec<Held> {
        let phase = |entry: &Entry| {
            let active = self.active.get(&entry.reference.instance_guid);
            match (entry.stage, active) {
                (Stage::Ended, _) => Phase::Ended,
                (Stage::Creating | Stage::Started | Stage::Healthy, Some(active))
                    if active.orders.control.stop.is_cancelled() =>
                {
                    Phase::Stopping
                }
                (Stage::Creating | Stage::Started | Stage::Healthy, _) => Phase::Alive,
            }
        };
        let entries = self.session.book.entries();
        let held = |entry: Entry| Held { phase: phase(&entry), reference: entry.reference };
        entries.into_iter().map(held).collect()
    }

    fn start(&mut self, work: Work) {
        let guid = work.reference.instance_guid.clone();
        if self.active.contains_key(&guid) {
            return;
        }
        // In memory only: until there is something to lose, a restart begins anew.
        self.session.book.note(Entry {
            reference: work.reference.clone(),
            definition: work.definition,
            resources: Resources::default(),
            stage: Stage::Creating,
            recipe: None,
        });
        let instance = self.instance(&work.reference, work.definition);
        instance.orders.label(&work);
        let orders = Arc::clone(&instance.orders);
        self.spawn(guid, orders, instance.start());
    }

    fn stop(&mut self, reference: &WorkReference, reason: StopReason) {
        let guid = &reference.instance_guid;
        self.session.room.leaves(guid);
        if let Some(active) = self.active.get(guid) {
            return active.orders.stop(reason);
        }
        // Its worker is gone (it panicked): what is left is removed all the same.
        let Some(entry) = self.session.book.get(guid) else { return };
        let instance = self.instance(reference, entry.definition);
        instance.orders.stop(reason);
        let orders = Arc::clone(&instance.orders);
        self.spawn(guid.clone(), orders, async move { instance.remove(&entry).await });
    }

    async fn report_gone(&mut self, reference: WorkReference) {
        if self.told_gone.insert(reference.instance_guid.clone()) {
            self.session.reporter.say(&reference, Observed::Gone).await;
        }
    }

    async fn forget(&mut self, reference: &WorkReference) {
        if self.active.contains_key(&reference.instance_guid) {
            return;
        }
        if let Err(error) = self.session.book.remove(&reference.instance_guid).await {
            tracing::warn!(%error, cause = %error.source, "Cannot strike out a container.");
        }
    }

    fn forget_definitions(&self, assignment: &Assignment) {
        let held = self.session.book.entries();
        let wanted = assignment.work.iter().map(|work| work.definition);
        let wanted = wanted.chain(held.iter().map(|entry| entry.definition)).collect();
        self.session.definitions.keep_only(&wanted);
    }

    fn instance(&self, reference: &WorkReference, definition: domain::sealed::Digest) -> Instance {
        Instance {
            session: Arc::clone(&self.session),
            orders: Arc::default(),
            reference: reference.clone(),
            definition,
        }
    }

    fn spawn(
        &mut self,
        guid: InstanceGuid,
        orders: Arc<Orders>,
        story: impl Future<Output = ()> + Send + 'static,
    ) {
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Done(Arc::clone(&is_done), Arc::clone(&self.session));
        let worker = supervise::spawn("instance", async move {
            let _done = done;
            story.await;
        });
        self.active.insert(guid, Active { orders, is_done, worker });
    }
}
