//! The client of a control plane's GraphQL: one question, one answer, over HTTP.
//!
//! Knows the protocol, not the schema. Never prints; its errors never repeat a token or a variable.

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::graphql::AT_LEAST_HEADER;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take: longer than the server gives itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a foreign answer is told.
const FOUND_CHARACTERS_MAX: usize = 200;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given is not the address of a control plane.
    #[error("--api must be an address such as http://127.0.0.1:7400, but is {api:?}")]
    Address {
        /// What was given.
        api: String,
    },
    /// The token cannot be sent.
    #[error("the token must be one line of visible ASCII characters")]
    Token,
    /// The token would be readable on its way.
    #[error("the token would be sent to {api} in clear; name it by https://")]
    TokenInClear {
        /// Where it would be sent.
        api: String,
    },
    /// The certificates cannot be read.
    #[error("cannot read the certificates in --ca-file {path}")]
    CaFile {
        /// Where they should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("--ca-file {path} holds no certificates in PEM")]
    Certificates {
        /// Where they should be.
        path: PathBuf,
    },
    /// The HTTP client cannot be made.
    #[error("cannot prepare the connection")]
    Prepare(#[source] reqwest::Error),
    /// Nobody answers there.
    #[error(
        "cannot reach the control plane at {url}; start it with `diario dev`, \
         or name another with --api"
    )]
    Unreachable {
        /// Its address.
        url: String,
        /// What the system said.
        source: reqwest::Error,
    },
    /// The connection ended before the answer did; whether the question was heard is not known.
    #[error("the connection to the control plane at {url} was lost; try again")]
    Lost {
        /// Its address.
        url: String,
        /// What is known of it.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It refused.
    #[error(transparent)]
    Refused(Refusal),
    /// Something else listens there, or another version.
    #[error("{url} does not answer as this version's control plane does ({found}); check --api")]
    Unexpected {
        /// Its address.
        url: String,
        /// What it said.
        found: String,
    },
}

impl Error {
    /// Whether the question may have been heard all the same.
    pub(super) fn is_uncertain(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Unexpected { .. } => true,
            Self::Refused(refusal) => {
                matches!(refusal.code.as_str(), "OUTCOME_UNKNOWN" | "TIMEOUT")
            }
            Self::Address { .. }
            | Self::Token
            | Self::TokenInClear { .. }
            | Self::CaFile { .. }
            | Self::Certificates { .. }
            | Self::Prepare(_)
            | Self::Unreachable { .. } => false,
        }
    }
}

/// What a control plane said against a question.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct Refusal {
    /// Why, in words.
    pub message: String,
    /// A stable name for programs, such as `NOT_FOUND`.
    pub code: String,
    /// Which fields are not what they must be, each with what it must be.
    pub fields: Vec<(String, String)>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.code == "UNAUTHENTICATED" {
            f.write_str("; give it with --token-file or DIARIO_TOKEN")?;
        }
        if self.code.is_empty() { Ok(()) } else { write!(f, " ({})", self.code) }
    }
}

impl Refusal {
    /// The first of a list of GraphQL errors; `None` when there is none.
    pub(super) fn first_of(errors: &Value) -> Option<Self> {
        #[derive(Deserialize)]
        struct Told {
            message: String,
            #[serde(default)]
            extensions: Extensions,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Extensions {
            code: String,
            fields: Vec<Field>,
        }
        #[derive(Deserialize)]
        struct Field {
            field: String,
            problem: String,
        }
        let first = errors.as_array()?.first()?;
        let told = Told::deserialize(first).ok()?;
        let fields = told.extensions.fields.into_iter().map(|it| (it.field, it.problem)).collect();
        Some(Self { message: told.message, code: told.extensions.code, fields })
    }
}

/// A way to one control plane.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Where it answers.
    pub(super) endpoint: reqwest::Url,
    /// What it is called in errors.
    pub(super) url: String,
    /// How far the view must be that answers: what this program was answered last, or was told.
    at_least: Arc<Mutex<Option<String>>>,
}

