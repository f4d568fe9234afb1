//! Download: an archive, from the cell's cache or the network, unpacked into the container.
//!
//! Begun again after an agent's restart, it is done again: what is there is replaced by the same. The
//! archive is unpacked by the cell with the rights of the step's user, and takes no more of the
//! disk than the container has left.

use domain::action::Download;
use domain::bbs::definition::Definition;
use domain::observation::OutputStream;
use domain::sealed::PlainText;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::downloads::{Fetched, Request};
use super::super::inside::{Inside, as_user};
use super::super::place::{Place, Transfer, all_transfers};
use super::transfer::{cut, size_text};
use super::{Failure, Outcome};
use crate::archive;

pub(super) async fn perform(
    context: &Context<'_>,
    download: &Download<Redacted>,
    place: Place,
    cancel: &CancellationToken,
) -> Outcome {
    // Also ends what is being unpacked, on a thread of its own, when nobody waits for it any more.
    let stop = cancel.child_token();
    let _stopped = stop.clone().drop_guard();
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Failure::Cancelled { exit: None }),
        outcome = load(context, download, place, &stop) => outcome.map(|()| None),
    }
}

async fn load(
    context: &Context<'_>,
    download: &Download<Redacted>,
    place: Place,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let artifact = &download.artifact;
    let say = |stream, text| context.say(download.log_source.as_deref(), stream, text);
    // One without a name is not told of, save for what goes wrong.
    let tell = |text: String| {
        if !artifact.is_empty() {
            say(OutputStream::Out, text);
        }
    };
    let named = if artifact.is_empty() { String::new() } else { format!(" {artifact}") };
    tell(format!("Downloading{named}..."));
    let definition = context.definition().await.map_err(Failure::bare)?;
    let secret = find(&definition, place.transfer).map_err(Failure::bare)?;
    let request = Request {
        url: &secret.from.0,
        cache_key: &secret.cache_key,
        checksum: secret.checksum.as_ref(),
    };
    let fetched = context.traffic.downloads.file(request).await.map_err(|error| {
        let reason = format!("Downloading{named} failed");
        say(OutputStream::Err, cut(format!("{reason}: {error}")));
        Failure::emittable(reason)
    })?;
    let loaded_bytes = fetched.loaded_bytes;
    copy_in(context, download, fetched, stop).await.map_err(|why| {
        let reason = format!("Copying{named} into the container failed: {why}");
        say(OutputStream::Err, cut(reason.clone()));
        Failure::emittable(reason)
    })?;
    tell(match loaded_bytes {
        Some(bytes) => format!("Downloaded{named} ({})", size_text(bytes)),
        None => format!("Downloaded{named}"),
    });
    Ok(())
}

fn find(definition: &Definition<PlainText>, number: u32) -> Result<&Download<PlainText>, String> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    match all_transfers(definition).get(index) {
        Some(Transfer::In(download)) => Ok(download),
        Some(Transfer::Out(_)) | None => Err(format!("the definition has no download {number}")),
    }
}

async fn copy_in(
    context: &Context<'_>,
    download: &Download<Redacted>,
    fetched: Fetched<'_>,
    stop: &CancellationToken,
) -> Result<(), String> {
    let inside = Inside::of(context.garden, &context.order.handle).await?;
    let user = inside.user(&download.user)?;
    let folder = inside.folder(&download.to, &user)?;
    let archive = fetched.file.try_clone().map_err(|error| error.to_string())?;
    let (disk_mb, mut left) = (context.recipe().disk_mb, context.disk_left().await);
    let stop = stop.clone();
    let unpack = move || {
        let mut room = |bytes: u64| {
            if stop.is_cancelled() {
                return Err(super::CANCELLED.to_owned());
            }
            let Some(free) = left else { return Ok(()) };
            left = Some(free.checked_sub(bytes).ok_or_else(|| {
                format!(
                    "it takes more than what is left of the container's disk of {} MiB",
                    disk_mb.0
                )
            })?);
            Ok(())
        };
        archive::unpack(&archive, folder, &mut room).map_err(|error| error.to_string())
    };
    as_user(user, unpack).await
}
