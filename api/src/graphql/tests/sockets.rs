//! Subscriptions over a real WebSocket: the protocol's refusals, catching up, going on, following.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, handshake::client::Request},
};

use super::{Harness, queries::push_lines};
use crate::http::{Access, limits::SocketLimits};

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(20);

/// A client of one WebSocket.
struct Client(WebSocketStream<TcpStream>);

fn upgrade(harness: &Harness) -> Request {
    let mut request = format!("ws://{}/graphql", harness.address).into_client_request().unwrap();
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    request
}

impl Client {
    /// Opens a socket and says nothing yet.
    async fn connect(harness: &Harness) -> Self {
        let stream = TcpStream::connect(harness.address).await.unwrap();
        let (socket, _) = client_async(upgrade(harness), stream).await.unwrap();
        Self(socket)
    }

    /// Opens a socket and is let in.
    async fn open(harness: &Harness) -> Self {
        let mut client = Self::connect(harness).await;
        client.say(json!({ "type": "connection_init" })).await;
        assert_eq!(client.hear().await, json!({ "type": "connection_ack" }));
        client
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    async fn frame(&mut self) -> Message {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.0.next()).await.unwrap();
            let frame = frame.unwrap().unwrap();
            if !frame.is_ping() && !frame.is_pong() {
                return frame;
            }
        }
    }

    /// The next message.
    async fn hear(&mut self) -> Value {
        let frame = self.frame().await;
        let Message::Text(text) = frame else { panic!("{frame:?}") };
        assert!(!text.contains(super::CANARY), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The data of the next answer of an operation.
    async fn next(&mut self, id: &str) -> Value {
        let message = self.hear().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("next"), &json!(id)), "{message}");
        assert_eq!(message["payload"].get("errors"), None, "{message}");
        message["payload"]["data"].clone()
    }

    /// Takes nothing until no more has arrived for a while.
    async fn take_nothing_until_stalled(&mut self, span: Duration) {
        let mut buffer = vec![0; 64 << 20];
        let mut before = 0;
        loop {
            tokio::time::sleep(span).await;
            let arrived = self.0.get_ref().peek(&mut buffer).await.unwrap();
            if arrived == before && arrived > 100_000 {
                return;
            }
            before = arrived;
        }
    }

    /// The code and the reason that the socket is closed with; messages before it are passed over.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.frame().await {
                let frame = frame.unwrap();
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}

const LOG: &str = "subscription { log { position type cursor } }";

#[tokio::test]
async fn what_is_not_of_the_protocol_closes_the_socket_with_its_code() {
    let limits =
        SocketLimits { init_timeout: Duration::from_millis(100), ..SocketLimits::default() };
    let harness = Harness::start_with(Access::loopback(), limits).await;
    let stream = TcpStream::connect(harness.address).await.unwrap();
    let mut request = upgrade(&harness);
    request.headers_mut().insert("sec-websocket-protocol", "graphql-ws".parse().unwrap());
    assert!(client_async(request, stream).await.is_err());
    let stream = TcpStream::connect(harness.address).await.unwrap();
    let mut request = upgrade(&harness);
    request.headers_mut().insert("origin", "https://attacker.example".parse().unwrap());
    assert!(client_async(request, stream).await.is_err());

    assert_eq!(Client::connect(&harness).await.closed().await.0, 4408);
    let mut client = Client::connect(&harness).await;
    client.subscribe("1", LOG).await;
    assert_eq!(client.closed().await.0, 4401);
    let mut client = Client::open(&harness).await;
    client.say(json!({ "type": "connection_init" })).await;
    assert_eq!(client.closed().await.0, 4429);
    let mut client = Client::open(&harness).await;
    client.say(json!({ "type": "other" })).await;
    assert_eq!(client.closed().await.0, 4400);
    let mut client = Client::open(&harness).await;
    client.subscribe("1", LOG).await;
    client.subscribe("1", LOG).await;
    assert_eq!(client.closed().await.0, 4409);
}

