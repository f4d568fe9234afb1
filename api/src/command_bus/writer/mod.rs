//! The one task that decides and appends.
//!
//! While a batch is being committed the next one is decided on top of it; if the first is not
//! written, both are undone and decided anew. Nobody is answered before all that its answer rests
//! on is durable.
//!
//! Where other nodes write too, it waits for its turn after the first refusal and decides on the
//! head that is its own until the turn ends, so that no command is refused twice.
//!
//! - `queue`: the requests; `turns`: what others write; `unwritten`: an append that failed

mod queue;
mod turns;
mod unwritten;

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
};

use domain::{event::Event, log::Recorded};
use projections::{
    event_store::{AppendError, Batch, BatchId, EventStore, Subscription, Turn},
    failpoint::{self, Step},
};
use tokio::{sync::mpsc, time::timeout};
use tracing::{Instrument as _, Span, error, field, trace_span, warn};

use self::{queue::Queue, unwritten::Attempt};
use super::{
    Decider, GATHER_MAX, NotJudged, Request, Tentative, Writers,
    pace::{Contention, Gathering, SLEEP_MIN},
};
use crate::{
    clock::{self, Clock, Stopwatch},
    lease::Lease,
    telemetry::{self, SPANS},
};

/// The pause before the log is asked again after a failure.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
/// How many requests are on their way at once: of the batch that is being committed, and of the
/// next one.
const QUEUE_MAX: usize = 2 * GATHER_MAX;

/// The one task that decides and appends.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<dyn EventStore>,
    decider: Decider,
    clock: Arc<Clock>,
    lease: Lease,
    writers: Writers,
    /// What others write, while there is nothing to do; `None` where nobody else writes.
    feed: Option<Subscription>,
    waiting: mpsc::Receiver<Request>,
    queue: Queue,
    /// So many commands of a batch that the store refuses are committed one by one, so that only
    /// the culprit fails.
    alone: usize,
    gathering: Gathering,
    contention: Contention,
    /// Nothing can be written any more: the store is closed, its disk has failed, or the log holds
    /// what this program cannot read.
    is_closed: bool,
    /// Why, unless it was closed.
    failure: Arc<OnceLock<String>>,
}

/// What a writer is made of.
pub(super) struct Parts {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) decider: Decider,
    pub(super) clock: Arc<Clock>,
    pub(super) lease: Lease,
    pub(super) writers: Writers,
    pub(super) waiting: mpsc::Receiver<Request>,
    pub(super) failure: Arc<OnceLock<String>>,
}

/// A batch that is decided and not written yet.
struct Decided {
    tentative: Tentative,
    /// A part of the first request's trace, and linked with the others.
    span: Span,
}

