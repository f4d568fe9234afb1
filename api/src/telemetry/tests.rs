//! What a collector of traces and a scraper of metrics get from a real node on SQLite.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, routing::post};
use domain::{
    bbs::freshness_domain,
    command::{Command, Envelope},
    log::{Actor, ActorKind},
};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tracing::{Instrument as _, trace_span};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{SPANS, traces::Traces};
use crate::{
    cell_gateway::CellTokens,
    clock, edge,
    http::Access,
    node::{Node, Settings},
};

/// What no trace and no metric may hold: what a user gave.
const CANARY: &str = "canary-71c4";

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";

/// A node behind its real routes.
struct Harness {
    node: Node,
    address: SocketAddr,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Harness {
    async fn start(access: Access) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(Settings::in_folder(folder.path(), "test")).await.unwrap();
        let tokens = Arc::new(CellTokens::default());
        let address = listen(edge::api(node.control_plane.clone(), access, tokens)).await;
        Self { node, address, client: reqwest::Client::new(), _folder: folder }
    }

    /// Vouches for a freshness domain under the canary's name.
    async fn vouch(&self, traceparent: &str) -> Value {
        let query = "mutation($name: String!) {
            upsertFreshnessDomain(name: $name, ttlSeconds: 0) { position }
        }";
        let body = json!({ "query": query, "variables": { "name": CANARY } });
        let request = self.client.post(format!("http://{}/graphql", self.address));
        let answer = request.header("traceparent", traceparent).json(&body).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn metrics(&self, token: Option<&str>) -> (StatusCode, String) {
        let mut request = self.client.get(format!("http://{}/metrics", self.address));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

async fn listen(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(projections::worker::spawn("test server", async move {
        axum::serve(listener, router).await.unwrap();
    }));
    address
}

/// A span as the collector got it.
#[derive(Debug, Clone, PartialEq)]
struct Exported {
    trace_id: String,
    span_id: String,
    parent: String,
    name: String,
    attributes: Vec<(String, String)>,
    links: Vec<String>,
}

impl Exported {
    fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(name, _)| name == key)?;
        Some(&found.1)
    }
}

/// A protobuf message's fields: their numbers with bytes, or with numbers as text.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => varint(&mut bytes).to_string().into_bytes(),
            1 => take(&mut bytes, 8),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                take(&mut bytes, length)
            }
            5 => take(&mut bytes, 4),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn take(bytes: &mut &[u8], length: usize) -> Vec<u8> {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken.to_vec()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

fn all(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|(n, _)| *n == number).map(|(_, value)| value).collect()
}

