//! One container's whole story: asked for, made, run, reported, destroyed.
//!
//! One worker tells it from where the book says it stands, so it is the same story after an
//! agent's restart. A task's process is exec'd only after its start was accepted and recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::bbs::actual_lrp::NetInfo;
use domain::bbs::definition::Definition;
use domain::bbs::placement::Resources;
use domain::labels::Labels;
use domain::rep::{Ended, Evidence, Killed, Observed, Work, WorkKind, WorkReference};
use domain::sealed::{Digest, PlainText};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::book::{Entry, Stage, in_words};
use super::definitions::DefinitionByDigest;
use super::observer::InstanceSink;
use super::order;
use super::reporter::{Judgement, Refusal};
use super::session::Session;
use crate::executor::{
    Control, CreateError, Ending, Finished, Happened, Kill, Order, Stopped, redact,
};
use crate::garden::ContainerInfo;
use crate::retry::BackOff;

const CELL_SHUT_DOWN: &str = "the cell was shut down";

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Its assignment says so: it is reported gone.
    Asked,
    /// The control plane knows nothing of it any more: nothing is reported.
    Disowned,
    /// The cell ends, and takes its containers along.
    CellEnds,
}

impl StopReason {
    pub(super) fn after(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Disowned => Self::Disowned,
            Refusal::Untimely => Self::Asked,
        }
    }
}

/// How the worker of a container is told to end.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) control: Control,
    reason: Mutex<Option<StopReason>>,
    labels: Mutex<Labelled>,
}

/// What an instance is labelled with now.
#[derive(Debug, Default)]
struct Labelled {
    by: Option<Arc<Labels>>,
    tags: Arc<BTreeMap<String, String>>,
}

impl Orders {
    /// Stops the container, for the first reason given.
    pub(super) fn stop(&self, reason: StopReason) {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(reason);
        drop(known);
        if reason == StopReason::Disowned {
            self.control.give_up();
        }
        self.control.stop.cancel();
    }

    /// Labels what is observed of the instance from now on, without touching what runs.
    pub(super) fn label(&self, work: &Work) {
        let mut labelled = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if labelled.by == work.labels {
            return;
        }
        let WorkReference { kind, instance_guid, .. } = &work.reference;
        let tags = work.labels.as_ref().map(|it| it.tags_of(kind.index(), instance_guid));
        *labelled = Labelled { by: work.labels.clone(), tags: Arc::new(tags.unwrap_or_default()) };
    }

    /// The metric tags that hold now.
    pub(super) fn tags(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.labels.lock().unwrap_or_else(PoisonError::into_inner).tags)
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The story of one container.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) session: Arc<Session>,
    pub(super) orders: Arc<Orders>,
    pub(super) reference: WorkReference,
    pub(super) definition: Digest,
}

/// What a container leaves to be said when it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Closing {
    /// Its end was reported.
    Told,
    /// It was stopped.
    Stopped(Stopped),
}

/// Stopped before anything ran.
const STOPPED: Closing = Closing::Stopped(Stopped::Gracefully);

impl Instance {
    /// From the assignment to the end.
    pub(super) async fn start(self) {
        let stop = self.orders.control.stop.clone();
        let definition = tokio::select! {
            biased;
            () = stop.cancelled() => return self.close(Resources::default(), None, STOPPED).await,
            definition = self.session.definitions.get(self.definition) => definition,
        };
        let definition = match definition.and_then(|definition| self.suits(definition)) {
            Ok(definition) => definition,
            Err(reason) => return self.refuse(reason).await,
        };
        let resources = Resources {
            memory_mb: definition.memory_mb,
            disk_mb: definition.disk_mb,
            containers: 1,
        };
        let taken = tokio::select! {
            biased;
            () = stop.cancelled() => return self.close(resources, None, STOPPED).await,
            taken = self.session.room.take(&self.reference.instance_guid, resources) => taken,
        };
        if let Err(reason) = taken {
            return self.refuse(reason).await;
        }
        let recipe = Arc::new(order::recipe(&self.reference.kind, redact(&definition)));
        let entry = self.entry(resources, Stage::Creating, Some(Arc::clone(&recipe)));
        if let Err(error) = self.session.book.keep(entry.clone()).await {
            self.session.room.free(&self.reference.instance_guid);
            return self.refuse(in_words(&error)).await;
        }
        self.make_and_run(entry, self.order(recipe)).await;
    }

