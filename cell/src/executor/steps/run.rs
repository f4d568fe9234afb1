//! Run: a process to its end.
//!
//! Cancelled, it sends SIGTERM, waits for the graceful time, and sends SIGKILL.

use std::time::Duration;

use domain::action::Run;
use domain::bbs::definition::Definition;
use domain::observation::OutputStream;
use domain::sealed::PlainText;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::ending::{process_exit, status_text, succeeded};
use super::super::environment;
use super::super::place::{Place, all_runs};
use super::super::process_name::ProcessName;
use super::{Failure, Outcome};
use crate::garden::{self, ExitRecord, ProcessId, ProcessSpec, Signal};
use crate::go_duration;

/// How long a killed process may take to be gone (Diego: 1 s).
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// How a process that ended was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    ByItself,
    Terminated,
    Killed,
}

pub(super) async fn perform(
    context: &Context<'_>,
    run: &Run<Redacted>,
    place: Place,
    cancel: &CancellationToken,
) -> Outcome {
    let name = place.process_name();
    let source = run.log_source.as_deref().unwrap_or(&context.recipe().log_source);
    // A monitor looks again and again: what it says is no part of the log, as in Diego.
    let is_told = place.look.is_none();
    if !context.is_known(name) {
        let definition = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Failure::Cancelled { exit: None }),
            definition = context.definition() => definition,
        };
        let executed = match definition {
            Ok(definition) => exec(context, &definition, place.run, name).await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = executed {
            if is_told {
                let text = format!("failed-creating-process: {reason}");
                context.say(Some(source), OutputStream::Err, text);
            }
            return Err(Failure::bare(reason));
        }
    }
    if is_told {
        context.note_started(name);
    }
    let (record, how) = until_ended(context, &name.id(), cancel).await?;
    if is_told {
        tell(context, source, &record, how).await;
    }
    let exit = process_exit(&record);
    if how != How::ByItself {
        return Err(Failure::Cancelled { exit: Some(exit) });
    }
    if succeeded(&record) {
        return Ok(Some(exit));
    }
    let reason = format!("{}: Exited with {}", source.to_uppercase(), status_text(&record));
    Err(Failure::Failed { reason, is_emittable: true, exit: Some(exit) })
}

async fn exec(
    context: &Context<'_>,
    definition: &Definition<PlainText>,
    number: u32,
    name: ProcessName,
) -> Result<(), String> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    let runs = all_runs(definition);
    let run = runs.get(index).ok_or_else(|| format!("the definition has no step {number}"))?;
    let spec = ProcessSpec {
        id: name.id(),
        path: run.path.clone(),
        args: run.args.clone(),
        environment: environment::of_process(&run.env, context.address, &definition.ports),
        dir: run.dir.clone(),
        user: Some(run.user.clone()),
        nofile: Some(run.nofile.unwrap_or(context.settings.nofile)),
        is_fleeting: name.is_fleeting(),
    };
    match context.garden.run(&context.order.handle, spec).await {
        Ok(()) => Ok(()),
        Err(garden::Error::Run { reason, .. }) => Err(reason),
        Err(error) => Err(error.to_string()),
    }
}

async fn until_ended(
    context: &Context<'_>,
    process: &ProcessId,
    cancel: &CancellationToken,
) -> Result<(ExitRecord, How), Failure> {
    let handle = &context.order.handle;
    let failed = Failure::bare;
    let ended = async {
        let ended = context.garden.wait(handle, process).await;
        ended.map_err(|error| failed(error.to_string()))
    };
    tokio::pin!(ended);
    tokio::select! {
        biased;
        record = &mut ended => return Ok((record?, How::ByItself)),
        () = cancel.cancelled() => {}
    }
    signal(context, process, Signal::Terminate).await;
    if let Ok(record) = timeout(context.graceful_stop(), &mut ended).await {
        return Ok((record?, How::Terminated));
    }
    context.note_killed();
    signal(context, process, Signal::Kill).await;
    match timeout(EXIT_WAIT, &mut ended).await {
        Ok(record) => Ok((record?, How::Killed)),
        Err(_) => Err(failed("process did not exit".to_owned())),
    }
}

async fn signal(context: &Context<'_>, process: &ProcessId, signal: Signal) {
    if let Err(error) = context.garden.signal(&context.order.handle, process, signal).await {
        tracing::warn!(handle = %context.order.handle, %process, %error, "Cannot send a signal.");
    }
}

/// Lets the process's last lines go first, then tells its end in the instance's log.
async fn tell(context: &Context<'_>, source: &str, record: &ExitRecord, how: How) {
    context.feed.until_flushed(&record.process, record.output_end).await;
    let exceeded = match how {
        How::ByItself | How::Terminated => String::new(),
        How::Killed => {
            let interval = go_duration::text(context.graceful_stop());
            format!(" (exceeded {interval} graceful shutdown interval)")
        }
    };
    let text = format!("Exit {}{exceeded}", status_text(record));
    context.say(Some(source), OutputStream::Out, text);
}
