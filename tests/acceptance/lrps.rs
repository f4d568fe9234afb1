//! Long-running processes: desired, reached, crashed, scaled, removed, and looked back on.

use serde_json::Value;

use crate::harness::{Server, cell_of, folder, http, left_on_machine, told, until};

/// Desires the sample app.
pub(crate) fn desire(server: &Server, guid: &str, instances: u32, more: &[&str]) {
    let instances = instances.to_string();
    let route = format!("{guid}.test");
    let mut arguments = vec![
        "lrp",
        "desire",
        "--guid",
        guid,
        "--rootfs",
        "preloaded:diario",
        "--instances",
        &instances,
        "--disk-mb",
        "64",
        "--port",
        "8080",
        "--route",
        &route,
        "--health-check",
        "port",
    ];
    if !more.contains(&"--memory-mb") {
        arguments.extend(["--memory-mb", "64"]);
    }
    arguments.extend(more);
    arguments.extend(["--", "/bin/diario", "sample-app"]);
    server.text(&arguments);
}

fn slots(server: &Server, guid: &str) -> Vec<Value> {
    let shown = server.json(&["lrp", "show", guid]);
    shown["actualLrps"].as_array().unwrap().clone()
}

pub(crate) fn running(server: &Server, guid: &str, count: usize) -> Vec<Value> {
    until("instances to run", || {
        let running: Vec<Value> =
            slots(server, guid).into_iter().filter(|slot| slot["state"] == "RUNNING").collect();
        (running.len() == count).then_some(running)
    })
}

#[test]
fn an_app_runs_is_reached_scales_and_goes_with_its_route() {
    let folder = folder();
    let server = Server::dev(folder.path());

    desire(&server, "web", 2, &["--env", "GREETING=hello"]);
    running(&server, "web", 2);
    let there = left_on_machine(&cell_of(folder.path())).join("\n");
    for kind in ["process ", "interface ", "cgroup "] {
        assert!(there.contains(kind), "a leak of this kind would not be counted: {kind}: {there}");
    }
    let (status, answer) = http(&server.router, "web.test").unwrap();
    assert_eq!(status, 200, "{answer}");
    let seen: std::collections::BTreeSet<String> = (0..10)
        .map(|_| http(&server.router, "web.test").unwrap().1)
        .map(|answer| answer.lines().last().unwrap_or_default().to_owned())
        .collect();
    assert!(seen.len() >= 2, "both instances answer in turn: {seen:?}");

    server.text(&["lrp", "scale", "web", "3"]);
    running(&server, "web", 3);
    server.text(&["lrp", "scale", "web", "1"]);
    until("two instances to go", || (slots(&server, "web").len() == 1).then_some(()));

    let unknown = http(&server.router, "nobody.test").unwrap();
    assert_eq!(unknown.0, 404);
    assert!(unknown.1.to_lowercase().contains("x-diario-error"), "{}", unknown.1);
    server.text(&["lrp", "rm", "web"]);
    assert_eq!(http(&server.router, "web.test").unwrap().0, 404, "the route goes at once");
    until("the containers to go", || {
        left_on_machine(&cell_of(folder.path()))
            .iter()
            .all(|line| !line.contains("shim"))
            .then_some(())
    });
    server.stop();
    assert_eq!(left_on_machine(&cell_of(folder.path())), Vec::<String>::new());
}

#[test]
fn a_crash_is_kept_with_its_cause_and_last_lines_and_can_be_looked_back_on() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "web", 1, &[]);
    let before = running(&server, "web", 1).remove(0);
    let address = format!("http://{}:8080", before["address"].as_str().unwrap());
    http(&format!("{address}/log/farewell"), "x");

    http(&format!("{address}/exit/7"), "x");

    let crash = until("the crash", || {
        server.json(&["crash", "list", "web"]).as_array().unwrap().first().cloned()
    });
    assert_eq!(crash["exitStatus"], 7, "{crash}");
    assert_eq!(crash["cellId"], "cell-1");
    assert_eq!(crash["instanceGuid"], before["instanceGuid"]);
    let id = crash["id"].as_str().unwrap();
    let shown = server.text(&["crash", "show", id]);
    assert!(shown.contains("farewell"), "{shown}");
    assert!(shown.contains("Exited with status 7"), "{shown}");
    let after = running(&server, "web", 1).remove(0);
    assert_ne!(after["instanceGuid"], before["instanceGuid"]);
    let past = format!("@{}", id.parse::<u64>().unwrap() - 1);
    let then = server.json(&["at", &past, "lrps"]);
    assert!(then.to_string().contains(before["instanceGuid"].as_str().unwrap()), "{then}");
    let diff = server.text(&["diff", &past, "now"]);
    assert!(diff.contains("web"), "{diff}");
    let logs = until("the lines of the instance that is gone", || {
        let logs = server.text(&["logs", "web"]);
        logs.contains("farewell").then_some(logs)
    });
    assert!(logs.contains("APP"), "{logs}");
}

