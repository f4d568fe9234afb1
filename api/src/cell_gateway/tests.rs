//! The cells' edge as a stranger meets it, and a cell that says more than it may.

use std::net::SocketAddr;

use axum::extract::FromRequestParts as _;
use domain::{
    bbs::actual_lrp::InstanceReference,
    observation::{LogLine, Observation, ObservationRecord, OutputStream},
    rep::{Ended, Evidence, NumberedReport, Observed, Report, WorkKind, WorkReference},
    testing,
    units::Timestamp,
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use projections::observations::{Query, RecordNumber};
use serde_json::Value;

use super::*;
use crate::{command_bus, testing::InMemory};

const TOKEN: &str = "a token of the cell one";

struct Harness {
    inner: InMemory,
    gateway: Gateway,
}

impl Harness {
    /// A control plane with two cells and one instance of `web` on the first.
    async fn start() -> (Self, InstanceReference) {
        let inner = InMemory::start(7);
        let tokens = CellTokens::default().with(cell("cell-1"), TOKEN);
        let gateway = Gateway::new(inner.control_plane.clone(), Arc::new(tokens));
        inner.command(testing::desire("web", 1)).await;
        inner.register("cell-1").await;
        let key = inner.create("web", 0).await;
        let instance = inner.place(&key, "cell-1").await;
        (Self { inner, gateway }, instance)
    }

    async fn serve(&self) -> SocketAddr {
        let tokens = Arc::clone(&self.gateway.tokens);
        let router = router(self.inner.control_plane.clone(), tokens);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(projections::worker::spawn("test server", async move {
            axum::serve(listener, router).await.unwrap();
        }));
        address
    }

    /// Pushes lines of these owners' containers, and answers with what is kept of `web`.
    async fn push(&self, first_sequence: u64, lines: &[(&str, &InstanceReference)]) -> Vec<String> {
        let count = u64::try_from(lines.len()).unwrap();
        let observations = lines.iter().map(|(owner, instance)| line(owner, instance)).collect();
        let request =
            ObservationsRequest { cell_epoch: CellEpoch(1), first_sequence, observations };
        let answer = observations::take(&self.gateway, &cell("cell-1"), request).await.unwrap();
        assert_eq!(answer.acknowledged, first_sequence + count - 1);
        self.kept("web").await
    }

    async fn kept(&self, owner: &str) -> Vec<String> {
        let owner = Owner::Process(testing::process_guid(owner));
        let query = Query { after: RecordNumber(0), ..Query::default() };
        let page = self.inner.control_plane.observations.read(&owner, query).await.unwrap();
        let guid = |stored: projections::observations::Stored| stored.observation.instance_guid;
        page.records.into_iter().map(|stored| guid(stored).to_string()).collect()
    }
}

fn cell(id: &str) -> CellId {
    CellId::new(id).unwrap()
}

fn line(owner: &str, instance: &InstanceReference) -> Observation {
    Observation {
        owner: Owner::Process(testing::process_guid(owner)),
        index: Some(0),
        instance_guid: instance.instance_guid.clone(),
        log_position: Position(1),
        tags: Default::default(),
        record: ObservationRecord::Line(LogLine::new(
            Timestamp(1),
            "APP",
            OutputStream::Out,
            "hello".to_owned(),
        )),
    }
}

fn ended(instance: &InstanceReference, sequence: u64) -> NumberedReport {
    let (evidence, result) = (Evidence::default(), String::new());
    let ended = Ended { failure_reason: None, exit: None, evidence, result };
    let work = WorkReference {
        kind: WorkKind::Lrp(instance.key.clone()),
        instance_guid: instance.instance_guid.clone(),
        placement_epoch: instance.placement_epoch,
    };
    NumberedReport { sequence, report: Report { work, observed: Observed::Ended(Box::new(ended)) } }
}

#[tokio::test]
async fn nothing_is_read_of_a_strangers_request_and_no_error_repeats_contents() {
    let (harness, _) = Harness::start().await;
    let address = harness.serve().await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let send = |token: &str, body: &'static str| {
        let request = axum::http::Request::post(format!("http://{address}/cell/v1/heartbeat"))
            .header("x-diario-cell", "cell-1")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::<axum::body::Bytes>::from(body))
            .unwrap();
        let answer = client.request(request);
        async move {
            let response = answer.await.unwrap();
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let text = std::str::from_utf8(&bytes).unwrap();
            assert!(!text.contains("canary"), "{text}");
            let body: Value = serde_json::from_str(text).unwrap();
            (status, body["code"].as_str().unwrap().to_owned())
        }
    };

    assert_eq!(send("another", "{\"canary").await, (401, "UNAUTHENTICATED".to_owned()));
    assert_eq!(send(TOKEN, "{\"canary").await, (400, "INVALID".to_owned()));
    let data = r#"{"cell_epoch": "canary", "cell_time": 1}"#;
    assert_eq!(send(TOKEN, data).await, (400, "INVALID".to_owned()));
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_again() {
    let (harness, _) = Harness::start().await;
    let _all = harness.gateway.requests.clone().try_acquire_many_owned(256).unwrap();
    let mut request = axum::http::Request::new(());
    let headers = request.headers_mut();
    headers.insert("x-diario-cell", "cell-1".parse().unwrap());
    headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let (mut parts, ()) = request.into_parts();

    let refused = Authenticated::from_request_parts(&mut parts, &harness.gateway).await;

    assert!(matches!(refused, Err(Error::Busy)));
}

