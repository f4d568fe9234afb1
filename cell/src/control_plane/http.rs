//! The control plane over HTTP: the client that makes the requests, over one or several nodes.
//!
//! Asks the node that answered last, and another when that one is not reached. Never logs a body:
//! definitions hold secrets.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::bbs::definition::Definition;
use domain::id::CellId;
use domain::log::{CellEpoch, Incarnation, Position};
use domain::rep::{
    Assignment, HeartbeatAnswer, HeartbeatRequest, ObservationsAnswer, ObservationsRequest,
    RegisterAnswer, RegisterRequest, ReportsAnswer, ReportsRequest,
};
use domain::sealed::{Digest, PlainText};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ControlPlane, EPOCH_PASSED, Error, address};
use crate::config::ControlPlaneConfig;

/// The control plane holds a long poll for 20 s; this is when a silent one is given up.
const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The control plane over HTTP. Says in the log once when it is lost, and once when it is back.
#[derive(Debug)]
pub struct HttpControlPlane {
    client: Client,
    bases: Vec<String>,
    /// Which of them answered last.
    current: AtomicUsize,
    /// The newest position that a node told: another that is behind it is waited for.
    seen: AtomicU64,
    /// Of which life of the log the last list was.
    incarnation: Mutex<Option<Incarnation>>,
    cell_id: CellId,
    token: PlainText,
    request_timeout: Duration,
    is_reachable: AtomicBool,
}

/// A list, and of which life of the log its position is.
#[derive(Debug, Deserialize)]
struct Assigned {
    #[serde(flatten)]
    assignment: Assignment,
    #[serde(default)]
    incarnation: Option<Incarnation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    code: String,
    message: String,
}

impl HttpControlPlane {
    /// Makes the client; reaches out to nobody yet.
    ///
    /// # Errors
    /// There is no address, one is not of HTTP, or of HTTP without TLS to another machine, or the
    /// certificates cannot be read.
    pub fn new(config: &ControlPlaneConfig, cell_id: CellId) -> Result<Self, Error> {
        if config.urls.is_empty() {
            let reason = "no address is given".to_owned();
            return Err(Error::Settings { reason });
        }
        config.urls.iter().try_for_each(|url| address::check(url))?;
        let base = |url: &String| format!("{}/cell/v1", url.trim_end_matches('/'));
        Ok(Self {
            client: client(config)?,
            bases: config.urls.iter().map(base).collect(),
            current: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            incarnation: Mutex::default(),
            cell_id,
            token: config.token.clone(),
            request_timeout: config.request_timeout.duration(),
            is_reachable: AtomicBool::new(true),
        })
    }

    fn request(&self, base: &str, method: &Method, path: &str) -> RequestBuilder {
        self.client
            .request(method.clone(), format!("{base}/{path}"))
            .bearer_auth(&self.token.0)
            .header("X-Diario-Cell", self.cell_id.as_str())
            .timeout(self.request_timeout)
    }

    /// Asks the node that answered last, and the others in turn while none is reached. Whatever is
    /// asked may be asked twice: the control plane knows it by its number.
    async fn ask<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        prepare: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<T, Error> {
        let first = self.current.load(Ordering::Relaxed);
        let mut outcome = Err(Error::Settings { reason: "no address is given".to_owned() });
        for number in first..first.saturating_add(self.bases.len()) {
            let number = number % self.bases.len();
            let Some(base) = self.bases.get(number) else { break };
            outcome = answer(operation, prepare(self.request(base, &method, path))).await;
            if !matches!(outcome, Err(Error::Unreachable { .. })) {
                self.current.store(number, Ordering::Relaxed);
                break;
            }
        }
        self.note(&outcome);
        outcome
    }

    /// Positions of two lives of the log cannot be compared: in another one than before the cell
    /// registers anew.
    fn check_incarnation(
        &self,
        operation: &'static str,
        found: Option<Incarnation>,
    ) -> Result<(), Error> {
        let mut known = self.incarnation.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = known.is_some() && *known != found;
        *known = found;
        if is_other {
            self.seen.store(0, Ordering::Relaxed);
            return Err(Error::Refused {
                operation,
                code: EPOCH_PASSED.to_owned(),
                message: "the log was restored: this is another life of it".to_owned(),
            });
        }
        Ok(())
    }

