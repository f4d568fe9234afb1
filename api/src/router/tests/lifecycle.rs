//! Connections: how many, how slow, how long, and what becomes of them at shutdown.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    App, DEADLINE, Settings, assert_body, assert_refused, get_text, read_all, read_head, route,
    start, start_app, until,
};

#[tokio::test]
async fn a_hundred_clients_are_served_at_once() {
    let (app, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let open_when_all_are_there = async {
        until(|| app.requests.load(Ordering::Relaxed) == 100).await;
        app.gate.add_permits(100);
    };

    let clients = join_all((0..100).map(|_| router.get("/wait")));
    let (answers, ()) = tokio::join!(clients, open_when_all_are_there);

    for answer in answers {
        assert!(answer.ends_with("\r\n\r\n0"), "{answer}");
    }
    router.records(100).await;
}

#[tokio::test]
async fn a_client_beyond_the_limit_is_told_so() {
    let (_, address) = App::start("a").await;
    let settings = Settings { connections_max: 1, ..Settings::default() };
    let router = start(vec![route("app.example.com", &[address])], settings).await;
    let mut first = TcpStream::connect(router.address).await.unwrap();
    first.write_all(get_text("/name").replace("close", "keep-alive").as_bytes()).await.unwrap();
    read_head(&mut first).await;

    assert_refused(&router.get("/name").await, "503", "too_many_connections");

    drop(first);
    let deadline = Instant::now() + DEADLINE;
    while !router.get("/name").await.starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "the place was not given away again");
    }
}

#[tokio::test]
async fn a_slow_head_is_cut_off_but_a_quiet_client_may_stay() {
    let (_, address) = App::start("a").await;
    let settings = Settings { header_read_max: Duration::from_millis(200), ..Settings::default() };
    let router = start(vec![route("app.example.com", &[address])], settings).await;
    let mut quiet = TcpStream::connect(router.address).await.unwrap();
    quiet.write_all(get_text("/name").replace("close", "keep-alive").as_bytes()).await.unwrap();
    read_head(&mut quiet).await;
    quiet.read_u8().await.unwrap();

    // On a new connection and behind a first request alike.
    let mut slow = TcpStream::connect(router.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: app").await.unwrap();
    assert_eq!(read_all(&mut slow).await, "");

    quiet.write_all(get_text("/name").as_bytes()).await.unwrap();
    assert_body(&read_all(&mut quiet).await, "a");
    let mut slow = TcpStream::connect(router.address).await.unwrap();
    slow.write_all(get_text("/name").replace("close", "keep-alive").as_bytes()).await.unwrap();
    read_head(&mut slow).await;
    slow.read_u8().await.unwrap();
    slow.write_all(b"GET ").await.unwrap();
    assert_eq!(read_all(&mut slow).await, "");
}

#[tokio::test]
async fn a_client_that_is_quiet_for_too_long_is_let_go() {
    let (_, address) = App::start("a").await;
    let settings = Settings { idle_max: Duration::from_millis(100), ..Settings::default() };
    let router = start(vec![route("app.example.com", &[address])], settings).await;

    let request = get_text("/name").replace("close", "keep-alive");

    assert_body(&router.exchange(&request).await, "a");
}

#[tokio::test]
async fn heads_have_a_greatest_size_and_count() {
    let (app, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let start = get_text("/name");
    let start = start.trim_end();

    for headers in ["X-A: 1\r\n".repeat(100), format!("X-A: {}\r\n", "a".repeat(64 * 1024))] {
        let answer = router.exchange(&format!("{start}\r\n{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    assert_eq!(app.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn shutdown_lets_requests_in_hand_end_and_takes_no_new_ones() {
    let (app, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let mut quiet = TcpStream::connect(router.address).await.unwrap();
    quiet.write_all(get_text("/name").replace("close", "keep-alive").as_bytes()).await.unwrap();
    read_head(&mut quiet).await;
    quiet.read_u8().await.unwrap();
    let shut_down = async {
        until(|| app.requests.load(Ordering::Relaxed) == 2).await;
        router.shutdown.cancel();
        assert_eq!(read_all(&mut quiet).await, "");
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(router.address).await.is_ok() {
            assert!(Instant::now() < deadline, "the port still answers");
        }
        app.gate.add_permits(1);
    };

    let (answer, ()) = tokio::join!(router.get("/wait"), shut_down);

    assert_body(&answer, "0");
    timeout(DEADLINE, router.ended).await.expect("an end in time").unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let (app, address) = App::start("a").await;
    let settings = Settings { drain_max: Duration::from_millis(50), ..Settings::default() };
    let router = start(vec![route("app.example.com", &[address])], settings).await;
    let mut client = TcpStream::connect(router.address).await.unwrap();
    client.write_all(get_text("/wait").as_bytes()).await.unwrap();
    until(|| app.requests.load(Ordering::Relaxed) == 1).await;

    router.shutdown.cancel();

    timeout(DEADLINE, router.ended).await.expect("an end in time").unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(router.access.recent(9, None).len(), 1);
}
