//! One download: tried again when it breaks off, from where it broke off if the server allows it.
//!
//! A server may lie, stall, break off or never end: what it sends takes its room before it is
//! written, silence has a limit, and a part is only gone on with when the server says that the
//! whole is still the same (`If-Range`).

use std::sync::Arc;
use std::time::Duration;

use domain::action::Checksum;
use reqwest::header::{
    ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::{sleep, timeout};

use super::checksum::Hasher;
use super::index::Validators;
use super::store::{Incoming, Store};
use super::{Error, off_runtime};
use crate::clock;
use crate::executor::http_client::in_words;
use crate::retry::BackOff;

/// How often a download is tried, as in Diego.
const ATTEMPTS_MAX: u32 = 4;
/// By how much a pause is longer at random, so that cells do not come back all at once.
const JITTER_MS: u64 = 200;

/// How long things may take and rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// How long a server may send nothing.
    pub(crate) idle: Duration,
    /// The pause before the second attempt; the next are each twice as long.
    pub(crate) first_pause: Duration,
    /// The longest pause.
    pub(crate) longest_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(10),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(5),
        }
    }
}

/// What is to be loaded.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) url: Url,
    /// What is kept already: it is loaded only if it is no longer the same.
    pub(super) known: Option<&'a Validators>,
    pub(super) checksum: Option<&'a Checksum>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    /// What is kept is still the same.
    NotModified,
    /// All of it, as it must be.
    Loaded { incoming: Incoming, validators: Validators },
}

/// What came in so far.
struct Part {
    incoming: Incoming,
    hasher: Hasher,
    validators: Validators,
    /// Whether the server said that it can go on in the middle.
    has_ranges: bool,
}

/// Loads something.
pub(super) async fn load(
    client: &Client,
    store: &Arc<Store>,
    timing: Timing,
    wanted: &Wanted<'_>,
) -> Result<Answer, Error> {
    let mut part = Part {
        incoming: store.begin()?,
        hasher: Hasher::new(wanted.checksum),
        validators: Validators::default(),
        has_ranges: false,
    };
    let mut back_off = BackOff::new(timing.first_pause, timing.longest_pause);
    let mut attempts = 1;
    loop {
        match attempt(client, store, timing, wanted, &mut part).await {
            Ok(true) => {
                let Part { incoming, hasher, validators, has_ranges: _ } = part;
                hasher.check(wanted.checksum)?;
                return Ok(Answer::Loaded { incoming, validators });
            }
            Ok(false) => return Ok(Answer::NotModified),
            Err(error) if attempts < ATTEMPTS_MAX && is_passing(&error) => {
                tracing::debug!(%error, attempts, "A download broke off; trying again.");
                attempts += 1;
                let jitter = Duration::from_millis(clock::wall_ns() % JITTER_MS);
                sleep(back_off.pause() + jitter.min(timing.first_pause)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether another attempt may go better.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Connection { .. } | Error::Stalled { .. } | Error::Status { .. } => true,
        Error::Url { .. }
        | Error::Checksum { .. }
        | Error::NoRoom { .. }
        | Error::NotCacheable
        | Error::Unpack(_)
        | Error::Disk { .. } => false,
    }
}

/// One attempt: whether all came in, or nothing because what is kept is still the same.
async fn attempt(
    client: &Client,
    store: &Arc<Store>,
    timing: Timing,
    wanted: &Wanted<'_>,
    part: &mut Part,
) -> Result<bool, Error> {
    let resumed_from = part.resumes_from();
    let request = client.get(wanted.url.clone()).headers(headers(wanted, part, resumed_from));
    let answered = timeout(timing.idle, request.send()).await;
    let mut response = answered.map_err(|_| stalled(timing))?.map_err(|error| broke(&error))?;
    match (response.status(), resumed_from) {
        (StatusCode::NOT_MODIFIED, None) if wanted.known.is_some() => return Ok(false),
        (StatusCode::PARTIAL_CONTENT, Some(from)) if begins_at(&response, from) => {}
        (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            part.has_ranges = false;
            let reason = "the server cannot go on where it broke off".to_owned();
            return Err(Error::Connection { reason });
        }
        (StatusCode::OK, _) => {
            part.incoming.begin_again()?;
            part.hasher = Hasher::new(wanted.checksum);
            part.note(response.headers());
        }
        (status, _) => return Err(Error::Status { status: status.as_u16() }),
    }
    if let Some(length) = response.content_length() {
        let all = part.incoming.bytes().saturating_add(length);
        let store = Arc::clone(store);
        // What goes for it goes elsewhere: that may take a while.
        off_runtime(move || store.clear_for(length)).await?;
        part.incoming.expect(all)?;
    }
    loop {
        let chunk = timeout(timing.idle, response.chunk()).await;
        match chunk.map_err(|_| stalled(timing))?.map_err(|error| broke(&error))? {
            Some(bytes) => {
                part.incoming.write(&bytes)?;
                part.hasher.update(&bytes);
            }
            None => return Ok(true),
        }
    }
}

impl Part {
    /// Where it can be gone on with: a weak tag does not say that the bytes are the same.
    fn resumes_from(&self) -> Option<u64> {
        let bytes = self.incoming.bytes();
        (bytes > 0 && self.has_ranges && self.unchanged_by().is_some()).then_some(bytes)
    }

    fn unchanged_by(&self) -> Option<&String> {
        let strong = self.validators.etag.as_ref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.validators.last_modified.as_ref())
    }

    fn note(&mut self, headers: &HeaderMap) {
        self.validators =
            Validators { etag: text(headers, &ETAG), last_modified: text(headers, &LAST_MODIFIED) };
        self.has_ranges = text(headers, &ACCEPT_RANGES).is_some_and(|unit| unit == "bytes");
    }
}

fn headers(wanted: &Wanted<'_>, part: &Part, resumed_from: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: Option<&String>| {
        if let Some(value) = value.and_then(|value| value.parse().ok()) {
            headers.insert(name, value);
        }
    };
    if let Some(from) = resumed_from {
        set(RANGE, Some(&format!("bytes={from}-")));
        set(IF_RANGE, part.unchanged_by());
    } else if let Some(known) = wanted.known {
        set(IF_NONE_MATCH, known.etag.as_ref());
        set(IF_MODIFIED_SINCE, known.last_modified.as_ref());
    }
    headers
}

fn begins_at(response: &Response, from: u64) -> bool {
    let range = text(response.headers(), &CONTENT_RANGE);
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn stalled(timing: Timing) -> Error {
    Error::Stalled { seconds: timing.idle.as_secs() }
}

fn broke(error: &reqwest::Error) -> Error {
    Error::Connection { reason: in_words(error) }
}
