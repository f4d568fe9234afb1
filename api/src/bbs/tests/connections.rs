//! Who may connect, and what becomes of requests that are none.

use hyper::{Method, StatusCode};

use super::{
    client::{Client, pem},
    harness::{Served, certify, files},
};
use crate::bbs::{options::Security, proto, wire};

async fn is_served(client: &Client) -> bool {
    client.raw(Method::POST, "/v1/ping", &[], Vec::new()).await.is_ok()
}

#[tokio::test]
async fn only_who_shows_a_certificate_of_the_authority_is_served() {
    let served = Served::start().await;
    let own = served.folder.as_path();
    let address = served.client.address;
    let chain = || Some((pem(&own.join("client.crt")), own.join("client.key")));

    assert!(is_served(&Client::with(address, chain(), own, &[&rustls::version::TLS13])).await);
    assert!(is_served(&Client::with(address, chain(), own, &[&rustls::version::TLS12])).await);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert!(!is_served(&Client::with(address, None, own, &[version])).await);
        let other = certify("eve", 1);
        let stranger =
            Some((pem(&other.path().join("client.crt")), other.path().join("client.key")));
        assert!(!is_served(&Client::with(address, stranger, own, &[version])).await);
    }
    assert!(!is_served(&Client::plain(address)).await);
    assert!(is_served(&served.client).await, "nothing else is disturbed");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let folder = certify("ann", -1);
    let good = certify("bob", 1);
    let security = Security::Tls(proto_files(&folder, &good));
    let served = Served::with(good, security).await;

    // Its authority is trusted, but its time is over.
    let expired = Some((pem(&folder.path().join("client.crt")), folder.path().join("client.key")));
    let client = Client::with(served.client.address, expired, &served.folder, rustls::ALL_VERSIONS);
    assert!(!is_served(&client).await);
}

/// Shows the pair of one folder, and trusts clients of the other.
fn proto_files(trusted: &tempfile::TempDir, own: &tempfile::TempDir) -> crate::bbs::tls::Files {
    let authority = trusted.path().join("ca.crt");
    crate::bbs::tls::Files { authority, ..files(own.path()) }
}

#[tokio::test]
async fn certificates_are_read_again_without_a_restart_and_bad_ones_change_nothing() {
    let first = certify("ann", 1);
    let second = certify("bob", 1);
    let current = crate::bbs::tls::Current::load(files(first.path())).unwrap();
    let before = current.config();

    std::fs::write(first.path().join("server.key"), "rubbish").unwrap();
    current.reload();
    assert!(std::sync::Arc::ptr_eq(&before, &current.config()), "those before stay");

    for file in ["server.crt", "server.key", "ca.crt"] {
        std::fs::copy(second.path().join(file), first.path().join(file)).unwrap();
    }
    current.reload();
    assert!(!std::sync::Arc::ptr_eq(&before, &current.config()));
}

#[tokio::test]
async fn in_the_clear_everybody_on_this_machine_is_served_when_it_is_wanted() {
    let served = Served::with(certify("ann", 1), Security::PlainOnLoopback).await;

    let pong: proto::PingResponse = served.client.call("/v1/ping", &()).await;
    assert!(pong.available);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_disturbs_nobody() {
    let served = Served::start().await;
    let client = &served.client;

    for path in ["/v1/nothing", "/v1/tasks/list.r9", "/v2/ping", "/"] {
        let answer = client.raw(Method::POST, path, &[], Vec::new()).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.headers.contains_key("x-cf-routererror"), "{path}");
    }
    let answer = client.raw(Method::GET, "/v1/ping", &[], Vec::new()).await.unwrap();
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);

    let cut_short = client.raw(Method::POST, "/v1/tasks/start", &[], vec![0x0a, 0x05, b'a']).await;
    let refused = read(&cut_short.unwrap());
    assert_eq!(refused, Some((4, "the request received is invalid".to_owned())));
    let huge = vec![0; wire::BODY_BYTES_MAX + 1];
    if let Ok(answer) = client.raw(Method::POST, "/v1/tasks/desire.r2", &[], huge).await {
        let text = "the request failed for an unknown reason".to_owned();
        assert_eq!(read(&answer), Some((0, text)));
    }
    let pong: proto::PingResponse = client.call("/v1/ping", &()).await;
    assert!(pong.available);
}

fn read(answer: &super::client::Answer) -> Option<(i32, String)> {
    use prost::Message as _;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = proto::TaskLifecycleResponse::decode(answer.body.clone()).unwrap();
    answer.error.map(|error| (error.r#type, error.message))
}

#[tokio::test]
async fn who_acted_and_what_for_is_in_the_log() {
    let served = Served::start().await;
    let request = prost::Message::encode_to_vec(&proto::UpsertDomainRequest {
        domain: "cf-apps".to_owned(),
        ttl: 120,
    });
    let header = [("x-vcap-request-id", "4bf92f3577b34da6a3ce929d0e0e4736")];

    let answer = served.client.raw(Method::POST, "/v1/domains/upsert", &header, request).await;

    assert_eq!(answer.unwrap().status, StatusCode::OK);
    let store = &served.node.control_plane.store;
    let events = store.read_all(domain::log::Position(0), 100).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(&*last.actor.name, "ann");
    assert_eq!(&*last.actor.via, "bbs");
    assert_eq!(last.correlation.as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
}
