//! Bodies in both directions: whole, in pieces, as slow as the slower side.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{App, DEADLINE, MIB, assert_body, get_text, read_all, read_head, settled, start_app};

/// What may be under way in the kernel's buffers of two connections, and then some.
const UNDER_WAY_MAX: u64 = 40 * MIB;

#[tokio::test]
async fn a_slow_reader_slows_the_instance_and_gets_every_byte() {
    let (app, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let mut client = TcpStream::connect(router.address).await.unwrap();
    client.write_all(get_text("/big").replace("1.1", "1.0").as_bytes()).await.unwrap();
    read_head(&mut client).await;

    let produced = settled(&app.produced).await;
    assert!(produced < UNDER_WAY_MAX, "{produced} bytes were taken from the instance");

    let mut received = 0;
    let mut buffer = vec![0; 65_536];
    loop {
        let count = timeout(DEADLINE, client.read(&mut buffer)).await.unwrap().unwrap();
        if count == 0 {
            break;
        }
        received += u64::try_from(count).unwrap();
    }
    assert_eq!(received, 64 * MIB);
    assert_eq!(router.records(1).await[0].bytes_out, 64 * MIB);
}

#[tokio::test]
async fn a_slow_instance_slows_the_client_and_gets_every_byte() {
    let (app, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let sent = AtomicU64::new(0);
    let mut client = TcpStream::connect(router.address).await.unwrap();
    let upload = async {
        let head = "PUT /wait HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        for _ in 0..1024 {
            client.write_all(chunk.as_bytes()).await.unwrap();
            sent.fetch_add(65_536, Ordering::Relaxed);
        }
        client.write_all(b"0\r\n\r\n").await.unwrap();
        read_all(&mut client).await
    };
    let open_when_stuck = async {
        let sent = settled(&sent).await;
        assert!(sent < UNDER_WAY_MAX, "{sent} bytes were taken from the client");
        app.gate.add_permits(1);
    };

    let (answer, ()) = tokio::join!(upload, open_when_stuck);

    assert_body(&answer, &(64 * MIB).to_string());
    assert_eq!(router.records(1).await[0].bytes_in, 64 * MIB);
}

#[tokio::test]
async fn pieces_are_passed_on_one_by_one_in_both_directions() {
    let (_, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let mut client = TcpStream::connect(router.address).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.contains("transfer-encoding: chunked"), "{answer}");

    // Each piece comes back while the request is still being sent.
    for piece in ["5\r\nhello\r\n", "5\r\nagain\r\n", "0\r\n\r\n"] {
        client.write_all(piece.as_bytes()).await.unwrap();
        let mut back = vec![0; piece.len()];
        timeout(DEADLINE, client.read_exact(&mut back)).await.expect("a piece in time").unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), piece);
    }
}

#[tokio::test]
async fn bodies_keep_their_framing_for_every_method() {
    let (_, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let with =
        |line: &str| format!("{line} HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n");

    let head = router.exchange(&format!("{}\r\n", with("HEAD /name"))).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 1\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");

    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = router.exchange(&format!("{}{chunked}", with("GET /echo"))).await;
    assert_body(&answer, "3\r\nabc\r\n0\r\n\r\n");

    // The length that a chunked body claims besides is not believed and not passed on.
    let both =
        router.exchange(&format!("{}Content-Length: 9\r\n{chunked}", with("POST /headers"))).await;
    assert!(!both.contains("content-length: 9"), "{both}");

    let none = router.exchange(&format!("{}\r\n", with("DELETE /headers"))).await;
    assert!(!none.contains("transfer-encoding: chunked\n"), "{none}");
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_when_the_body_is_wanted() {
    let (_, address) = App::start("a").await;
    let router = start_app(&[address]).await;
    let mut client = TcpStream::connect(router.address).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\
                Content-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();

    assert_eq!(read_head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"abc").await.unwrap();
    assert!(read_all(&mut client).await.contains("abc"));
}
