//! The steps of a recipe, one file each.
//!
//! A step that is cancelled stops what it runs, gracefully, before it returns. Nothing here is
//! remembered: what ran before an agent's restart is asked of the garden.

mod run;
mod serial;
mod timeout;

use domain::action::{Action, Run};
use domain::exit::ProcessExit;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::Redacted;
use super::context::Context;

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// By itself.
    Failed {
        /// In Diego's words.
        reason: String,
        /// The end of the process that failed, where one ran.
        exit: Option<ProcessExit>,
    },
    /// It was asked to stop, and has.
    Cancelled {
        /// The end of the process that was stopped, where one ran.
        exit: Option<ProcessExit>,
    },
}

/// How a step ended: with the end of its last process.
pub(super) type Outcome = Result<Option<ProcessExit>, Failure>;

/// Performs a step whose first Run step has this number in the recipe.
pub(super) fn perform<'a>(
    context: &'a Context<'a>,
    action: &'a Action<Redacted>,
    number: u32,
    cancel: &'a CancellationToken,
) -> BoxFuture<'a, Outcome> {
    match action {
        Action::Run(run) => Box::pin(run::perform(context, run, number, cancel)),
        Action::Serial(serial) => Box::pin(serial::perform(context, serial, number, cancel)),
        Action::Timeout(timeout) => Box::pin(timeout::perform(context, timeout, number, cancel)),
        Action::Download(_)
        | Action::Upload(_)
        | Action::Parallel(_)
        | Action::Codependent(_)
        | Action::EmitProgress(_)
        | Action::Try(_) => Box::pin(async {
            let reason = "this cell does not know such an action".to_owned();
            Err(Failure::Failed { reason, exit: None })
        }),
    }
}

/// How many Run steps an action holds.
pub(super) fn count_runs<V>(action: &Action<V>) -> u32 {
    match action {
        Action::Run(_) => 1,
        Action::Serial(_)
        | Action::Timeout(_)
        | Action::Download(_)
        | Action::Upload(_)
        | Action::Parallel(_)
        | Action::Codependent(_)
        | Action::EmitProgress(_)
        | Action::Try(_) => action.children().iter().map(count_runs).sum(),
    }
}

/// The Run steps of an action, in the order in which they would run.
pub(super) fn runs<V>(action: &Action<V>) -> Vec<&Run<V>> {
    match action {
        Action::Run(run) => vec![run],
        Action::Serial(_)
        | Action::Timeout(_)
        | Action::Download(_)
        | Action::Upload(_)
        | Action::Parallel(_)
        | Action::Codependent(_)
        | Action::EmitProgress(_)
        | Action::Try(_) => action.children().iter().flat_map(runs).collect(),
    }
}
