//! Tasks: run once, with their result; cancelled; shown after they are gone.

use crate::harness::{Server, folder, told, until};

const RUN: [&str; 9] = [
    "task",
    "run",
    "--rootfs",
    "preloaded:diario",
    "--memory-mb",
    "64",
    "--disk-mb",
    "16",
    "--guid",
];

fn run(server: &Server, guid: &str, more: &[&str]) -> std::process::Output {
    let mut arguments = RUN.to_vec();
    arguments.push(guid);
    arguments.extend(more);
    server.run(&arguments)
}

#[test]
fn a_task_runs_once_and_tells_its_end() {
    let folder = folder();
    let server = Server::dev(folder.path());

    let good = run(&server, "good", &["--wait", "--", "/bin/diario", "--version"]);
    let bad = run(&server, "bad", &["--wait", "--", "/bin/diario", "no-such-command"]);

    assert!(good.status.success(), "{}", told(&good));
    assert_eq!(bad.status.code(), Some(1), "{}", told(&bad));
    let shown = server.json(&["task", "show", "bad"]);
    assert_eq!(shown["state"], "COMPLETED", "{shown}");
    assert!(shown["failureReason"].as_str().unwrap().contains("Exited with status 2"), "{shown}");
    until("the task's line", || {
        server.text(&["logs", "good", "--task"]).contains("diario 0.1.0").then_some(())
    });
    let again = run(&server, "good", &["--", "/bin/diario", "--version"]);
    assert_eq!(again.status.code(), Some(1), "a task guid runs once: {}", told(&again));
}

#[test]
fn a_cancelled_task_is_stopped() {
    let folder = folder();
    let server = Server::dev(folder.path());
    let started = run(&server, "long", &["--env", "PORT=8080", "--", "/bin/diario", "sample-app"]);
    assert!(started.status.success(), "{}", told(&started));
    until("the task to run", || {
        (server.json(&["task", "show", "long"])["state"] == "RUNNING").then_some(())
    });

    server.text(&["task", "cancel", "long"]);

    assert_eq!(server.json(&["task", "show", "long"])["failureReason"], "task was cancelled");
    until("the container to go", || {
        let log = server.text(&["log", "tail", "--owner", "task/long"]);
        log.contains("task.released").then_some(())
    });
}
