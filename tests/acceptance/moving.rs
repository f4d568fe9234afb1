//! A log moves between SQLite and Postgres, is backed up under load, restored anywhere, and proven
//! at every end, also when its first part was archived or pruned: by the program as operators use
//! it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use projections::testing::postgres::{Cluster, Settings};
use serde_json::Value;

use crate::{
    harness::{Server, folder, told},
    transfer::{at, desire, json, refused, run},
};

/// Where a log is, as options say it.
#[derive(Clone, Copy)]
struct Log<'a> {
    data: &'a Path,
    database: Option<&'a str>,
}

impl<'a> Log<'a> {
    fn sqlite(data: &'a Path) -> Self {
        Self { data, database: None }
    }

    fn postgres(data: &'a Path, database: &'a str) -> Self {
        Self { data, database: Some(database) }
    }

    /// Arguments with this log's options behind them.
    fn with(self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--data-dir", at(self.data)]);
        arguments.extend(self.database.iter().flat_map(|url| ["--database-url", url]));
        arguments
    }

    /// Its proof, which must hold and reach a position; as many events as `events` says.
    fn verified(self, last: u64, events: u64) -> Value {
        let report = json(&self.with(&["verify", "--json"]));
        assert_eq!(report["ok"], true, "{report}");
        assert_eq!(
            (report["last"].as_u64(), report["events"].as_u64()),
            (Some(last), Some(events))
        );
        report
    }

    fn serve(self) -> Server {
        let mut arguments = vec!["serve"];
        arguments.extend(self.database.iter().flat_map(|url| ["--database-url", url]));
        Server::start(&arguments, self.data)
    }

