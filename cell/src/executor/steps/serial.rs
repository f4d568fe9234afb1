//! Serial: steps one after another; the first failure ends it.
//!
//! Begun again after an agent's restart, it goes on with the last step of which the garden knows a
//! process: those before it ended well, or it would not have been begun.

use domain::action::{Action, Serial};
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::place::{Place, each_at};
use super::Outcome;

pub(super) async fn perform<'a>(
    context: &'a Context<'a>,
    serial: &'a Serial<Redacted>,
    place: Place,
    cancel: &'a CancellationToken,
) -> Outcome {
    in_a_row(context, &each_at(&serial.actions, place), cancel).await
}

/// Performs steps one after another.
pub(in super::super) async fn in_a_row<'a>(
    context: &'a Context<'a>,
    steps: &[(&'a Action<Redacted>, Place)],
    cancel: &'a CancellationToken,
) -> Outcome {
    let is_begun = |(action, place): &(&Action<Redacted>, Place)| {
        place.process_names(action).any(|name| context.is_known(name))
    };
    let passed = steps.iter().rposition(is_begun).unwrap_or(0);
    let mut last = None;
    for (action, place) in steps.iter().skip(passed) {
        last = super::perform(context, action, *place, cancel).await?;
    }
    Ok(last)
}
