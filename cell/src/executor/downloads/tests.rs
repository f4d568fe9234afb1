//! Downloads from a server on this machine that does what a test tells it, also what no server should.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::action::{Checksum, ChecksumAlgorithm};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::supervise::{self, Worker};

/// What a server says to one request, byte for byte.
#[derive(Debug, Clone)]
enum Reply {
    /// This, and then it closes.
    Says(Vec<u8>),
    /// This, and then nothing for ever.
    Stalls(Vec<u8>),
    /// This, and then it breaks the connection off.
    Resets(Vec<u8>),
}

/// A server whose replies are told beforehand; the last one is given again and again.
struct Server {
    url: String,
    replies: Arc<Mutex<Vec<Reply>>>,
    requests: Arc<Mutex<Vec<String>>>,
    _worker: Worker,
}

impl Server {
    async fn start(replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:hunter2@{}/x", listener.local_addr().unwrap());
        let (replies, requests) =
            (Arc::new(Mutex::new(replies.to_vec())), Arc::<Mutex<Vec<String>>>::default());
        let (told, heard) = (Arc::clone(&replies), Arc::clone(&requests));
        let worker = supervise::spawn("server", async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = hear(&mut stream).await;
                heard.lock().unwrap().push(request);
                let reply = next(&told);
                open.extend(answer(stream, reply).await);
            }
        });
        Self { url, replies, requests, _worker: worker }
    }

    fn now_says(&self, replies: &[Reply]) {
        *self.replies.lock().unwrap() = replies.to_vec();
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn next(told: &Mutex<Vec<Reply>>) -> Reply {
    let mut told = told.lock().unwrap();
    if told.len() > 1 { told.remove(0) } else { told[0].clone() }
}

async fn hear(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    while !heard.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut heard).await.unwrap() == 0 {
            break;
        }
    }
    String::from_utf8(heard).unwrap().to_lowercase()
}

async fn answer(mut stream: TcpStream, reply: Reply) -> Option<TcpStream> {
    match reply {
        Reply::Says(bytes) => {
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
            None
        }
        Reply::Stalls(bytes) => {
            drop(stream.write_all(&bytes).await);
            Some(stream)
        }
        Reply::Resets(bytes) => {
            drop(stream.write_all(&bytes).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.set_zero_linger().unwrap();
            None
        }
    }
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// All of a body, with a tag.
fn tagged(tag: &str, body: &[u8]) -> Reply {
    let headers = format!("etag: \"{tag}\"\r\ncontent-length: {}\r\n", body.len());
    Reply::Says(reply("200 OK", &headers, body))
}

fn untagged(body: &[u8]) -> Reply {
    Reply::Says(reply("200 OK", &format!("content-length: {}\r\n", body.len()), body))
}

fn not_modified() -> Reply {
    Reply::Says(reply("304 Not Modified", "", b""))
}

/// Only the beginning of ten bytes, from a server that can go on.
fn first_four(how: fn(Vec<u8>) -> Reply, tag: &str) -> Reply {
    let headers = format!("etag: {tag}\r\naccept-ranges: bytes\r\ncontent-length: 10\r\n");
    how(reply("200 OK", &headers, b"0123"))
}

fn open(folder: &Path, limit_bytes: u64) -> Downloads {
    let timing = Timing {
        idle: Duration::from_millis(300),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
    };
    Downloads::open(folder, limit_bytes, Arc::default(), timing).unwrap()
}

fn request<'a>(url: &'a str, cache_key: &'a str) -> Request<'a> {
    Request { url, cache_key, checksum: None }
}

fn content(fetched: &Fetched<'_>) -> String {
    let mut text = String::new();
    (&fetched.file).read_to_string(&mut text).unwrap();
    text
}

/// What all files in a folder take of the disk, without its index.
fn real_bytes(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            bytes += real_bytes(&entry.path());
        } else if entry.file_name() != "index.json" {
            bytes += metadata.blocks() * 512;
        }
    }
    bytes
}

fn kept(folder: &Path) -> usize {
    let count = |name: &str| fs::read_dir(folder.join(name)).unwrap().count();
    assert_eq!(count("incoming"), 0, "something unfinished is left");
    count("kept")
}