#[tokio::test]
async fn a_cell_is_heard_for_its_own_containers_only_also_after_their_end() {
    let (harness, mine) = Harness::start().await;
    let mut foreign = mine.clone();
    foreign.instance_guid = crate::clock::new_instance_guid();
    let guid = mine.instance_guid.to_string();

    let kept = harness.push(1, &[("web", &mine), ("web", &foreign), ("web", &mine)]).await;
    assert_eq!(kept, [guid.clone(), guid.clone()]);
    harness.push(4, &[("other", &mine), ("other", &foreign)]).await;
    assert!(harness.kept("other").await.is_empty());

    let request = ReportsRequest { cell_epoch: CellEpoch(1), reports: vec![ended(&mine, 1)] };
    reports::take(&harness.gateway, &cell("cell-1"), request).await.unwrap();
    let head = harness.inner.control_plane.store.head().await.unwrap().position;
    assert!(harness.inner.control_plane.now.reach(head).await);
    assert_eq!(harness.push(6, &[("web", &mine)]).await.len(), 3);

    // Another node, or the next process, knows no ended container: the log does.
    let tokens = Arc::clone(&harness.gateway.tokens);
    let gateway = Gateway::new(harness.inner.control_plane.clone(), tokens);
    let another = Harness { inner: harness.inner, gateway };
    let kept = another.push(7, &[("web", &mine), ("web", &foreign), ("other", &mine)]).await;
    assert_eq!(kept.len(), 4);
}

#[tokio::test]
async fn a_list_is_not_given_by_a_node_that_is_behind_what_the_cell_has() {
    let (harness, _) = Harness::start().await;
    let head = harness.inner.control_plane.store.head().await.unwrap().position;

    assert!(harness.gateway.see(head).await.is_ok());
    // Of another life of the log; the cell learns of it by the answer.
    assert!(harness.gateway.see(Position(head.0 + 1000)).await.is_ok());
    let passed = harness.gateway.hear(&cell("cell-1"), CellEpoch(9)).await.unwrap_err();
    assert!(matches!(passed, Error::Bus(command_bus::Error::Rejected(_))), "{passed}");
}

#[tokio::test]
async fn evidence_is_kept_of_the_present_placement_only() {
    let (harness, mine) = Harness::start().await;
    let mut foreign = mine.clone();
    foreign.instance_guid = crate::clock::new_instance_guid();

    for (instance, is_kept) in [(&foreign, false), (&mine, true)] {
        let report = ended(instance, 1).report;
        let cell_id = cell("cell-1");
        let kept = reports::keep_evidence(&harness.gateway, &cell_id, &report).await.unwrap();
        assert_eq!(kept.is_some(), is_kept);
    }
    let elsewhere = ended(&mine, 1).report;
    let cell_id = cell("cell-2");
    let kept = reports::keep_evidence(&harness.gateway, &cell_id, &elsewhere).await.unwrap();
    assert!(kept.is_none());
}
