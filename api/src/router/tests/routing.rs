//! Where requests go, and in which words those are refused that go nowhere.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::{App, Settings, assert_body, assert_refused, route, start, start_app};
use crate::router::error::Error;

#[tokio::test]
async fn requests_that_lead_nowhere_are_refused_with_a_reason() {
    let (app, address) = App::start("a").await;
    let routes = vec![route("app.example.com", &[address]), route("idle.example.com", &[])];
    let router = start(routes, Settings::default()).await;
    let cases = [
        ("GET / HTTP/1.1\r\n", "400", Error::BadHost),
        ("GET / HTTP/1.1\r\nHost: a b\r\n", "400", Error::BadHost),
        ("GET / HTTP/1.1\r\nHost: app.example.com:http\r\n", "400", Error::BadHost),
        ("GET / HTTP/1.1\r\nHost: app.example.com\r\nHost: b.c\r\n", "400", Error::BadHost),
        ("GET / HTTP/1.1\r\nHost: other.example.com\r\n", "404", Error::UnknownRoute),
        ("GET / HTTP/1.1\r\nHost: idle.example.com\r\n", "503", Error::NoEndpoints),
        (
            "GET / HTTP/1.1\r\nHost: app.example.com\r\nUpgrade: websocket\r\n",
            "501",
            Error::UpgradeNotSupported,
        ),
        (
            "CONNECT app.example.com:80 HTTP/1.1\r\nHost: app.example.com\r\n",
            "501",
            Error::UpgradeNotSupported,
        ),
    ];

    for (head, status, error) in cases {
        let answer = router.exchange(&format!("{head}Connection: close\r\n\r\n")).await;

        assert_refused(&answer, status, error.reason());
    }

    assert_eq!(app.requests.load(Ordering::Relaxed), 0);
    let records = router.records(cases.len()).await;
    for (record, (head, status, error)) in records.iter().zip(cases) {
        assert_eq!(record.error, Some(error), "{head}");
        assert_eq!(record.status.map(|status| status.to_string()).as_deref(), Some(status));
        assert!(record.endpoint.is_none());
    }
}

#[tokio::test]
async fn a_request_goes_to_the_host_that_it_names() {
    let (_, a) = App::start("a").await;
    let (_, b) = App::start("b").await;
    let routes = vec![route("a.example.com", &[a]), route("b.example.com", &[b])];
    let router = start(routes, Settings::default()).await;

    for (target, host, name) in [
        ("/name", "a.example.com", "a"),
        ("/name", "B.Example.COM:7480", "b"),
        ("/name", "b.example.com.", "b"),
        ("http://a.example.com/name", "b.example.com", "a"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");

        assert_body(&router.exchange(&request).await, name);
    }
}

#[tokio::test]
async fn only_what_is_meant_for_the_other_end_is_passed_on() {
    let (_, address) = App::start("a").await;
    let router = start_app(&[address]).await;

    let answer = router
        .exchange(
            "GET /headers?token=secret HTTP/1.1\r\nHost: App.example.com:7480\r\n\
             Connection: close, x-private, host\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Authorization: basic\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Kept: 2\r\n\
             X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
             X-Vcap-Request-Id: id-1\r\n\r\n",
        )
        .await;

    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = body.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "GET /headers?token=secret",
            "host: App.example.com:7480",
            "x-forwarded-for: 192.0.2.1, 127.0.0.1",
            "x-forwarded-host: App.example.com:7480",
            "x-forwarded-proto: https",
            "x-kept: 2",
            "x-request-id: id-1",
            "x-vcap-request-id: id-1",
        ]
    );
    assert!(head.contains("x-kept: yes") && head.contains("x-vcap-request-id: id-1"), "{head}");
    for gone in ["x-between", "keep-alive", "x-diario-error"] {
        assert!(!head.contains(gone), "{head}");
    }
    let records = router.records(1).await;
    assert_eq!((records[0].path.as_str(), records[0].request_id.as_str()), ("/headers", "id-1"));
}

#[tokio::test]
async fn a_request_without_an_id_gets_one_of_its_own() {
    let (_, address) = App::start("a").await;
    let router = start_app(&[address]).await;

    let answer = router
        .exchange(
            "GET /headers HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\
             X-Request-Id: two words\r\n\r\n",
        )
        .await;

    let id = router.records(1).await[0].request_id.clone();
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    assert_eq!(answer.matches(&id).count(), 3, "{answer}");
    assert!(answer.contains("x-forwarded-proto: http\n"), "{answer}");
}

#[tokio::test]
async fn instances_take_turns_and_each_request_leaves_one_record() {
    let (_, a) = App::start("a").await;
    let (_, b) = App::start("b").await;
    let (_, c) = App::start("c").await;
    let router = start_app(&[a, b, c]).await;

    let mut turns = BTreeMap::new();
    for _ in 0..30 {
        let answer = router.get("/name?password=p").await;
        *turns.entry(answer.split_once("\r\n\r\n").unwrap().1.to_owned()).or_insert(0) += 1;
    }

    assert_eq!(
        turns,
        BTreeMap::from([("a", 10), ("b", 10), ("c", 10)].map(|(k, v)| (k.into(), v)))
    );
    for record in router.records(30).await {
        let endpoint = record.endpoint.as_ref().unwrap();
        assert_eq!(endpoint.key.process_guid.as_str(), "web");
        assert_eq!((record.method.as_str(), record.path.as_str()), ("GET", "/name"));
        assert_eq!((record.status, record.bytes_out, record.error), (Some(200), 1, None));
    }
    let web = domain::testing::process_guid("web");
    assert_eq!(router.access.recent(7, Some(&web)).len(), 7);
    assert!(router.access.recent(7, Some(&domain::testing::process_guid("other"))).is_empty());
}
