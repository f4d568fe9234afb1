//! EmitProgress: tells in the log how its step goes.

use domain::action::EmitProgress;
use domain::observation::OutputStream;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::place::Place;
use super::{Failure, Outcome};

pub(super) async fn perform<'a>(
    context: &'a Context<'a>,
    progress: &'a EmitProgress<Redacted>,
    place: Place,
    cancel: &'a CancellationToken,
) -> Outcome {
    let source = progress.log_source.as_deref();
    let tell = |stream, text: &str| {
        if !text.is_empty() {
            context.say(source, stream, text.to_owned());
        }
    };
    // An earlier agent has told it where a process of the step is known.
    if !place.process_names(&progress.action).any(|name| context.is_known(name)) {
        tell(OutputStream::Out, &progress.start_message);
    }
    let outcome = super::perform(context, &progress.action, place, cancel).await;
    let prefix = &progress.failure_message_prefix;
    match &outcome {
        Ok(_) => tell(OutputStream::Out, &progress.success_message),
        Err(Failure::Failed { reason, is_emittable: true, .. }) if !prefix.is_empty() => {
            tell(OutputStream::Err, &format!("{prefix}: {reason}"));
        }
        Err(Failure::Failed { .. } | Failure::Cancelled { .. }) => tell(OutputStream::Err, prefix),
    }
    outcome
}