    /// From a container that runs already, of which the book tells.
    pub(super) async fn watch(&self, entry: Entry, order: Order, container: &ContainerInfo) {
        let (tell, mut told) = mpsc::channel(2);
        let mut entry = entry;
        let control = &self.orders.control;
        let mut run = Box::pin(self.session.executor.run(&order, container, control, &tell));
        let finished = loop {
            tokio::select! {
                biased;
                Some(happened) = told.recv() => self.report(&mut entry, happened).await,
                finished = &mut run => break finished,
            }
        };
        drop(run);
        while let Ok(happened) = told.try_recv() {
            self.report(&mut entry, happened).await;
        }
        let closing = match finished {
            Finished::Detached => return,
            Finished::Ended => Closing::Told,
            Finished::Stopped(how) => Closing::Stopped(how),
        };
        self.close(entry.resources, Some(order), closing).await;
    }

    /// Reports an end that was not watched, and removes what is left.
    pub(super) async fn fail(&self, entry: &Entry, reason: &str, evidence: Evidence) {
        let failure_reason = Some(reason.to_owned());
        let ending = Ending { failure_reason, exit: None, evidence, result: String::new() };
        self.report_ended(entry, ending).await;
        let order = entry.recipe.clone().map(|recipe| self.order(recipe));
        self.close(entry.resources, order, Closing::Told).await;
    }

    /// Removes what is left of a container whose end was reported.
    pub(super) async fn remove(&self, entry: &Entry) {
        let order = entry.recipe.clone().map(|recipe| self.order(recipe));
        self.close(entry.resources, order, Closing::Told).await;
    }

    pub(super) fn order(&self, recipe: Arc<Definition<crate::executor::Redacted>>) -> Order {
        let definition = DefinitionByDigest {
            definitions: Arc::clone(&self.session.definitions),
            digest: self.definition,
        };
        let observer = Arc::clone(&self.session.observer);
        let sink = InstanceSink::new(observer, &self.reference, Arc::clone(&self.orders));
        order::order(&self.reference, recipe, definition, sink)
    }

    fn suits(
        &self,
        definition: Arc<Definition<PlainText>>,
    ) -> Result<Arc<Definition<PlainText>>, String> {
        let name = definition.rootfs.preloaded_name();
        if name.is_some_and(|name| self.session.preloaded_rootfses.contains(name)) {
            return Ok(definition);
        }
        Err(format!("rootfs {} does not exist on this cell", definition.rootfs))
    }

    async fn make_and_run(&self, entry: Entry, order: Order) {
        match &self.reference.kind {
            WorkKind::Lrp(_) => {
                self.session.reporter.mention(&self.reference, Observed::Claimed).await;
            }
            WorkKind::Task(_) => {}
        }
        let stop = self.orders.control.stop.clone();
        let ready = tokio::select! {
            biased;
            () = stop.cancelled() => {
                return self.close(entry.resources, Some(order), STOPPED).await;
            }
            ready = self.session.executor.get_ready(&order) => ready,
        };
        let dependencies = match ready {
            Ok(dependencies) => dependencies,
            Err(error) => return self.not_created(&entry, error).await,
        };
        let container = {
            let _turn = self.session.creates.acquire().await;
            if self.orders.control.stop.is_cancelled() {
                return self.close(entry.resources, Some(order), STOPPED).await;
            }
            self.session.executor.create(&order, dependencies).await
        };
        let container = match container {
            Ok(container) => container,
            Err(error) => return self.not_created(&entry, error).await,
        };
        if !self.may_run().await {
            return self.close(entry.resources, Some(order), STOPPED).await;
        }
        let entry = Entry { stage: Stage::Started, ..entry };
        match &self.reference.kind {
            // What the book says of it is enough to take it up again.
            WorkKind::Lrp(_) => self.session.book.note(entry.clone()),
            // The started-record: nothing runs before it is on the disk.
            WorkKind::Task(_) => {
                if let Err(error) = self.session.book.keep(entry.clone()).await {
                    return self.fail(&entry, &in_words(&error), Evidence::default()).await;
                }
            }
        }
        self.watch(entry, order, &container).await;
    }

    /// Nothing of a container is there: refused if another cell might do better, else failed.
    async fn not_created(&self, entry: &Entry, error: CreateError) {
        match error {
            CreateError::Unsuitable { reason } => {
                self.session.room.free(&self.reference.instance_guid);
                self.refuse(reason).await;
            }
            CreateError::Failed { .. } | CreateError::Dependencies => {
                self.fail(entry, &error.to_string(), Evidence::default()).await;
            }
        }
    }

    /// An LRP may run where it was placed; a task asks.
    async fn may_run(&self) -> bool {
        match &self.reference.kind {
            WorkKind::Lrp(_) => !self.orders.control.stop.is_cancelled(),
            WorkKind::Task(_) => tokio::select! {
                biased;
                () = self.orders.control.stop.cancelled() => false,
                judgement = self.session.reporter.ask(&self.reference, Observed::MayStart) => {
                    match judgement {
                        Judgement::Accepted => true,
                        Judgement::Refused(refusal) => {
                            self.orders.stop(StopReason::after(refusal));
                            false
                        }
                    }
                }
            },
        }
    }

