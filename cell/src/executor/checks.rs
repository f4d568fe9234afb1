//! Checks: processes inside the container that probe until they pass, and then until they fail.
//!
//! A probing process is long-lived, as in Diego: one for the start-up of each check and one for
//! its liveness. So an agent's restart neither loses a result nor probes twice.

use std::time::Duration;

use domain::check::Check;
use domain::observation::OutputStream;
use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};
use tokio::time::Instant;

use super::context::Context;
use super::create::HEALTHCHECK_PATH;
use super::ending::succeeded;
use super::process_name::ProcessName;
use crate::garden::{Environment, ProcessSpec};
use crate::go_duration;

/// The source that the checks' own lines carry.
const SOURCE: &str = "HEALTH";
const NOFILE: u64 = 1024;

/// Waits until every check has passed once.
///
/// # Errors
/// In Diego's words, when one never did.
pub(super) async fn startup(context: &Context<'_>) -> Result<(), String> {
    let begun = Instant::now();
    let checks = context.recipe().checks();
    say_started(context);
    let numbered = (0_u32..).zip(checks);
    let all = join_all(numbered.map(|(number, check)| pass_once(context, number, check))).await;
    let Some(output) = all.into_iter().find_map(Result::err) else {
        say_healthy(context);
        return Ok(());
    };
    Err(never_healthy(context, begun.elapsed(), &output))
}

pub(super) fn say_started(context: &Context<'_>) {
    say(context, OutputStream::Out, "Starting health monitoring of container".to_owned());
}

pub(super) fn say_healthy(context: &Context<'_>) {
    say(context, OutputStream::Out, "Container became healthy".to_owned());
}

/// Tells that a container never became healthy, and gives the reason.
pub(super) fn never_healthy(context: &Context<'_>, took: Duration, output: &str) -> String {
    let limit = context.recipe().start_timeout_ms.duration();
    let took = if limit.is_zero() { took } else { took.min(limit) };
    let took = go_duration::text(took);
    let text = format!("Failed after {took}: startup health check never passed.");
    say(context, OutputStream::Err, text);
    format!("Instance never healthy after {took}: {output}")
}

/// Waits until a check fails, and says so in Diego's words. Without checks it waits for ever.
pub(super) async fn liveness(context: &Context<'_>) -> String {
    let numbered = (0_u32..).zip(context.recipe().checks());
    let failing: Vec<_> =
        numbered.map(|(number, check)| fail(context, number, check).boxed()).collect();
    if failing.is_empty() {
        return std::future::pending().await;
    }
    let (output, _, _) = select_all(failing).await;
    became_unhealthy(context, &output)
}

/// Tells that a container is healthy no more, and gives the reason.
pub(super) fn became_unhealthy(context: &Context<'_>, output: &str) -> String {
    say(context, OutputStream::Err, "Container became unhealthy".to_owned());
    format!("Instance became unhealthy: {output}")
}

async fn pass_once(context: &Context<'_>, number: u32, check: &Check) -> Result<(), String> {
    let timeout = go_duration::text(context.recipe().start_timeout_ms.duration());
    let interval = go_duration::text(check.unhealthy_interval().duration());
    let mode = vec![format!("-startup-interval={interval}"), format!("-startup-timeout={timeout}")];
    probe(context, ProcessName::Startup(number), check, mode).await
}

async fn fail(context: &Context<'_>, number: u32, check: &Check) -> String {
    let interval = go_duration::text(check.interval().duration());
    let mut mode = vec![format!("-liveness-interval={interval}")];
    mode.extend(threshold(check));
    match probe(context, ProcessName::Liveness(number), check, mode).await {
        Err(output) => output,
        // It only ends when it fails.
        Ok(()) => "the health check ended without a word".to_owned(),
    }
}

/// How many probes must fail in a row, where that is more than one.
pub(super) fn threshold(check: &Check) -> Vec<String> {
    let threshold = check.failure_threshold();
    if threshold <= 1 {
        return Vec::new();
    }
    let unhealthy = go_duration::text(check.unhealthy_interval().duration());
    vec![format!("-unhealthy-interval={unhealthy}"), format!("-failure-threshold={threshold}")]
}

/// Runs a probing process to its end, or waits for one that runs already.
pub(super) async fn probe(
    context: &Context<'_>,
    name: ProcessName,
    check: &Check,
    mode: Vec<String>,
) -> Result<(), String> {
    let handle = &context.order.handle;
    let invoke = |error: &dyn std::fmt::Display| format!("Failed to invoke process: {error}");
    if !context.is_known(name) {
        let spec = ProcessSpec {
            id: name.id(),
            path: HEALTHCHECK_PATH.to_owned(),
            args: arguments(check).into_iter().chain(mode).collect(),
            environment: Environment::default(),
            dir: Some("/".to_owned()),
            user: None,
            nofile: Some(NOFILE),
            is_fleeting: name.is_fleeting(),
        };
        context.garden.run(handle, spec).await.map_err(|error| invoke(&error))?;
    }
    let record = context.garden.wait(handle, &name.id()).await.map_err(|error| invoke(&error))?;
    if succeeded(&record) {
        return Ok(());
    }
    context.feed.until_flushed(&record.process, record.output_end).await;
    let output = context.feed.check_output(&record.process);
    Err(if output.is_empty() { invoke(&super::ending::status_text(&record)) } else { output })
}

fn arguments(check: &Check) -> Vec<String> {
    let mut arguments =
        vec![format!("-port={}", check.port()), format!("-timeout={}ms", check.timeout().0)];
    match check {
        Check::Tcp(_) => {}
        Check::Http(http) => arguments.push(format!("-uri={}", http.path)),
    }
    arguments
}

pub(super) fn say(context: &Context<'_>, stream: OutputStream, text: String) {
    context.feed.say(context.order, SOURCE, stream, text);
}
