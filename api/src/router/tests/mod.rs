//! The router over real sockets on loopback: a router, small apps behind it, raw clients before it.

mod failures;
mod following;
mod lifecycle;
mod routing;
mod streaming;

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use domain::{routes::Hostname, testing};
use futures_util::{StreamExt, stream};
use hyper::body::Bytes;
use projections::{route_table::Endpoint, worker};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Router, Settings,
    access_log::{AccessLog, AccessRecord},
    registry::Registry,
};
use crate::clock::Clock;

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;

/// A router that runs.
struct Running {
    address: SocketAddr,
    access: AccessLog,
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
}

async fn start(routes: Vec<(Hostname, Vec<Endpoint>)>, settings: Settings) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let access = AccessLog::new(Arc::new(Clock::default()));
    let shutdown = CancellationToken::new();
    let router = Router { registry: Registry::of(routes), access: access.clone(), settings };
    let ended = worker::spawn("router", router.serve(listener, shutdown.clone()));
    Running { address, access, shutdown, ended }
}

/// A router with one host, `app.example.com`.
async fn start_app(addresses: &[SocketAddr]) -> Running {
    start(vec![route("app.example.com", addresses)], Settings::default()).await
}

fn route(host: &str, addresses: &[SocketAddr]) -> (Hostname, Vec<Endpoint>) {
    let endpoints = (0..).zip(addresses).map(|(index, address)| endpoint(index, *address));
    (Hostname::new(host).unwrap(), endpoints.collect())
}

fn endpoint(index: u32, address: SocketAddr) -> Endpoint {
    let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    Endpoint {
        address: SocketAddrV4::new(*address.ip(), address.port()),
        key: testing::key("web", index),
        instance_guid: testing::instance_guid(&format!("i-{index}")),
        cell_id: testing::cell_id("cell-1"),
    }
}

impl Running {
    /// Sends bytes over a connection of their own, and reads until the router closes it.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.exchange(&get_text(path)).await
    }

    /// Waits for so many records; oldest first.
    async fn records(&self, count: usize) -> Vec<Arc<AccessRecord>> {
        until(|| self.access.recent(usize::MAX, None).len() >= count).await;
        let mut records = self.access.recent(usize::MAX, None);
        records.reverse();
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }
}

fn get_text(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let end = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer in time");
    end.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the end of a head.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(DEADLINE, stream.read_u8()).await.expect("a head in time").unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[track_caller]
fn assert_refused(answer: &str, status: &str, reason: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(&format!("x-diario-error: {reason}\r\n")), "{answer}");
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(text.starts_with(status) && text.contains(". "), "{text:?} does not say what to do");
}

#[track_caller]
fn assert_body(answer: &str, body: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, body, "{answer}");
}

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen in time");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The value at which a counter stands still for a while.
async fn settled(counter: &AtomicU64) -> u64 {
    let (mut last, mut still) = (0, 0);
    until(|| counter.load(Ordering::Relaxed) > 0).await;
    while still < 20 {
        sleep(Duration::from_millis(10)).await;
        let value = counter.load(Ordering::Relaxed);
        still = if value == last { still + 1 } else { 0 };
        last = value;
    }
    last
}

/// A small app behind the router.
#[derive(Debug, Clone)]
struct App {
    name: &'static str,
    /// What waits, waits here.
    gate: Arc<Semaphore>,
    /// How many requests have come.
    requests: Arc<AtomicU64>,
    /// How many bytes `/big` has given away.
    produced: Arc<AtomicU64>,
}

impl App {
    async fn start(name: &'static str) -> (Self, SocketAddr) {
        let app = Self {
            name,
            gate: Arc::new(Semaphore::new(0)),
            requests: Arc::default(),
            produced: Arc::default(),
        };
        let routes = axum::Router::new()
            .route("/name", get(|State(app): State<Self>| async move { app.name }))
            .route("/headers", any(headers_as_text))
            .route("/echo", any(|request: Request| async move { request.into_body() }))
            .route("/wait", any(wait))
            .route("/big", get(big))
            .with_state(app.clone())
            .layer(axum::middleware::map_request_with_state(app.clone(), count));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(worker::spawn("app", async move { axum::serve(listener, routes).await.unwrap() }));
        (app, address)
    }
}

async fn count(State(app): State<App>, request: Request) -> Request {
    app.requests.fetch_add(1, Ordering::Relaxed);
    request
}

/// The request's head as text, under a head full of what must not be passed on.
async fn headers_as_text(request: Request) -> Response {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "x-between"),
        ("x-between", "us"),
        ("keep-alive", "timeout=9"),
        ("x-diario-error", "a lie"),
        ("x-kept", "yes"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    (headers, text).into_response()
}

/// Takes the body only when the gate is opened, and tells how much it was.
async fn wait(State(app): State<App>, request: Request) -> String {
    app.gate.acquire().await.unwrap().forget();
    let mut pieces = request.into_body().into_data_stream();
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        bytes += piece.unwrap().len();
    }
    bytes.to_string()
}

/// 64 MiB, piece by piece, as fast as they are taken.
async fn big(State(app): State<App>) -> Body {
    let piece = Bytes::from(vec![b'x'; 65_536]);
    let pieces = stream::repeat(piece).take(1024).map(move |piece| {
        app.produced.fetch_add(65_536, Ordering::Relaxed);
        Ok::<_, std::io::Error>(piece)
    });
    Body::from_stream(pieces)
}

/// An app that reads one head on every connection, says these bytes and hangs up.
async fn blunt(answer: &'static str) -> (Arc<AtomicU64>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&requests);
    drop(worker::spawn("blunt app", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            counter.fetch_add(1, Ordering::Relaxed);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }));
    (requests, address)
}

/// An address where nobody listens.
fn dead() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // Bound for good and never listening: let go, its port might be another test's the next moment.
    Box::leak(Box::new(socket)).local_addr().unwrap()
}
