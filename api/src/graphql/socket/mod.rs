//! The protocol graphql-transport-ws on one WebSocket: operations side by side, each with its id.
//!
//! The messages are driven here and not by async-graphql, whose loop lets one busy operation
//! starve the others, and knows neither the protocol's close codes nor a bound. What is ready
//! together is written together, in bounded bursts; a reader that takes nothing for too long is
//! given up, and told where to go on.

mod link;
mod messages;

use std::{collections::HashMap, pin::Pin, sync::Arc};

use async_graphql::{Data, Request, Response, Value};
use axum::extract::ws::WebSocket;
use domain::log::Cursor;
use futures_util::{
    FutureExt as _, Stream, StreamExt as _,
    stream::{self, AbortHandle, SelectAll},
};
use opentelemetry::Context;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::{Edge, VIA, handler::Wire, progress::Progress};
use crate::{
    http::{Caller, Denied, limits::OPERATIONS_PER_SOCKET_MAX},
    telemetry::traces,
};
use link::{Frame, Link, Unsent};
use messages::{ClientMessage, Close, ServerMessage};

/// The subprotocol's name.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

/// How often in a row a ping may go unanswered.
const SILENT_PINGS_MAX: u32 = 2;

/// How many answers are written together.
const BURST_MAX: usize = 64;

/// One step of an operation: an answer, or its end.
struct Step {
    id: String,
    serial: u64,
    response: Option<Response>,
}

/// An operation that is open.
struct Operation {
    serial: u64,
    abort: AbortHandle,
    progress: Arc<Progress>,
    /// Where the reader was when all that it was given had been sent.
    sent: Option<Cursor>,
}

/// Drives one WebSocket until it ends. `caller` is who is known from the upgrade's headers, `trace`
/// what the upgrade is a part of.
pub(super) async fn serve(socket: WebSocket, edge: Edge, caller: Option<Caller>, trace: Context) {
    let mut link = Link::new(socket, edge.socket_limits);
    let initialised = initialise(&mut link, &edge, caller);
    let caller = match tokio::time::timeout(edge.socket_limits.init_timeout, initialised).await {
        Ok(Ok(caller)) => caller,
        Ok(Err(close)) => return link.close(&close).await,
        Err(_) => return link.close(&Close::InitTimeout).await,
    };
    let ack = ServerMessage::ConnectionAck;
    if link.send(&ack).await.is_err() {
        return;
    }
    let close = Connection::new(edge, caller, trace).run(&mut link).await;
    link.close(&close).await;
}

/// Waits for `connection_init`, and learns who it is.
async fn initialise(link: &mut Link, edge: &Edge, caller: Option<Caller>) -> Result<Caller, Close> {
    loop {
        match link.receive().await {
            Frame::Message(ClientMessage::ConnectionInit { payload }) => {
                return match caller {
                    Some(caller) => Ok(caller),
                    None => caller_of(edge, payload.as_ref()).map_err(|_| Close::Forbidden),
                };
            }
            Frame::Message(ClientMessage::Ping {}) => {
                link.send(&ServerMessage::Pong).await.map_err(|_| Close::Gone)?;
            }
            Frame::Message(ClientMessage::Pong {}) | Frame::Alive => {}
            Frame::Message(ClientMessage::Subscribe { .. } | ClientMessage::Complete { .. }) => {
                return Err(Close::Unauthorized);
            }
            Frame::Malformed => return Err(Close::Malformed),
            Frame::Gone => return Err(Close::Gone),
        }
    }
}

/// A browser cannot set headers on a WebSocket: the token may come in the first message.
fn caller_of(edge: &Edge, payload: Option<&serde_json::Value>) -> Result<Caller, Denied> {
    let named = |name: &str| payload.and_then(|payload| payload.get(name)?.as_str());
    let value = named("Authorization").or_else(|| named("authorization"));
    edge.access.judge_bearer(value.ok_or(Denied::Unauthenticated)?, VIA)
}

type Steps = Pin<Box<dyn Stream<Item = Step> + Send>>;

/// An initialised connection.
struct Connection {
    edge: Edge,
    caller: Caller,
    trace: Context,
    open: HashMap<String, Operation>,
    steps: SelectAll<Steps>,
    opened: u64,
}

impl Connection {
    fn new(edge: Edge, caller: Caller, trace: Context) -> Self {
        let (open, steps) = (HashMap::new(), SelectAll::new());
        Self { edge, caller, trace, open, steps, opened: 0 }
    }

