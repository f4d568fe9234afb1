//! The one task that decides and appends.
//!
//! Alone, it decides on the head it knows and appends in one step. Where other nodes write too, it
//! waits for its turn after the first refusal and decides on the head that is its own until the
//! turn ends, so that no command is refused twice.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use domain::{
    command::Envelope,
    log::{LeaseEpoch, Position},
};
use futures_util::FutureExt as _;
use projections::{
    event_store::{self, AppendError, Batch, BatchId, EventStore, Refusal, Subscription, Turn},
    failpoint::{self, Step},
};
use tokio::{sync::mpsc, time::timeout};
use tracing::{Instrument as _, Span, debug, error, info, trace_span, warn};

use super::{
    Answer, Decider, GATHER_MAX, NotJudged, Outcome, Request, Tentative, Writers,
    pace::{Contention, Gathering, SLEEP_MIN},
};
use crate::{
    clock::{self, Clock, Stopwatch},
    lease::Lease,
    telemetry::{self, SPANS},
};

/// The pause before the log is asked again after a failure.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
const READ_PAGE: usize = 1000;
/// A longer tail is not read within a turn: the others would wait.
const TURN_TAIL_MAX: u64 = 2000;

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
    carried: VecDeque<Request>,
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

/// Why a batch was not written.
#[derive(Debug)]
enum Failure {
    /// None of its commands has an outcome.
    NotJudged(NotJudged),
    /// The store refuses this batch, of the first so many commands, and takes others.
    Refused { refusal: Refusal, commands: usize },
}