    /// Every batch and event as an export holds it.
    fn lines(self, from: &'a str) -> Vec<String> {
        let output = run(&self.with(&["log", "export", "--from", from]));
        assert!(output.status.success(), "{}", told(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let all: Vec<String> = text.lines().map(str::to_owned).collect();
        all[1..all.len() - 1].to_vec()
    }
}

/// Another node's folder gets the master key of the first one's.
fn give_master_key(from: &Path, to: &Path) {
    let keys = to.join("keys");
    fs::create_dir_all(&keys).unwrap();
    fs::copy(from.join("keys/master.key"), keys.join("master.key")).unwrap();
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(keys.join("master.key"), private).unwrap();
}

/// A log of some apps, made by a node that has stopped.
fn made(log: Log<'_>, apps: std::ops::Range<u32>) {
    let server = log.serve();
    for number in apps {
        desire(&server.api, &format!("app-{number}"));
    }
    server.stop();
}

#[test]
fn a_log_moves_from_sqlite_to_postgres_and_back_and_stays_the_same() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let cluster = Cluster::start(&Settings::default());
    let database = cluster.fresh_database();
    let (first, second, third) = (path("first"), path("second"), path("third"));
    let sqlite = Log::sqlite(&first);
    made(sqlite, 0..4);
    let (lines, compact) = (path("log.ndjson"), path("log.diario"));

    let out = ["log", "export", "--json", "--output", at(&lines)];
    let exported = json(&sqlite.with(&out))["export"].clone();
    let last = exported["last"].as_u64().unwrap();
    let file = json(&["verify", "--json", at(&lines)]);
    assert_eq!((file["ok"].as_bool(), file["last"].as_u64()), (Some(true), Some(last)));
    let postgres = Log::postgres(&second, &database);
    let taken = json(&postgres.with(&["log", "import", at(&lines), "--json"]));
    assert_eq!((&taken["link"], &taken["head"]), (&exported["link"], &exported["last"]));
    assert_eq!(json(&postgres.with(&["log", "import", at(&lines), "--json"]))["written"], 0);
    let out = ["log", "export", "--json", "--format", "compact", "--output", at(&compact)];
    assert_eq!(json(&postgres.with(&out))["export"]["link"], exported["link"]);
    let back = Log::sqlite(&third);
    json(&back.with(&["log", "import", at(&compact), "--json"]));

    for log in [sqlite, postgres, back] {
        log.verified(last, last);
        assert_eq!(log.lines("@1"), sqlite.lines("@1"));
    }
    // A node goes on from there; what it adds is taken in where the log came from.
    give_master_key(&first, &second);
    made(postgres, 4..6);
    let (next, rest) = (format!("@{}", last + 1), path("rest"));
    let out = ["log", "export", "--from", &next, "--output", at(&rest), "--json"];
    let end = json(&postgres.with(&out))["export"]["last"].as_u64().unwrap();
    json(&back.with(&["log", "import", at(&rest), "--json"]));
    assert!(end > last);
    assert_eq!(back.lines("@1"), postgres.lines("@1"));
    postgres.verified(end, end);
    back.verified(end, end);
    // Two logs that went different ways are not joined.
    made(sqlite, 6..7);
    refused(&sqlite.with(&["log", "import", at(&rest)]), "differ at position");
}

#[test]
fn a_postgres_log_under_load_is_backed_up_and_restored_into_both_databases() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let cluster = Cluster::start(&Settings::default());
    let (database, target) = (cluster.fresh_database(), cluster.fresh_database());
    let (data, backup) = (path("data"), path("backup"));
    let source = Log::postgres(&data, &database);
    let server = source.serve();
    let acknowledged = AtomicU64::new(0);
    let (before, taken) = std::thread::scope(|scope| {
        let (api, acknowledged) = (server.api.as_str(), &acknowledged);
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn(move || {
                    for number in 0..12 {
                        desire(api, &format!("app-{writer}-{number}"));
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        while acknowledged.load(Ordering::SeqCst) < 8 {
            std::thread::yield_now();
        }
        let before = acknowledged.load(Ordering::SeqCst);
        let taken = json(&source.with(&["backup", "--json", "--to", at(&backup)]));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        (before, taken)
    });
    let position = taken["position"].as_u64().unwrap();
    let then = format!("@{position}");
    let lrps_then = server.json(&["at", &then, "lrps"]);
    assert!(
        lrps_then["desiredLrps"].as_array().unwrap().len() as u64 >= before,
        "what was acknowledged is there"
    );
    let cursor = server.json(&["log", "show", "@1"])["cursor"].as_str().unwrap().to_owned();
    let report = json(&["verify", "--json", at(&backup)]);
    assert_eq!((report["ok"].as_bool(), report["last"].as_u64()), (Some(true), Some(position)));
    let original = source.lines("@1");
    let whole: Vec<String> =
        original.iter().take_while(|it| is_up_to(it, position)).cloned().collect();

    let (in_postgres, in_sqlite) = (path("in-postgres"), path("in-sqlite"));
    for restored in [Log::postgres(&in_postgres, &target), Log::sqlite(&in_sqlite)] {
        let done = json(&restored.with(&["restore", "--json", "--from", at(&backup)]));
        assert_eq!((&done["link"], &done["logId"]), (&taken["link"], &taken["logId"]));
        assert_ne!(done["incarnation"], taken["incarnation"]);
        assert_eq!(done["dataKeys"], taken["dataKeys"]);
        // Proven and signed at once, before any node has run on it.
        assert_eq!(restored.verified(position, position)["signed"].as_u64(), Some(position));
        assert_eq!(restored.lines("@1"), whole);

        give_master_key(&data, restored.data);
        let other = restored.serve();
        assert_eq!(other.json(&["at", &then, "lrps"]), lrps_then);
        let tail = other.run(&["log", "tail", "--after", &cursor]);
        let stderr = String::from_utf8_lossy(&tail.stderr).into_owned();
        assert!(!tail.status.success() && stderr.contains("before it was restored"), "{stderr}");
        desire(&other.api, "app-after");
        other.stop();
        let last = json(&restored.with(&["verify", "--json"]))["last"].as_u64().unwrap();
        assert!(last > position);
        restored.verified(last, last);
        refused(&restored.with(&["restore", "--from", at(&backup)]), "is not empty");
    }
    server.stop();
    replacing(&backup, &in_sqlite, &Log::postgres(&in_postgres, &target), position);
}

/// Whether a line of an export is of a batch that ends up to a position, or of its events.
fn is_up_to(line: &str, position: u64) -> bool {
    let line: Value = serde_json::from_str(line).unwrap();
    let first = line["batch"]["first"].as_u64().or_else(|| line["event"]["position"].as_u64());
    first.unwrap() <= position
}

/// A log is only restored over when that is said, and then it is kept.
fn replacing(backup: &Path, data: &Path, postgres: &Log<'_>, position: u64) {
    let command = ["restore", "--from", at(backup), "--replace", "--json"];
    let no = run(&postgres.with(&command));
    assert_eq!(no.status.code(), Some(2), "{}", told(&no));
    let log = Log::sqlite(data);
    let node = log.serve();
    refused(&log.with(&command), "in use");
    node.stop();
    let before = log.lines("@1");
    json(&log.with(&command));
    log.verified(position, position);
    assert_eq!(run(&log.with(&command)).status.code(), Some(2), "one is kept already");
    fs::rename(data.join("diario.db.replaced"), data.join("diario.db")).unwrap();
    assert_eq!(log.lines("@1"), before, "the one that was replaced is whole");
}

/// What is desired, by an answer.
fn wishes(node: &Server, asked: &[&str]) -> Value {
    node.json(asked)["desiredLrps"].clone()
}

#[test]
fn an_archived_and_a_pruned_log_are_backed_up_and_restored_with_what_they_begin_with() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let cluster = Cluster::start(&Settings::default());
    let database = cluster.fresh_database();
    let (data, archive) = (path("data"), path("archive"));
    let log = Log::sqlite(&data);
    let to_archive = ["archive", "run", "--to", at(&archive), "--json"];
    made(log, 0..3);
    let floor = json(&log.with(&to_archive))["floor"].as_u64().unwrap();
    made(log, 3..5);
    json(&log.with(&to_archive));
    made(log, 5..6);

    // Archived: all of it is in the backup, and the restored log needs no archive.
    let (whole, restored) = (path("whole"), path("restored"));
    let taken = json(&log.with(&["backup", "--json", "--to", at(&whole)]));
    let last = taken["position"].as_u64().unwrap();
    assert_eq!(taken["events"].as_u64(), Some(last));
    json(&Log::sqlite(&restored).with(&["restore", "--json", "--from", at(&whole)]));
    Log::sqlite(&restored).verified(last, last);
    assert_eq!(Log::sqlite(&restored).lines("@1"), log.lines("@1"));

    // Pruned: the rest of it, with the signed state that it begins with.
    let before = format!("@{}", floor + 1);
    json(&log.with(&["archive", "prune", "--before", &before, "--yes", "--json"]));
    refused(&log.with(&["log", "export", "--from", "@1"]), "was pruned");
    let alone = json(&["verify", "--json", at(&archive)]);
    assert_eq!((alone["ok"].as_bool(), alone["first"].as_u64()), (Some(true), Some(floor + 1)));
    let node = log.serve();
    let (first, then) = (format!("@{}", floor + 1), format!("@{floor}"));
    let lrps = [&["at", &then, "lrps"][..], &["lrp", "list"]].map(|asked| wishes(&node, asked));
    assert!(lrps[0].as_array().unwrap().len() >= 2, "{lrps:?}");
    node.stop();
    let last = json(&log.with(&["verify", "--json"]))["last"].as_u64().unwrap();
    let pruned = path("pruned");
    let taken = json(&log.with(&["backup", "--json", "--to", at(&pruned)]));
    assert_eq!(taken["events"].as_u64(), Some(last - floor));
    assert_eq!(json(&["verify", "--json", at(&pruned)])["first"].as_u64(), Some(floor + 1));
    let (in_sqlite, in_postgres, new) =
        (path("in-sqlite"), path("in-postgres"), path("new-archive"));
    let sqlite = Log::sqlite(&in_sqlite);
    let postgres = Log::postgres(&in_postgres, &database);
    let restore = ["restore", "--json", "--from", at(&pruned)];
    refused(&postgres.with(&restore), "name a new place for the state there with --archive");
    let taken_place = [&restore[..], &["--archive", at(&archive)]].concat();
    refused(&postgres.with(&taken_place), "there is another archive at");
    json(&postgres.with(&[&restore[..], &["--archive", at(&new)]].concat()));
    json(&sqlite.with(&restore));
    for restored in [postgres, sqlite] {
        assert_eq!(restored.verified(last, last - floor)["signed"].as_u64(), Some(last));
        assert_eq!(restored.lines(&first), log.lines(&first));
        give_master_key(&data, restored.data);
        let node = restored.serve();
        let found = [&["at", &then, "lrps"][..], &["lrp", "list"]];
        assert_eq!(found.map(|asked| wishes(&node, asked)), lrps);
        let asked = node.run(&["at", "@1", "lrps"]);
        let told = told(&asked);
        assert!(!asked.status.success() && told.contains("pruned"), "{told}");
        // Of an app whose events up to here were pruned, and of a new one.
        node.text(&["lrp", "scale", "app-0", "2"]);
        desire(&node.api, "app-new");
        node.stop();
        let end = json(&restored.with(&["verify", "--json"]))["last"].as_u64().unwrap();
        assert!(end > last);
        restored.verified(end, end - floor);
    }
    // Once more, from where it was restored to.
    let (again, back) = (path("again"), path("back"));
    let taken = json(&postgres.with(&["backup", "--json", "--to", at(&again)]));
    json(&Log::sqlite(&back).with(&["restore", "--json", "--from", at(&again)]));
    let last = taken["position"].as_u64().unwrap();
    Log::sqlite(&back).verified(last, last - floor);
}

#[test]
fn verify_names_what_is_wrong_with_a_file_and_where() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let data = path("data");
    let log = Log::sqlite(&data);
    made(log, 0..3);
    let (file, backup) = (path("log.ndjson"), path("backup"));
    json(&log.with(&["log", "export", "--json", "--output", at(&file)]));
    json(&log.with(&["backup", "--json", "--to", at(&backup)]));
    let text = fs::read_to_string(&file).unwrap();
    let whole = run(&["verify", at(&file), "--from", "@2", "--to", "@3"]);
    assert!(whole.status.success(), "{}", told(&whole));
    assert!(String::from_utf8_lossy(&whole.stdout).starts_with("ok: "), "{}", told(&whole));

    let wrong = path("altered.ndjson");
    fs::write(&wrong, text.replacen("app-1", "app-9", 1)).unwrap();
    let found = run(&["verify", at(&wrong)]);
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
    let line = 1 + text.lines().position(|line| line.contains("app-1")).unwrap();
    assert!(said.starts_with("WRONG at position ") && said.contains("was altered"), "{said}");
    assert!(said.contains(&format!("(line {line})")), "{said}");

    let bytes = fs::read(backup.join("log.diario")).unwrap();
    fs::write(backup.join("log.diario"), &bytes[..bytes.len() / 2]).unwrap();
    let found = run(&["verify", at(&backup)]);
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
    assert!(told(&found).contains("cut off"), "{}", told(&found));

    fs::write(&wrong, &text.as_bytes()[..text.len() * 2 / 3]).unwrap();
    let found = run(&["verify", at(&wrong), "--json"]);
    assert_eq!(found.status.code(), Some(1), "{}", told(&found));
    let told: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert!(told["fault"]["position"].as_u64().unwrap() > 1, "{told}");
    assert!(told["fault"]["problem"].as_str().unwrap().contains("cut off"), "{told}");
    refused(&["verify", at(&data)], "holds no backup");
}