    fn note<T>(&self, outcome: &Result<T, Error>) {
        match outcome {
            Err(error @ Error::Unreachable { source, .. }) => {
                if self.is_reachable.swap(false, Ordering::Relaxed) {
                    tracing::warn!(%error, cause = %root_cause(source.as_ref()),
                        "The control plane is not reached; trying again until it is.");
                }
            }
            Ok(_) | Err(Error::Refused { .. } | Error::Settings { .. }) => {
                if !self.is_reachable.swap(true, Ordering::Relaxed) {
                    tracing::info!("The control plane is reached again.");
                }
            }
        }
    }
}

async fn answer<T: DeserializeOwned>(
    operation: &'static str,
    request: RequestBuilder,
) -> Result<T, Error> {
    let unreachable =
        |source: reqwest::Error| Error::Unreachable { operation, source: source.into() };
    match request.send().await.map_err(unreachable) {
        Ok(response) if response.status() == StatusCode::OK => {
            response.json().await.map_err(unreachable)
        }
        Ok(response) => Err(refusal(operation, response).await),
        Err(error) => Err(error),
    }
}

fn client(config: &ControlPlaneConfig) -> Result<Client, Error> {
    let settings = |reason: String| Error::Settings { reason };
    // Another part of the program may have chosen the cryptography already; both are the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
    if let Some(path) = &config.ca_file {
        let cannot =
            |error: &dyn std::fmt::Display| settings(format!("{}: {error}", path.display()));
        let pem = std::fs::read(path).map_err(|error| cannot(&error))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| cannot(&error))?;
        builder = builder.tls_certs_only(certificates);
    } else if config.urls.iter().all(|url| url.starts_with("http://")) {
        // Without TLS the machine's certificates are not looked for: there may be none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| settings(error.to_string()))
}

async fn refusal(operation: &'static str, response: Response) -> Error {
    let status = response.status();
    let body: ErrorBody = response.json().await.unwrap_or_default();
    // Too large, or not what is understood: from the server's own edge, without a code.
    if body.code.is_empty() && matches!(status.as_u16(), 400 | 413 | 422) {
        let code = format!("HTTP_{}", status.as_u16());
        return Error::Refused { operation, code, message: body.message };
    }
    if body.code.is_empty() || status.is_server_error() {
        let source = format!("status {status}: {}", body.message).into();
        return Error::Unreachable { operation, source };
    }
    Error::Refused { operation, code: body.code, message: body.message }
}

fn root_cause<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

#[async_trait]
impl ControlPlane for HttpControlPlane {
    async fn register(&self, request: &RegisterRequest) -> Result<RegisterAnswer, Error> {
        let json = |post: RequestBuilder| post.json(request);
        let answer: RegisterAnswer =
            self.ask("register the cell", Method::POST, "register", json).await?;
        self.seen.store(answer.head.0, Ordering::Relaxed);
        Ok(answer)
    }

    async fn heartbeat(&self, request: &HeartbeatRequest) -> Result<HeartbeatAnswer, Error> {
        let json = |post: RequestBuilder| post.json(request);
        let answer: HeartbeatAnswer =
            self.ask("send a heartbeat", Method::POST, "heartbeat", json).await?;
        self.seen.fetch_max(answer.head.0, Ordering::Relaxed);
        Ok(answer)
    }

    async fn assignment(&self, after: Position, epoch: CellEpoch) -> Result<Assignment, Error> {
        let seen = self.seen.load(Ordering::Relaxed);
        let path = format!("assignment?after={after}&epoch={}&seen={seen}", epoch.0);
        let operation = "fetch the assignment";
        let long = |get: RequestBuilder| get.timeout(LONG_POLL_TIMEOUT);
        let assigned: Assigned = self.ask(operation, Method::GET, &path, long).await?;
        self.check_incarnation(operation, assigned.incarnation)?;
        Ok(assigned.assignment)
    }

    async fn definition(&self, digest: Digest) -> Result<Definition<PlainText>, Error> {
        let path = format!("definitions/{digest}");
        self.ask("fetch a definition", Method::GET, &path, |get| get).await
    }

