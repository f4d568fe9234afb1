//! Makes the calls: POSTs over HTTP, up to three in a row, within the time that resolving gives.
//!
//! As Diego's, any status but 503 and 504 is an answer, also 404 and 500: the receiver was reached,
//! and what it makes of the call is its business; the status is in the log. Unlike Diego's, a
//! redirect is not followed, and is no answer: the result would go where nobody asked for it. The
//! answer's body is not read. No error repeats the URL, which may hold credentials, nor its host.

use std::{
    error::Error,
    io, iter,
    sync::{Arc, OnceLock},
    time::Duration,
};

use domain::{
    bbs::task::{CallbackOutcome, Calls, KICK_AFTER},
    sealed::PlainText,
};
use projections::event_store::keys::Keyring;
use reqwest::{StatusCode, Url, header::CONTENT_TYPE, redirect};
use tokio::time::{Instant, timeout_at};

use super::call::Call;

/// How often a client is called in a row (Diego's `MAX_CB_RETRIES`).
const ATTEMPTS_MAX: u32 = 3;
/// How much earlier than the demotion of its task a run of calls ends.
const MARGIN: Duration = Duration::from_secs(1);
/// How the HTTP client's connector tells that a name was not found.
const NO_ADDRESS: &str = "dns error";

/// How calls are made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The most that one call may take (Diego's `communication_timeout`).
    pub timeout: Duration,
    /// How many calls are open at once (Diego: 1000; a file descriptor each).
    pub calls_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), calls_max: 256 }
    }
}

/// Makes calls.
#[derive(Debug)]
pub(super) struct Client {
    keyring: Arc<Keyring>,
    settings: Settings,
    http: OnceLock<reqwest::Client>,
    https: OnceLock<reqwest::Client>,
}

/// What one POST came to.
enum Answer {
    /// It is over, one way or the other.
    Final(CallbackOutcome),
    /// It may be tried again at once.
    Passing(String),
}

impl Client {
    pub(super) fn new(keyring: Arc<Keyring>, settings: Settings) -> Self {
        Self { keyring, settings, http: OnceLock::new(), https: OnceLock::new() }
    }

    /// Calls until there is an answer, or the attempts or the time are used up.
    pub(super) async fn call(&self, call: &Call) -> Calls {
        let deadline = Instant::now() + KICK_AFTER.duration().saturating_sub(MARGIN);
        let (url, http) = match self.prepare(call).await {
            Ok(prepared) => prepared,
            Err(reason) => return Calls { attempts: 1, outcome: CallbackOutcome::Failed(reason) },
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let posted = timeout_at(deadline, self.post(http, &url, &call.body)).await;
            let answer = posted.unwrap_or_else(|_| Answer::Passing(no_answer(self.settings)));
            let has_time = Instant::now() < deadline;
            match answer {
                Answer::Final(outcome) => return Calls { attempts, outcome },
                Answer::Passing(_) if attempts < ATTEMPTS_MAX && has_time => {}
                Answer::Passing(reason) => {
                    return Calls { attempts, outcome: CallbackOutcome::Failed(reason) };
                }
            }
        }
    }

    async fn prepare(&self, call: &Call) -> Result<(Url, &reqwest::Client), String> {
        let opened = self.keyring.open_sealed(&call.owner(), &call.url).await;
        let PlainText(url) = opened.map_err(|failure| format!("cannot open the URL: {failure}"))?;
        let url = Url::parse(&url).map_err(|failure| format!("the URL is malformed: {failure}"))?;
        let (kept, certificates) = match url.scheme() {
            "http" => (&self.http, Some([])),
            _ => (&self.https, None),
        };
        if let Some(client) = kept.get() {
            return Ok((url, client));
        }
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(self.settings.timeout);
        if let Some(none) = certificates {
            // The machine's own certificates are not looked for: there may be none.
            builder = builder.tls_certs_only(none);
        }
        let client = builder.build().map_err(|failure| cause(&failure, "cannot use TLS"))?;
        Ok((url, kept.get_or_init(|| client)))
    }