#[test]
fn running_out_of_memory_is_told_with_numbers() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "hungry", 1, &[]);
    let slot = running(&server, "hungry", 1).remove(0);

    http(&format!("http://{}:8080/eat/200", slot["address"].as_str().unwrap()), "x");

    let crash = until("the crash", || {
        server.json(&["crash", "list", "hungry"]).as_array().unwrap().first().cloned()
    });
    assert_eq!(crash["outOfMemory"]["limitBytes"], 64 << 20, "{crash}");
    assert!(crash["reason"].as_str().unwrap().contains("out of memory"), "{crash}");
}

#[test]
fn what_cannot_be_placed_says_why() {
    let folder = folder();
    let server = Server::dev(folder.path());

    desire(&server, "huge", 1, &["--memory-mb", "4000000"]);
    let why = until("the placement error", || {
        let shown = server.text(&["lrp", "show", "huge"]);
        shown.contains("insufficient resources: memory").then_some(shown)
    });

    assert!(why.contains("down"), "Cloud Controller would show it as DOWN: {why}");
}

#[test]
fn no_secret_is_in_clear_in_the_data_folder_or_in_any_answer() {
    let canary = "canary-7f3a91c2";
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "secret", 1, &["--env", &format!("PASSWORD={canary}")]);
    running(&server, "secret", 1);

    let shown = server.run(&["lrp", "show", "secret", "--json"]);
    let tail = server.run(&["log", "tail", "--json"]);
    server.stop();

    for output in [shown, tail] {
        assert!(!told(&output).contains(canary));
    }
    let found = std::process::Command::new("grep")
        .args(["-rl", canary])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn lines_and_events_are_followed_as_they_come() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "web", 1, &[]);
    let slot = running(&server, "web", 1).remove(0);
    let mut lines = server.follow(&["logs", "web", "-f"]);
    let mut events = server.follow(&["log", "tail", "-f", "--type", "actual_lrp.retired"]);

    lines.wait_for("listening on port 8080");
    http(&format!("http://{}:8080/log/a-new-line", slot["address"].as_str().unwrap()), "x");
    lines.wait_for("a-new-line");
    server.text(&["lrp", "restart", "web", "0"]);
    events.wait_for("actual/web/0");
}

#[test]
fn an_app_that_is_not_ready_takes_no_requests_and_lives_on() {
    let folder = folder();
    let server = Server::dev(folder.path());
    let ready = ["--readiness-path", "/ready", "--readiness-interval-ms", "100"];
    desire(&server, "web", 1, &ready);
    let instance = running(&server, "web", 1).remove(0);
    let address = format!("http://{}:8080", instance["address"].as_str().unwrap());
    let answers = |wanted: u16| {
        until("the router to follow", || {
            (http(&server.router, "web.test").unwrap().0 == wanted).then_some(())
        });
    };
    answers(200);

    http(&format!("{address}/ready/no"), "x");
    answers(503);
    let resting = running(&server, "web", 1).remove(0);
    assert_eq!(resting["instanceGuid"], instance["instanceGuid"]);
    http(&format!("{address}/ready/yes"), "x");
    answers(200);

    let after = running(&server, "web", 1).remove(0);
    assert_eq!(after["instanceGuid"], instance["instanceGuid"]);
    assert_eq!(server.json(&["crash", "list", "web"]).as_array().unwrap().len(), 0);
    let lines = server.text(&["logs", "web"]);
    assert!(lines.contains("Container marked not ready and removed from route pool."), "{lines}");
}