fn one(message: &[u8], number: u64) -> Vec<u8> {
    all(message, number).pop().unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The spans of an `ExportTraceServiceRequest`, by the field numbers of OTLP's `trace.proto`.
fn spans_of(request: &[u8]) -> Vec<Exported> {
    let scopes = all(request, 1).into_iter().flat_map(|resource| all(&resource, 2));
    let spans = scopes.flat_map(|scope| all(&scope, 2));
    let exported = |span: Vec<u8>| Exported {
        trace_id: hex::encode(one(&span, 1)),
        span_id: hex::encode(one(&span, 2)),
        parent: hex::encode(one(&span, 4)),
        name: text(&one(&span, 5)),
        attributes: all(&span, 9)
            .into_iter()
            .map(|pair| {
                let value = fields(&one(&pair, 2)).pop().map(|(_, value)| value);
                let value = String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
                (text(&one(&pair, 1)), value)
            })
            .collect(),
        links: all(&span, 13).into_iter().map(|link| hex::encode(one(&link, 2))).collect(),
    };
    spans.map(exported).collect()
}

type Received = Arc<Mutex<Vec<Bytes>>>;

async fn collector(received: Received) -> SocketAddr {
    let take = move |body: Bytes| {
        received.lock().unwrap().push(body);
        async { "" }
    };
    listen(Router::new().route("/v1/traces", post(take))).await
}

/// Waits until a span of each name has come, in a trace.
async fn wait_for(received: &Received, trace_id: &str, names: &[&str]) -> Vec<Exported> {
    let deadline = Duration::from_secs(60);
    let arrived = async {
        loop {
            let requests = received.lock().unwrap().clone();
            let spans: Vec<Exported> = requests.iter().flat_map(|body| spans_of(body)).collect();
            let of_trace = |span: &&Exported| span.trace_id == trace_id;
            let mine: Vec<Exported> = spans.iter().filter(of_trace).cloned().collect();
            if names.iter().all(|name| mine.iter().any(|span| span.name == *name)) {
                return mine;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(deadline, arrived).await.unwrap_or_else(|_| {
        let requests = received.lock().unwrap().clone();
        let spans: Vec<Exported> = requests.iter().flat_map(|body| spans_of(body)).collect();
        panic!("of {names:?} only these arrived: {spans:#?}")
    })
}

/// While there is only one, `tracing` asks the thread that meets a span first whether it is wanted,
/// and keeps that answer for all threads: another test's thread, which has no subscriber, would
/// switch the span off.
fn another_dispatch() -> tracing::Dispatch {
    tracing::Dispatch::new(tracing_subscriber::registry())
}

fn named<'s>(spans: &'s [Exported], name: &str) -> &'s Exported {
    spans.iter().find(|span| span.name == name).unwrap()
}

/// A batch that is linked with another trace, and the span there.
fn linked_batch(received: &Received) -> Option<(Exported, Exported)> {
    let requests = received.lock().unwrap().clone();
    let spans: Vec<Exported> = requests.iter().flat_map(|body| spans_of(body)).collect();
    let is_linked = |span: &&Exported| span.name == "bus.batch" && span.links.len() == 1;
    let batch = spans.iter().find(is_linked)?;
    let caller = spans.iter().find(|span| span.span_id == batch.links[0])?;
    Some((batch.clone(), caller.clone()))
}

fn vouch_for(name: &str) -> Envelope {
    let command_id = clock::new_command_id();
    Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: Actor { kind: ActorKind::User, name: CANARY.into(), via: "test".into() },
        seen: None,
        causation: None,
        command: Command::FreshnessDomain(freshness_domain::Command::Upsert {
            name: name.parse().unwrap(),
            time_to_live: None,
        }),
    }
}

/// Each is a part of the one before it, and the first of the caller's.
fn assert_chain(spans: &[Exported], chain: &[&str]) {
    let mut parent = CALLER_SPAN;
    for name in chain {
        let span = named(spans, name);
        assert_eq!(span.parent, parent, "{name}: {spans:#?}");
        parent = &span.span_id;
    }
}

// On one thread, so that a subscriber of this thread sees the node's spans and no other test's.
#[tokio::test]
async fn a_trace_goes_from_the_caller_to_the_commit_and_carries_its_position() {
    let received = Received::default();
    let endpoint = format!("http://{}", collector(Arc::clone(&received)).await);
    let harness = Harness::start(Access::loopback()).await;
    let traces = Traces::start(&endpoint, "test", tokio::runtime::Handle::current()).unwrap();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _another = another_dispatch();
    let subscribed = tracing::subscriber::set_default(subscriber);

    let answer = harness.vouch(&format!("00-{TRACE_ID}-{CALLER_SPAN}-01")).await;
    assert_eq!(answer["data"]["upsertFreshnessDomain"]["position"], "1", "{answer}");

    let chain = ["http.request", "graphql.execute", "bus.submit", "bus.batch", "append"];
    let mut names = chain.to_vec();
    names.extend(["bus.decide", "view.reach"]);
    let spans = wait_for(&received, TRACE_ID, &names).await;
    assert_chain(&spans, &chain);
    assert_eq!(named(&spans, "bus.decide").parent, named(&spans, "bus.batch").span_id);
    assert_eq!(named(&spans, "view.reach").parent, named(&spans, "graphql.execute").span_id);
    for name in ["bus.submit", "append", "view.reach"] {
        assert_eq!(named(&spans, name).attribute("diario.position"), Some("1"), "{name}");
    }
    assert_eq!(named(&spans, "append").attribute("diario.events"), Some("1"));
    let command = named(&spans, "bus.submit").attribute("diario.command");
    assert_eq!(command, Some("freshness_domain.upsert"));

    // Two callers whose commands wait together: one batch, a part of the one's trace, linked with
    // the other's. A machine under load may let the first one go alone, so it is tried until they
    // do wait together.
    let bus = harness.node.control_plane.bus.clone();
    let batched = tokio::time::timeout(Duration::from_secs(60), async {
        for round in 0.. {
            let (one, other) =
                (trace_span!(target: SPANS, "one"), trace_span!(target: SPANS, "other"));
            let (first, second) = tokio::join!(
                bus.submit(vouch_for(&format!("one-{round}"))).instrument(one),
                bus.submit(vouch_for(&format!("other-{round}"))).instrument(other),
            );
            assert_ne!(first.unwrap().position, second.unwrap().position);
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(linked) = linked_batch(&received) {
                return linked;
            }
        }
        unreachable!("the rounds have no end")
    });
    let (batch, caller) = batched.await.expect("no linked batch arrived");
    assert_eq!(caller.name, "bus.submit");
    assert_ne!(batch.trace_id, caller.trace_id);

    drop(subscribed);
    for body in received.lock().unwrap().iter() {
        let found = body.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "a span holds what a user gave");
    }
    harness.node.stop().await;
}