    async fn reports(&self, request: &ReportsRequest) -> Result<ReportsAnswer, Error> {
        let json = |post: RequestBuilder| post.json(request);
        self.ask("hand reports in", Method::POST, "reports", json).await
    }

    async fn observations(
        &self,
        request: &ObservationsRequest,
    ) -> Result<ObservationsAnswer, Error> {
        let json = |post: RequestBuilder| post.json(request);
        self.ask("hand observations in", Method::POST, "observations", json).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with a canned text, and gives what was asked.
    async fn ask(
        answer: &'static str,
        ask: impl AsyncFnOnce(HttpControlPlane) -> Result<Assignment, Error>,
    ) -> (String, Result<Assignment, Error>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        let config = ControlPlaneConfig {
            urls: vec![url],
            ca_file: None,
            token: PlainText("hunter2".to_owned()),
            request_timeout: domain::units::Milliseconds::from_seconds(5),
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        let plane = HttpControlPlane::new(&config, CellId::new("cell-1").unwrap()).unwrap();
        let answered = ask(plane).await;
        (server.join().unwrap(), answered)
    }

    #[tokio::test]
    async fn a_request_says_who_asks_and_an_answer_is_read() {
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
            {\"position\":9,\"cell_epoch\":2,\"work\":[]}";

        let (asked, answered) =
            ask(answer, async |plane| plane.assignment(Position(7), CellEpoch(2)).await).await;

        let line = "GET /cell/v1/assignment?after=7&epoch=2&seen=0 HTTP/1.1\r\n";
        assert!(asked.starts_with(line), "{asked}");
        assert!(asked.contains("authorization: Bearer hunter2\r\n"), "{asked}");
        assert!(asked.contains("x-diario-cell: cell-1\r\n"), "{asked}");
        assert_eq!(answered.unwrap().position, Position(9));
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_what_was_not_reached() {
        let refused = "HTTP/1.1 409 Conflict\r\nConnection: close\r\n\r\n\
            {\"code\":\"CELL_EPOCH_PASSED\",\"message\":\"old\"}";
        let broken = "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\nNo.";

        let poll =
            async |plane: HttpControlPlane| plane.assignment(Position(0), CellEpoch(1)).await;
        let (_, refused) = ask(refused, poll).await;
        let (_, broken) = ask(broken, poll).await;

        assert!(refused.unwrap_err().is_epoch_passed());
        assert!(matches!(broken.unwrap_err(), Error::Unreachable { .. }));
    }

    /// Answers requests with canned texts, each on a connection of its own.
    fn serve(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        url
    }

    #[tokio::test]
    async fn the_next_node_is_asked_when_one_does_not_answer_and_another_life_of_the_log_is_noticed()
     {
        const BROKEN: &str = "HTTP/1.1 503 No\r\nConnection: close\r\n\r\n";
        const ONE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
            {\"position\":9,\"cell_epoch\":2,\"work\":[],\
            \"incarnation\":\"00000000-0000-0000-0000-000000000001\"}";
        const OTHER: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
            {\"position\":3,\"cell_epoch\":2,\"work\":[],\
            \"incarnation\":\"00000000-0000-0000-0000-000000000002\"}";
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = ControlPlaneConfig {
            urls: vec![format!("http://{nobody}"), serve(&[BROKEN]), serve(&[ONE, OTHER, OTHER])],
            ca_file: None,
            token: PlainText(String::new()),
            request_timeout: domain::units::Milliseconds::from_seconds(5),
        };
        let plane = HttpControlPlane::new(&config, CellId::new("c").unwrap()).unwrap();

        let poll = async || plane.assignment(Position(0), CellEpoch(2)).await;
        assert_eq!(poll().await.unwrap().position, Position(9));
        assert!(poll().await.unwrap_err().is_epoch_passed());
        assert_eq!(poll().await.unwrap().position, Position(3));
    }

    #[test]
    fn an_address_over_which_secrets_would_travel_in_clear_is_refused() {
        let config = ControlPlaneConfig {
            urls: vec!["http://127.0.0.1:7400".to_owned(), "http://10.0.0.1:7400".to_owned()],
            ca_file: None,
            token: PlainText(String::new()),
            request_timeout: domain::units::Milliseconds(1),
        };

        assert!(HttpControlPlane::new(&config, CellId::new("c").unwrap()).is_err());
    }
}
