//! The command bus: the only writer of the log.
//!
//! Commands that wait together are decided one after another in memory and committed as one batch;
//! callers are answered only when it is durable. After an unknown outcome nothing is decided until
//! the batch was looked up by its id.
//!
//! - `batch`: deciding in memory; `lookup`: commands that the log may know already
//! - `writer`: the one task that decides and appends; `pace`: how long it waits for others

mod batch;
mod lookup;
mod pace;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use domain::{
    command::Envelope,
    event::Event,
    log::{LeaseEpoch, Recorded},
    rejection::Rejection,
};
use projections::{event_store::EventStore, worker, world::World};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{Instrument as _, Span, field, trace_span};

pub use batch::{Accepted, Decider, Outcome, Tentative};

use crate::{
    clock::Clock,
    lease::Lease,
    telemetry::{self, SPANS, commands::Kinds},
};

/// How many requests may wait for the writer, and as many to be looked for in the log; beyond that
/// callers are told to come again.
const WAITING_MAX: usize = 4096;
/// How many requests are decided together.
const GATHER_MAX: usize = 1000;
/// How long a caller waits for what became of its commands.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);

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
    #[error("nothing was changed, try again: the log could not be written ({reason})")]
    Unavailable {
        /// What the store said.
        reason: String,
    },
    /// The log has not answered in time: the command may have been written, or may be yet.
    #[error(
        "written or not is not known yet; ask again with the same command id: it is done once at most"
    )]
    OutcomeUnknown,
    /// The control plane is going down; nothing was decided.
    #[error("the control plane is going down: nothing was changed; try again, or ask another node")]
    Closed,
}

/// Whether others write the log too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Only this process.
    This,
    /// Other nodes too.
    Several,
}

/// A handle to the bus.
#[derive(Debug, Clone)]
pub struct CommandBus {
    /// To be looked for in the log first.
    to_look_up: mpsc::Sender<Request>,
    requests: mpsc::Sender<Request>,
    lease: Lease,
    failure: Arc<OnceLock<String>>,
}

#[derive(Debug)]
struct Request {
    envelopes: Vec<Envelope>,
    /// Of its sender's trace.
    span: Span,
    /// What the log holds of its commands.
    known: Vec<(Envelope, Vec<Recorded<Event>>)>,
    answer: oneshot::Sender<Answer>,
}

impl Request {
    /// Tells its sender why none of it is judged. One that went away is not told.
    fn refuse(self, reason: &NotJudged) {
        drop(self.answer.send(Err(reason.clone())));
    }
}

/// What became of a request: of each of its commands, or why not of all.
type Answer = Result<Vec<Outcome>, NotJudged>;

#[derive(Debug, Clone)]
enum NotJudged {
    /// Nothing was changed.
    Unavailable(String),
    /// It may have been written.
    Unknown,
    /// The bus has ended before.
    Closed,
}

impl From<NotJudged> for Error {
    fn from(reason: NotJudged) -> Self {
        match reason {
            NotJudged::Unavailable(reason) => Self::Unavailable { reason },
            NotJudged::Unknown => Self::OutcomeUnknown,
            NotJudged::Closed => Self::Closed,
        }
    }
}

impl CommandBus {
    /// Starts the bus of a log that nobody else writes, on a world that was folded to its head.
    #[must_use]
    pub fn start(
        store: Arc<dyn EventStore>,
        world: &World,
        clock: Arc<Clock>,
        lease_epoch: LeaseEpoch,
    ) -> Self {
        Self::start_under(store, world, clock, Lease::held(lease_epoch), Writers::This)
    }

