//! The command bus: the only writer of the log.
//!
//! Commands that wait together are decided one after another in memory and committed as one batch;
//! callers are answered only when it is durable. After an unknown outcome nothing is decided until
//! the batch was looked up by its id.

mod batch;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use domain::{
    command::Envelope,
    log::{ActorKind, LeaseEpoch, Position},
    rejection::Rejection,
};
use projections::{
    event_store::{self, AppendError, Batch, BatchId, EventStore, Refusal},
    worker,
    world::World,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span, error, field, info, trace_span, warn};

pub use batch::{Accepted, Decider, Outcome, Tentative};

use crate::{
    clock::{self, Clock},
    telemetry::{self, SPANS, commands::Kinds},
};

/// How many requests may wait; beyond that callers are told to come again.
const WAITING_MAX: usize = 4096;
/// How many requests are decided together.
const GATHER_MAX: usize = 1000;
/// The pause before the log is asked again after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const READ_PAGE: usize = 1000;

/// Why a command has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was judged, and refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Too many commands wait; nothing was decided.
    #[error("too many commands wait; try again in a second")]
    Busy,
    /// The log could not be written; nothing was changed.
    #[error("the log could not be written: {reason}; try again")]
    Unavailable {
        /// What the store said.
        reason: String,
    },
    /// The control plane is going down; nothing was decided.
    #[error("the control plane is going down")]
    Closed,
}

/// A handle to the bus.
#[derive(Debug, Clone)]
pub struct CommandBus {
    requests: mpsc::Sender<Request>,
    lease_epoch: LeaseEpoch,
    failure: Arc<OnceLock<String>>,
}

#[derive(Debug)]
struct Request {
    envelopes: Vec<Envelope>,
    /// Of its sender's trace.
    span: Span,
    answer: oneshot::Sender<Result<Vec<Outcome>, Unavailable>>,
}

#[derive(Debug, Clone)]
struct Unavailable(String);

/// Why a batch was not written.
#[derive(Debug)]
enum Failure {
    /// The log could not be read or written.
    Unavailable(Unavailable),
    /// The store refuses this batch, of the first so many commands, and takes others.
    Refused { refusal: Refusal, commands: usize },
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl CommandBus {
    /// Starts the bus on a world that was folded to the log's head.
    #[must_use]
    pub fn start(
        store: Arc<dyn EventStore>,
        world: &World,
        clock: Arc<Clock>,
        lease_epoch: LeaseEpoch,
    ) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let head =
            domain::log::Stamp { position: world.position(), recorded_at: world.recorded_at() };
        let decider = Decider::new(world.aggregates().clone(), head, Some(lease_epoch));
        let carried = VecDeque::new();
        let failure = Arc::default();
        let writer = Writer {
            store,
            decider,
            clock,
            waiting,
            carried,
            is_closed: false,
            failure: Arc::clone(&failure),
        };
        drop(worker::spawn("command bus", writer.run()));
        Self { requests, lease_epoch, failure }
    }

    /// The lease under which this node's loops act.
    #[must_use]
    pub fn lease_epoch(&self) -> LeaseEpoch {
        self.lease_epoch
    }

    /// Waits until the bus has ended: it panicked, or its store is closed. Nothing can be changed
    /// by this node any more.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// Why the bus has ended, when it was for what the log holds: an event of a newer version,
    /// past which this program must not decide anything.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Submits one command and waits until what it caused is durable.
    ///
    /// # Errors
    /// Its rejection, or why it was not judged. Nothing has changed then.
    pub async fn submit(&self, envelope: Envelope) -> Result<Accepted, Error> {
        let mut outcomes = self.submit_all(vec![envelope]).await?;
        match outcomes.pop() {
            Some(outcome) => Ok(outcome?),
            None => Err(Error::Closed),
        }
    }

