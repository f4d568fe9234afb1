//! What is damaged, mixed up, of another time or of a newer program: each is refused by name, with
//! what to do, and nothing is changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use projections::{event_store::sqlite::change_by_hand, testing::postgres};

use crate::harness::{Server, binary, diario, folder, told, write_private};

/// Some seconds more than a start takes: one that was not refused is ended and so noticed.
const START_SECONDS: &str = "60";

fn refused(output: &Output, says: &[&str]) {
    let told = told(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for words in says {
        assert!(told.contains(words), "{told} does not say {words:?}");
    }
    assert!(!told.contains("panicked"), "{told}");
}

fn run(arguments: &[&str]) -> Output {
    diario().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A start that must be refused.
fn serve(arguments: &[&str], data: &Path) -> Output {
    Command::new("timeout")
        .arg(START_SECONDS)
        .arg(binary())
        .args(["serve", "--port", "0", "--router-port", "0", "--data-dir"])
        .arg(data)
        .args(arguments)
        .env("DIARIO_LOG", "warn")
        .output()
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn desire(server: &Server, guid: &str) {
    let sized = ["--memory-mb", "64", "--disk-mb", "64", "--env", "TOKEN=sealed"];
    let app = ["--rootfs", "preloaded:diario", "--", "/bin/diario", "sample-app"];
    server.text(&[&["lrp", "desire", "--guid", guid][..], &sized, &app].concat());
}

/// The data folder of a control plane that ran, with a few apps and a secret.
fn data_folder(within: &Path, name: &str, apps: usize) -> PathBuf {
    let data = within.join(name);
    let server = Server::start(&["serve"], &data);
    (0..apps).for_each(|number| desire(&server, &format!("{name}-{number}")));
    server.stop();
    data
}

#[test]
fn a_log_that_is_gone_or_emptied_beside_its_keys_is_not_begun_anew() {
    let folder = folder();
    let data = data_folder(folder.path(), "a", 1);
    let file = data.join("diario.db");
    let says = ["diario.db is missing or empty", "the keys of a log", "diario restore"];

    fs::write(&file, "").unwrap();
    refused(&serve(&[], &data), &says);
    assert_eq!(fs::metadata(&file).unwrap().len(), 0, "it was left as it is");
    for command in [&["verify"][..], &["log", "export"], &["log", "stats"], &["archive", "status"]]
    {
        let output = run(&[command, &["--data-dir", text(&data)]].concat());
        refused(&output, &["diario.db is empty", "diario restore"]);
    }

    fs::remove_file(&file).unwrap();
    refused(&serve(&[], &data), &says);
    refused(&run(&["verify", "--data-dir", text(&data)]), &["holds no log", "--data-dir"]);
    assert!(!file.exists(), "nothing was made");
}

#[test]
fn a_wrong_or_damaged_key_is_named() {
    let folder = folder();
    let data = data_folder(folder.path(), "a", 1);
    let (master, signing) = (data.join("keys/master.key"), data.join("keys/checkpoint.key"));
    let last = data.join("keys/checkpoint.last");
    let other = "ab".repeat(32);
    for (file, content, says) in [
        (&master, other.as_str(), ["master key default", "is not the one", "put the right one"]),
        (&master, "abcd", ["master.key", "line 1", "64 HEX DIGITS"]),
        (&signing, &other, ["checkpoint.key", "is not the one", "bring that key back"]),
        (&signing, "abcd", ["checkpoint.key", "64 hex digits", "bring the file back"]),
        (&last, "{}", ["checkpoint.last", "is damaged", "bring it back"]),
    ] {
        let right = fs::read_to_string(file).unwrap();
        write_private(file, content);

        let output = serve(&[], &data);

        refused(&output, &says);
        assert!(!told(&output).contains(&other), "a key was shown");
        write_private(file, &right);
    }
    Server::start(&["serve"], &data).stop();
}

#[test]
fn a_database_of_a_newer_program_is_left_to_it() {
    let folder = folder();
    let newer = "INSERT INTO _sqlx_migrations \
        (version, description, installed_on, success, checksum, execution_time) \
        VALUES (9001, 'from the future', CURRENT_TIMESTAMP, true, '', 0)";
    let says = ["database version 9001", "newer than", "upgrade diario"];
    let data = data_folder(folder.path(), "a", 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = data.join("diario.db");
    runtime.block_on(change_by_hand(&file, &newer.replace("''", "x''")));
    refused(&serve(&[], &data), &says);
    refused(&run(&["verify", "--data-dir", text(&data)]), &says);

    let cluster = postgres::Cluster::start(&postgres::Settings::default());
    let url = cluster.fresh_database();
    let other = folder.path().join("b");
    Server::start(&["serve", "--database-url", &url], &other).stop();
    cluster.psql(url.rsplit('/').next().unwrap(), newer);
    refused(&serve(&["--database-url", &url], &other), &says);
    let verify = ["verify", "--database-url", &url, "--data-dir", text(&other)];
    refused(&run(&verify), &says);
}

#[test]
fn two_logs_that_were_mixed_up_are_told_apart() {
    let folder = folder();
    let a = data_folder(folder.path(), "a", 2);
    let older = fs::read(a.join("diario.db")).unwrap();
    let server = Server::start(&["serve"], &a);
    desire(&server, "later");
    server.stop();
    let b = data_folder(folder.path(), "b", 3);
    let archive = folder.path().join("archive");
    let to = ["archive", "run", "--to", text(&archive), "--keep-events", "1"];
    let moved = run(&[&to[..], &["--data-dir", text(&b)]].concat());
    assert!(moved.status.success(), "{}", told(&moved));

    // The archive of another log.
    let says = ["is of another log", "name the archive of log"];
    refused(&serve(&["--archive", text(&archive)], &a), &says);
    let verify = ["verify", "--archive", text(&archive), "--data-dir", text(&a)];
    refused(&run(&verify), &says);
    refused(&run(&[&to[..], &["--data-dir", text(&a)]].concat()), &says);

    // The export of another log.
    let export = folder.path().join("export");
    let out = ["log", "export", "--data-dir", text(&b), "--output", text(&export)];
    assert!(run(&out).status.success());
    let import = ["log", "import", text(&export), "--data-dir", text(&a)];
    refused(&run(&import), &["two logs cannot be joined", "import into an empty one"]);

    // The database of another log, and an older copy of its own.
    let (file, right) = (a.join("diario.db"), fs::read(a.join("diario.db")).unwrap());
    fs::copy(b.join("diario.db"), &file).unwrap();
    let says = ["checkpoint.last is of log", "the database holds log", "give another --data-dir"];
    refused(&serve(&[], &a), &says);
    refused(&run(&["verify", "--data-dir", text(&a)]), &says);
    fs::write(&file, older).unwrap();
    refused(&serve(&[], &a), &["was signed", "an older copy", "diario restore"]);
    refused(&run(&["verify", "--data-dir", text(&a)]), &["WRONG", "the log is cut off"]);

    fs::write(&file, right).unwrap();
    let ok = run(&["verify", "--data-dir", text(&a)]);
    assert!(ok.status.success(), "{}", told(&ok));
}

#[test]
fn an_archive_with_a_hole_is_named_and_never_answered_from() {
    let folder = folder();
    let data = data_folder(folder.path(), "a", 4);
    let archive = folder.path().join("archive");
    let to = ["archive", "run", "--to", text(&archive), "--keep-events", "1"];
    let moved = run(&[&to[..], &["--data-dir", text(&data)]].concat());
    assert!(moved.status.success(), "{}", told(&moved));
    let segment = fs::read_dir(archive.join("segments")).unwrap().next().unwrap().unwrap().path();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let away = folder.path().join("away");
    fs::rename(&segment, &away).unwrap();
    let says = ["the archive lacks", name, "bring it back"];

    refused(&run(&["verify", "--data-dir", text(&data)]), &says);
    let out = folder.path().join("export");
    let export = ["log", "export", "--data-dir", text(&data), "--output", text(&out)];
    refused(&run(&export), &says);
    let server = Server::start(&["serve"], &data);
    refused(&server.run(&["log", "show", "@1"]), &says);
    refused(&server.run(&["at", "@1", "lrps"]), &["archive"]);
    server.stop();

    // Cut off, it is damaged; without the list nothing of it can be read.
    let whole = fs::read(&away).unwrap();
    fs::write(&segment, &whole[..whole.len() - 1]).unwrap();
    refused(&run(&["verify", "--data-dir", text(&data)]), &["damaged", name, "bring it back"]);
    fs::write(&segment, &whole).unwrap();
    let list = archive.join("archive.json");
    let right = fs::read(&list).unwrap();
    fs::write(&list, &right[..right.len() / 2]).unwrap();
    refused(&serve(&[], &data), &["archive.json is damaged", "bring it back"]);
    fs::remove_file(&list).unwrap();
    refused(&serve(&[], &data), &["archive at", "bring it back"]);
    fs::write(&list, right).unwrap();
    let ok = run(&["verify", "--data-dir", text(&data)]);
    assert!(ok.status.success(), "{}", told(&ok));
}

#[test]
fn a_position_from_the_future_and_a_cursor_of_another_log_are_refused() {
    let folder = folder();
    let server = Server::start(&["serve"], &folder.path().join("a"));
    let other = Server::start(&["serve"], &folder.path().join("b"));
    for server in [&server, &other] {
        desire(server, "web");
    }
    let cursor = other.json(&["log", "show", "@1"])["cursor"].as_str().unwrap().to_owned();

    for asked in [
        &["at", "@999999", "lrps"][..],
        &["diff", "@1", "@999999"],
        &["lrp", "list", "--at-least", "999999"],
    ] {
        refused(&server.run(asked), &["999999"]);
    }
    refused(&server.run(&["log", "show", "@999999"]), &["is ahead of the log's head"]);
    let tail = ["log", "tail", "--after", &cursor];
    refused(&server.run(&tail), &["cursor is of another log", "read the present state anew"]);
    server.stop();
    let export = ["log", "export", "--to", "@999999", "--data-dir"];
    let output = run(&[&export[..], &[text(&folder.path().join("a"))]].concat());
    refused(&output, &["999999", "behind the log's end"]);
}
