//! What was forgotten stays forgotten: on every node, after the restore of an older backup, and when
//! an older copy of the database is put back by whatever means.

use std::{fs, path::Path, process::Output};

use projections::testing::postgres::{Cluster, Settings};
use serde_json::{Value, json};

use super::text;
use crate::harness::{Cell, Server, diario, folder, told, until, write_private};

const CELL_TOKEN: &str = "0123456789abcdef";

/// A control plane with one cell, whose one app has crashed: the evidence is sealed.
struct Crashed {
    server: Server,
    cell: Cell,
    crash: String,
}

fn serve(data: &Path, more: &[&str]) -> Server {
    let tokens = data.parent().unwrap().join("cells.json");
    write_private(&tokens, &json!({ "cell-1": CELL_TOKEN }).to_string());
    let tokens = text(&tokens);
    let arguments = [&["serve", "--cell-tokens", &tokens][..], more].concat();
    Server::start(&arguments, data)
}

fn crashed(folder: &Path, more: &[&str]) -> Crashed {
    let server = serve(&folder.join("data"), more);
    let token = folder.join("cell.token");
    write_private(&token, CELL_TOKEN);
    let cell = Cell::start(&server.api, &token, &folder.join("cell"), &["--remove-on-stop"]);
    let words = "lrp desire --guid doomed --rootfs preloaded:diario --memory-mb 64 --disk-mb 16 \
        --env SECRET=sealed -- /bin/diario no-such-command";
    server.text(&words.split_whitespace().collect::<Vec<_>>());
    let crash = until("a crash", || server.json(&["crash", "list"]).get(0).cloned());
    let crash = crash["id"].as_str().unwrap().to_owned();
    assert!(server.run(&["crash", "show", &crash]).status.success());
    Crashed { server, cell, crash }
}

/// Whether the evidence of a crash is forgotten; nothing else may be the matter with it.
fn is_forgotten(server: &Server, crash: &str) -> bool {
    let shown = server.run(&["crash", "show", crash]);
    assert!(shown.status.success() || told(&shown).contains("FORGOTTEN"), "{}", told(&shown));
    !shown.status.success()
}

/// Through what it was asked to forget, event by event.
fn forgotten_by(server: &Server) -> Vec<String> {
    let question = ["log", "tail", "--owner", "process/doomed", "--limit", "200", "--json"];
    let events = server.text(&question);
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let forgotten = events.filter(|event| event["type"] == "secrets.forgotten");
    forgotten.map(|event| event["actor"]["via"].as_str().unwrap().to_owned()).collect()
}

fn run(arguments: &[&str]) -> Output {
    let output = diario().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    output
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Gives a data folder the master key of another one.
fn share_master_key(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("keys")).unwrap();
    let key = fs::read_to_string(from.join("keys/master.key")).unwrap();
    write_private(&to.join("keys/master.key"), &key);
}

fn lists_the_owner(list: &Path) -> bool {
    let text = fs::read_to_string(list).unwrap_or_default();
    assert!(!text.contains("sealed"), "{text}");
    text.contains("process/doomed")
}

#[test]
fn a_restored_backup_forgets_again_what_was_forgotten_since_and_its_log_says_so() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let elsewhere = text(&at("elsewhere.list"));
    let Crashed { server, cell, crash } = crashed(folder.path(), &["--forgotten-list", &elsewhere]);
    let (data, backup) = (text(&at("data")), text(&at("backup")));
    run(&["backup", "--to", &backup, "--data-dir", &data]);
    assert!(!lists_the_owner(&at("elsewhere.list")));

    server.text(&["keys", "forget", "process/doomed", "--yes"]);

    assert!(is_forgotten(&server, &crash));
    cell.terminate();
    server.stop();
    let kept = at("data").join("keys/forgotten.list");
    for list in [&kept, &at("elsewhere.list")] {
        assert!(lists_the_owner(list), "{}", list.display());
    }

    // Without a list an older backup brings the secret back: it is told, loudly.
    let restore = |target: &str, more: &[&str]| {
        let target = text(&at(target));
        let arguments = ["restore", "--from", &backup, "--data-dir", &target, "--json"];
        run(&[&arguments[..], more].concat())
    };
    let warned = restore("unaware", &[]);
    assert!(told(&warned).contains("warning: no list of forgotten keys"), "{}", told(&warned));
    assert_eq!(answer(&warned)["ownersForgottenAgain"], 0);
    share_master_key(&at("data"), &at("unaware"));
    let unaware = serve(&at("unaware"), &[]);
    assert!(!is_forgotten(&unaware, &crash), "this test would show nothing");
    unaware.stop();

    // With a list: one that is named, and one that is found in the folder.
    share_master_key(&at("data"), &at("found"));
    fs::copy(&kept, at("found").join("keys/forgotten.list")).unwrap();
    for (target, more) in [("named", &["--forgotten", elsewhere.as_str()][..]), ("found", &[])] {
        let done = restore(target, more);
        assert!(!told(&done).contains("warning"), "{}", told(&done));
        let done = answer(&done);
        assert_eq!((&done["keysForgotten"], &done["ownersForgottenAgain"]), (&json!(1), &json!(1)));
        assert_ne!(done["incarnation"], done["incarnationBefore"]);
        assert_eq!(done["head"].as_u64(), done["position"].as_u64().map(|at| at + 1), "{done}");
        share_master_key(&at("data"), &at(target));
        let restored = serve(&at(target), &[]);
        assert!(is_forgotten(&restored, &crash), "FORGOTTEN, and not a key that is not known");
        assert_eq!(forgotten_by(&restored), ["restore"]);
        // Its own list has it too, for the next time.
        until("the list", || {
            lists_the_owner(&at(target).join("keys/forgotten.list")).then_some(())
        });
        restored.stop();
        run(&["verify", "--data-dir", &text(&at(target))]);
    }
    let damaged = fs::read_to_string(&kept).unwrap().replace("doomed", "doomee");
    fs::write(&kept, damaged).unwrap();
    let refused = diario()
        .args(["restore", "--from", &backup, "--data-dir", &text(&at("never"))])
        .args(["--forgotten", &text(&kept)])
        .output()
        .unwrap();
    assert!(!refused.status.success() && told(&refused).contains("line 1"), "{}", told(&refused));
    assert!(!at("never").join("diario.db").exists());
}