    /// Submits commands to be decided in order, and waits until what they caused is durable.
    ///
    /// # Errors
    /// Why none of them was judged, or not all of them: then an unknown first part was accepted,
    /// and submitting them again with the same ids is safe.
    pub async fn submit_all(&self, envelopes: Vec<Envelope>) -> Result<Vec<Outcome>, Error> {
        if envelopes.is_empty() {
            return Ok(Vec::new());
        }
        let kinds = Kinds::of(envelopes.iter().map(|envelope| &envelope.command));
        let span = trace_span!(
            target: SPANS,
            "bus.submit",
            diario.command = kinds.first(),
            diario.commands = telemetry::count_attribute(kinds.count()),
            diario.position = field::Empty,
        );
        let result = self.judge_all(envelopes, span.clone()).instrument(span.clone()).await;
        kinds.count_outcomes(&result);
        let accepted = result.iter().flatten().rev().find_map(|outcome| outcome.as_ref().ok());
        if let Some(accepted) = accepted {
            span.record("diario.position", telemetry::position_attribute(accepted.position));
        }
        result
    }

    async fn judge_all(&self, envelopes: Vec<Envelope>, span: Span) -> Result<Vec<Outcome>, Error> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request { envelopes, span, answer }).map_err(
            |refused| match refused {
                mpsc::error::TrySendError::Full(_) => Error::Busy,
                mpsc::error::TrySendError::Closed(_) => Error::Closed,
            },
        )?;
        answered
            .await
            .map_err(|_| Error::Closed)?
            .map_err(|Unavailable(reason)| Error::Unavailable { reason })
    }
}

/// The one task that decides and appends.
#[derive(Debug)]
struct Writer {
    store: Arc<dyn EventStore>,
    decider: Decider,
    clock: Arc<Clock>,
    waiting: mpsc::Receiver<Request>,
    carried: VecDeque<Request>,
    /// Nothing can be written any more: the store is closed, or the log holds what this program
    /// cannot read.
    is_closed: bool,
    /// What the log holds that this program cannot read.
    failure: Arc<OnceLock<String>>,
}

impl Writer {
    async fn run(mut self) {
        let mut gathered = Vec::new();
        loop {
            if self.waiting.recv_many(&mut gathered, GATHER_MAX).await == 0 {
                return;
            }
            self.carried.extend(gathered.drain(..));
            while let Some(request) = self.carried.pop_front() {
                self.carried.push_front(request);
                self.serve_some().await;
                if self.is_closed {
                    error!("The log can be written no more; the command bus ends.");
                    return;
                }
                while self.carried.len() < GATHER_MAX {
                    match self.waiting.try_recv() {
                        Ok(request) => self.carried.push_back(request),
                        Err(_) => break,
                    }
                }
            }
        }
    }

    /// Decides and commits one batch: whole requests, as many as wait.
    async fn serve_some(&mut self) {
        let requests: Vec<Request> = self.carried.drain(..).collect();
        let envelopes: Vec<Envelope> =
            requests.iter().flat_map(|request| request.envelopes.iter().cloned()).collect();
        let span = batch_span(&requests, envelopes.len());
        let mut outcomes = self.commit_all(&envelopes).instrument(span).await.into_iter();
        for request in requests {
            let mine = outcomes.by_ref().take(request.envelopes.len()).collect();
            // A caller that went away is not told; what it asked for is durable all the same.
            drop(request.answer.send(mine));
        }
    }

