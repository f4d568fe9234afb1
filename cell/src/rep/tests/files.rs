//! What goes into containers and out of them: downloads, uploads, dependencies and results, with a
//! server on this machine, in real time.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use domain::action::{Action, Checksum, ChecksumAlgorithm, Download, Serial, Upload};
use domain::bbs::definition::{CachedDependency, Definition, ImageLayer, LayerType, MediaType};
use domain::rep::Work;
use domain::sealed::PlainText;
use domain::units::Mebibytes;
use sha2::Digest as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Cell, app, handle, lrp, run, task};
use crate::garden::ExitStatus;
use crate::supervise::{self, Worker};

/// Serves one archive, and takes what is posted.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    _worker: Worker,
}

impl Server {
    async fn start(archive: Vec<u8>, post_status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/app", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let heard = Arc::clone(&requests);
        let worker = supervise::spawn("server", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) && stream.read_buf(&mut request).await.unwrap() > 0 {}
                let (status, body) = match request.starts_with(b"GET") {
                    true => ("200 OK", archive.as_slice()),
                    false => (post_status, b"".as_slice()),
                };
                heard.lock().unwrap().push(request);
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\netag: \"1\"\r\n");
                let head = format!("{head}content-length: {length}\r\n\r\n");
                drop(stream.write_all(&[head.as_bytes(), body].concat()).await);
                drop(stream.shutdown().await);
            }
        });
        Self { url, requests, _worker: worker }
    }

    fn posts(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let posts = requests.iter().filter(|request| request.starts_with(b"POST"));
        posts.map(|request| String::from_utf8_lossy(request).into_owned()).collect()
    }
}

/// Whether all of a request came in, its body too.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o750);
        header.set_size(u64::try_from(content.len()).unwrap());
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn escaping() -> Vec<u8> {
    let mut bytes = archive(&[("XX/escaped", "x")]);
    bytes[..2].copy_from_slice(b"..");
    let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    bytes
}

/// Whoever runs the tests, by number: the containers' files are theirs.
fn user() -> String {
    format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid())
}

fn download(url: &str, artifact: &str) -> Action<PlainText> {
    Action::Download(Download {
        artifact: artifact.to_owned(),
        from: PlainText(url.to_owned()),
        to: "/home/app".to_owned(),
        cache_key: "key".to_owned(),
        log_source: Some("STG".to_owned()),
        user: user(),
        checksum: None,
    })
}

fn upload(url: &str, from: &str) -> Action<PlainText> {
    Action::Upload(Upload {
        artifact: "droplet".to_owned(),
        from: from.to_owned(),
        to: PlainText(url.to_owned()),
        log_source: Some("STG".to_owned()),
        user: user(),
    })
}

fn with(actions: Vec<Action<PlainText>>) -> Definition<PlainText> {
    Definition { action: Action::Serial(Serial { actions, log_source: None }), ..app() }
}

/// A cell whose containers have files.
fn started() -> Cell {
    let cell = Cell::started();
    cell.garden.keep_files_in(&cell.folder.path().join("roots"));
    cell
}

fn inside(cell: &Cell, work: &Work, path: &str) -> PathBuf {
    cell.folder.path().join("roots").join(handle(work).as_str()).join(path)
}

async fn reason(cell: &Cell, work: &Work) -> String {
    cell.until_reported(work, "ended").await;
    cell.ended(work).failure_reason.unwrap()
}

#[tokio::test]
async fn an_archive_is_unpacked_before_what_comes_after_it_runs_and_kept_for_the_next() {
    let cell = started();
    let server = Server::start(archive(&[("bin/run", "run"), ("data", "data")]), "200 OK").await;
    let (first, second) = (lrp("a"), lrp("b"));
    for work in [&first, &second] {
        cell.plane.place(work, with(vec![download(&server.url, "app"), run("/app")]));
        cell.until_reported(work, "healthy").await;
        let file = inside(&cell, work, "home/app/bin/run");
        assert_eq!(fs::read_to_string(&file).unwrap(), "run");
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o750);
    }

    cell.until("told", |cell| cell.lines_of(&second, "STG").len() == 2).await;
    assert_eq!(cell.lines_of(&first, "STG"), ["Downloading app...", "Downloaded app (3K)"]);
    assert!(fs::read_dir(cell.folder.path().join("downloads/kept")).unwrap().count() == 1);
}