#[test]
fn an_older_database_that_was_put_back_by_hand_is_made_to_forget_again() {
    let folder = folder();
    let data = folder.path().join("data");
    let Crashed { server, cell, crash } = crashed(folder.path(), &[]);
    server.text(&["lrp", "rm", "doomed"]);
    cell.terminate();
    server.stop();
    let (file, copy) = (data.join("diario.db"), folder.path().join("copy.db"));
    fs::copy(&file, &copy).unwrap();
    let server = serve(&data, &[]);
    assert!(!is_forgotten(&server, &crash));
    server.text(&["keys", "forget", "process/doomed", "--yes"]);
    server.stop();

    for left in ["diario.db-wal", "diario.db-shm"] {
        fs::remove_file(data.join(left)).ok();
    }
    fs::copy(&copy, &file).unwrap();
    // Without this an older copy is refused at the start, and told how to go on with it all the same.
    fs::remove_file(data.join("keys/checkpoint.last")).unwrap();
    let server = serve(&data, &[]);

    until("it to be forgotten again", || is_forgotten(&server, &crash).then_some(()));
    until("the event", || (forgotten_by(&server) == ["serve"]).then_some(()));
    server.stop();
    run(&["verify", "--data-dir", &text(&data)]);
    // Once is enough.
    let server = serve(&data, &[]);
    assert!(is_forgotten(&server, &crash));
    assert_eq!(forgotten_by(&server).len(), 1);
}

#[test]
fn what_one_node_forgets_or_rotates_every_node_does_also_after_the_database_was_put_back() {
    let cluster = Cluster::start(&Settings::default());
    let url = cluster.fresh_database();
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let on =
        |node: &'static str, url: &str| serve(&at(node), &["--database-url", url, "--node", node]);
    let one = crashed(folder.path(), &["--database-url", &url, "--node", "data"]);
    share_master_key(&at("data"), &at("two"));
    let two = on("two", &url);
    assert!(!is_forgotten(&two, &one.crash), "the other node has its key in memory from now on");

    // All keys are put under another master key, through one node, while both read.
    let label = |node: &str| ["--data-dir".to_owned(), text(&at(node))];
    let keys = |words: &[&str], node: &str| {
        run(&[&["keys"], words, &label(node).each_ref().map(String::as_str)].concat())
    };
    keys(&["add", "2027"], "data");
    share_master_key(&at("data"), &at("two"));
    one.server.text(&["keys", "rotate", "--to", "2027"]);
    let listed = one.server.text(&[
        "keys",
        "list",
        "--database-url",
        &url,
        "--data-dir",
        &text(&at("data")),
    ]);
    assert!(listed.contains("2027") && !listed.contains("default     1"), "{listed}");
    assert!(!is_forgotten(&one.server, &one.crash) && !is_forgotten(&two, &one.crash));
    let words = "task run --guid other --env A=b -- /bin/diario --version";
    two.text(&words.split_whitespace().collect::<Vec<_>>());
    one.cell.terminate();
    cluster.psql("postgres", "CHECKPOINT");
    let name = url.rsplit('/').next().unwrap();
    let older = format!("{name}_older");
    let (dump, target) = (text(&at("dump.sql")), text(cluster.socket_folder()));
    let port = cluster.port().to_string();
    let server = ["-h", &target, "-p", &port, "-U", cluster.user()];
    let postgres = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(cluster.binaries().join(program));
        let output = command.args(server).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", told(&output));
    };
    postgres("pg_dump", &["-f", &dump, name]);

    one.server.text(&["keys", "forget", "process/doomed", "--yes"]);

    assert!(is_forgotten(&one.server, &one.crash));
    until("the other node to forget", || is_forgotten(&two, &one.crash).then_some(()));
    for node in ["data", "two"] {
        let list = at(node).join("keys/forgotten.list");
        until("each node's list", || lists_the_owner(&list).then_some(()));
    }
    // On Postgres also beside running nodes, without one.
    let offline = ["forget", "task/other", "--yes", "--offline", "--database-url", &url];
    keys(&offline, "data");
    until("both nodes to list it", || {
        let list = fs::read_to_string(at("two").join("keys/forgotten.list")).unwrap();
        list.contains("task/other").then_some(())
    });
    assert_eq!(forgotten_by(&two), ["graphql"]);
    one.server.stop();
    two.stop();
    run(&["verify", "--database-url", &url, "--data-dir", &text(&at("data"))]);

    // The database is put back as it was. One node's folder is enough.
    postgres("createdb", &["-T", "template0", &older]);
    postgres("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-d", &older, "-f", &dump]);
    let older = cluster.url(&older);
    fs::remove_dir_all(at("data")).unwrap();
    let two = on("two", &older);
    until("it to be forgotten again", || is_forgotten(&two, &one.crash).then_some(()));
    until("the event", || (forgotten_by(&two) == ["two"]).then_some(()));
    two.stop();
    run(&["verify", "--database-url", &older, "--data-dir", &text(&at("two"))]);
}