fn tgz(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(u64::try_from(content.len()).unwrap());
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

fn handle(name: &str) -> Handle {
    Handle::parse(name).unwrap()
}

const LIMIT: u64 = 1 << 20;

#[tokio::test]
async fn what_is_kept_is_asked_for_again_and_only_loaded_when_it_changed() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let server = Server::start(&[tagged("1", b"one"), not_modified(), tagged("2", b"two")]).await;
    let wanted = request(&server.url, "key");

    let first = downloads.file(wanted).await.unwrap();
    assert_eq!((content(&first).as_str(), first.loaded_bytes), ("one", Some(3)));
    let second = downloads.file(wanted).await.unwrap();
    assert_eq!((content(&second).as_str(), second.loaded_bytes), ("one", None));
    let third = downloads.file(wanted).await.unwrap();
    assert_eq!((content(&third).as_str(), third.loaded_bytes), ("two", Some(3)));

    let requests = server.requests();
    assert!(!requests[0].contains("if-none-match"));
    assert!(requests[0].contains("authorization: basic "), "{}", requests[0]);
    assert!(requests[1].contains("if-none-match: \"1\"") && requests[2].contains("\"1\""));
    drop((first, second, third));
    assert_eq!(kept(home.path()), 1);
}

#[tokio::test]
async fn what_says_not_when_it_changes_or_has_no_key_is_used_once() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let server = Server::start(&[untagged(b"one")]).await;

    for key in ["key", "", "key"] {
        let fetched = downloads.file(request(&server.url, key)).await.unwrap();
        assert_eq!((content(&fetched).as_str(), fetched.loaded_bytes), ("one", Some(3)));
    }

    assert_eq!((kept(home.path()), downloads.store.taken_bytes()), (0, 0));
    let error = downloads.folder(request(&server.url, "key"), &handle("a")).await.unwrap_err();
    let told = "Not cacheable directory: it was served without an ETag and a Last-Modified";
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn a_server_that_breaks_off_is_gone_on_with_where_it_did() {
    for how in [Reply::Resets, Reply::Stalls, Reply::Says] {
        let home = tempfile::tempdir().unwrap();
        let downloads = open(home.path(), LIMIT);
        let rest = reply("206 Partial Content", "content-range: bytes 4-9/10\r\n", b"456789");
        let server = Server::start(&[first_four(how, "\"1\""), Reply::Says(rest)]).await;
        let digits = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
        let checksum = Checksum::new(ChecksumAlgorithm::Sha256, digits).unwrap();
        let wanted = Request { checksum: Some(&checksum), ..request(&server.url, "key") };

        let fetched = downloads.file(wanted).await.unwrap();

        assert_eq!(content(&fetched), "0123456789");
        let requests = server.requests();
        assert!(requests[1].contains("range: bytes=4-") && requests[1].contains("if-range: \"1\""));
    }
}

#[tokio::test]
async fn a_part_of_what_changed_meanwhile_or_may_have_is_not_gone_on_with() {
    let other = reply("206 Partial Content", "content-range: bytes 0-9/10\r\n", b"abcdefghij");
    let cases = [
        // It answers with all of it: something else by now.
        (vec![first_four(Reply::Resets, "\"1\""), tagged("2", b"abcdefghij")], true),
        // A weak tag does not say that the bytes are the same.
        (vec![first_four(Reply::Resets, "W/\"1\""), tagged("2", b"abcdefghij")], false),
        // It sends another part than was asked for.
        (
            vec![
                first_four(Reply::Resets, "\"1\""),
                Reply::Says(other),
                tagged("2", b"abcdefghij"),
            ],
            true,
        ),
    ];
    for (replies, asks_for_range) in cases {
        let home = tempfile::tempdir().unwrap();
        let downloads = open(home.path(), LIMIT);
        let server = Server::start(&replies).await;

        let fetched = downloads.file(request(&server.url, "key")).await.unwrap();

        assert_eq!(content(&fetched), "abcdefghij");
        assert_eq!(server.requests()[1].contains("range: bytes=4-"), asks_for_range);
    }
}