#[tokio::test]
async fn the_next_agent_downloads_again_only_what_nothing_has_run_after() {
    let mut cell = started();
    let server = Server::start(archive(&[("data", "data")]), "200 OK").await;
    let work = lrp("a");
    cell.plane.place(&work, with(vec![download(&server.url, "app"), run("/app")]));
    cell.until_reported(&work, "healthy").await;
    let requests = server.requests.lock().unwrap().len();

    cell.kill_agent().await;
    fs::write(inside(&cell, &work, "home/app/data"), "changed by the app").unwrap();
    cell.start_agent();
    cell.exit(&work, "run-0", 3);

    assert_eq!(reason(&cell, &work).await, "APP: Exited with status 3");
    assert_eq!(server.requests.lock().unwrap().len(), requests);
    assert_eq!(cell.executions(&work), 1);
}

#[tokio::test]
async fn what_cannot_be_downloaded_or_copied_is_told_and_nothing_is_harmed() {
    let good = archive(&[("data", "data")]);
    let big = archive(&[("data", &"x".repeat(11 << 20))]);
    let (plain, nobody, looped) = ("/home/app", "nobody", "/loop/x");
    let own = user();
    let cases = [
        (good.clone(), plain, nobody, "user nobody not found"),
        (escaping(), plain, &own, "../escaped leads out of the folder that it is unpacked into"),
        (b"hello".to_vec(), plain, &own, "it is neither a tar, a gzipped tar nor a zip archive"),
        (big, plain, &own, "it takes more than what is left of the container's disk of 10 MiB"),
        (good, looped, &own, "/loop/x: Too many symbolic links encountered"),
    ];
    for (bytes, to, user, why) in cases {
        let cell = started();
        let server = Server::start(bytes, "200 OK").await;
        let work = task("a");
        let root = inside(&cell, &work, "");
        fs::create_dir_all(&root).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let Action::Download(action) = download(&server.url, "") else { panic!("a download") };
        let (to, user) = (to.to_owned(), user.to_owned());
        let action = Action::Download(Download { to, user, ..action });
        cell.plane.place(&work, with(vec![action, run("/never")]));

        let told = format!("Copying into the container failed: {why}");
        assert_eq!(reason(&cell, &work).await, told);
        assert!(cell.garden.executed().is_empty());
        cell.until("told", |cell| cell.lines_of(&work, "STG") == [told.as_str()]).await;
        assert!(!cell.folder.path().join("roots/escaped").exists());
    }
}

