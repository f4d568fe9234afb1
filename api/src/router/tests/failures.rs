//! Instances that are dead, die, lie or stay silent, and clients that leave.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    App, DEADLINE, Settings, assert_body, assert_refused, blunt, dead, get_text, read_head, route,
    start, start_app,
};
use crate::router::error::Error;

const POST: &str = "POST /name HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n";

#[tokio::test]
async fn when_no_instance_can_be_dialled_three_are_tried() {
    let addresses = [dead(), dead(), dead(), dead(), dead()];
    let router = start_app(&addresses).await;

    // The second one finds some and at last all put aside, and tries them all the same.
    for request in 0..3 {
        assert_refused(&router.get("/").await, "502", "endpoint_failure");

        let records = router.records(request + 1).await;
        assert_eq!(records[request].attempts, 3);
        assert_eq!(records[request].error, Some(Error::EndpointFailure));
    }
}

#[tokio::test]
async fn a_dead_instance_is_passed_over_after_its_first_failure() {
    let (_, alive) = App::start("alive").await;
    let router = start_app(&[dead(), alive]).await;

    for _ in 0..10 {
        assert_body(&router.get("/name").await, "alive");
    }
    let with_body = format!("{POST}Content-Length: 3\r\n\r\nabc").replace("/name", "/echo");
    assert_body(&router.exchange(&with_body).await, "abc");

    let attempts: u32 = router.records(11).await.iter().map(|record| record.attempts).sum();
    assert_eq!(attempts, 12);
}

#[tokio::test]
async fn a_body_survives_a_dead_instance() {
    let (_, alive) = App::start("alive").await;
    let router = start_app(&[dead(), dead(), alive]).await;

    for _ in 0..3 {
        let request = format!("{POST}Content-Length: 3\r\n\r\nabc").replace("/name", "/echo");
        assert_body(&router.exchange(&request).await, "abc");
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_on_is_not_repeated() {
    let (_, alive) = App::start("alive").await;
    let (requests, rude) = blunt("").await;
    let rude_only = start_app(&[rude]).await;

    for body in ["Content-Length: 3\r\n\r\nabc", "\r\n"] {
        let answer = rude_only.exchange(&format!("{POST}{body}")).await;
        assert_refused(&answer, "502", "endpoint_failure");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 2);

    let both = start_app(&[rude, alive]).await;
    for _ in 0..4 {
        assert_body(&both.get("/name").await, "alive");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_failure_and_not_asked_for_again() {
    let (requests, address) = blunt("hello\r\n\r\n").await;
    let router = start_app(&[address]).await;

    assert_refused(&router.get("/").await, "502", "endpoint_failure");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_instance_closed_costs_nobody_a_request() {
    let (requests, address) = blunt("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let router = start_app(&[address]).await;

    for _ in 0..20 {
        assert_body(&router.get("/").await, "ok");
    }

    assert_eq!(requests.load(Ordering::Relaxed), 20);
    assert!(router.records(20).await.iter().all(|record| record.attempts == 1));
}

#[tokio::test]
async fn a_response_that_is_cut_is_not_passed_off_as_whole() {
    for (answer, is_chunked) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true),
    ] {
        let (_, address) = blunt(answer).await;
        let router = start_app(&[address]).await;
        let mut client = TcpStream::connect(router.address).await.unwrap();

        client.write_all(get_text("/").as_bytes()).await.unwrap();

        let mut got = Vec::new();
        // A reset is as good as an end: what must not come is the last chunk.
        let end = timeout(DEADLINE, client.read_to_end(&mut got)).await.expect("an end in time");
        let got = String::from_utf8_lossy(&got);
        assert!(end.is_err() || !got.contains("\r\n0\r\n"), "{got}");
        assert_eq!(got.contains("transfer-encoding: chunked"), is_chunked, "{got}");
        let record = router.records(1).await.remove(0);
        assert_eq!((record.status, record.error), (Some(200), Some(Error::ResponseCut)));
        assert_eq!(record.bytes_out, 3);
    }
}

#[tokio::test]
async fn a_silent_instance_is_given_up_before_and_within_its_response() {
    let settings =
        Settings { response_silence_max: Duration::from_millis(100), ..Settings::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = start(vec![route("app.example.com", &[address])], settings).await;
    let quiet = async {
        let (_held, _) = listener.accept().await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        read_head(&mut second).await;
        second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
        assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
    };
    let ask = async {
        assert_refused(&router.get("/").await, "504", "endpoint_timeout");
        let mut client = TcpStream::connect(router.address).await.unwrap();
        client.write_all(get_text("/").as_bytes()).await.unwrap();
        let mut got = Vec::new();
        drop(timeout(DEADLINE, client.read_to_end(&mut got)).await.expect("an end in time"));
        assert!(got.ends_with(b"abc"));
    };

    tokio::join!(quiet, ask);

    for record in router.records(2).await {
        assert_eq!(record.error, Some(Error::EndpointTimeout));
    }
}

#[tokio::test]
async fn when_the_client_leaves_the_instance_is_told_and_the_record_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let router = start_app(&[listener.local_addr().unwrap()]).await;
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"] {
        let mut client = TcpStream::connect(router.address).await.unwrap();
        client.write_all(get_text("/").as_bytes()).await.unwrap();
        let (mut instance, _) = listener.accept().await.unwrap();
        read_head(&mut instance).await;
        instance.write_all(answer.as_bytes()).await.unwrap();
        if !answer.is_empty() {
            read_head(&mut client).await;
        }

        drop(client);

        let end = timeout(DEADLINE, instance.read(&mut [0; 1])).await.expect("an end in time");
        assert_eq!(end.unwrap_or(0), 0);
    }

    let records = router.records(2).await;
    assert_eq!((records[0].status, records[0].error), (None, Some(Error::ClientGone)));
    assert_eq!((records[1].status, records[1].error), (Some(200), Some(Error::ClientGone)));
}
