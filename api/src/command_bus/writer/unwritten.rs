//! What a batch came to that was not simply written.

use domain::log::LeaseEpoch;
use projections::event_store::{self, AppendError, BatchId, Refusal};
use tracing::{debug, error, info, warn};

use super::{
    super::{NotJudged, Outcome, Tentative, Writers},
    RETRY_PAUSE, Writer,
    turns::not_behind,
};

/// What one try to commit came to.
pub(super) enum Attempt {
    /// Its commands are judged for good.
    Judged(Vec<Outcome>),
    /// Nothing was written; decide anew, with or without a turn.
    Again,
    /// None of its so many commands has an outcome.
    NotJudged { commands: usize, reason: NotJudged },
    /// The store refuses this batch, of so many commands, and takes others.
    Refused { commands: usize, refusal: Refusal },
}

impl Writer {
    /// Nothing is decided on top of the batch any more.
    pub(super) async fn not_appended(
        &mut self,
        tentative: Tentative,
        failure: AppendError,
    ) -> Attempt {
        let commands = tentative.outcomes.len();
        match failure {
            AppendError::HeadMoved { head } => {
                let decided_on = tentative.decided_on;
                self.undo(tentative);
                if let Err(failure) = not_behind(decided_on, head.position) {
                    return self.not_judged(commands, &failure);
                }
                debug!(head = %head.position, "Another node wrote first; deciding anew.");
                self.contention.note_moved();
                Attempt::Again
            }
            AppendError::LeasePassed { lease_epoch } => {
                self.undo(tentative);
                self.lease_passed(lease_epoch);
                Attempt::Again
            }
            AppendError::OutcomeUnknown { batch } => match self.was_written(batch).await {
                Some(true) => Attempt::Judged(tentative.outcomes),
                Some(false) => {
                    self.undo(tentative);
                    Attempt::Again
                }
                None => Attempt::NotJudged { commands, reason: NotJudged::Unknown },
            },
            AppendError::Refused(refusal) => {
                error!(%refusal, commands, "The log refused a batch, which is a defect.");
                self.undo(tentative);
                Attempt::Refused { commands, refusal }
            }
            AppendError::Failed(failure) => {
                self.undo(tentative);
                self.not_judged(commands, &failure)
            }
        }
    }

    /// What changes nothing is not appended, so nothing has proven that it was judged at the head:
    /// another node may have written what it would have changed. All that was committed before the
    /// commands came must be counted in.
    pub(super) async fn confirm(&mut self, tentative: Tentative) -> Attempt {
        if self.writers == Writers::This {
            return Attempt::Judged(tentative.outcomes);
        }
        let commands = tentative.outcomes.len();
        let head = match self.store.head().await {
            Ok(head) => head.position,
            Err(failure) => {
                self.undo(tentative);
                return self.not_judged(commands, &failure);
            }
        };
        if head <= self.decider.head().position {
            return Attempt::Judged(tentative.outcomes);
        }
        self.undo(tentative);
        self.contention.note_moved();
        match self.catch_up().await {
            Ok(()) => Attempt::Again,
            Err(failure) => self.not_judged(commands, &failure),
        }
    }

    fn not_judged(&mut self, commands: usize, failure: &event_store::Error) -> Attempt {
        Attempt::NotJudged { commands, reason: self.unavailable(failure) }
    }

    /// Loops' commands under this epoch are refused from now on.
    fn lease_passed(&mut self, lease_epoch: LeaseEpoch) {
        info!(lease_epoch = lease_epoch.0, "The lease has passed; deciding anew.");
        self.lease.note_passed(lease_epoch);
    }

    /// Whether nothing can be decided any more after a failure.
    pub(super) fn ends_with(&mut self, failure: &event_store::Error) -> bool {
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
    pub(super) fn unavailable(&mut self, failure: &event_store::Error) -> NotJudged {
        error!(error = failure as &dyn std::error::Error, "The log could not be written.");
        self.ends_with(failure);
        let reason = self.failure.get().cloned().unwrap_or_else(|| failure.to_string());
        NotJudged::Unavailable(reason)
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
                    self.queue.refuse_undecided(&reason);
                    while let Ok(request) = self.waiting.try_recv() {
                        request.refuse(&reason);
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}