#[tokio::test]
async fn each_way_to_fail_is_told_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let short = reply("200 OK", "content-length: 10\r\n", b"0123");
    let lies = reply("200 OK", "content-length: 1000000000000\r\n", b"0123");
    let endless = [reply("200 OK", "", b""), vec![b'x'; 2 << 20]].concat();
    for (replies, told, requests) in [
        (Reply::Says(reply("404 Not Found", "", b"")), "Download failed: Status code 404", 4),
        (Reply::Stalls(Vec::new()), "Download failed: the server sent nothing for 0 s", 4),
        (Reply::Stalls(short.clone()), "Download failed: the server sent nothing for 0 s", 4),
        (Reply::Says(short), "Download failed: ", 4),
        (Reply::Resets(Vec::new()), "Download failed: ", 4),
        (Reply::Says(b"SSH-2.0-what\r\n\r\n".to_vec()), "Download failed: ", 4),
        (Reply::Says(lies), "the cell's room for downloads is full: 1000000000000 bytes do", 1),
        (Reply::Says(endless), "the cell's room for downloads is full: ", 1),
        (not_modified(), "Download failed: Status code 304", 4),
    ] {
        let server = Server::start(&[replies]).await;

        let error = downloads.file(request(&server.url, "key")).await.unwrap_err().to_string();

        assert!(error.starts_with(told), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("127.0.0.1"), "{error}");
        assert_eq!(server.requests().len(), requests, "{error}");
        assert_eq!((kept(home.path()), downloads.store.taken_bytes()), (0, 0));
    }
    for (url, told) in [
        ("ftp://x/y", "Failed to parse URL: it is neither http nor https"),
        ("no url", "Failed to parse URL: relative URL without a base"),
        ("http://127.0.0.1:1/", "Download failed: "),
    ] {
        let error = downloads.file(request(url, "key")).await.unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_told_at_once_whatever_the_algorithm() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let server = Server::start(&[tagged("1", b"one")]).await;
    for (algorithm, right) in [
        (ChecksumAlgorithm::Md5, "f97c5d29941bfb1b2fdab0874906ab82"),
        (ChecksumAlgorithm::Sha1, "fe05bcdcdc4928012781a5f1a2a77cbb5398e106"),
        (
            ChecksumAlgorithm::Sha256,
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        ),
    ] {
        let wrong = "0".repeat(right.len());
        let checksum = Checksum::new(algorithm, &wrong).unwrap();
        let wanted = Request { checksum: Some(&checksum), ..request(&server.url, "key") };
        let before = server.requests().len();
        let error = downloads.file(wanted).await.unwrap_err().to_string();
        let told = format!("Checksum failed: '{algorithm}', expected '{wrong}', got '{right}'");
        assert_eq!((error, server.requests().len()), (told, before + 1));
        assert_eq!(downloads.store.taken_bytes(), 0);

        let checksum = Checksum::new(algorithm, right).unwrap();
        let wanted = Request { checksum: Some(&checksum), ..request(&server.url, "") };
        assert_eq!(content(&downloads.file(wanted).await.unwrap()), "one");
    }
}

#[tokio::test]
async fn what_was_found_to_be_something_else_is_loaded_anew() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let server = Server::start(&[tagged("1", b"one")]).await;
    drop(downloads.file(request(&server.url, "key")).await.unwrap());

    let checksum =
        Checksum::new(ChecksumAlgorithm::Md5, "f97c5d29941bfb1b2fdab0874906ab82").unwrap();
    let wanted = Request { checksum: Some(&checksum), ..request(&server.url, "key") };
    drop(downloads.file(wanted).await.unwrap());
    server.now_says(&[not_modified()]);
    let again = downloads.file(wanted).await.unwrap();

    assert!(!server.requests()[1].contains("if-none-match"));
    assert_eq!((content(&again).as_str(), again.loaded_bytes), ("one", None));
}

#[tokio::test]
async fn a_key_is_loaded_once_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let server = Server::start(&[tagged("1", b"one"), not_modified()]).await;
    let wanted = request(&server.url, "key");

    let all = futures_util::future::join_all((0..4).map(|_| downloads.file(wanted))).await;

    let loaded = all.iter().filter(|one| one.as_ref().unwrap().loaded_bytes.is_some()).count();
    assert_eq!((loaded, server.requests().len()), (1, 4));
}

#[tokio::test]
async fn the_limit_holds_and_what_is_held_stays() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), 100_000);
    let server = Server::start(&[tagged("1", &[b'x'; 30_000])]).await;
    let load = async |key| downloads.file(request(&server.url, key)).await;
    let held = load("held").await.unwrap();
    drop(load("old").await.unwrap());
    drop(load("new").await.unwrap());
    assert_eq!(kept(home.path()), 3);

    // The least recently used one that nobody reads goes.
    drop(load("newer").await.unwrap());
    assert_eq!(kept(home.path()), 3);
    assert!(downloads.store.find(&key_of("old").unwrap(), Kind::File).is_none());
    assert!(downloads.store.find(&key_of("held").unwrap(), Kind::File).is_some());
    assert!(downloads.store.taken_bytes() <= 100_000);
    assert_eq!(downloads.store.taken_bytes(), real_bytes(home.path()));

    let others = [load("new").await.unwrap(), load("newer").await.unwrap()];
    let error = load("too much").await.unwrap_err().to_string();
    let told = "the cell's room for downloads is full: 30000 bytes do not fit beside 98304 that \
        are in use, of 100000";
    assert_eq!(error, told);
    drop((others, held));
    assert!(load("too much").await.is_ok());
    assert!(real_bytes(home.path()) <= 100_000);
}