    /// One answer for each command. Those of a batch that the store refuses are committed one by
    /// one, so that only the culprit fails.
    async fn commit_all(&mut self, envelopes: &[Envelope]) -> Vec<Result<Outcome, Unavailable>> {
        let mut outcomes = Vec::with_capacity(envelopes.len());
        let mut alone_until = 0;
        while let Some(rest) = envelopes.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            let is_alone = outcomes.len() < alone_until;
            let some = if is_alone { rest.get(..1).unwrap_or(rest) } else { rest };
            match self.commit_some(some).await {
                Ok(some) => outcomes.extend(some.into_iter().map(Ok)),
                Err(Failure::Refused { refusal, commands }) if commands <= 1 => {
                    outcomes.push(Err(Unavailable(refusal.to_string())));
                }
                Err(Failure::Refused { commands, .. }) => alone_until = outcomes.len() + commands,
                Err(Failure::Unavailable(unavailable)) => {
                    outcomes.resize_with(envelopes.len(), || Err(unavailable.clone()));
                }
            }
        }
        outcomes
    }

    /// Decides a first part of the commands and commits it; on a moved head it folds what another
    /// node wrote and decides anew.
    async fn commit_some(&mut self, envelopes: &[Envelope]) -> Result<Vec<Outcome>, Failure> {
        self.look_up_old_commands(envelopes).await?;
        loop {
            let tentative = trace_span!(target: SPANS, "bus.decide")
                .in_scope(|| self.decider.decide(envelopes, self.clock.now()));
            if tentative.events.is_empty() {
                return Ok(tentative.outcomes);
            }
            let batch = Batch {
                id: BatchId(clock::new_uuid()),
                decided_on: tentative.decided_on,
                recorded_at: tentative.recorded_at,
                lease: tentative.lease,
                events: tentative.events.clone(),
            };
            let append = self.store.append(batch);
            match telemetry::append::observed(tentative.events.len(), append).await {
                Ok(_) => return Ok(tentative.outcomes),
                Err(AppendError::HeadMoved { .. }) => {
                    info!("Another node wrote first; deciding anew.");
                    self.decider.undo(tentative);
                    self.catch_up().await?;
                    // The other node may have taken one of these very commands.
                    self.look_up_old_commands(envelopes).await?;
                }
                Err(AppendError::LeasePassed { lease_epoch }) => {
                    info!(lease_epoch = lease_epoch.0, "The lease has passed; deciding anew.");
                    self.decider.undo(tentative);
                    self.decider.set_lease(None);
                }
                Err(AppendError::OutcomeUnknown { batch }) => {
                    if self.was_written(batch).await {
                        return Ok(tentative.outcomes);
                    }
                    self.decider.undo(tentative);
                }
                Err(AppendError::Refused(refusal)) => {
                    let commands = tentative.outcomes.len();
                    error!(%refusal, commands, "The log refused a batch, which is a defect.");
                    self.decider.undo(tentative);
                    return Err(Failure::Refused { refusal, commands });
                }
                Err(AppendError::Failed(failure)) => {
                    error!(error = %failure, "The log could not be written.");
                    self.decider.undo(tentative);
                    return Err(self.unavailable(&failure).into());
                }
            }
        }
    }

    /// A user's command that is not in memory may be in the log.
    async fn look_up_old_commands(&mut self, envelopes: &[Envelope]) -> Result<(), Unavailable> {
        for envelope in envelopes {
            let is_user = envelope.actor.kind == ActorKind::User;
            if !is_user || self.decider.remembers(&envelope.command_id) {
                continue;
            }
            match self.store.find_command(&envelope.command_id).await {
                Ok(Some(events)) => self.decider.remember(envelope, &events),
                Ok(None) => {}
                Err(failure) => return Err(Unavailable(failure.to_string())),
            }
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), Unavailable> {
        loop {
            let after: Position = self.decider.head().position;
            let page = self
                .store
                .read_all(after, READ_PAGE)
                .await
                .map_err(|failure| self.unavailable(&failure))?;
            if page.is_empty() {
                return Ok(());
            }
            for recorded in &page {
                self.decider.apply(recorded);
            }
        }
    }

    /// What a caller is told of a failure. Nothing is decided any more once the log was closed, or
    /// behind an event that this program cannot read.
    fn unavailable(&mut self, failure: &event_store::Error) -> Unavailable {
        if matches!(failure, event_store::Error::Closed) {
            self.is_closed = true;
        }
        if !failure.is_unreadable() {
            return Unavailable(failure.to_string());
        }
        self.is_closed = true;
        let reason = self.failure.get_or_init(|| failure.with_cause());
        Unavailable(reason.clone())
    }

    /// Nothing is decided until the store says what became of the batch.
    async fn was_written(&self, id: BatchId) -> bool {
        loop {
            match self.store.find_batch(id).await {
                Ok(found) => return found.is_some(),
                Err(failure) => {
                    warn!(batch = %id, error = %failure, "The batch's outcome is still unknown.");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// The span of what requests are decided and committed together. It is a part of the first one's
/// trace, and linked with the others.
fn batch_span(requests: &[Request], commands: usize) -> Span {
    let mut spans = requests.iter().map(|request| &request.span);
    let first = spans.next().and_then(Span::id);
    let span = trace_span!(
        target: SPANS,
        parent: first,
        "bus.batch",
        diario.commands = telemetry::count_attribute(commands),
    );
    if !span.is_disabled() {
        for other in spans {
            span.follows_from(other);
        }
    }
    span
}