    async fn post(&self, http: &reqwest::Client, url: &Url, body: &[u8]) -> Answer {
        let request = http.post(url.clone()).header(CONTENT_TYPE, "application/json");
        match request.body(body.to_vec()).send().await {
            Ok(response) => judge(response.status()),
            Err(failure) if failure.is_timeout() => Answer::Passing(no_answer(self.settings)),
            Err(failure) if failure.is_connect() => {
                Answer::Final(CallbackOutcome::Failed(cause(&failure, "cannot connect")))
            }
            Err(failure) => {
                Answer::Final(CallbackOutcome::Failed(cause(&failure, "no HTTP answer")))
            }
        }
    }
}

fn judge(status: StatusCode) -> Answer {
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Answer::Passing(format!("answered with HTTP status {}", status.as_u16()))
        }
        status if status.is_redirection() => {
            let status = status.as_u16();
            let reason = format!("redirected with HTTP status {status}, which is not followed");
            Answer::Final(CallbackOutcome::Failed(reason))
        }
        status => Answer::Final(CallbackOutcome::Delivered(status.as_u16())),
    }
}

fn no_answer(settings: Settings) -> String {
    format!("no answer within {} ms", settings.timeout.as_millis())
}

/// What failed, and of which kind that is. An error's own text is not repeated: it may name the
/// peer, and where a client is called is its secret.
fn cause(failure: &reqwest::Error, what: &str) -> String {
    match kind_of(failure) {
        Some(kind) => format!("{what}: {kind}"),
        None => what.to_owned(),
    }
}

/// The kind of the innermost cause that has one.
fn kind_of(failure: &(dyn Error + 'static)) -> Option<String> {
    let causes = iter::successors(Some(failure), |&failure| failure.source());
    let kinds = causes.filter_map(|cause| {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some(kind_of_tls(tls).to_owned());
        }
        if let Some(http) = cause.downcast_ref::<hyper::Error>() {
            return kind_of_http(http).map(str::to_owned);
        }
        if cause.to_string() == NO_ADDRESS {
            return Some("its name has no address".to_owned());
        }
        cause.downcast_ref::<io::Error>().and_then(kind_of_io)
    });
    kinds.last()
}

/// TLS comes wrapped, sometimes twice.
fn kind_of_io(failure: &io::Error) -> Option<String> {
    if let Some(inner) = failure.get_ref() {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Some(kind_of_tls(tls).to_owned());
        }
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return kind_of_io(inner);
        }
    }
    Some(failure.kind()).filter(|kind| *kind != io::ErrorKind::Other).map(|kind| kind.to_string())
}

fn kind_of_tls(failure: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Problem;
    let rustls::Error::InvalidCertificate(problem) = failure else {
        let is_refused = matches!(failure, rustls::Error::AlertReceived(_));
        return if is_refused {
            "it refused the TLS handshake"
        } else {
            "the TLS handshake failed"
        };
    };
    if matches!(problem, Problem::NotValidForName | Problem::NotValidForNameContext { .. }) {
        "its certificate is for another name"
    } else if matches!(problem, Problem::Expired | Problem::ExpiredContext { .. }) {
        "its certificate has expired"
    } else if matches!(problem, Problem::NotValidYet | Problem::NotValidYetContext { .. }) {
        "its certificate is not valid yet"
    } else if matches!(problem, Problem::UnknownIssuer) {
        "its certificate is of an unknown issuer"
    } else {
        "its certificate is not valid"
    }
}

fn kind_of_http(failure: &hyper::Error) -> Option<&'static str> {
    if failure.is_parse() {
        Some("the answer is no HTTP")
    } else if failure.is_incomplete_message() || failure.is_closed() {
        Some("the connection was closed")
    } else {
        None
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tls_tests;
