//! A disk that is full, and one that fails, under a running control plane: clear errors or a clear
//! stop, and nothing acknowledged is lost.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use projections::testing::postgres::{Cluster, Settings};

use crate::{
    harness::{Server, binary, diario, folder, tell, told, until},
    load::{Load, assert_kept},
};

const CLIENTS: usize = 8;

/// What of the long run is tried where the environment names no other share, in hundredths.
fn share(whole: u32) -> u32 {
    let hundredths = std::env::var("DIARIO_DAMAGE").map_or(2, |text| text.parse().unwrap());
    (whole * hundredths / 100).max(1)
}

/// A small file system of its own.
pub(crate) struct Disk {
    /// Where it is mounted.
    pub(crate) at: PathBuf,
    // Goes last: the image is in it.
    _folder: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|failure| panic!("{program}: {failure}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", told(&output));
}

impl Disk {
    pub(crate) fn new(megabytes: u64) -> Self {
        let folder = folder();
        // Postgres runs as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (image, at) = (folder.path().join("image"), folder.path().join("disk"));
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", image.to_str().unwrap()]);
        fs::create_dir(&at).unwrap();
        run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]);
        Self { at, _folder: folder }
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Takes all the room that there is, but for a little.
    pub(crate) fn fill_but(&self, kilobytes: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let piece = vec![1; 64 << 10];
        while ballast.write_all(&piece).is_ok() {}
        let length = ballast.metadata().unwrap().len();
        let kept = length.saturating_sub(u64::try_from(kilobytes << 10).unwrap());
        ballast.set_len(kept).unwrap();
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that fails may have left a process on it.
        let unmounted = Command::new("umount").args(["-l", self.at.to_str().unwrap()]).status();
        assert!(unmounted.unwrap().success() || std::thread::panicking());
    }
}

/// Every error was one that says what is wrong, and that the same may be tried again.
fn assert_clear(load: &Load, may_say: &[&str]) {
    for (error, times) in load.errors() {
        let is_clear = may_say.iter().any(|words| error.contains(words));
        assert!(is_clear, "{times} times: {error}");
    }
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_serves_again_when_there_is_room() {
    let disk = Disk::new(40);
    let data = disk.at.join("data");
    let server = Server::start(&["serve"], &data);
    let load = Load::start("first", &server.api, CLIENTS);
    load.wait_for_more(50);

    for round in 0..share(10) {
        disk.fill_but(256);
        let told_before = full(&load);
        until("the disk to be full", || (full(&load) > told_before + 20).then_some(()));
        let position = server.json(&["routes"])["position"].as_str().unwrap().to_owned();
        assert!(position.parse::<u64>().unwrap() > 50, "what is there is read: {position}");

        disk.make_room();
        load.wait_for_more(100);
        tell(&format!("Round {round}: full {} times, then served again.", full(&load)));
    }

    assert_clear(&load, &["the disk that holds the database", "not known yet"]);
    let acknowledged = load.stop();
    server.stop();
    let log = ["--data-dir", data.to_str().unwrap()];
    let found = assert_kept(&acknowledged, &log, folder().path());
    tell(&format!("{} acknowledged, {found} in the log.", acknowledged.len()));
}

fn full(load: &Load) -> u32 {
    let is_full = |error: &String| error.contains("is full: make room");
    load.errors().iter().filter(|(error, _)| is_full(error)).map(|(_, times)| times).sum()
}

#[test]
fn a_control_plane_killed_on_a_full_disk_starts_again_when_there_is_room() {
    let disk = Disk::new(40);
    let data = disk.at.join("data");
    let server = Server::start(&["serve"], &data);
    let load = Load::start("first", &server.api, CLIENTS);
    load.wait_for_more(50);
    disk.fill_but(64);
    until("the disk to be full", || (full(&load) > 20).then_some(()));

    server.kill();
    let acknowledged = load.stop();

    disk.make_room();
    let server = Server::start(&["serve"], &data);
    let again = Load::start("again", &server.api, 1);
    again.wait_for_more(20);
    again.stop();
    server.stop();
    assert_kept(&acknowledged, &["--data-dir", data.to_str().unwrap()], folder().path());
}

#[test]
fn postgres_on_a_full_disk_loses_nothing_and_is_used_again_when_there_is_room() {
    let disk = Disk::new(320);
    let within = disk.at.join("postgres");
    fs::create_dir(&within).unwrap();
    let settings = Settings {
        waits_for_disk: true,
        further: vec![
            ("max_wal_size".to_owned(), "64MB".to_owned()),
            ("min_wal_size".to_owned(), "32MB".to_owned()),
        ],
        within: Some(within),
    };
    let cluster = Cluster::start(&settings);
    let database = cluster.fresh_database();
    let folder = folder();
    let serve = ["serve", "--database-url", &database];
    let server = Server::start(&serve, folder.path());
    let load = Load::start("first", &server.api, CLIENTS);
    load.wait_for_more(50);

    for _ in 0..share(5) {
        disk.fill_but(64);
        let before: u32 = load.errors().values().sum();
        until("errors", || (load.errors().values().sum::<u32>() > before + 20).then_some(()));
        disk.make_room();
        // Without room for its own log Postgres ends, and its operator starts it again.
        if !cluster.is_running() {
            cluster.restart();
        }
        load.wait_for_more(100);
    }

    for (error, times) in load.errors() {
        tell(&format!("{times} times: {error}"));
    }
    assert_clear(&load, &["the database", "the disk", "not known yet"]);
    let acknowledged = load.stop();
    server.stop();
    let log = ["--database-url", &database, "--data-dir", folder.path().to_str().unwrap()];
    let found = assert_kept(&acknowledged, &log, folder.path());
    tell(&format!("{} acknowledged, {found} in the log.", acknowledged.len()));
    drop(cluster);
}

/// Makes a process's system calls fail from now on, until it is dropped.
struct Faults(Child);

impl Faults {
    fn in_process(pid: u32, inject: &str, log: &Path) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-q", "-o", log.to_str().unwrap(), "-e", SYNCS, "-e", inject])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace: install the Debian package strace");
        Self(child)
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // Interrupted, it lets go of the process; it may have ended with it.
        Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        self.0.wait().unwrap();
    }
}