/// What one try to commit came to.
enum Attempt {
    /// These commands are judged for good.
    Judged(Vec<Outcome>),
    /// Nothing was written; decide anew, with or without a turn.
    Again,
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
            carried: VecDeque::new(),
            gathering: Gathering::default(),
            contention: Contention::default(),
            is_closed: false,
            failure,
        }
    }

    pub(super) async fn run(mut self) {
        while self.wait().await {
            self.serve_some().await;
            if self.is_closed {
                error!("The log can be written no more; the command bus ends.");
                break;
            }
        }
        self.waiting.close();
        while let Ok(request) = self.waiting.try_recv() {
            self.carried.push_back(request);
        }
        for request in self.carried.drain(..) {
            drop(request.answer.send(Err(NotJudged::Closed)));
        }
    }

    /// Waits for a request, and for those of callers that are about to return. `false` when there
    /// will be none.
    async fn wait(&mut self) -> bool {
        self.take_waiting();
        if let Some(feed) = &mut self.feed {
            feed.skip_to(self.decider.head().position);
        }
        while self.carried.is_empty() {
            tokio::select! {
                biased;
                request = self.waiting.recv() => match request {
                    Some(request) => self.carried.push_back(request),
                    None => return false,
                },
                followed = follow(&mut self.feed, &mut self.decider) => match followed {
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
        self.gather().await;
        true
    }

    fn take_waiting(&mut self) {
        while self.carried.len() < GATHER_MAX {
            match self.waiting.try_recv() {
                Ok(request) => self.carried.push_back(request),
                Err(_) => return,
            }
        }
    }

    /// Callers that were just answered mostly ask again at once: one larger batch serves all of
    /// them sooner than two smaller ones.
    async fn gather(&mut self) {
        let began = Stopwatch::start();
        let expected = self.gathering.expected().min(GATHER_MAX);
        loop {
            self.take_waiting();
            let left = self.gathering.left(began);
            if self.carried.len() >= expected || left.is_zero() {
                return;
            }
            if left < SLEEP_MIN {
                tokio::task::yield_now().await;
            } else if let Ok(Some(request)) = timeout(left / 2, self.waiting.recv()).await {
                self.carried.push_back(request);
            }
        }
    }

    /// Decides and commits what waits: whole requests.
    async fn serve_some(&mut self) {
        let began = Stopwatch::start();
        let turn = match self.contention.takes_turns() {
            // What comes while it waits for its turn goes along.
            true => self.begin_turn().await.map(Some),
            false => Ok(None),
        };
        self.take_waiting();
        let mut requests: Vec<Request> = self.carried.drain(..).collect();
        for (envelope, events) in requests.iter_mut().flat_map(|request| request.known.drain(..)) {
            if !self.decider.remembers(&envelope.command_id) {
                self.decider.remember(&envelope, &events);
            }
        }
        let envelopes: Vec<&Envelope> =
            requests.iter().flat_map(|request| request.envelopes.iter()).collect();
        let span = batch_span(&requests, envelopes.len());
        let outcomes = match turn {
            Ok(turn) => self.commit_all(&envelopes, turn).instrument(span).await,
            Err(failure) => {
                let reason = self.unavailable(&failure);
                envelopes.iter().map(|_| Err(reason.clone())).collect()
            }
        };
        let answered = requests.len();
        let mut outcomes = outcomes.into_iter();
        for request in requests {
            failpoint::reached(Step::BusAnswering);
            // All of its own first: the first that has none must not leave the rest to the next.
            let mine: Vec<_> = outcomes.by_ref().take(request.envelopes.len()).collect();
            let mine: Answer = mine.into_iter().collect();
            // A caller that went away is not told; what it asked for is durable all the same.
            drop(request.answer.send(mine));
        }
        self.take_waiting();
        self.gathering.note(began.elapsed(), answered, self.carried.len());
    }

    /// One answer for each command. Those of a batch that the store refuses are committed one by
    /// one, so that only the culprit fails.
    async fn commit_all(
        &mut self,
        envelopes: &[&Envelope],
        mut turn: Option<Box<dyn Turn>>,
    ) -> Vec<Result<Outcome, NotJudged>> {
        let mut outcomes = Vec::with_capacity(envelopes.len());
        let mut alone_until = 0;
        while let Some(rest) = envelopes.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            let is_alone = outcomes.len() < alone_until;
            let some = if is_alone { rest.get(..1).unwrap_or(rest) } else { rest };
            match self.commit_some(some, turn.take()).await {
                Ok(some) => outcomes.extend(some.into_iter().map(Ok)),
                Err(Failure::Refused { refusal, commands }) if commands <= 1 => {
                    outcomes.push(Err(NotJudged::Unavailable(refusal.to_string())));
                }
                Err(Failure::Refused { commands, .. }) => alone_until = outcomes.len() + commands,
                Err(Failure::NotJudged(reason)) => {
                    outcomes.resize_with(envelopes.len(), || Err(reason.clone()));
                }
            }
        }
        outcomes
    }

    /// Decides a first part of the commands and commits it.
    async fn commit_some(
        &mut self,
        envelopes: &[&Envelope],
        mut turn: Option<Box<dyn Turn>>,
    ) -> Result<Vec<Outcome>, Failure> {
        loop {
            let attempt = match turn.take() {
                None if self.contention.takes_turns() => match self.begin_turn().await {
                    Ok(begun) => {
                        turn = Some(begun);
                        continue;
                    }
                    Err(failure) => return Err(Failure::NotJudged(self.unavailable(&failure))),
                },
                turn => self.try_commit(envelopes, turn).await?,
            };
            match attempt {
                Attempt::Judged(outcomes) => return Ok(outcomes),
                Attempt::Again => {}
            }
        }
    }

    /// Decides on the head that is known, or that a turn guards, and appends.
    async fn try_commit(
        &mut self,
        envelopes: &[&Envelope],
        turn: Option<Box<dyn Turn>>,
    ) -> Result<Attempt, Failure> {
        self.decider.set_lease(self.lease.epoch());
        let mut tentative = trace_span!(target: SPANS, "bus.decide")
            .in_scope(|| self.decider.decide(envelopes.iter().copied(), self.clock.now()));
        if tentative.events.is_empty() {
            return match turn {
                Some(_guarded) => Ok(Attempt::Judged(tentative.outcomes)),
                None => self.confirm(tentative).await,
            };
        }
        failpoint::reached(Step::BusDecided);
        let batch = Batch {
            id: BatchId(clock::new_uuid()),
            decided_on: tentative.decided_on,
            recorded_at: tentative.recorded_at,
            lease: tentative.lease,
            // Whether it is undone or not, nobody here asks for them again.
            events: std::mem::take(&mut tentative.events),
        };
        let events = batch.events.len();
        let append = match turn {
            Some(turn) => turn.append(batch),
            None => self.store.append(batch),
        };
        match telemetry::append::observed(events, append).await {
            Ok(_) => Ok(Attempt::Judged(tentative.outcomes)),
            Err(failure) => self.not_appended(tentative, failure).await,
        }
    }

    async fn not_appended(
        &mut self,
        tentative: Tentative,
        failure: AppendError,
    ) -> Result<Attempt, Failure> {
        match failure {
            AppendError::HeadMoved { head } => {
                let decided_on = tentative.decided_on;
                self.decider.undo(tentative);
                if let Err(failure) = not_behind(decided_on, head.position) {
                    return Err(Failure::NotJudged(self.unavailable(&failure)));
                }
                debug!(head = %head.position, "Another node wrote first; deciding anew.");
                self.contention.note_moved();
                Ok(Attempt::Again)
            }
            AppendError::LeasePassed { lease_epoch } => {
                self.decider.undo(tentative);
                self.lease_passed(lease_epoch);
                Ok(Attempt::Again)
            }
            AppendError::OutcomeUnknown { batch } => match self.was_written(batch).await {
                Some(true) => Ok(Attempt::Judged(tentative.outcomes)),
                Some(false) => {
                    self.decider.undo(tentative);
                    Ok(Attempt::Again)
                }
                None => Err(Failure::NotJudged(NotJudged::Unknown)),
            },
            AppendError::Refused(refusal) => {
                let commands = tentative.outcomes.len();
                error!(%refusal, commands, "The log refused a batch, which is a defect.");
                self.decider.undo(tentative);
                Err(Failure::Refused { refusal, commands })
            }
            AppendError::Failed(failure) => {
                self.decider.undo(tentative);
                Err(Failure::NotJudged(self.unavailable(&failure)))
            }
        }
    }

    /// Loops' commands under this epoch are refused from now on.
    fn lease_passed(&mut self, lease_epoch: LeaseEpoch) {
        info!(lease_epoch = lease_epoch.0, "The lease has passed; deciding anew.");
        self.lease.note_passed(lease_epoch);
    }

    /// Whether nothing can be decided any more after a failure.
    fn ends_with(&mut self, failure: &event_store::Error) -> bool {
        // Only what was committed is folded here: a log that ends before it has lost events.
        let ends_writing =
            failure.ends_writing() || matches!(failure, event_store::Error::AheadOfHead { .. });
        if ends_writing {
            self.failure.get_or_init(|| failure.with_cause());
        }
        self.is_closed |= ends_writing || matches!(failure, event_store::Error::Closed);
        self.is_closed
    }

    /// What a caller is told of a failure. Nothing is decided any more once the log was closed,
    /// behind an event that this program cannot read, or when the disk has failed.
    fn unavailable(&mut self, failure: &event_store::Error) -> NotJudged {
        error!(error = failure as &dyn std::error::Error, "The log could not be written.");
        self.ends_with(failure);
        let reason = self.failure.get().cloned().unwrap_or_else(|| failure.to_string());
        NotJudged::Unavailable(reason)
    }

    /// What changes nothing is not appended, so nothing has proven that it was judged at the head:
    /// another node may have written what it would have changed. All that was committed before the
    /// commands came must be counted in.
    async fn confirm(&mut self, tentative: Tentative) -> Result<Attempt, Failure> {
        if self.writers == Writers::This {
            return Ok(Attempt::Judged(tentative.outcomes));
        }
        let head = match self.store.head().await {
            Ok(head) => head.position,
            Err(failure) => return Err(Failure::NotJudged(self.unavailable(&failure))),
        };
        if head <= self.decider.head().position {
            return Ok(Attempt::Judged(tentative.outcomes));
        }
        self.decider.undo(tentative);
        match self.catch_up().await {
            Ok(()) => Ok(Attempt::Again),
            Err(failure) => Err(Failure::NotJudged(self.unavailable(&failure))),
        }
    }

    /// Waits for this node's turn and folds what others wrote.
    async fn begin_turn(&mut self) -> Result<Box<dyn Turn>, event_store::Error> {
        loop {
            self.catch_up().await?;
            let mut turn = self.store.turn().await.map_err(not_begun)?;
            let end = turn.head().position;
            let known = self.decider.head().position;
            not_behind(known, end)?;
            let tail = end.0.saturating_sub(known.0);
            if tail > TURN_TAIL_MAX {
                continue;
            }
            while self.decider.head().position < end {
                let page = turn.read_all(self.decider.head().position, READ_PAGE).await?;
                if page.is_empty() {
                    return Err(event_store::Error::Gap(self.decider.head().position.next()));
                }
                page.iter().for_each(|recorded| self.decider.fold(recorded));
            }
            self.contention.note_turn(usize::try_from(tail).unwrap_or(usize::MAX));
            return Ok(turn);
        }
    }

    async fn catch_up(&mut self) -> Result<(), event_store::Error> {
        loop {
            let after: Position = self.decider.head().position;
            let page = self.store.read_all(after, READ_PAGE).await?;
            let is_last = page.len() < READ_PAGE;
            page.iter().for_each(|recorded| self.decider.fold(recorded));
            if is_last {
                return Ok(());
            }
        }
    }

    /// Nothing is decided until the store says what became of the batch; `None` when it never will,
    /// because it was closed or its disk has failed. Who comes meanwhile is told that the log does
    /// not answer.
    async fn was_written(&mut self, id: BatchId) -> Option<bool> {
        loop {
            match self.store.find_batch(id).await {
                Ok(found) => return Some(found.is_some()),
                Err(failure) if self.ends_with(&failure) => return None,
                Err(failure) => {
                    warn!(batch = %id, error = %failure, "The batch's outcome is still unknown.");
                    let reason = NotJudged::Unavailable(failure.to_string());
                    while let Ok(request) = self.waiting.try_recv() {
                        drop(request.answer.send(Err(reason.clone())));
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

fn not_begun(failure: AppendError) -> event_store::Error {
    match failure {
        AppendError::Failed(failure) => failure,
        // A turn writes nothing before its append.
        AppendError::HeadMoved { .. }
        | AppendError::LeasePassed { .. }
        | AppendError::OutcomeUnknown { .. }
        | AppendError::Refused(_) => event_store::Error::Closed,
    }
}

/// A log that ends before what was folded from it is another one, or has lost events.
fn not_behind(folded: Position, end: Position) -> Result<(), event_store::Error> {
    if end < folded {
        return Err(event_store::Error::AheadOfHead { after: folded, head: end });
    }
    Ok(())
}

/// Folds what others wrote while this node has nothing to write.
async fn follow(
    feed: &mut Option<Subscription>,
    decider: &mut Decider,
) -> Result<(), event_store::Error> {
    let Some(feed) = feed else { return std::future::pending().await };
    let mut events = feed.next_batch(READ_PAGE).await?;
    loop {
        for recorded in &events {
            if recorded.position > decider.head().position {
                decider.fold(recorded);
            }
        }
        match feed.next_batch(READ_PAGE).now_or_never() {
            Some(more) => events = more?,
            None => return Ok(()),
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
