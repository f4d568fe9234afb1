//! Parallel: steps at once, each to its end, even when one fails.

use domain::action::Parallel;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::place::{Place, each_at};
use super::{Outcome, joined};

pub(super) async fn perform<'a>(
    context: &'a Context<'a>,
    parallel: &'a Parallel<Redacted>,
    place: Place,
    cancel: &'a CancellationToken,
) -> Outcome {
    let steps = each_at(&parallel.actions, place);
    let performed =
        steps.into_iter().map(|(action, place)| super::perform(context, action, place, cancel));
    joined(join_all(performed).await)
}
