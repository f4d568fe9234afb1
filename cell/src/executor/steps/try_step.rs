//! Try: a step whose failure does not matter.

use domain::action::Try;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::place::Place;
use super::{Failure, Outcome};

pub(super) async fn perform<'a>(
    context: &'a Context<'a>,
    tried: &'a Try<Redacted>,
    place: Place,
    cancel: &'a CancellationToken,
) -> Outcome {
    match super::perform(context, &tried.action, place, cancel).await {
        Err(Failure::Failed { exit, .. }) => Ok(exit),
        // Who is asked to stop does not go on with what comes next.
        outcome @ (Ok(_) | Err(Failure::Cancelled { .. })) => outcome,
    }
}