#[tokio::test]
async fn the_next_agent_takes_up_what_was_kept_and_removes_what_is_not_known() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&[tagged("1", b"one"), not_modified()]).await;
    let wanted = request(&server.url, "key");
    drop(open(home.path(), LIMIT).file(wanted).await.unwrap());
    fs::write(home.path().join("kept/unknown"), "x").unwrap();
    fs::create_dir(home.path().join("kept/unknown-folder")).unwrap();
    fs::write(home.path().join("incoming/unfinished"), "x").unwrap();

    let downloads = open(home.path(), LIMIT);
    assert_eq!(kept(home.path()), 1);
    let again = downloads.file(wanted).await.unwrap();
    assert_eq!((content(&again).as_str(), again.loaded_bytes), ("one", None));
    drop(again);
    drop(downloads);

    // A lower limit holds at once; an index that was torn is begun anew.
    drop(open(home.path(), 10));
    assert_eq!(kept(home.path()), 0);
    fs::write(home.path().join("kept/unknown"), "x").unwrap();
    fs::write(home.path().join("index.json"), "{").unwrap();
    drop(open(home.path(), LIMIT));
    assert_eq!(kept(home.path()), 0);
}

#[tokio::test]
async fn a_shared_folder_stays_while_a_container_holds_it_also_for_the_next_agent() {
    let home = tempfile::tempdir().unwrap();
    let limit = 120_000;
    let downloads = open(home.path(), limit);
    let archive = tgz("bin/tool", &[b'x'; 60_000]);
    let server = Server::start(&[tagged("1", &archive), not_modified()]).await;
    let wanted = request(&server.url, "dependency");
    let first = downloads.folder(wanted, &handle("a")).await.unwrap();
    let second = downloads.folder(wanted, &handle("b")).await.unwrap();
    assert_eq!(first.path, second.path);
    assert_eq!((first.loaded_bytes.is_some(), second.loaded_bytes), (true, None));
    assert_eq!(fs::read(first.path.join("bin/tool")).unwrap().len(), 60_000);
    downloads.release(&handle("a"));

    drop(downloads);
    let downloads = open(home.path(), limit);
    let large = Server::start(&[tagged("1", &[b'x'; 90_000])]).await;
    let error = downloads.file(request(&large.url, "large")).await.unwrap_err().to_string();
    assert!(error.contains("90000 bytes do not fit beside"), "{error}");
    assert!(second.path.exists());

    // Its container is gone: somebody destroyed it while no agent ran.
    downloads.retain_holders(&BTreeSet::from([handle("c")]));
    drop(downloads.file(request(&large.url, "large")).await.unwrap());
    assert!(!second.path.exists());
    assert!(real_bytes(home.path()) <= limit);
}

#[tokio::test]
async fn a_shared_folder_that_changed_is_new_for_the_next_and_the_old_goes_with_its_last_holder() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let server =
        Server::start(&[tagged("1", &tgz("tool", b"one")), tagged("2", &tgz("tool", b"two"))])
            .await;
    let wanted = request(&server.url, "dependency");
    let old = downloads.folder(wanted, &handle("a")).await.unwrap();
    let new = downloads.folder(wanted, &handle("b")).await.unwrap();

    assert_eq!(fs::read(old.path.join("tool")).unwrap(), b"one");
    assert_eq!(fs::read(new.path.join("tool")).unwrap(), b"two");
    downloads.release(&handle("a"));
    assert!(!old.path.exists() && new.path.exists());
}

#[tokio::test]
async fn a_shared_folder_that_cannot_be_unpacked_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let downloads = open(home.path(), LIMIT);
    let bomb = tgz("bomb", &vec![0; 10_000_000]);
    for (body, told) in [
        (b"no archive".to_vec(), "cannot unpack it: it is neither a tar, a gzipped tar nor a zip"),
        (bomb, "cannot unpack it: the cell's room for downloads is full: "),
    ] {
        let server = Server::start(&[tagged("1", &body)]).await;
        let error = downloads.folder(request(&server.url, "key"), &handle("a")).await.unwrap_err();
        assert!(error.to_string().starts_with(told), "{error}");
        assert_eq!((kept(home.path()), downloads.store.taken_bytes()), (0, 0));
    }
}
