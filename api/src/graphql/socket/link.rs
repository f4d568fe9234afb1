//! A WebSocket as messages of the protocol, with a bound on how long one may wait for its reader.

use axum::extract::ws::{Message, WebSocket};
use domain::log::Cursor;
use futures_util::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tracing::{debug, error};

use super::messages::{ClientMessage, Close, ServerMessage};
use crate::http::limits::SocketLimits;

/// What came from the client.
pub(super) enum Frame {
    /// A message of the protocol.
    Message(ClientMessage),
    /// A sign of life, and nothing else.
    Alive,
    /// Something else than a message of the protocol.
    Malformed,
    /// The client is no longer there.
    Gone,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The client is no longer there.
    Gone,
    /// The client takes nothing.
    TooSlow,
}

impl Unsent {
    /// Why the socket is closed then. `last` is up to where the reader has read the log.
    pub(super) fn close(self, last: Option<Cursor>) -> Close {
        match self {
            Self::Gone => Close::Gone,
            Self::TooSlow => Close::TooSlow { last },
        }
    }
}

/// One WebSocket.
pub(super) struct Link {
    sink: SplitSink<WebSocket, Message>,
    frames: SplitStream<WebSocket>,
    limits: SocketLimits,
}

impl Link {
    /// A socket, and how long its reader may let a message wait.
    pub(super) fn new(socket: WebSocket, limits: SocketLimits) -> Self {
        let (sink, frames) = socket.split();
        Self { sink, frames, limits }
    }

    /// Waits for the next frame. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> Frame {
        match self.frames.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                Ok(message) => Frame::Message(message),
                Err(_) => Frame::Malformed,
            },
            Some(Ok(Message::Binary(_))) => Frame::Malformed,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Frame::Alive,
            Some(Ok(Message::Close(_)) | Err(_)) | None => Frame::Gone,
        }
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &ServerMessage<'_>) -> Result<(), Unsent> {
        let message = encoded(message)?;
        within(self.limits, self.sink.send(message)).await
    }

    /// Puts a message behind those that go out with the next [`Link::flush`], which costs the
    /// system one call for all of them.
    pub(super) async fn put(&mut self, message: &ServerMessage<'_>) -> Result<(), Unsent> {
        let message = encoded(message)?;
        // Nearly always there is room, and no timer is needed.
        let fed = self.sink.feed(message);
        tokio::pin!(fed);
        match (&mut fed).now_or_never() {
            Some(fed) => fed.map_err(|_| Unsent::Gone),
            None => within(self.limits, fed).await,
        }
    }

    /// Sends what was put.
    pub(super) async fn flush(&mut self) -> Result<(), Unsent> {
        let flushed = self.sink.flush();
        tokio::pin!(flushed);
        match (&mut flushed).now_or_never() {
            Some(flushed) => flushed.map_err(|_| Unsent::Gone),
            None => within(self.limits, flushed).await,
        }
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), Close> {
        let ping = Message::Ping(Vec::new().into());
        let sent = within(self.limits, self.sink.send(ping)).await;
        sent.map_err(|unsent| unsent.close(None))
    }

    /// Says why, as far as the client listens, and closes.
    pub(super) async fn close(mut self, close: &Close) {
        debug!(?close, "A WebSocket is closed.");
        let Some(frame) = close.frame() else { return };
        let said = async {
            self.sink.send(Message::Close(Some(frame))).await?;
            // The closing handshake: the client's own close frame, or its end.
            while self.frames.next().await.transpose()?.is_some() {}
            Ok::<(), axum::Error>(())
        };
        if !matches!(tokio::time::timeout(self.limits.close_timeout, said).await, Ok(Ok(()))) {
            debug!("The client was not there to be told.");
        }
    }
}

fn encoded(message: &ServerMessage<'_>) -> Result<Message, Unsent> {
    match serde_json::to_string(message) {
        Ok(text) => Ok(Message::Text(text.into())),
        Err(failure) => {
            error!(error = %failure, "A message of a WebSocket cannot be encoded.");
            Err(Unsent::Gone)
        }
    }
}

/// Waits as long as a reader may let a message wait.
async fn within(
    limits: SocketLimits,
    sent: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), Unsent> {
    match tokio::time::timeout(limits.send_timeout, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Unsent::Gone),
        Err(_) => Err(Unsent::TooSlow),
    }
}