#[tokio::test]
async fn an_operation_that_cannot_run_ends_with_its_errors_and_the_others_go_on() {
    let harness = Harness::start().await;
    let mut client = Client::open(&harness).await;
    let of_another = "00000000000000000000000000000008.1";
    let ahead = "00000000000000000000000000000007.999";
    let cases = [
        ("subscription { nothing }".to_owned(), "GRAPHQL_VALIDATION_FAILED"),
        (
            format!("subscription {{ log(after: \"{of_another}\") {{ type }} }}"),
            "CURSOR_OF_ANOTHER_LOG",
        ),
        (format!("subscription {{ log(after: \"{ahead}\") {{ type }} }}"), "AHEAD_OF_HEAD"),
        ("subscription { logs { text } }".to_owned(), "INVALID"),
    ];
    for (query, code) in cases {
        client.subscribe("bad", &query).await;
        let message = client.hear().await;
        assert_eq!(message["type"], "error", "{message}");
        assert_eq!(message["payload"][0]["extensions"]["code"], code);
    }
    for number in 0..16 {
        client.subscribe(&number.to_string(), LOG).await;
    }
    client.subscribe("one more", LOG).await;
    let message = client.hear().await;
    assert_eq!(message["payload"][0]["extensions"]["code"], "TOO_MANY_OPERATIONS");

    client.say(json!({ "type": "complete", "id": "3" })).await;
    client.say(json!({ "type": "ping" })).await;
    assert_eq!(client.hear().await, json!({ "type": "pong" }));
    client.subscribe("query", "{ now { position } }").await;
    assert_eq!(client.next("query").await, json!({ "now": { "position": "0" } }));
    assert_eq!(client.hear().await, json!({ "type": "complete", "id": "query" }));
}

#[tokio::test]
async fn the_log_is_caught_up_followed_and_resumed_without_gap_or_double() {
    let harness = Harness::start().await;
    harness.inner.register("cell-1").await;
    harness.desire("web", 1).await;
    let origin = harness.ask("{ log(first: 0) { endCursor } }").await["log"]["endCursor"].clone();
    let from = |cursor: &Value| {
        format!("subscription {{ log(after: {cursor}) {{ position type cursor }} }}")
    };
    let mut client = Client::open(&harness).await;
    client.subscribe("log", &from(&origin)).await;
    client.subscribe("live", LOG).await;
    let filter = r#"subscription { log(filter: { types: ["actual_lrp.placed"] }) { type } }"#;
    client.subscribe("placed", filter).await;

    let mut seen = vec![client.next("log").await, client.next("log").await];
    // Answered in order: by then all three are following.
    client.subscribe("now", "{ now { position } }").await;
    client.next("now").await;
    client.hear().await;
    let key = harness.inner.create("web", 0).await;
    harness.inner.place(&key, "cell-1").await;
    let (mut live, mut placed) = (Vec::new(), Vec::new());
    while seen.len() + live.len() + placed.len() < 4 + 2 + 1 {
        let message = client.hear().await;
        let into = match message["id"].as_str().unwrap() {
            "log" => &mut seen,
            "live" => &mut live,
            _ => &mut placed,
        };
        into.push(message["payload"]["data"].clone());
    }
    assert_eq!(live, seen[2..]);
    assert_eq!(placed, [json!({ "log": { "type": "actual_lrp.placed" } })]);
    drop(client);

    let mut client = Client::open(&harness).await;
    client.subscribe("again", &from(&seen[1]["log"]["cursor"])).await;
    assert_eq!([client.next("again").await, client.next("again").await], seen[2..]);
    harness.ask(r#"mutation { removeDesiredLrp(processGuid: "web") { events } }"#).await;
    let types = [client.next("again").await, client.next("again").await];
    assert_eq!(types[0]["log"]["type"], "desired_lrp.removed");
    assert_eq!(types[1]["log"]["position"], "6");
}

#[tokio::test]
async fn slots_are_shown_first_as_they_are_and_then_as_they_change() {
    let harness = Harness::start().await;
    harness.inner.register("cell-1").await;
    harness.desire("web", 1).await;
    harness.desire("other", 1).await;
    let key = harness.inner.create("web", 0).await;
    harness.inner.create("other", 0).await;
    let mut client = Client::open(&harness).await;
    let query = r#"subscription { actualLrps(processGuid: "web") {
        processGuid index position actualLrp { state cellId }
    } }"#;
    client.subscribe("slots", query).await;

    let present = client.next("slots").await["actualLrps"].clone();
    assert_eq!(present["actualLrp"], json!({ "state": "UNCLAIMED", "cellId": null }));
    let instance = harness.inner.place(&key, "cell-1").await;
    harness.inner.run(&instance).await;
    let mut last = present;
    while last["actualLrp"]["state"] != "RUNNING" {
        last = client.next("slots").await["actualLrps"].clone();
    }
    assert_eq!(last["actualLrp"]["cellId"], "cell-1");
    harness.inner.command(domain::bbs::actual_lrp::Command::Remove { instance }).await;
    let gone = client.next("slots").await["actualLrps"].clone();
    assert_eq!((&gone["actualLrp"], &gone["index"]), (&Value::Null, &json!(0)));
}