    async fn report(&self, entry: &mut Entry, happened: Happened) {
        match happened {
            Happened::Healthy { address, is_ready } => {
                let WorkKind::Lrp(_) = &self.reference.kind else { return };
                if entry.stage == Stage::Healthy {
                    return;
                }
                let ports =
                    entry.recipe.as_ref().map_or_else(Vec::new, |recipe| recipe.ports.clone());
                let net_info = NetInfo { instance_address: address, ports };
                self.say(Observed::Healthy { net_info, is_ready }).await;
                entry.stage = Stage::Healthy;
                self.keep(entry.clone()).await;
            }
            Happened::Readiness(is_ready) => {
                let WorkKind::Lrp(_) = &self.reference.kind else { return };
                self.say(Observed::Readiness(is_ready)).await;
            }
            Happened::Ended(ending) => {
                self.session.room.leaves(&self.reference.instance_guid);
                self.report_ended(entry, *ending).await;
                entry.stage = Stage::Ended;
            }
        }
    }

    /// First the report is kept, then the book: a death in between reports twice, never not at
    /// all.
    async fn report_ended(&self, entry: &Entry, ending: Ending) {
        let Ending { failure_reason, exit, evidence, result } = ending;
        if self.orders.reason() != Some(StopReason::Disowned) {
            let ended = Ended { failure_reason, exit, evidence, result };
            self.say(Observed::Ended(Box::new(ended))).await;
        }
        self.keep(Entry { stage: Stage::Ended, ..entry.clone() }).await;
        self.session.changed.notify_one();
    }

    async fn refuse(&self, reason: String) {
        tracing::info!(instance_guid = %self.reference.instance_guid, reason, "Refused work.");
        if self.orders.reason() != Some(StopReason::Disowned) {
            self.say(Observed::Refused(reason)).await;
        }
        self.keep(self.entry(Resources::default(), Stage::Ended, None)).await;
    }

    /// Destroys the container if there may be one, frees its room, and says what is to be said.
    async fn close(&self, resources: Resources, order: Option<Order>, closing: Closing) {
        self.session.room.leaves(&self.reference.instance_guid);
        let recipe = order.as_ref().map(|order| Arc::clone(&order.recipe));
        if let Some(order) = &order {
            self.destroy(order).await;
        }
        self.session.room.free(&self.reference.instance_guid);
        if let Closing::Stopped(how) = closing {
            match (self.orders.reason(), &self.reference.kind) {
                (Some(StopReason::Disowned), _) => {}
                (Some(StopReason::CellEnds), WorkKind::Task(_)) => {
                    let failure_reason = Some(CELL_SHUT_DOWN.to_owned());
                    let evidence = Evidence::default();
                    let (exit, result) = (None, String::new());
                    let ended = Ended { failure_reason, exit, evidence, result };
                    self.say(Observed::Ended(Box::new(ended))).await;
                }
                (Some(StopReason::CellEnds | StopReason::Asked) | None, _) => {
                    self.say(match how {
                        Stopped::Gracefully => Observed::Gone,
                        Stopped::Killed(kill) => {
                            let Kill { grace, evidence } = *kill;
                            Observed::Killed(Box::new(Killed { grace, evidence }))
                        }
                    })
                    .await;
                }
            }
        }
        let known = self.session.book.get(&self.reference.instance_guid);
        if known.is_none_or(|entry| entry.stage != Stage::Ended) {
            self.keep(self.entry(resources, Stage::Ended, recipe)).await;
        }
    }

    /// Tries until nothing is left of the container.
    async fn destroy(&self, order: &Order) {
        let _turn = self.session.destroys.acquire().await;
        let mut back_off = BackOff::new(Duration::from_millis(200), Duration::from_secs(30));
        let out = domain::observation::OutputStream::Out;
        self.session.executor.say(order, out, "destroying container for instance");
        while let Err(error) = self.session.executor.destroy(&order.handle).await {
            tracing::warn!(handle = %order.handle, %error,
                "Cannot destroy a container; trying again.");
            sleep(back_off.pause()).await;
        }
        self.session.executor.say(order, out, "successfully destroyed container for instance");
    }

    async fn say(&self, observed: Observed) {
        self.session.reporter.say(&self.reference, observed).await;
    }

    /// What cannot be kept is noted in memory: after a restart it is told again.
    async fn keep(&self, entry: Entry) {
        if let Err(error) = self.session.book.keep(entry.clone()).await {
            tracing::error!(%error, cause = %error.source, "Cannot keep the book.");
            self.session.book.note(entry);
        }
    }

    fn entry(
        &self,
        resources: Resources,
        stage: Stage,
        recipe: Option<Arc<Definition<crate::executor::Redacted>>>,
    ) -> Entry {
        Entry {
            reference: self.reference.clone(),
            definition: self.definition,
            resources,
            stage,
            recipe,
        }
    }
}
