//! A log is copied beside its running node, restored, exported and taken in: by the program as
//! operators use it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::harness::{Server, diario, folder, told};

pub(crate) fn run(arguments: &[&str]) -> Output {
    diario().args(arguments).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

pub(crate) fn refused(arguments: &[&str], expected: &str) {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", told(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
}

pub(crate) fn desire(api: &str, guid: &str) {
    let sized = ["--memory-mb", "64", "--disk-mb", "64", "--env", "TOKEN=canary-in-the-coal-mine"];
    let app = ["--rootfs", "preloaded:diario", "--", "/bin/diario", "sample-app"];
    let arguments = [&["lrp", "desire", "--guid", guid][..], &sized, &app].concat();
    let output = diario().args(&arguments).env("DIARIO_API", api).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
}

pub(crate) fn at(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_log_is_backed_up_while_it_is_written_restored_and_moved() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let (data, backup, restored) = (path("data"), path("backup"), path("restored"));
    let server = Server::start(&["serve"], &data);
    for number in 0..5 {
        desire(&server.api, &format!("app-{number}"));
    }

    let writer = std::thread::scope(|scope| {
        let api = server.api.as_str();
        let writes = scope.spawn(move || (5..9).for_each(|it| desire(api, &format!("app-{it}"))));
        let taken = json(&["backup", "--json", "--to", at(&backup), "--data-dir", at(&data)]);
        writes.join().unwrap();
        taken
    });
    let position = writer["position"].as_u64().unwrap();
    let then = format!("@{position}");
    let lrps_then = server.json(&["at", &then, "lrps"]);
    let cursor = server.json(&["log", "show", "@1"])["cursor"].as_str().unwrap().to_owned();
    let stats = json(&["log", "stats", "--json", "--data-dir", at(&data)]);
    assert!(stats["events"].as_u64().unwrap() >= 9 && stats["topTypes"][0]["events"].is_u64());
    refused(&["backup", "--to", at(&backup), "--data-dir", at(&data)], "is there already");

    let into = ["restore", "--from", at(&backup), "--data-dir"];
    refused(&[&into[..], &[at(&data)]].concat(), "is not empty");
    let done = json(&[&into[..], &[at(&restored), "--json"]].concat());
    assert_eq!(done["link"], writer["link"]);
    assert_eq!(done["logId"], writer["logId"]);
    assert_ne!(done["incarnation"], writer["incarnation"]);
    assert_eq!(done["dataKeys"], writer["dataKeys"]);
    fs::create_dir_all(restored.join("keys")).unwrap();
    fs::copy(data.join("keys/master.key"), restored.join("keys/master.key")).unwrap();
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(restored.join("keys/master.key"), private).unwrap();

    let other = Server::start(&["serve"], &restored);
    assert_eq!(other.json(&["at", &then, "lrps"]), lrps_then);
    let tail = other.run(&["log", "tail", "--after", &cursor]);
    assert!(!tail.status.success());
    let stderr = String::from_utf8_lossy(&tail.stderr);
    assert!(stderr.contains("before it was restored"), "{stderr}");
    desire(&other.api, "app-after");
    other.stop();
    move_between_databases(&server, &data, folder.path());
    server.stop();
}

fn move_between_databases(server: &Server, data: &Path, folder: &Path) {
    let mut links = Vec::new();
    for format in ["ndjson", "compact"] {
        let file = folder.join(format);
        let target = folder.join(format!("into-{format}"));
        let out = ["log", "export", "--format", format, "--output", at(&file), "--json"];
        let exported = json(&[&out[..], &["--data-dir", at(data)]].concat());
        let bytes = fs::read(&file).unwrap();
        let canary = b"canary-in-the-coal-mine";
        assert!(!bytes.windows(canary.len()).any(|window| window == canary));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let into = ["log", "import", at(&file), "--json", "--data-dir", at(&target)];
        let taken = json(&into);
        assert_eq!(taken["link"], exported["export"]["link"]);
        assert_eq!(taken["head"], exported["export"]["last"]);
        assert_eq!(json(&into)["written"], 0, "again");
        links.push(taken["link"].clone());

        let cut = folder.join(format!("cut-{format}"));
        fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
        let other = folder.join(format!("never-{format}"));
        refused(&["log", "import", at(&cut), "--data-dir", at(&other)], "cut off");
        refused(&["log", "import", at(&file), "--data-dir", at(data)], "in use");
    }
    assert_eq!(links[0], links[1]);
    desire(&server.api, "app-last");
    let all = run(&["log", "export", "--data-dir", at(data), "--from", "@1"]);
    assert!(all.status.success() && all.stdout.starts_with(b"{\"diarioLog\":{"), "{}", told(&all));
    let future = ["log", "export", "--data-dir", at(data), "--to", "@99999"];
    refused(&future, "is behind the log's end");
}
