//! Readers that must see every event once and in order: one by a GraphQL subscription, which goes
//! on elsewhere when its node is gone, one by a subscription of the store itself.

use std::{
    io,
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use domain::log::{Cursor, Incarnation, Position};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket, client::IntoClientRequest as _};

use super::judgement::opened;

const LOG: &str = "subscription ($after: Cursor) { log(after: $after) { position } }";
/// How often a reader that hears nothing looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// The end that a reader goes on to; none is known while commands are still sent.
pub(super) struct Goal(AtomicU64);

impl Goal {
    pub(super) fn open() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    pub(super) fn set(&self, end: Position) {
        self.0.store(end.0, Ordering::Relaxed);
    }

    fn is_reached(&self, last: Position) -> bool {
        let end = self.0.load(Ordering::Relaxed);
        assert!(last.0 <= end, "an event behind the log's end");
        last.0 == end
    }
}

/// Follows the log from its start by GraphQL, first at one node, then at whichever is there.
/// Answers with how often it had to subscribe again.
pub(super) fn by_graphql(nodes: &[String], home: usize, life: Incarnation, goal: &Goal) -> usize {
    let (mut last, mut again) = (Position(0), 0);
    while !goal.is_reached(last) {
        let node = &nodes[(home + again) % nodes.len()];
        let cursor = Cursor { incarnation: life, position: last };
        match subscribe(node, cursor).and_then(|socket| follow(socket, &mut last, goal)) {
            Ok(()) => break,
            // The node is gone, or was too busy.
            Err(_) => again += 1,
        }
        std::thread::sleep(LOOK);
    }
    again
}

type Socket = WebSocket<TcpStream>;

fn subscribe(node: &str, after: Cursor) -> Result<Socket, tungstenite::Error> {
    let address = node.trim_start_matches("http://");
    let stream = TcpStream::connect(address)?;
    let mut request = format!("ws://{address}/graphql").into_client_request()?;
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = tungstenite::client(request, stream)
        .map_err(|failure| io::Error::other(failure.to_string()))?;
    say(&mut socket, &json!({ "type": "connection_init" }))?;
    let payload = json!({ "query": LOG, "variables": { "after": after.to_string() } });
    say(&mut socket, &json!({ "type": "subscribe", "id": "1", "payload": payload }))?;
    socket.get_ref().set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

fn say(socket: &mut Socket, message: &Value) -> Result<(), tungstenite::Error> {
    socket.send(Message::text(message.to_string()))
}

fn follow(mut socket: Socket, last: &mut Position, goal: &Goal) -> Result<(), tungstenite::Error> {
    while !goal.is_reached(*last) {
        let text = match socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(Message::Close(_)) => return Err(tungstenite::Error::ConnectionClosed),
            Ok(_) => continue,
            Err(tungstenite::Error::Io(failure)) if is_silence(&failure) => continue,
            Err(failure) => return Err(failure),
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "next" => {
                let position = message["payload"]["data"]["log"]["position"].as_str();
                let Some(position) = position else { panic!("a subscription failed: {message}") };
                let position = Position(position.parse().unwrap());
                assert_eq!(position, last.next(), "a reader was given this event next");
                *last = position;
            }
            "connection_ack" => {}
            "ping" => say(&mut socket, &json!({ "type": "pong" }))?,
            _ => panic!("a subscription ended: {message}"),
        }
    }
    Ok(())
}

fn is_silence(failure: &io::Error) -> bool {
    matches!(failure.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Follows the log from its start by the store's own subscription.
pub(super) async fn by_store(database: &str, goal: &Goal) {
    let storage = opened(database).await;
    let mut following = storage.store.subscribe(Position(0));
    let mut last = Position(0);
    while !goal.is_reached(last) {
        // Dropping the future loses nothing.
        let Ok(event) = tokio::time::timeout(LOOK, following.next()).await else { continue };
        let position = event.unwrap().position;
        assert_eq!(position, last.next(), "a reader was given this event next");
        last = position;
    }
    storage.close().await;
}
