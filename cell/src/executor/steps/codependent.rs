//! Codependent: steps that only run together; the first that ends, however it does, ends all.

use domain::action::{Action, Codependent};
use domain::exit::ProcessExit;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::place::{Place, each_at};
use super::{Failure, Outcome, joined};

/// What a step says that ended well and so ended the others.
const EXITED: &str = "Codependent step exited";

pub(super) async fn perform<'a>(
    context: &'a Context<'a>,
    codependent: &'a Codependent<Redacted>,
    place: Place,
    cancel: &'a CancellationToken,
) -> Outcome {
    // As an action, also an end in success is a failure.
    let exited = |exit| {
        let reason = EXITED.to_owned();
        Err(Failure::Failed { reason, is_emittable: true, exit })
    };
    together(context, &each_at(&codependent.actions, place), cancel, exited).await
}

/// Performs steps at once until one ends, then stops the others; `succeeded` says what the first
/// one's end in success is.
pub(in super::super) async fn together<'a>(
    context: &'a Context<'a>,
    steps: &[(&'a Action<Redacted>, Place)],
    cancel: &'a CancellationToken,
    succeeded: impl Fn(Option<ProcessExit>) -> Outcome,
) -> Outcome {
    let all = cancel.child_token();
    let mut running: FuturesUnordered<_> =
        steps.iter().map(|(action, place)| super::perform(context, action, *place, &all)).collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = running.next().await {
        let is_first = outcomes.is_empty();
        all.cancel();
        outcomes.push(match outcome {
            Ok(exit) if is_first => succeeded(exit),
            // It was asked to end, and nobody minds that it did so well.
            outcome => outcome,
        });
    }
    if matches!(outcomes.first(), Some(Ok(_))) && !cancel.is_cancelled() {
        // They were stopped because the first one ended: that is no failure of theirs.
        outcomes.retain(|outcome| !matches!(outcome, Err(Failure::Cancelled { .. })));
    }
    joined(outcomes)
}
