//! Upload: a file of the container, sent by a POST.
//!
//! The file is read twice, once for its digests; whoever takes it sees by them when it changed in
//! between. Read with the rights of the step's user, and no longer than the container's disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use domain::action::Upload;
use domain::observation::OutputStream;
use futures_util::stream;
use md5::Md5;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Client, Url};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::Redacted;
use super::super::context::Context;
use super::super::http_client::in_words;
use super::super::inside::{Inside, as_user};
use super::super::place::{Place, Transfer, all_transfers};
use super::transfer::{cut, size_text};
use super::{Failure, Outcome};

/// How often an upload is tried, as in Diego.
const ATTEMPTS_MAX: u32 = 3;
/// How long a server may take nothing and say nothing.
const IDLE: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 64 * 1024;

/// A file of a container, and what it is.
struct Payload {
    file: File,
    bytes: u64,
    md5: String,
    sha256: String,
}

pub(super) async fn perform(
    context: &Context<'_>,
    upload: &Upload<Redacted>,
    place: Place,
    cancel: &CancellationToken,
) -> Outcome {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Failure::Cancelled { exit: None }),
        outcome = send(context, upload, place) => outcome.map(|()| None),
    }
}

async fn send(
    context: &Context<'_>,
    upload: &Upload<Redacted>,
    place: Place,
) -> Result<(), Failure> {
    let artifact = &upload.artifact;
    let say = |stream, text| context.say(upload.log_source.as_deref(), stream, text);
    let tell = |text: String| {
        if !artifact.is_empty() {
            say(OutputStream::Out, text);
        }
    };
    let definition = context.definition().await.map_err(Failure::bare)?;
    let index = usize::try_from(place.transfer).unwrap_or(usize::MAX);
    let transfers = all_transfers(&definition);
    let Some(Transfer::Out(secret)) = transfers.get(index) else {
        return Err(Failure::bare(format!("the definition has no upload {}", place.transfer)));
    };
    let (url, client) = context.traffic.clients.reach(&secret.to.0).map_err(|reason| {
        say(OutputStream::Err, "Failed to parse URL".to_owned());
        Failure::bare(reason)
    })?;
    tell(format!("Uploading {artifact}..."));
    let _turn = context.traffic.uploads.acquire().await;
    let payload = read(context, upload).await.map_err(|why| {
        let reason = format!("Failed to establish stream from container: {why}");
        say(OutputStream::Err, cut(reason.clone()));
        Failure::emittable(reason)
    })?;
    try_post(client, &url, &payload).await.map_err(|reason| {
        let named = if artifact.is_empty() { String::new() } else { format!(" for {artifact}") };
        say(OutputStream::Err, format!("Failed to upload payload{named}"));
        Failure::bare(reason)
    })?;
    tell(format!("Uploaded {artifact} ({})", size_text(payload.bytes)));
    Ok(())
}

async fn read(context: &Context<'_>, upload: &Upload<Redacted>) -> Result<Payload, String> {
    let inside = Inside::of(context.garden, &context.order.handle).await?;
    let user = inside.user(&upload.user)?;
    let (path, bytes_max) = (upload.from.clone(), context.recipe().disk_mb.bytes());
    as_user(user.clone(), move || {
        let file = inside.first_file(&path, &user)?;
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        // A file with holes may be longer than any disk.
        if bytes_max > 0 && bytes > bytes_max {
            return Err(format!("{path} has {bytes} bytes, more than the container's disk"));
        }
        digest(file, bytes).map_err(|error| format!("{path}: {error}"))
    })
    .await
}

fn digest(mut file: File, bytes: u64) -> io::Result<Payload> {
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let mut buffer = vec![0; READ_BYTES];
    let mut content = (&mut file).take(bytes);
    loop {
        let count = content.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        md5.update(read);
        sha256.update(read);
    }
    let (md5, sha256) = (BASE64.encode(md5.finalize()), BASE64.encode(sha256.finalize()));
    Ok(Payload { file, bytes, md5, sha256 })
}

async fn try_post(client: &Client, url: &Url, payload: &Payload) -> Result<(), String> {
    let mut attempts = 1;
    loop {
        match post(client, url.clone(), payload).await {
            Err(reason) if attempts < ATTEMPTS_MAX => {
                tracing::debug!(reason, attempts, "An upload failed; trying again.");
                attempts += 1;
            }
            posted => return posted,
        }
    }
}

async fn post(client: &Client, url: Url, payload: &Payload) -> Result<(), String> {
    let progress = Arc::new(AtomicU64::new(0));
    let body = body(payload, Arc::clone(&progress)).map_err(|error| error.to_string())?;
    let request = client
        .post(url)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, payload.bytes)
        .header("Content-MD5", &payload.md5)
        .header("Content-Digest", format!("sha-256=:{}:", payload.sha256))
        .body(body);
    let answered = tokio::select! {
        answered = request.send() => answered,
        () = until_stalled(&progress) => {
            return Err(format!("Upload failed: the server took nothing for {} s", IDLE.as_secs()));
        }
    };
    let status = answered.map_err(|error| format!("Upload failed: {}", in_words(&error)))?.status();
    match status.as_u16() {
        refused @ 400.. => Err(format!("Upload failed: Status code {refused}")),
        _ => Ok(()),
    }
}

/// The file from its beginning, as it is sent.
fn body(payload: &Payload, progress: Arc<AtomicU64>) -> io::Result<Body> {
    let mut file = payload.file.try_clone()?;
    file.seek(SeekFrom::Start(0))?;
    let content = tokio::fs::File::from_std(file).take(payload.bytes);
    Ok(Body::wrap_stream(stream::try_unfold(
        (content, progress),
        |(mut content, progress)| async {
            let mut chunk = Vec::with_capacity(READ_BYTES);
            let count = content.read_buf(&mut chunk).await?;
            progress.fetch_add(1, Ordering::Relaxed);
            Ok::<_, io::Error>((count > 0).then_some((chunk, (content, progress))))
        },
    )))
}

async fn until_stalled(progress: &AtomicU64) {
    let mut before = None;
    loop {
        let now = progress.load(Ordering::Relaxed);
        if before == Some(now) {
            return;
        }
        before = Some(now);
        sleep(IDLE).await;
    }
}