impl Client {
    /// Prepares a way; nothing is sent yet. `ca_file` holds the only certificates to trust, in
    /// PEM; without it those of this machine are.
    ///
    /// # Errors
    /// When address, token or certificates cannot be used.
    pub fn new(api_url: &str, token: Option<&str>, ca_file: Option<&Path>) -> Result<Self, Error> {
        let malformed = || Error::Address { api: api_url.to_owned() };
        let base: reqwest::Url = api_url.parse().map_err(|_| malformed())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(malformed());
        }
        let is_plain = base.scheme() == "http";
        if token.is_some() && is_plain && !is_loopback(&base) {
            return Err(Error::TokenInClear { api: api_url.to_owned() });
        }
        let endpoint = base.join("/graphql").map_err(|_| malformed())?;
        // Ignored when the program has installed a provider: there is only this one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(authorization(token)?);
        if let Some(path) = ca_file {
            builder = builder.tls_certs_only(certificates(path)?);
        } else if is_plain {
            // The machine's own certificates are not looked for: there may be none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(Error::Prepare)?;
        let url = api_url.trim_end_matches('/').to_owned();
        Ok(Self { http, endpoint, url, at_least: Arc::default() })
    }

    /// From now on an answer must show the log up to a position or cursor, whichever node gives it.
    pub(super) fn read_at_least(&self, at_least: String) {
        *self.at_least.lock().unwrap_or_else(PoisonError::into_inner) = Some(at_least);
    }

    /// Asks one question and gives its `data`.
    ///
    /// # Errors
    /// When nobody answers, the answer is a refusal, or it is not one of a control plane.
    pub async fn query(&self, document: &str, variables: Value) -> Result<Value, Error> {
        let question = json!({ "query": document, "variables": variables });
        let mut request =
            self.http.post(self.endpoint.clone()).timeout(ANSWER_TIMEOUT).json(&question);
        let at_least = self.at_least.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(at_least) = at_least {
            request = request.header(AT_LEAST_HEADER, at_least);
        }
        let response = request.send().await.map_err(|failure| self.failed(failure))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|failure| self.failed(failure))?;
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
            let text: String =
                String::from_utf8_lossy(&body).chars().take(FOUND_CHARACTERS_MAX).collect();
            return Err(self.unexpected(format!("status {status}: {}", text.trim())));
        };
        match Refusal::first_of(&answer["errors"]) {
            Some(refusal) => Err(Error::Refused(refusal)),
            None if answer["data"].is_object() => Ok(answer["data"].take()),
            None => Err(self.unexpected(format!("status {status}, without data"))),
        }
    }

    /// Reads a part of an answer.
    ///
    /// # Errors
    /// When the part is not there, or is not of the form that this version knows.
    pub fn part<T: DeserializeOwned>(&self, answer: &Value, pointer: &str) -> Result<T, Error> {
        let part = answer.pointer(pointer).unwrap_or(&Value::Null);
        T::deserialize(part).map_err(|failure| self.unexpected(format!("{pointer}: {failure}")))
    }

    /// Begins a request to the same place.
    pub(super) fn get(&self) -> reqwest::RequestBuilder {
        self.http.get(self.endpoint.clone())
    }

    /// A request that has failed.
    pub(super) fn failed(&self, source: reqwest::Error) -> Error {
        let url = self.url.clone();
        if source.is_connect() {
            // The address is told already.
            Error::Unreachable { url, source: source.without_url() }
        } else {
            Error::Lost { url, source: Some(source.without_url().into()) }
        }
    }

    /// An answer that is not one.
    pub(super) fn unexpected(&self, found: impl Into<String>) -> Error {
        Error::Unexpected { url: self.url.clone(), found: found.into() }
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authorization(token: Option<&str>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        if token.is_empty() || !token.chars().all(|character| character.is_ascii_graphic()) {
            return Err(Error::Token);
        }
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, Error> {
    let pem = fs::read(path).map_err(|source| Error::CaFile { path: path.to_owned(), source })?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        return Err(Error::Certificates { path: path.to_owned() });
    }
    Ok(found)
}