    /// Starts the bus on a world that was folded from the log.
    #[must_use]
    pub fn start_under(
        store: Arc<dyn EventStore>,
        world: &World,
        clock: Arc<Clock>,
        lease: Lease,
        writers: Writers,
    ) -> Self {
        let (to_look_up, waiting_for_look_up) = mpsc::channel(WAITING_MAX);
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let head =
            domain::log::Stamp { position: world.position(), recorded_at: world.recorded_at() };
        let decider = Decider::new(world.aggregates().clone(), head, lease.epoch());
        let failure = Arc::default();
        let writer = writer::Writer::new(writer::Parts {
            store: Arc::clone(&store),
            decider,
            clock,
            lease: lease.clone(),
            writers,
            waiting,
            failure: Arc::clone(&failure),
        });
        let looking_up = lookup::run(store, waiting_for_look_up, requests.clone());
        drop(worker::spawn("command lookup", looking_up));
        drop(worker::spawn("command bus", writer.run()));
        Self { to_look_up, requests, lease, failure }
    }

    /// The lease under which this node's loops act.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Waits until the bus has ended: it panicked, or its store is closed. Nothing can be changed
    /// by this node any more.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.requests.closed() => {}
            () = self.to_look_up.closed() => {}
        }
    }

    /// Why the bus has ended, when starting anew is no remedy by itself: an event of a newer
    /// version, past which this program must not decide anything, another log than before, or a
    /// disk that has failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Submits one command and waits until what it caused is durable.
    ///
    /// # Errors
    /// Its rejection, or why it was not judged. Nothing has changed then, except perhaps after
    /// [`Error::OutcomeUnknown`].
    pub async fn submit(&self, envelope: Envelope) -> Result<Accepted, Error> {
        only(self.submit_all(vec![envelope]).await?)
    }

    /// As [`CommandBus::submit`], of a command whose id was drawn just now: it is not looked for
    /// in the log.
    ///
    /// # Errors
    /// As [`CommandBus::submit`].
    pub async fn submit_new(&self, envelope: Envelope) -> Result<Accepted, Error> {
        only(self.ask(vec![envelope], &self.requests).await?)
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
        let needs_look_up = envelopes.iter().any(lookup::is_looked_up);
        let queue = if needs_look_up { &self.to_look_up } else { &self.requests };
        self.ask(envelopes, queue).await
    }

    async fn ask(
        &self,
        envelopes: Vec<Envelope>,
        queue: &mpsc::Sender<Request>,
    ) -> Result<Vec<Outcome>, Error> {
        let kinds = Kinds::of(envelopes.iter().map(|envelope| &envelope.command));
        let span = trace_span!(
            target: SPANS,
            "bus.submit",
            diario.command = kinds.first(),
            diario.commands = telemetry::count_attribute(kinds.count()),
            diario.position = field::Empty,
        );
        let result = judge(envelopes, queue, &span).instrument(span.clone()).await;
        kinds.count_outcomes(&result);
        let accepted = result.iter().flatten().rev().find_map(|outcome| outcome.as_ref().ok());
        if let Some(accepted) = accepted {
            span.record("diario.position", telemetry::position_attribute(accepted.position));
        }
        result
    }
}

async fn judge(
    envelopes: Vec<Envelope>,
    queue: &mpsc::Sender<Request>,
    span: &Span,
) -> Result<Vec<Outcome>, Error> {
    let (answer, answered) = oneshot::channel();
    let request = Request { envelopes, span: span.clone(), known: Vec::new(), answer };
    queue.try_send(request).map_err(|refused| match refused {
        mpsc::error::TrySendError::Full(_) => Error::Busy,
        mpsc::error::TrySendError::Closed(_) => Error::Closed,
    })?;
    match timeout(ANSWER_MAX, answered).await {
        Ok(Ok(answer)) => Ok(answer?),
        // The bus goes on with it, or has died over it.
        Err(_) | Ok(Err(_)) => Err(Error::OutcomeUnknown),
    }
}

fn only(mut outcomes: Vec<Outcome>) -> Result<Accepted, Error> {
    match outcomes.pop() {
        Some(outcome) => Ok(outcome?),
        None => Err(Error::Closed),
    }
}
