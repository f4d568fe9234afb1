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
use super::monitor;
use super::place::{Parts, begun_by, parts};
use super::process_name::ProcessName;
use super::readiness;
use super::result_file;
use super::sampler::Sampler;
use super::steps::{Failure, Outcome, in_a_row, together};
use super::{Control, Executor, Order};
use crate::garden::ContainerInfo;

/// Why a container failed whose result cannot be read, in Diego's words.
const NO_RESULT: &str = "failed to fetch result";

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
        let context = Context::new(self, order, &feed, container, control);
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
    let result = match failure_reason {
        None => result(context).await,
        Some(reason) => Err(reason),
    };
    let (failure_reason, result) = match result {
        Ok(result) => (None, result),
        Err(reason) => (Some(reason), String::new()),
    };
    let ending = Ending { failure_reason, exit, evidence, result };
    tell(happened, Happened::Ended(Box::new(ending))).await;
    if !is_recipe_done {
        control.give_up();
        cancel.cancel();
        // Its end was told; how it stops does not matter any more.
        drop(recipe.await);
    }
    Finished::Ended
}

/// What its work left to be told, where that is asked for.
async fn result(context: &Context<'_>) -> Result<String, String> {
    let Some(path) = &context.recipe().result_file else { return Ok(String::new()) };
    result_file::read(context, path).await.map_err(|why| {
        context.say(None, OutputStream::Err, format!("{NO_RESULT}: {why}"));
        NO_RESULT.to_owned()
    })
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
        Err(Failure::Failed { reason, exit, .. }) => {
            End::ByItself { failure_reason: Some(reason), exit }
        }
        // With sidecars, any end of one ends all.
        Ok(exit) if !is_watched(context) || !context.recipe().sidecars.is_empty() => {
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

/// Whether checks or a monitor say if it is healthy.
fn is_watched(context: &Context<'_>) -> bool {
    !context.recipe().checks().is_empty() || monitor::of(context).is_some()
}

async fn recipe(context: &Context<'_>, cancel: &CancellationToken) -> Outcome {
    let Parts { setup, action, sidecars, monitor: _ } = parts(context.recipe());
    let all: Vec<_> = std::iter::once(action).chain(sidecars).collect();
    let is_begun = all
        .iter()
        .any(|(action, place)| place.process_names(action).any(|name| context.is_known(name)));
    if let Some(setup) = setup
        && !is_begun
    {
        in_a_row(context, &[setup], cancel).await?;
    }
    if all.len() == 1 {
        return in_a_row(context, &all, cancel).await;
    }
    together(context, &all, cancel, Ok).await
}

/// Tells when the container is healthy, and returns when it is not, or never became so.
async fn until_unhealthy(context: &Context<'_>, happened: &mpsc::Sender<Happened>) -> String {
    let Parts { action, sidecars, .. } = parts(context.recipe());
    let monitor = monitor::of(context);
    if is_watched(context) {
        // Those of a recipe that runs nothing look at once.
        if let Some(first) = action.1.process_names(action.0).next() {
            context.until_started(first).await;
        }
        let started = match monitor {
            Some(monitor) => monitor::startup(context, monitor).await,
            None => checks::startup(context).await,
        };
        if let Err(reason) = started {
            return reason;
        }
    } else {
        for (action, place) in std::iter::once(action).chain(sidecars) {
            for number in begun_by(action, place) {
                context.until_started(ProcessName::Run(number)).await;
            }
        }
    }
    let (address, is_ready) = (context.address, readiness::is_ready_at_once(context));
    tell(happened, Happened::Healthy { address, is_ready }).await;
    let unhealthy = async {
        match monitor {
            Some(monitor) => monitor::liveness(context, monitor).await,
            None => checks::liveness(context).await,
        }
    };
    tokio::select! {
        biased;
        reason = unhealthy => reason,
        reason = readiness::follow(context, happened) => reason,
    }
}

pub(super) async fn tell(happened: &mpsc::Sender<Happened>, what: Happened) {
    if happened.send(what).await.is_err() {
        tracing::debug!("Nobody listens to a container any more.");
    }
}