#[tokio::test]
async fn a_download_that_fails_is_told_without_its_url() {
    let cell = started();
    let work = task("a");
    let url = "http://user:hunter2@127.0.0.1:1/app";
    cell.plane.place(&work, with(vec![download(url, "app")]));

    assert_eq!(reason(&cell, &work).await, "Downloading app failed");
    cell.until("told", |cell| cell.lines_of(&work, "STG").len() == 2).await;
    let line = cell.lines_of(&work, "STG").remove(1);
    assert!(line.starts_with("Downloading app failed: Download failed: "), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn a_file_is_sent_with_its_digests() {
    let cell = started();
    let server = Server::start(Vec::new(), "201 Created").await;
    let work = task("a");
    let folder = inside(&cell, &work, "out");
    fs::create_dir_all(folder.join("a")).unwrap();
    fs::create_dir_all(folder.join("empty")).unwrap();
    fs::write(folder.join("a/first"), "one").unwrap();
    fs::write(folder.join("b"), "two").unwrap();
    cell.plane.place(&work, with(vec![upload(&server.url, "/out")]));

    cell.until_reported(&work, "ended").await;

    assert_eq!(cell.ended(&work).failure_reason, None);
    let post = server.posts().remove(0);
    assert!(post.ends_with("\r\n\r\none"), "{post}");
    let md5 = BASE64.encode(md5::Md5::digest("one"));
    let sha256 = BASE64.encode(sha2::Sha256::digest("one"));
    for header in [
        "content-type: application/octet-stream".to_owned(),
        "content-length: 3".to_owned(),
        format!("content-md5: {md5}"),
        format!("content-digest: sha-256=:{sha256}:"),
    ] {
        assert!(post.contains(&format!("\r\n{header}\r\n")), "{header}: {post}");
    }
    cell.until("told", |cell| cell.lines_of(&work, "STG").len() == 2).await;
    let lines = cell.lines_of(&work, "STG");
    assert_eq!(lines, ["Uploading droplet...", "Uploaded droplet (3B)"]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_told() {
    for (status, from, told, line, posts) in [
        (
            "500 Oops",
            "/file",
            "Upload failed: Status code 500",
            "Failed to upload payload for droplet",
            3,
        ),
        (
            "200 OK",
            "/nothing",
            "Failed to establish stream from container: /nothing is not in the container",
            "Failed to establish stream from container: /nothing is not in the container",
            0,
        ),
        (
            "200 OK",
            "/sparse",
            "Failed to establish stream from container: /sparse has 1073741824 bytes, more than \
             the container's disk",
            "",
            0,
        ),
        (
            "200 OK",
            "/folder",
            "Failed to establish stream from container: there is no file in /folder",
            "",
            0,
        ),
    ] {
        let cell = started();
        let server = Server::start(Vec::new(), status).await;
        let work = task("a");
        let root = inside(&cell, &work, "");
        fs::create_dir_all(root.join("folder/folder")).unwrap();
        fs::write(root.join("file"), "one").unwrap();
        fs::File::create(root.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        cell.plane.place(&work, with(vec![upload(&server.url, from)]));

        assert_eq!(reason(&cell, &work).await, told);
        assert_eq!(server.posts().len(), posts);
        let has_line = |cell: &Cell| cell.lines_of(&work, "STG").iter().any(|it| it.contains(line));
        cell.until("told", has_line).await;
    }
}

fn with_result(path: &str) -> Definition<PlainText> {
    Definition { result_file: Some(path.to_owned()), ..app() }
}

#[tokio::test]
async fn a_result_of_51200_bytes_is_told_and_one_more_is_too_many() {
    for (length, result, failure_reason) in [
        (51_200, 51_200, None),
        (51_201, 0, Some("failed to fetch result")),
        (1 << 30, 0, Some("failed to fetch result")),
    ] {
        let cell = started();
        let work = task("a");
        cell.plane.place(&work, with_result("/result"));
        cell.until_runs(&work, "run-0").await;
        fs::create_dir_all(inside(&cell, &work, "")).unwrap();
        let file = fs::File::create(inside(&cell, &work, "result")).unwrap();
        file.set_len(length).unwrap();
        file.write_at(b"begins", 0).unwrap();
        cell.exit(&work, "run-0", 0);

        cell.until_reported(&work, "ended").await;
        let ended = cell.ended(&work);
        assert_eq!((ended.result.len(), ended.failure_reason.as_deref()), (result, failure_reason));
        if failure_reason.is_some() {
            let told = "failed to fetch result: result file is too large (over 51200 bytes)";
            cell.until("told", |cell| cell.lines(&work).contains(&told.to_owned())).await;
        }
    }
}

#[tokio::test]
async fn a_result_is_read_in_the_container_only_and_only_of_what_succeeded() {
    let cell = started();
    let (host, missing, failed) = (task("host"), task("missing"), task("failed"));
    let secret = cell.folder.path().join("secret");
    fs::write(&secret, "of the host").unwrap();
    for work in [&host, &missing, &failed] {
        let root = inside(&cell, work, "");
        fs::create_dir_all(&root).unwrap();
        if work.reference != missing.reference {
            let target = format!("../../../../../../../..{}", secret.display());
            symlink(target, root.join("result")).unwrap();
        }
        cell.plane.place(work, Definition { memory_mb: Mebibytes(100), ..with_result("/result") });
        cell.until_runs(work, "run-0").await;
        let code = i32::from(work.reference == failed.reference);
        cell.exit(work, "run-0", code);
        cell.until_reported(work, "ended").await;
        assert_eq!(cell.ended(work).result, "");
    }

    for work in [&host, &missing] {
        assert_eq!(reason(&cell, work).await, "failed to fetch result");
    }
    assert_eq!(reason(&cell, &failed).await, "APP: Exited with status 1");
}

#[tokio::test]
async fn a_dependency_is_unpacked_once_and_mounted_while_a_container_has_it() {
    let mut cell = started();
    let server = Server::start(archive(&[("bin/tool", "tool")]), "200 OK").await;
    let dependency = CachedDependency {
        name: "tools".to_owned(),
        from: PlainText(server.url.clone()),
        to: "/tools".to_owned(),
        cache_key: "tools".to_owned(),
        log_source: Some("STG".to_owned()),
        checksum: None,
    };
    let work = lrp("a");
    cell.plane.place(&work, Definition { cached_dependencies: vec![dependency], ..app() });
    cell.until_reported(&work, "healthy").await;

    let mounts = cell.garden.bind_mounts(&handle(&work));
    let mount = mounts.iter().find(|mount| mount.destination.as_os_str() == "/tools").unwrap();
    assert!(mount.is_read_only);
    assert_eq!(fs::read_to_string(mount.source.join("bin/tool")).unwrap(), "tool");
    let index = || fs::read_to_string(cell.folder.path().join("downloads/index.json")).unwrap();
    assert!(index().contains("\"holders\":[\"a\"]"), "{}", index());
    cell.until("told", |cell| cell.lines_of(&work, "STG").len() == 2).await;
    assert_eq!(cell.lines_of(&work, "STG"), ["Downloading tools...", "Downloaded tools (2K)"]);

    // Destroyed while no agent ran, and so by the next one.
    cell.kill_agent().await;
    cell.garden.vanish(&handle(&work));
    cell.start_agent();
    cell.until_reported(&work, "ended").await;
    let index = fs::read_to_string(cell.folder.path().join("downloads/index.json")).unwrap();
    assert!(index.contains("\"holders\":[]"), "{index}");
}

#[tokio::test]
async fn a_dependency_that_cannot_be_had_fails_the_container_before_it_is_made() {
    let cell = started();
    let work = task("a");
    let dependency = CachedDependency {
        name: String::new(),
        from: PlainText("http://127.0.0.1:1/".to_owned()),
        to: "/tools".to_owned(),
        cache_key: "tools".to_owned(),
        log_source: None,
        checksum: None,
    };
    cell.plane.place(&work, Definition { cached_dependencies: vec![dependency], ..app() });

    assert_eq!(reason(&cell, &work).await, "failed to download cached artifacts");
    let told =
        |cell: &Cell| cell.lines(&work).iter().any(|line| line.starts_with("Downloading failed: "));
    cell.until("told", told).await;
    assert!(cell.garden.executed().is_empty());
}

#[tokio::test]
async fn layers_are_mounted_or_unpacked_as_their_type_says() {
    let cell = started();
    let server = Server::start(archive(&[("file", "layer")]), "200 OK").await;
    let digest = hex::encode(sha2::Sha256::digest(archive(&[("file", "layer")])));
    let digest = Checksum::new(ChecksumAlgorithm::Sha256, &digest).unwrap();
    let layer = |layer_type, to: &str| ImageLayer {
        name: to.to_owned(),
        url: PlainText(server.url.clone()),
        destination_path: to.to_owned(),
        layer_type,
        media_type: MediaType::Tar,
        digest: Some(digest.clone()),
    };
    let work = lrp("a");
    let image_layers =
        vec![layer(LayerType::Shared, "/shared"), layer(LayerType::Exclusive, "/exclusive")];
    let legacy_download_user = Some(user());
    let setup = Some(run("/setup"));
    cell.garden.script_exit("/setup", ExitStatus::Exited { code: 0 });
    cell.plane.place(&work, Definition { image_layers, legacy_download_user, setup, ..app() });
    cell.until_reported(&work, "healthy").await;

    let mounts = cell.garden.bind_mounts(&handle(&work));
    assert!(mounts.iter().any(|mount| mount.destination.as_os_str() == "/shared"));
    let file = inside(&cell, &work, "exclusive/file");
    assert_eq!(fs::read_to_string(file).unwrap(), "layer");
}
