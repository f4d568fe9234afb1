//! One container's life from its first process to its last, watched.
//!
//! Written so that it can be begun again at any point after an agent's restart: what ran already
//! is waited for, what ended already is told.

use std::convert::Infallible;
use std::pin::{Pin, pin};

use domain::exit::ProcessExit;
use domain::observation::OutputStream;
use domain::units::Milliseconds;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::checks;
use super::context::Context;
use super::ending::{Ending, Finished, Happened, Kill, Stopped};
use super::feed::Feed;
use super::last_look;
use super::log_limiter::LogLimits;
use super::log_streamer::LogStreamer;
use super::readiness;
use super::sampler::Sampler;
use super::steps::{Failure, Outcome, count_runs, perform};
use super::{Control, Executor, Order};
use crate::garden::ContainerInfo;

/// How the recipe and the checks ended together.
enum End {
    /// Without being asked to.
    ByItself { failure_reason: Option<String>, exit: Option<ProcessExit> },
    /// As asked.
    Stopped,
}

impl Executor {
    /// Runs an order in its container to the end, or takes up what runs in it already.
    ///
    /// What happens is told at once. When its work has ended, what still runs is stopped
    /// gracefully before this returns; destroying the container is the caller's.
    pub(crate) async fn run(
        &self,
        order: &Order,
        container: &ContainerInfo,
        control: &Control,
        happened: &mpsc::Sender<Happened>,
    ) -> Finished {
        let path = self.stream_state(&order.handle);
        let saved = LogStreamer::load(&path);
        let feed = Feed::new(saved.kept.clone());
        let garden = self.garden.as_ref();
        let limits = self.log_limits(order);
        let mut streamer = LogStreamer::new(garden, order, &feed, limits, (path, saved));
        let mut sampler = Sampler::new(garden, order, &feed, self.settings.share, container);
        let context = Context::new(garden, &self.settings, order, &feed, container, control);
        let finished = tokio::select! {
            biased;
            () = control.detach.cancelled() => Finished::Detached,
            finished = live(&context, control, happened) => finished,
            never = streamer.run() => match never {},
            never = sampler.run() => match never {},
            never = self.announce_stop(order, control) => match never {},
            never = self.keep_identity(order, container) => match never {},
        };
        if finished != Finished::Detached {
            streamer.drain().await;
        }
        streamer.save();
        sampler.push();
        finished
    }

    fn log_limits(&self, order: &Order) -> LogLimits {
        let wished = order.recipe.log_rate_limit;
        LogLimits {
            // Below 0 is without limit.
            bytes_per_second: wished.and_then(|wished| u64::try_from(wished.bytes_per_second).ok()),
            lines_per_second: self.settings.log_lines_per_second,
        }
    }

    async fn announce_stop(&self, order: &Order, control: &Control) -> Infallible {
        control.stop.cancelled().await;
        self.say(order, OutputStream::Out, "stopping instance");
        std::future::pending().await
    }
}

async fn live(
    context: &Context<'_>,
    control: &Control,
    happened: &mpsc::Sender<Happened>,
) -> Finished {
    let cancel = control.stop.child_token();
    let mut recipe = pin!(recipe(context, &cancel));
    let mut is_recipe_done = false;
    let end = until_end(context, control, happened, recipe.as_mut(), &mut is_recipe_done).await;
    let End::ByItself { mut failure_reason, exit } = end else {
        return Finished::Stopped(stopped(context).await);
    };
    let (evidence, is_missing) =
        tokio::join!(last_look::evidence(context), last_look::is_missing(context, exit.as_ref()));
    if is_missing {
        failure_reason = Some(last_look::MISSING.to_owned());
    }
    tell(happened, Happened::Ended(Box::new(Ending { failure_reason, exit, evidence }))).await;
    if !is_recipe_done {
        control.give_up();
        cancel.cancel();
        // Its end was told; how it stops does not matter any more.
        drop(recipe.await);
    }
    Finished::Ended
}

async fn stopped(context: &Context<'_>) -> Stopped {
    if !context.was_killed() {
        return Stopped::Gracefully;
    }
    let grace = context.graceful_stop().as_millis();
    let grace = Milliseconds(u64::try_from(grace).unwrap_or(u64::MAX));
    Stopped::Killed(Box::new(Kill { grace, evidence: last_look::evidence(context).await }))
}

async fn until_end(
    context: &Context<'_>,
    control: &Control,
    happened: &mpsc::Sender<Happened>,
    mut recipe: Pin<&mut impl Future<Output = Outcome>>,
    is_recipe_done: &mut bool,
) -> End {
    let mut unhealthy = pin!(until_unhealthy(context, happened));
    let outcome = tokio::select! {
        biased;
        outcome = &mut recipe => outcome,
        reason = &mut unhealthy => return failed(reason),
    };
    *is_recipe_done = true;
    match outcome {
        Err(Failure::Cancelled { .. }) => End::Stopped,
        Err(Failure::Failed { reason, exit }) => {
            End::ByItself { failure_reason: Some(reason), exit }
        }
        Ok(exit) if context.recipe().checks().is_empty() => {
            End::ByItself { failure_reason: None, exit }
        }
        // It may have gone to the background, as in Diego: its checks have the word now.
        Ok(_) => tokio::select! {
            biased;
            () = control.stop.cancelled() => End::Stopped,
            reason = &mut unhealthy => failed(reason),
        },
    }
}

fn failed(reason: String) -> End {
    End::ByItself { failure_reason: Some(reason), exit: None }
}

async fn recipe(context: &Context<'_>, cancel: &CancellationToken) -> Outcome {
    let recipe = context.recipe();
    let mut number = 0;
    if let Some(setup) = &recipe.setup {
        perform(context, setup, number, cancel).await?;
        number += count_runs(setup);
    }
    perform(context, &recipe.action, number, cancel).await
}

/// Tells when the container is healthy, and returns when it is not, or never became so.
async fn until_unhealthy(context: &Context<'_>, happened: &mpsc::Sender<Happened>) -> String {
    let (first, last) = context.action_runs();
    if context.recipe().checks().is_empty() {
        context.until_started(last).await;
    } else {
        context.until_started(first).await;
        if let Err(reason) = checks::startup(context).await {
            return reason;
        }
    }
    let (address, is_ready) = (context.address, readiness::is_ready_at_once(context));
    tell(happened, Happened::Healthy { address, is_ready }).await;
    tokio::select! {
        biased;
        reason = checks::liveness(context) => reason,
        reason = readiness::follow(context, happened) => reason,
    }
}

pub(super) async fn tell(happened: &mpsc::Sender<Happened>, what: Happened) {
    if happened.send(what).await.is_err() {
        tracing::debug!("Nobody listens to a container any more.");
    }
}
