//! The clients that downloads and uploads are made with, made when they are first needed.
//!
//! A URL may hold credentials: none is ever part of an error or a log line.

use std::error::Error as _;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, Url};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One client, and one for machines that have no certificates to trust.
#[derive(Debug, Default)]
pub(super) struct HttpClients {
    whole: OnceLock<Client>,
    without_tls: OnceLock<Client>,
}

impl HttpClients {
    /// The address of a URL, and the client to reach it.
    ///
    /// # Errors
    /// In words that do not repeat the URL.
    pub(super) fn reach(&self, url: &str) -> Result<(Url, &Client), String> {
        let url = Url::parse(url).map_err(|error| format!("Failed to parse URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("Failed to parse URL: it is neither http nor https".to_owned());
        }
        if let Some(client) = self.whole.get() {
            return Ok((url, client));
        }
        // Another part of the program may have chosen the cryptography already; both are the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = || Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        match builder().build() {
            Ok(client) => Ok((url, self.whole.get_or_init(|| client))),
            Err(_) if url.scheme() == "http" => {
                let client = builder().tls_certs_only([]).build();
                let client = client.map_err(|error| in_words(&error))?;
                Ok((url, self.without_tls.get_or_init(|| client)))
            }
            Err(error) => Err(in_words(&error)),
        }
    }
}

/// Why a request failed, from its root, without its URL.
pub(super) fn in_words(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut words = None;
    while let Some(cause) = source {
        words = Some(cause.to_string());
        source = cause.source();
    }
    words.unwrap_or_else(|| {
        let what = match (error.is_timeout(), error.is_builder()) {
            (true, _) => "the server did not answer in time",
            (_, true) => "the request cannot be made",
            (false, false) => "the request failed",
        };
        what.to_owned()
    })
}
