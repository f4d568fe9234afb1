//! A GraphQL subscription over a WebSocket (`graphql-transport-ws`), and following one across lost
//! connections.
//!
//! Knows the protocol, not the schema. The socket is an upgraded request of the client's own HTTP,
//! so that TLS and token are the same.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{
    StatusCode, Upgraded,
    header::{
        CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

use super::client::{Client, Error, Refusal};
use crate::output;

const PROTOCOL: &str = "graphql-transport-ws";
/// A subscription's id; there is one on each socket.
const ID: &str = "1";
/// How long the handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The server pings every 20 s: one that was silent this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The pause before a lost connection is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One subscription on a socket of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    socket: WebSocketStream<Upgraded>,
    client: Client,
}

impl Client {
    /// Begins a subscription.
    ///
    /// # Errors
    /// When nobody answers, or the answer is not one of a control plane. Whether the control plane
    /// takes the document is told by the first `next` of it.
    pub async fn subscribe(&self, document: &str, variables: Value) -> Result<Subscription, Error> {
        let begun = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.begin(document, variables));
        begun.await.unwrap_or_else(|elapsed| Err(self.lost(elapsed)))
    }

    async fn begin(&self, document: &str, variables: Value) -> Result<Subscription, Error> {
        let socket = self.open_socket().await?;
        let mut subscription = Subscription { socket, client: self.clone() };
        subscription.send(&json!({ "type": "connection_init" })).await?;
        let acknowledged = subscription.receive().await?;
        match acknowledged {
            Some(message) if message["type"] == "connection_ack" => {}
            Some(_) => return Err(self.unexpected("no connection_ack on the WebSocket")),
            None => return Err(self.closed()),
        }
        let payload = json!({ "query": document, "variables": variables });
        subscription.send(&json!({ "type": "subscribe", "id": ID, "payload": payload })).await?;
        Ok(subscription)
    }

    async fn open_socket(&self) -> Result<WebSocketStream<Upgraded>, Error> {
        let key = generate_key();
        let request = self
            .get()
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .header(SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        let response = request.send().await.map_err(|failure| self.failed(failure))?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let body = response.bytes().await.map_err(|failure| self.failed(failure))?;
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            return Err(match Refusal::first_of(&answer["errors"]) {
                Some(refusal) => Error::Refused(refusal),
                None => self.unexpected(format!("status {status} instead of a WebSocket")),
            });
        }
        let is_ours = header(response.headers(), SEC_WEBSOCKET_ACCEPT.as_str())
            == Some(&derive_accept_key(key.as_bytes()))
            && header(response.headers(), SEC_WEBSOCKET_PROTOCOL.as_str()) == Some(PROTOCOL);
        if !is_ours {
            return Err(self.unexpected("a WebSocket of another protocol"));
        }
        let upgraded = response.upgrade().await.map_err(|failure| self.failed(failure))?;
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
    }

    fn lost(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Lost { url: self.url.clone(), source: Some(Box::new(source)) }
    }

    fn closed(&self) -> Error {
        Error::Lost { url: self.url.clone(), source: None }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Subscription {
    /// Waits for the next `data`; `None` when the control plane has ended the subscription.
    ///
    /// # Errors
    /// When the connection is lost, or the control plane refuses to go on.
    pub async fn next(&mut self) -> Result<Option<Value>, Error> {
        loop {
            let Some(mut message) = self.receive().await? else {
                return Err(self.client.closed());
            };
            match message["type"].as_str().unwrap_or_default() {
                "next" => {
                    let mut payload = message["payload"].take();
                    return match Refusal::first_of(&payload["errors"]) {
                        Some(refusal) => Err(Error::Refused(refusal)),
                        None => Ok(Some(payload["data"].take())),
                    };
                }
                "error" => {
                    return Err(match Refusal::first_of(&message["payload"]) {
                        Some(refusal) => Error::Refused(refusal),
                        None => self.client.unexpected("an error without words"),
                    });
                }
                "complete" => return Ok(None),
                "ping" => self.send(&json!({ "type": "pong" })).await?,
                // A pong, or what a newer protocol adds.
                _ => {}
            }
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), Error> {
        let message = Message::Text(Utf8Bytes::from(message.to_string()));
        self.socket.send(message).await.map_err(|failure| self.client.lost(failure))
    }

    /// The next message; `None` when the other side has closed the socket.
    async fn receive(&mut self) -> Result<Option<Value>, Error> {
        loop {
            let received = tokio::time::timeout(SILENCE_MAX, self.socket.next()).await;
            let received = received.map_err(|elapsed| self.client.lost(elapsed))?;
            let Some(received) = received else { return Ok(None) };
            match received.map_err(|failure| self.client.lost(failure))? {
                Message::Text(text) => {
                    let message = serde_json::from_str(&text);
                    let malformed = |_| self.client.unexpected("a message that is not JSON");
                    return message.map(Some).map_err(malformed);
                }
                Message::Close(frame) => return self.judge_close(frame.as_ref()),
                // Reading answers pings by itself.
                Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The protocol closes with 4400 and more where it refuses.
    fn judge_close(
        &self,
        frame: Option<&tokio_tungstenite::tungstenite::protocol::CloseFrame>,
    ) -> Result<Option<Value>, Error> {
        match frame {
            Some(frame) if (4400..4500).contains(&u16::from(frame.code)) => {
                let code = if u16::from(frame.code) == 4401 { "UNAUTHENTICATED" } else { "" };
                Err(Error::Refused(Refusal {
                    message: format!("the control plane refuses: {}", frame.reason),
                    code: code.to_owned(),
                    fields: Vec::new(),
                }))
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// What a follower does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on; after a break behind this cursor.
    GoOn(String),
    /// It has seen what it wanted.
    Stop,
}

/// Follows a subscription, over and over where the connection is lost, until `take` says stop or
/// the control plane refuses. `variables` are those of a subscription behind a cursor.
pub(super) async fn follow<E: From<Error>>(
    client: &Client,
    document: &str,
    mut cursor: Option<String>,
    variables: impl Fn(Option<&str>) -> Value,
    mut take: impl FnMut(&Value) -> Result<Step, E>,
) -> Result<(), E> {
    let mut subscription = client.subscribe(document, variables(cursor.as_deref())).await?;
    loop {
        match subscription.next().await {
            Ok(Some(data)) => match take(&data)? {
                Step::GoOn(next) => cursor = Some(next),
                Step::Stop => return Ok(()),
            },
            Err(failure) if !passes(&failure) => return Err(failure.into()),
            Ok(None) | Err(_) => {
                output::progress("The connection was lost; trying again until it is back.");
                subscription = again(client, document, variables(cursor.as_deref())).await?;
            }
        }
    }
}

/// Whether the same question is expected to be answered later.
fn passes(failure: &Error) -> bool {
    match failure {
        Error::Lost { .. } | Error::Unreachable { .. } => true,
        // The log cannot be read just now.
        Error::Refused(refusal) => refusal.code == "UNAVAILABLE",
        Error::Address { .. }
        | Error::Token
        | Error::TokenInClear { .. }
        | Error::CaFile { .. }
        | Error::Certificates { .. }
        | Error::Prepare(_)
        | Error::Unexpected { .. } => false,
    }
}

/// Subscribes again as soon as the control plane is there again.
async fn again(client: &Client, document: &str, variables: Value) -> Result<Subscription, Error> {
    loop {
        tokio::time::sleep(RETRY_AFTER).await;
        match client.subscribe(document, variables.clone()).await {
            Err(failure) if passes(&failure) => {}
            other => return other,
        }
    }
}