const SYNCS: &str = "trace=fsync,fdatasync";
const SYNC_FAILS: &str = "inject=fsync,fdatasync:error=EIO";

#[test]
fn a_failed_sync_stops_the_control_plane_and_nothing_acknowledged_is_lost() {
    let folder = folder();
    let data = folder.path().join("data");
    let log = ["--data-dir", data.to_str().unwrap()];
    let mut all = std::collections::BTreeSet::new();
    for round in 0..share(20) {
        let stderr = folder.path().join(format!("stderr-{round}"));
        let mut command = diario();
        command.stderr(File::create(&stderr).unwrap());
        let mut server = Server::start_command(command, &["serve"], &data, 0);
        let load = Load::start(&format!("round-{round}"), &server.api, CLIENTS);
        load.wait_for_more(20 + usize::try_from(round).unwrap() * 7);

        let faults = Faults::in_process(server.pid(), SYNC_FAILS, &folder.path().join("strace"));
        let status = server.wait_for_end();
        drop(faults);

        let said = fs::read_to_string(&stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{said}");
        for words in ["the disk under the database", "failed", "see to the disk", "start diario"] {
            assert!(said.contains(words), "{said} does not say {words:?}");
        }
        let may_say = ["not known yet", "going down", "the disk under the database"];
        assert_clear(&load, &[&may_say[..], &["nobody answers"]].concat());
        all.extend(load.stop());
        assert_kept(&all, &log, folder.path());
    }
    let server = Server::start(&["serve"], &data);
    let again = Load::start("again", &server.api, 2);
    again.wait_for_more(20);
    all.extend(again.stop());
    server.stop();
    let found = assert_kept(&all, &log, folder.path());
    tell(&format!("{} acknowledged, {found} in the log.", all.len()));
}

#[test]
fn a_failed_sync_of_the_archive_deletes_nothing() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Server::start(&["serve"], &data);
    let load = Load::start("first", &server.api, CLIENTS);
    load.wait_for_more(200);
    let acknowledged = load.stop();
    server.stop();
    let archive = folder.path().join("archive");
    let moving = ["archive", "run", "--to", archive.to_str().unwrap(), "--keep-events", "50"];
    let log = ["--data-dir", data.to_str().unwrap()];
    let mut failed = 0;

    // The first sync fails, then the second, and so on, until it needs no more.
    for nth in 1.. {
        let inject = format!("{SYNC_FAILS}:when={nth}");
        let output = Command::new("strace")
            .args(["-f", "-q", "-o", "/dev/null", "-e", SYNCS, "-e", &inject])
            .arg(binary())
            .args(moving)
            .args(log)
            .output()
            .unwrap();

        assert_kept(&acknowledged, &log, folder.path());
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(told(&output).contains("diario: "), "{}", told(&output));
        failed += 1;
    }

    assert!(failed > 1, "only {failed} syncs were needed");
    assert_kept(&acknowledged, &log, folder.path());
    tell(&format!("{failed} failed syncs of an archive, one after another; nothing was lost."));
}