/// One operation on a WebSocket whose upgrade carries a `traceparent`.
async fn over_a_socket(harness: &Harness, traceparent: &str, query: &str) -> Value {
    let url = format!("ws://{}/graphql", harness.address);
    let mut upgrade = url.into_client_request().unwrap();
    for (name, value) in
        [("sec-websocket-protocol", "graphql-transport-ws"), ("traceparent", traceparent)]
    {
        upgrade.headers_mut().insert(name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(harness.address).await.unwrap();
    let (mut socket, _) = client_async(upgrade, stream).await.unwrap();
    let operation = json!({ "type": "subscribe", "id": "1", "payload": { "query": query } });
    for message in [json!({ "type": "connection_init" }), operation] {
        socket.send(Message::text(message.to_string())).await.unwrap();
    }
    loop {
        let frame = socket.next().await.unwrap().unwrap();
        let Message::Text(text) = frame else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] != "connection_ack" {
            return message;
        }
    }
}

#[tokio::test]
async fn an_operation_on_a_websocket_is_a_part_of_its_upgrades_trace() {
    let received = Received::default();
    let endpoint = format!("http://{}", collector(Arc::clone(&received)).await);
    let harness = Harness::start(Access::loopback()).await;
    let traces = Traces::start(&endpoint, "test", tokio::runtime::Handle::current()).unwrap();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _another = another_dispatch();
    let subscribed = tracing::subscriber::set_default(subscriber);

    let query = "mutation { upsertFreshnessDomain(name: \"ws\", ttlSeconds: 0) { position } }";
    let traceparent = format!("00-{TRACE_ID}-{CALLER_SPAN}-01");
    let answer = over_a_socket(&harness, &traceparent, query).await;
    let position = &answer["payload"]["data"]["upsertFreshnessDomain"]["position"];
    assert_eq!(position, "1", "{answer}");

    let chain = ["http.request", "ws.operation", "bus.submit", "bus.batch", "append"];
    let spans = wait_for(&received, TRACE_ID, &chain).await;
    assert_chain(&spans, &chain);
    drop(subscribed);
    harness.node.stop().await;
}

#[tokio::test]
async fn metrics_are_for_those_who_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let tokens = json!([{ "token": "t".repeat(32), "name": "scraper", "access": "read" }]);
    fs::write(&path, tokens.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let guarded = Harness::start(Access::with_tokens(&path).unwrap()).await;
    assert_eq!(guarded.metrics(None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(guarded.metrics(Some("wrong")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(guarded.metrics(Some(&"t".repeat(32))).await.0, StatusCode::OK);
    guarded.node.stop().await;

    let open = Harness::start(Access::loopback()).await;
    let foreign = open.client.get(format!("http://{}/metrics", open.address));
    let foreign = foreign.header("host", "attacker.example").send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    open.vouch("").await;
    let (status, text) = open.metrics(None).await;

    assert_eq!(status, StatusCode::OK);
    assert!(!text.contains(CANARY), "{text}");
    let expected = [
        "# HELP diario_append_duration_seconds ",
        "# TYPE diario_append_duration_seconds histogram",
        "diario_append_duration_seconds_bucket{le=\"0.001\"}",
        "diario_append_batch_events_bucket{le=\"1\"}",
        "diario_appends_total{outcome=\"committed\"}",
        "diario_appends_total{outcome=\"head_moved\"} ",
        "diario_appends_total{outcome=\"unknown\"} ",
        "diario_commands_total{kind=\"freshness_domain.upsert\",outcome=\"accepted\"} ",
        "diario_log_head_position 1\n",
        "diario_log_events 1\n",
        "diario_log_floor_position 0\n",
        "diario_log_pruned_position 0\n",
        "diario_log_bytes ",
        "diario_view_lag_events{view=\"world\"} 0\n",
        "diario_view_lag_seconds{view=\"world\"} 0\n",
        "diario_lease_held 1\n",
        "diario_lease_epoch ",
        "diario_snapshot_age_events ",
        "diario_subscribers{stream=\"log\"} ",
    ];
    for line in expected {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for name in names.filter_map(|line| line.split(' ').next()) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(name.starts_with("diario_"), "{name}");
    }
    open.node.stop().await;
}
