//! Readiness: whether a healthy instance may take requests. A check that fails takes them from it, and
//! never ends it; once all pass again it gets them back.
//!
//! As with the other checks, probing processes are long-lived: those of one round look until all have
//! passed, then until one fails; then the next round begins. An agent's restart takes up the round
//! that was under way.

use domain::check::Check;
use domain::observation::OutputStream;
use futures_util::FutureExt as _;
use futures_util::future::{select_all, try_join_all};
use tokio::sync::mpsc;

use super::checks::{probe, say};
use super::container::tell;
use super::context::Context;
use super::ending::Happened;
use super::process_name::ProcessName;
use crate::garden::Signal;
use crate::go_duration;

/// Whether an instance is ready from the moment that it is healthy.
pub(super) fn is_ready_at_once(context: &Context<'_>) -> bool {
    checks(context).is_empty()
}

/// Tells each change; returns only when a check cannot be run, with the reason.
pub(super) async fn follow(context: &Context<'_>, happened: &mpsc::Sender<Happened>) -> String {
    if checks(context).is_empty() {
        return std::future::pending().await;
    }
    let mut round = context.last_readiness_round().unwrap_or(0);
    if !context.is_known(ProcessName::UntilReady { number: 0, round }) {
        let text = "Starting readiness health monitoring of container";
        say(context, OutputStream::Out, text.to_owned());
    }
    loop {
        if let Err(output) = until_ready(context, round).await {
            let text = "Failed to run the readiness check";
            say(context, OutputStream::Err, text.to_owned());
            return format!("{text}: {output}");
        }
        let text = "Container passed the readiness health check. \
            Container marked ready and added to route pool.";
        say(context, OutputStream::Out, text.to_owned());
        tell(happened, Happened::Readiness(true)).await;
        let output = until_not_ready(context, round).await;
        tell(happened, Happened::Readiness(false)).await;
        say(context, OutputStream::Err, output);
        let text = "Container failed the readiness health check. \
            Container marked not ready and removed from route pool.";
        say(context, OutputStream::Err, text.to_owned());
        round += 1;
    }
}

fn checks<'a>(context: &'a Context<'_>) -> &'a [Check] {
    context.recipe().check.as_ref().map_or(&[], |check| &check.readiness_checks)
}

async fn until_ready(context: &Context<'_>, round: u32) -> Result<(), String> {
    let passing = (0_u32..).zip(checks(context)).map(|(number, check)| async move {
        let name = ProcessName::UntilReady { number, round };
        // What looks whether it stays ready was begun once this had passed.
        if context.is_known(ProcessName::Readiness { number, round }) {
            return Ok(());
        }
        let interval = go_duration::text(check.unhealthy_interval().duration());
        let mode = vec![format!("-until-ready-interval={interval}")];
        probe(context, name, check, mode).await
    });
    try_join_all(passing).await.map(drop)
}

/// Waits until a check fails, and ends the others of this round. Gives what the check said.
async fn until_not_ready(context: &Context<'_>, round: u32) -> String {
    let failing = (0_u32..).zip(checks(context)).map(|(number, check)| {
        async move {
            let interval = go_duration::text(check.interval().duration());
            let mut mode = vec![format!("-readiness-interval={interval}")];
            mode.extend(super::checks::threshold(check));
            let name = ProcessName::Readiness { number, round };
            match probe(context, name, check, mode).await {
                Err(output) => output,
                // It only ends when it fails.
                Ok(()) => "the readiness check ended without a word".to_owned(),
            }
        }
        .boxed()
    });
    let (output, failed, _) = select_all(failing).await;
    for (index, number) in (0..checks(context).len()).zip(0_u32..) {
        let id = ProcessName::Readiness { number, round }.id();
        if index != failed
            && let Err(error) =
                context.garden.signal(&context.order.handle, &id, Signal::Kill).await
        {
            tracing::warn!(handle = %context.order.handle, %error, "Cannot end a check.");
        }
        // What a check said last is evidence, what it said before that is not.
        if let Some(round) = round.checked_sub(1) {
            let before = ProcessName::Readiness { number, round }.id();
            context.feed.forget_check_output(&before);
        }
    }
    output
}