    /// Runs until there is a reason to close.
    async fn run(mut self, link: &mut Link) -> Close {
        let mut pings = tokio::time::interval(self.edge.socket_limits.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.tick().await;
        let mut silent_pings = 0;
        loop {
            let outcome = tokio::select! {
                frame = link.receive() => {
                    silent_pings = 0;
                    self.take(link, frame).await
                }
                Some(step) = self.steps.next(), if !self.steps.is_empty() => {
                    self.show_burst(link, step).await
                }
                _ = pings.tick() => {
                    silent_pings += 1;
                    if silent_pings > SILENT_PINGS_MAX { Err(Close::Gone) } else { link.ping().await }
                }
            };
            if let Err(close) = outcome {
                return close;
            }
        }
    }

    async fn take(&mut self, link: &mut Link, frame: Frame) -> Result<(), Close> {
        match frame {
            Frame::Message(ClientMessage::Subscribe { id, payload }) => {
                if self.open.contains_key(&id) {
                    return Err(Close::IdInUse);
                }
                if self.open.len() >= OPERATIONS_PER_SOCKET_MAX {
                    let message = format!(
                        "at most {OPERATIONS_PER_SOCKET_MAX} operations may be open on one socket"
                    );
                    let errors = json!([{
                        "message": message,
                        "extensions": { "code": "TOO_MANY_OPERATIONS" },
                    }]);
                    let refused = ServerMessage::Error { id: &id, payload: errors };
                    return link.send(&refused).await.map_err(|unsent| unsent.close(None));
                }
                self.start(id, payload);
                Ok(())
            }
            Frame::Message(ClientMessage::Complete { id }) => {
                if let Some(operation) = self.open.remove(&id) {
                    operation.abort.abort();
                }
                Ok(())
            }
            Frame::Message(ClientMessage::Ping {}) => {
                link.send(&ServerMessage::Pong).await.map_err(|unsent| unsent.close(None))
            }
            Frame::Message(ClientMessage::Pong {}) | Frame::Alive => Ok(()),
            Frame::Message(ClientMessage::ConnectionInit { .. }) => Err(Close::InitTwice),
            Frame::Malformed => Err(Close::Malformed),
            Frame::Gone => Err(Close::Gone),
        }
    }

    fn start(&mut self, id: String, payload: Wire) {
        let serial = self.opened;
        self.opened += 1;
        let progress = Arc::new(Progress::default());
        let mut data = Data::default();
        data.insert(self.caller.clone());
        data.insert(Arc::clone(&progress));
        let at_least = payload.at_least();
        let request = Request::from(payload);
        let edge = self.edge.clone();
        let answered = async move {
            if let Some(at_least) = at_least
                && let Err(failure) = at_least.wait(&edge.control_plane).await
            {
                let refused = Response::from_errors(vec![failure]);
                return stream::once(std::future::ready(refused)).left_stream();
            }
            edge.schema.execute_stream_with_session_data(request, Arc::new(data)).right_stream()
        };
        let mut responses = Box::pin(stream::once(answered).flatten());
        let span = traces::socket_operation(&self.trace);
        let responses = stream::poll_fn(move |context| {
            let _entered = span.enter();
            responses.as_mut().poll_next(context)
        });
        let (responses, abort) = stream::abortable(responses);
        let named = id.clone();
        let steps = responses
            .map(Some)
            // Its end is a step too.
            .chain(stream::once(std::future::ready(None)))
            .map(move |response| Step { id: named.clone(), serial, response });
        self.steps.push(Box::pin(steps));
        self.open.insert(id, Operation { serial, abort, progress, sent: None });
    }

    /// Shows a step and those that are ready behind it.
    async fn show_burst(&mut self, link: &mut Link, first: Step) -> Result<(), Close> {
        for operation in self.open.values_mut() {
            // What came before was sent. What comes is put first, and may then stay unsent.
            operation.sent = operation.progress.last();
        }
        let shown = async {
            self.show(link, first).await?;
            for _ in 1..BURST_MAX {
                let Some(Some(step)) = self.steps.next().now_or_never() else { break };
                self.show(link, step).await?;
            }
            link.flush().await
        };
        shown.await.map_err(|unsent: Unsent| {
            // A frame names one place only: the earliest, behind which no operation misses any.
            let sent = self.open.values().filter_map(|operation| operation.sent);
            unsent.close(sent.min_by_key(|cursor| cursor.position))
        })
    }

    async fn show(&mut self, link: &mut Link, step: Step) -> Result<(), Unsent> {
        let Step { id, serial, response } = step;
        // A step of an operation that the client has ended meanwhile is of no use to it.
        let is_open = self.open.get(&id).is_some_and(|operation| operation.serial == serial);
        if !is_open {
            return Ok(());
        }
        match &response {
            None => {
                self.open.remove(&id);
                link.put(&ServerMessage::Complete { id: &id }).await
            }
            Some(response) if response.data == Value::Null && !response.errors.is_empty() => {
                let ended = self.open.remove(&id);
                if let Some(operation) = ended {
                    operation.abort.abort();
                }
                let errors = json!(response.errors);
                link.put(&ServerMessage::Error { id: &id, payload: errors }).await
            }
            Some(response) => link.put(&ServerMessage::Next { id: &id, payload: response }).await,
        }
    }
}