impl Writer {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { store, decider, clock, lease, writers, waiting, failure } = parts;
        let feed = match writers {
            Writers::This => None,
            Writers::Several => Some(store.subscribe(decider.head().position)),
        };
        Self {
            store,
            decider,
            clock,
            lease,
            writers,
            feed,
            waiting,
            queue: Queue::default(),
            alone: 0,
            gathering: Gathering::default(),
            contention: Contention::default(),
            is_closed: false,
            failure,
        }
    }

    pub(super) async fn run(mut self) {
        let mut next = None;
        while !self.queue.is_empty() || self.wait().await {
            self.gather(&mut next).await;
            next = self.serve(next).await;
            if self.is_closed {
                error!("The log can be written no more; the command bus ends.");
                break;
            }
        }
        self.waiting.close();
        while let Ok(request) = self.waiting.try_recv() {
            self.queue.push(request);
        }
        self.queue.refuse_all(&NotJudged::Closed);
    }

    /// Waits for a request while there is none. `false` when there will be none.
    async fn wait(&mut self) -> bool {
        loop {
            tokio::select! {
                biased;
                request = self.waiting.recv() => match request {
                    Some(request) => {
                        self.take(request);
                        return true;
                    }
                    None => return false,
                },
                followed = turns::follow(&mut self.feed, &mut self.decider) => match followed {
                    Ok(()) => {}
                    Err(failure) => {
                        warn!(error = %failure, "The command bus cannot follow the log.");
                        if self.ends_with(&failure) {
                            return false;
                        }
                        tokio::time::sleep(RETRY_PAUSE).await;
                        self.feed = Some(self.store.subscribe(self.decider.head().position));
                    }
                },
            }
        }
    }

    fn take(&mut self, mut request: Request) {
        for (envelope, events) in request.known.drain(..) {
            if !self.decider.remembers(&envelope.command_id) {
                self.decider.remember(&envelope, &events);
            }
        }
        self.queue.push(request);
    }

    fn take_waiting(&mut self) {
        while self.queue.len() < QUEUE_MAX {
            match self.waiting.try_recv() {
                Ok(request) => self.take(request),
                Err(_) => return,
            }
        }
    }

    /// Callers that were just answered mostly ask again at once: one larger batch serves all of
    /// them sooner than two smaller ones.
    async fn gather(&mut self, next: &mut Option<Decided>) {
        let began = Stopwatch::start();
        let expected = self.gathering.expected().min(GATHER_MAX);
        loop {
            self.take_waiting();
            if self.decides_ahead() {
                self.decide(next);
            }
            let left = self.gathering.left(began);
            if self.queue.len() >= expected || left.is_zero() {
                return;
            }
            if left < SLEEP_MIN {
                tokio::task::yield_now().await;
            } else if let Ok(Some(request)) = timeout(left / 2, self.waiting.recv()).await {
                self.take(request);
            }
        }
    }

    /// Whether a batch is decided before the log is this node's, or on top of another one.
    fn decides_ahead(&self) -> bool {
        self.alone == 0 && !self.contention.takes_turns()
    }

    /// Decides what waits behind all that is decided, as much as finds room in the batch.
    fn decide(&mut self, next: &mut Option<Decided>) {
        if next.as_ref().is_some_and(|next| next.tentative.is_full) {
            return;
        }
        let room = if self.alone == 0 { usize::MAX } else { 1 };
        let Some(first) = self.queue.next_requests(1).next() else { return };
        let decided = next.get_or_insert_with(|| Decided {
            tentative: self.decider.begin(self.clock.now()),
            span: trace_span!(
                target: SPANS,
                parent: first.span.id(),
                "bus.batch",
                diario.commands = field::Empty,
            ),
        });
        let Decided { tentative, span } = decided;
        let before = tentative.outcomes.len();
        self.decider.set_lease(self.lease.epoch());
        trace_span!(target: SPANS, parent: &*span, "bus.decide").in_scope(|| {
            self.decider.decide_more(tentative, self.queue.undecided().take(room));
        });
        let commands = tentative.outcomes.len() - before;
        if !span.is_disabled() {
            for request in self.queue.next_requests(commands).skip(usize::from(before == 0)) {
                span.follows_from(&request.span);
            }
        }
        self.queue.note_decided(commands);
    }

    fn undo(&mut self, tentative: Tentative) {
        self.queue.note_undone(tentative.outcomes.len());
        self.decider.undo(tentative);
    }

    /// Commits what is decided, or what waits; the next batch, decided meanwhile, comes back.
    async fn serve(&mut self, decided: Option<Decided>) -> Option<Decided> {
        if let Some(feed) = &mut self.feed {
            // What is only decided is not in the log yet, or never will be.
            let committed = decided
                .as_ref()
                .map_or_else(|| self.decider.head().position, |next| next.tentative.decided_on);
            feed.skip_to(committed);
        }
        if let Some(decided) = decided {
            return self.commit(decided, None).await;
        }
        let mut turn = None;
        if self.contention.takes_turns() {
            match self.begin_turn().await {
                Ok(begun) => turn = Some(begun),
                Err(failure) => {
                    let reason = self.unavailable(&failure);
                    self.alone = 0;
                    self.queue.refuse_all(&reason);
                    return None;
                }
            }
        }
        // What came while it waited for its turn goes along.
        self.take_waiting();
        let mut decided = None;
        self.decide(&mut decided);
        self.commit(decided?, turn).await
    }

    async fn commit(&mut self, decided: Decided, turn: Option<Box<dyn Turn>>) -> Option<Decided> {
        let began = Stopwatch::start();
        let Decided { mut tentative, span } = decided;
        span.record("diario.commands", telemetry::count_attribute(tentative.outcomes.len()));
        let mut next = None;
        let attempt = if !tentative.events.is_empty() {
            let append = self.append(&mut tentative, turn).instrument(span.clone());
            match self.decide_during(append, &mut next).await {
                Ok(_) => Attempt::Judged(tentative.outcomes),
                Err(failure) => {
                    if let Some(Decided { tentative, .. }) = next.take() {
                        self.undo(tentative);
                    }
                    self.not_appended(tentative, failure).instrument(span).await
                }
            }
        } else if turn.is_some() {
            Attempt::Judged(tentative.outcomes)
        } else {
            self.confirm(tentative).instrument(span).await
        };
        self.settle(attempt, began);
        next
    }

    /// What is decided goes to the log with the first poll.
    fn append(
        &self,
        tentative: &mut Tentative,
        turn: Option<Box<dyn Turn>>,
    ) -> impl Future<Output = Result<Vec<Recorded<Event>>, AppendError>> + use<> {
        failpoint::reached(Step::BusDecided);
        let batch = Batch {
            id: BatchId(clock::new_uuid()),
            decided_on: tentative.decided_on,
            recorded_at: tentative.recorded_at,
            lease: tentative.lease,
            // Whether it is undone or not, nobody here asks for them again.
            events: std::mem::take(&mut tentative.events),
        };
        let (events, store) = (batch.events.len(), Arc::clone(&self.store));
        let append = async move {
            match turn {
                Some(turn) => turn.append(batch).await,
                None => store.append(batch).await,
            }
        };
        telemetry::append::observed(events, append)
    }

    /// Decides what comes while a batch is being committed.
    async fn decide_during<T>(
        &mut self,
        append: impl Future<Output = T>,
        next: &mut Option<Decided>,
    ) -> T {
        let mut append = pin!(append);
        let mut may_come = self.decides_ahead();
        loop {
            tokio::select! {
                biased;
                appended = &mut append => return appended,
                request = self.waiting.recv(), if may_come && self.queue.len() < QUEUE_MAX => {
                    match request {
                        Some(request) => self.take(request),
                        None => may_come = false,
                    }
                    self.take_waiting();
                    self.decide(next);
                }
            }
        }
    }

    /// Tells callers what became of the batch that was tried last.
    fn settle(&mut self, attempt: Attempt, began: Stopwatch) {
        let outcomes = match attempt {
            Attempt::Judged(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Attempt::Again => return,
            Attempt::Refused { commands, .. } if commands > 1 => {
                self.alone = commands;
                return;
            }
            Attempt::Refused { refusal, .. } => {
                vec![Err(NotJudged::Unavailable(refusal.to_string()))]
            }
            Attempt::NotJudged { commands, reason } => {
                self.alone = 0;
                self.queue.refuse_first(commands, &reason);
                return;
            }
        };
        self.alone = self.alone.saturating_sub(outcomes.len());
        let answered = self.queue.settle(outcomes);
        self.take_waiting();
        self.gathering.note(began.elapsed(), answered, self.queue.len());
    }
}
