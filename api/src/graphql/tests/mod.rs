//! The edge as clients meet it: a real listener, real HTTP, real WebSockets, a control plane in
//! memory. Every answer is searched for the one secret that the tests give.

mod golden;
mod http;
mod mutations;
mod queries;
mod secrets;
mod sockets;

use axum::http::{Method, Request as HttpRequest, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    http::{Access, limits::SocketLimits},
    testing::InMemory,
};

/// The secret that no answer may hold.
const CANARY: &str = "canary-5f3c";

/// A control plane in memory behind a listener.
struct Harness {
    inner: InMemory,
    address: std::net::SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    server: JoinHandle<()>,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An HTTP answer.
struct Answer {
    status: StatusCode,
    content_type: String,
    body: Value,
}

impl Harness {
    async fn start() -> Self {
        Self::start_with(Access::loopback(), SocketLimits::default()).await
    }

    async fn start_with(access: Access, socket_limits: SocketLimits) -> Self {
        let inner = InMemory::start(7);
        let router = super::router_with(inner.control_plane.clone(), access, socket_limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = projections::worker::spawn("test server", async move {
            axum::serve(listener, router).await.unwrap();
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { inner, address, client, server }
    }

    /// Sends a request as it is.
    async fn send(&self, request: HttpRequest<Full<Bytes>>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let status = response.status();
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(!text.contains(CANARY), "{text}");
        Answer { status, content_type, body: serde_json::from_str(text).unwrap_or(Value::Null) }
    }

    /// A well-formed POST of a body, to be changed by the test.
    fn post(&self, body: impl Into<Bytes>) -> HttpRequest<Full<Bytes>> {
        HttpRequest::builder()
            .method(Method::POST)
            .uri(format!("http://{}/graphql", self.address))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    /// Asks something with variables; the whole answer.
    async fn ask_with(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables }).to_string();
        self.send(self.post(body)).await.body
    }

    /// Asks something that must be answered; the data.
    async fn ask(&self, query: &str) -> Value {
        let answer = self.ask_with(query, json!({})).await;
        assert_eq!(answer.get("errors"), None, "{answer}");
        answer["data"].clone()
    }

    /// Asks something that must be refused; the first error's code and the refused fields.
    async fn refused(&self, query: &str, variables: Value) -> (String, Vec<String>) {
        let answer = self.ask_with(query, variables).await;
        let extensions = &answer["errors"][0]["extensions"];
        let fields = extensions["fields"].as_array().cloned().unwrap_or_default();
        let code = extensions["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        (code, fields.iter().map(|fault| fault["field"].as_str().unwrap().to_owned()).collect())
    }

    /// Desires a process of one port, with a secret in its environment.
    async fn desire(&self, process_guid: &str, instances: u32) -> Value {
        let spec = desired_lrp(process_guid, instances);
        let answer = self.ask_with(DESIRE, json!({ "spec": spec })).await;
        assert_eq!(answer.get("errors"), None, "{answer}");
        answer["data"]["desireLrp"].clone()
    }
}

const DESIRE: &str = "mutation($spec: DesiredLrpInput!, $id: String) {
    desireLrp(spec: $spec, commandId: $id) { position cursor commandId events }
}";

const RUN_TASK: &str = "mutation($spec: TaskInput!) {
    runTask(spec: $spec) { position events }
}";

fn definition() -> Value {
    json!({
        "rootfs": "preloaded:diario",
        "env": [{ "name": "PASSWORD", "value": CANARY }],
        "action": { "timeout": { "timeoutMs": 60_000, "action": { "run": {
            "path": "/diario", "args": ["sample-app"], "user": "vcap",
            "env": [{ "name": "TOKEN", "value": CANARY }],
        } } } },
        "memoryMb": 64,
        "diskMb": 32,
        "ports": [8080],
    })
}

fn desired_lrp(process_guid: &str, instances: u32) -> Value {
    let mut definition = definition();
    definition["checks"] = json!([{ "http": { "port": 8080 } }, { "tcp": { "port": 8080 } }]);
    json!({
        "processGuid": process_guid,
        "instances": instances,
        "routes": [{ "hostnames": [format!("{process_guid}.example.com")], "port": 8080 }],
        "annotation": "note",
        "definition": definition,
    })
}