#[tokio::test]
async fn output_is_followed_from_its_last_lines_on() {
    let harness = Harness::start().await;
    push_lines(&harness, 1, &["one", "two"]).await;
    let mut client = Client::open(&harness).await;
    let query = r#"subscription { logs(processGuid: "web", last: 1) { text cursor } }"#;
    client.subscribe("logs", query).await;

    assert_eq!(client.next("logs").await["logs"]["text"], "two");
    push_lines(&harness, 3, &["three"]).await;
    assert_eq!(client.next("logs").await["logs"]["text"], "three");
}

#[tokio::test]
async fn a_token_may_come_in_the_first_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, r#"[{"token": "reader-0123456789", "name": "rita", "access": "read"}]"#)
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let access = Access::with_tokens(&path).unwrap();
    let harness = Harness::start_with(access, SocketLimits::default()).await;
    for payload in [Value::Null, json!({ "Authorization": "Bearer reader-0123456780" })] {
        let mut client = Client::connect(&harness).await;
        client.say(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(client.closed().await.0, 4403);
    }

    let mut client = Client::connect(&harness).await;
    let payload = json!({ "Authorization": "Bearer reader-0123456789" });
    client.say(json!({ "type": "connection_init", "payload": payload })).await;
    assert_eq!(client.hear().await["type"], "connection_ack");
    client.subscribe("q", r#"mutation { cancelTask(taskGuid: "job") { events } }"#).await;
    let message = client.hear().await;
    assert_eq!(message["payload"][0]["extensions"]["code"], "FORBIDDEN", "{message}");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed_and_told_where_to_go_on() {
    let send_timeout = Duration::from_millis(300);
    let limits = SocketLimits { send_timeout, close_timeout: DEADLINE, ..SocketLimits::default() };
    let harness = Harness::start_with(Access::loopback(), limits).await;
    harness.desire("web", 1).await;
    // Each event is large, and each operation sends all of them again: more than the kernel's
    // buffers between the two hold.
    let large = "x".repeat(10_000);
    for number in 0..400 {
        let update = format!(
            "mutation {{ updateDesiredLrp(processGuid: \"web\", annotation: \"{number}{large}\") {{ events }} }}"
        );
        harness.ask(&update).await;
    }
    let origin = harness.ask("{ log(first: 0) { endCursor } }").await["log"]["endCursor"].clone();
    let mut client = Client::open(&harness).await;
    let query = format!("subscription {{ log(after: {origin}) {{ cursor position payload }} }}");
    for id in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        client.subscribe(id, &query).await;
    }
    client.take_nothing_until_stalled(3 * send_timeout).await;

    let mut last = std::collections::BTreeMap::new();
    let (code, reason) = loop {
        let frame = client.frame().await;
        if let Message::Close(Some(frame)) = frame {
            break (u16::from(frame.code), frame.reason.to_string());
        }
        let Message::Text(text) = frame else { panic!("{frame:?}") };
        let message: Value = serde_json::from_str(&text).unwrap();
        let id = message["id"].as_str().unwrap().to_owned();
        last.insert(id, message["payload"]["data"]["log"]["cursor"].clone());
    };
    assert_eq!(code, 1013);
    let cursor = reason.strip_prefix("TOO_SLOW: go on after cursor ").unwrap();
    assert!(cursor.starts_with("00000000000000000000000000000007."), "{reason}");
    // The named event was received, or the one behind it was on its way.
    let position = |cursor: &str| cursor.rsplit('.').next().unwrap().parse::<u64>().unwrap();
    let received: Vec<u64> = last.values().map(|it| position(it.as_str().unwrap())).collect();
    assert!(Some(&position(cursor)) <= received.iter().max(), "{reason}, received {received:?}");
    // One operation may come to its end before the others have begun.
    let whole = received.iter().filter(|position| **position >= 401).count();
    assert!(whole < 8, "everything was received: the reader was not slow");
}
