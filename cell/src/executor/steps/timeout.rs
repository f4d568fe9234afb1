//! Timeout: stops its step when it takes too long.
//!
//! The time counts from the first exec, also across an agent's restart.

use domain::action::Timeout;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::place::Place;
use super::{Failure, Outcome};
use crate::go_duration;

pub(super) async fn perform<'a>(
    context: &'a Context<'a>,
    timeout: &'a Timeout<Redacted>,
    place: Place,
    cancel: &'a CancellationToken,
) -> Outcome {
    let limit = timeout.timeout_ms.duration();
    let passed = context.known_for(place.process_names(&timeout.action));
    let inner_cancel = cancel.child_token();
    let mut inner = super::perform(context, &timeout.action, place, &inner_cancel);
    tokio::select! {
        biased;
        outcome = &mut inner => return outcome,
        () = sleep(limit.saturating_sub(passed)) => {}
    }
    let was_cancelled = cancel.is_cancelled();
    inner_cancel.cancel();
    let exceeded = format!("exceeded {} timeout", go_duration::text(limit));
    let failed = |reason, exit| Err(Failure::Failed { reason, is_emittable: true, exit });
    match inner.await {
        // It ended by itself while it was being stopped.
        Ok(exit) => Ok(exit),
        Err(Failure::Cancelled { exit }) if was_cancelled => Err(Failure::Cancelled { exit }),
        Err(Failure::Failed { reason, is_emittable: true, exit }) => {
            failed(format!("{exceeded}; {reason}"), exit)
        }
        Err(Failure::Failed { exit, .. } | Failure::Cancelled { exit }) => failed(exceeded, exit),
    }
}
