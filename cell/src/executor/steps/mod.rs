//! The steps of a recipe, one file each.
//!
//! A step that is cancelled stops what it runs, gracefully, before it returns. Nothing here is
//! remembered: what ran before an agent's restart is asked of the garden.

mod codependent;
mod download;
mod emit_progress;
mod parallel;
mod run;
mod serial;
mod timeout;
mod transfer;
mod try_step;
mod upload;

use domain::action::Action;
use domain::exit::ProcessExit;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::Redacted;
use super::context::Context;
use super::place::Place;
pub(super) use codependent::together;
pub(super) use serial::in_a_row;
pub(super) use transfer::size_text;

/// What a step says that was stopped and has nothing else to say.
pub(super) const CANCELLED: &str = "cancelled";

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// By itself.
    Failed {
        /// In Diego's words.
        reason: String,
        /// Whether these words are for whoever follows the log, and not only the reason.
        is_emittable: bool,
        /// The end of the process that failed, where one ran.
        exit: Option<ProcessExit>,
    },
    /// It was asked to stop, and has.
    Cancelled {
        /// The end of the process that was stopped, where one ran.
        exit: Option<ProcessExit>,
    },
}

impl Failure {
    /// One whose words are told.
    fn emittable(reason: String) -> Self {
        Self::Failed { reason, is_emittable: true, exit: None }
    }

    /// One whose words are the bare error.
    fn bare(reason: String) -> Self {
        Self::Failed { reason, is_emittable: false, exit: None }
    }
}

/// How a step ended: with the end of its last process.
pub(super) type Outcome = Result<Option<ProcessExit>, Failure>;

/// Performs a step that is at a place of the recipe.
pub(super) fn perform<'a>(
    context: &'a Context<'a>,
    action: &'a Action<Redacted>,
    place: Place,
    cancel: &'a CancellationToken,
) -> BoxFuture<'a, Outcome> {
    match action {
        Action::Run(run) => Box::pin(run::perform(context, run, place, cancel)),
        Action::Download(download) => Box::pin(download::perform(context, download, place, cancel)),
        Action::Upload(upload) => Box::pin(upload::perform(context, upload, place, cancel)),
        Action::Serial(serial) => Box::pin(serial::perform(context, serial, place, cancel)),
        Action::Parallel(parallel) => Box::pin(parallel::perform(context, parallel, place, cancel)),
        Action::Codependent(codependent) => {
            Box::pin(codependent::perform(context, codependent, place, cancel))
        }
        Action::Timeout(timeout) => Box::pin(timeout::perform(context, timeout, place, cancel)),
        Action::EmitProgress(progress) => {
            Box::pin(emit_progress::perform(context, progress, place, cancel))
        }
        Action::Try(tried) => Box::pin(try_step::perform(context, tried, place, cancel)),
    }
}

/// The outcome of several steps that ran at once: the failures' words, joined. What was cancelled has
/// none, unless there is nothing else.
fn joined(outcomes: Vec<Outcome>) -> Outcome {
    let mut reasons = Vec::new();
    let mut cancelled = None;
    let mut last = None;
    let mut failed_exit = None;
    let mut is_any_emittable = false;
    for outcome in outcomes {
        match outcome {
            Ok(exit) => last = last.or(exit),
            Err(Failure::Failed { reason, is_emittable, exit }) => {
                reasons.push(reason);
                is_any_emittable |= is_emittable;
                failed_exit = failed_exit.or(exit);
            }
            Err(Failure::Cancelled { exit }) => {
                let known = cancelled.take();
                cancelled = Some(known.flatten().or(exit));
            }
        }
    }
    if !reasons.is_empty() {
        let (reason, is_emittable) = (reasons.join("; "), is_any_emittable);
        return Err(Failure::Failed { reason, is_emittable, exit: failed_exit });
    }
    match cancelled {
        Some(exit) => Err(Failure::Cancelled { exit }),
        None => Ok(last),
    }
}
