//! Diego's API as a client of it sees it: over mutual TLS, with bytes that are made here by hand, and a
//! real container.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use crate::harness::{Server, diario, folder, http, told, until};

const STREAM: &str = "/v1/events/lrp_instances.r1";
/// How long a reader waits for an event.
const PATIENCE: Duration = Duration::from_secs(30);

/// A text or a message as a field.
fn field(number: u32, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut field = varint(number << 3 | 2);
    field.extend(varint(bytes.len().try_into().unwrap()));
    field.extend(bytes);
    field
}

/// A number as a field.
fn number(field: u32, number: u32) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

fn varint(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// A wish for one instance of the sample app.
fn desire() -> Vec<u8> {
    let run = [field(1, "/bin/diario"), field(2, "sample-app"), field(6, "vcap")].concat();
    let tag = [field(1, "source_id"), field(2, field(1, "web"))].concat();
    let http = [number(1, 8080), field(3, "/")].concat();
    let check = field(1, field(2, http));
    let routes = r#"[{"hostnames":["web.test"],"port":8080}]"#;
    let route = field(1, [field(1, "cf-router"), field(2, routes)].concat());
    let lrp = [
        field(1, "web"),
        field(2, "cf-apps"),
        field(3, "preloaded:diario"),
        number(4, 1),
        field(7, field(3, run)),
        number(10, 64),
        number(11, 64),
        number(14, 8080),
        field(15, route),
        number(27, 60_000),
        field(33, check),
        field(35, tag),
    ]
    .concat();
    field(1, lrp)
}

/// A client with its certificate.
struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    fn new(address: SocketAddr, certificates: &Path) -> Self {
        let file = |name: &str| -> PathBuf { certificates.join(name) };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("ca.crt")).unwrap()).unwrap();
        let own = CertificateDer::from_pem_file(file("client.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("client.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own], key)
            .unwrap();
        Self { address, config: Arc::new(config) }
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Tls {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/x-protobuf\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        stream
    }

    /// A call: the message of its answer.
    fn call(&self, path: &str, body: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        self.send("POST", path, "", body).read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        answer[end + 4..].to_vec()
    }

    fn follow(&self, headers: &str) -> Events {
        Events(BufReader::new(self.send("GET", STREAM, headers, b"")))
    }
}

/// A stream that is read; the chunks that it comes in are lines of their own.
struct Events(BufReader<Tls>);

impl Events {
    /// The next event's id and type.
    fn next(&mut self) -> (String, String) {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).expect("an event comes"), 0, "it goes on");
            if let Some(text) = line.strip_prefix("id: ") {
                text.trim().clone_into(&mut id);
            }
            if let Some(name) = line.strip_prefix("event: ") {
                return (id, name.trim().to_owned());
            }
        }
    }

    /// The next one of a type, and all before it.
    fn until(&mut self, name: &str) -> Vec<(String, String)> {
        let mut seen = vec![self.next()];
        while seen.last().is_some_and(|(_, last)| last != name) {
            seen.push(self.next());
        }
        seen
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_client_desires_over_tls_follows_a_crash_and_resumes_by_position() {
    let folder = folder();
    let certificates = folder.path().join("certs");
    let made = diario().args(["certs", "init"]).arg(&certificates).output().unwrap();
    assert!(made.status.success(), "{}", told(&made));
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (listen, data_dir) = (address.to_string(), folder.path().join("data"));
    let (certificate, key, authority) = (file("server.crt"), file("server.key"), file("ca.crt"));
    let arguments = [
        "dev",
        "--bbs-address",
        &listen,
        "--bbs-cert",
        &certificate,
        "--bbs-key",
        &key,
        "--bbs-ca",
        &authority,
    ];
    let server = Server::start(&arguments, &data_dir);
    let client = Client::new(address, &certificates);
    until("the BBS", || TcpStream::connect(address).ok());
    assert_eq!(client.call("/v1/ping", b""), [0x08, 0x01]);
    let mut events = client.follow("");

    assert_eq!(client.call("/v1/desired_lrp/desire.r2", &desire()), b"", "no error");
    let begun = events.until("actual_lrp_instance_created");
    assert_eq!(begun[0].1, "desired_lrp_created");
    let listed = client.call("/v1/actual_lrps/list", b"");
    assert!(!listed.is_empty(), "the slot is there when the wish is answered");
    let address = until("the app", || {
        let shown = server.json(&["lrp", "show", "web"]);
        let slot = &shown["actualLrps"][0];
        let is_running = slot["state"] == "RUNNING";
        slot["address"].as_str().filter(|_| is_running).map(str::to_owned)
    });
    http(&format!("http://{address}:8080/exit/7"), "x");
    let crash = events.until("actual_lrp_crashed");
    let (last, _) = crash.last().unwrap().clone();
    let after: Vec<_> = (0..2).map(|_| events.next()).collect();
    assert_eq!(after[0].1, "actual_lrp_instance_created");
    assert_eq!(after[1].1, "actual_lrp_instance_removed");
    drop(events);

    let mut resumed = client.follow(&format!("Last-Event-ID: {last}\r\n"));
    for expected in &after {
        assert_eq!(&resumed.next(), expected, "nothing is missed and nothing told twice");
    }
    let log = server.text(&["log", "tail", "--limit", "200", "--json"]);
    assert!(log.contains(r#""name":"trial","via":"bbs""#), "who desired it is in the log: {log}");
    server.stop();
}
