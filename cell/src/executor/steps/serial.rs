//! Serial: steps one after another; the first failure ends it.

use domain::action::Serial;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::{Outcome, count_runs};

pub(super) async fn perform<'a>(
    context: &'a Context<'a>,
    serial: &'a Serial<Redacted>,
    first: u32,
    cancel: &'a CancellationToken,
) -> Outcome {
    let mut number = first;
    let mut last = None;
    for action in &serial.actions {
        last = super::perform(context, action, number, cancel).await?;
        number += count_runs(action);
    }
    Ok(last)
}
