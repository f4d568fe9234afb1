//! The ends of instances: a record for each way to end, and no request lost to one that is stopped.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use serde_json::Value;

use crate::{
    harness::{
        Cell, Server, cell_of, diario, folder, http, shim_pid, signal, until, write_private,
    },
    lrps::{desire, running},
};

fn address(server: &Server, guid: &str) -> String {
    let slot = running(server, guid, 1).remove(0);
    format!("http://{}:8080", slot["address"].as_str().unwrap())
}

/// The newest crash of an app, in full, as people read it.
fn crash(server: &Server, guid: &str) -> (Value, String) {
    let crash = until("the crash", || {
        server.json(&["crash", "list", guid]).as_array().unwrap().first().cloned()
    });
    let shown = server.text(&["crash", "show", crash["id"].as_str().unwrap()]);
    (crash, shown)
}

#[test]
fn each_way_to_end_leaves_a_record_with_its_meaning() {
    let folder = folder();
    let server = Server::dev(folder.path());
    for guid in ["exits", "faults", "hungry", "vanishes"] {
        desire(&server, guid, 1, &[]);
    }

    http(&format!("{}/exit/3", address(&server, "exits")), "x");
    let (_, shown) = crash(&server, "exits");
    assert!(shown.contains("Exited with status 3"), "{shown}");
    assert!(shown.contains("meaning   it ended by itself, with an error"), "{shown}");
    for part in ["Last lines:", "Over its whole life:", "Last metrics:", "/exit/3"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    // The language's own handler takes the first one for a fault that it may mend.
    let faults = format!("{}/kill/11", address(&server, "faults"));
    http(&faults, "x");
    http(&faults, "x");
    let (crash_of, shown) = crash(&server, "faults");
    assert_eq!(crash_of["signal"], 11, "{crash_of}");
    assert!(shown.contains("SIGSEGV"), "{shown}");

    http(&format!("{}/eat/200", address(&server, "hungry")), "x");
    let (crash_of, shown) = crash(&server, "hungry");
    assert_eq!(crash_of["outOfMemory"]["limitBytes"], 64 << 20, "{crash_of}");
    assert!(shown.contains("memory ran out: the limit is 67108864 bytes"), "{shown}");

    let guid = running(&server, "vanishes", 1).remove(0)["instanceGuid"].clone();
    let shim = shim_pid(&cell_of(folder.path()), guid.as_str().unwrap());
    signal(shim.expect("it runs"), "KILL");
    let (crash_of, shown) = crash(&server, "vanishes");
    assert!(crash_of["reason"].as_str().unwrap().contains("missing garden container"), "{shown}");
    running(&server, "vanishes", 1);
}

#[test]
fn what_does_not_end_in_its_grace_is_killed_with_a_record_and_a_failed_probe_has_its_words() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "stubborn", 1, &["--graceful-stop-ms", "500"]);
    http(&format!("{}/stubborn", address(&server, "stubborn")), "x");

    server.text(&["lrp", "rm", "stubborn"]);
    let killed = until("the kill", || events(&server, "actual_lrp.killed").pop());
    let shown = server.text(&["crash", "show", killed["position"].as_str().unwrap()]);
    assert!(shown.contains("did not end within 0.5 s"), "{shown}");
    assert!(shown.contains("SIGTERM: staying"), "{shown}");

    // It listens elsewhere than it is looked for.
    let check = ["--port", "9999", "--start-timeout-ms", "1000", "--env", "PORT=8080"];
    let wish = ["lrp", "desire", "--guid", "deaf", "--rootfs", "preloaded:diario"];
    let more = ["--memory-mb", "64", "--disk-mb", "64", "--health-check", "port"];
    let app = ["--", "/bin/diario", "sample-app"];
    server.text(&[&wish[..], &more[..], &check[..], &app[..]].concat());
    let (_, shown) = crash(&server, "deaf");
    assert!(shown.contains("Instance never healthy after"), "{shown}");
    assert!(shown.contains("Last health checks:"), "{shown}");
    assert!(shown.contains("Processes that were still there:"), "{shown}");
}

/// Asks an app again and again until it is told to stop; counts, and keeps the first failure.
fn ask_while(server: &Server, host: &str, act: impl FnOnce()) -> u64 {
    let (is_over, router) = (AtomicBool::new(false), server.router.as_str());
    let asked = AtomicU64::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = http(router, host);
                        let status = answer.as_ref().map(|(status, _)| *status);
                        assert_eq!(status, Some(200), "{answer:?}");
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        act();
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    asked.into_inner()
}

/// Events of a type.
fn events(server: &Server, type_name: &str) -> Vec<Value> {
    let found = server.text(&["log", "tail", "--type", type_name, "--limit", "100", "--json"]);
    found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn no_request_is_lost_while_scaling_down_or_restarting() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "web", 4, &[]);
    running(&server, "web", 4);

    let asked = ask_while(&server, "web.test", || {
        server.text(&["lrp", "scale", "web", "2"]);
        until("two to go", || {
            (server.json(&["lrp", "show", "web"])["actualLrps"].as_array().unwrap().len() == 2)
                .then_some(())
        });
        server.text(&["lrp", "restart", "web", "1"]);
        until("one to leave", || (events(&server, "actual_lrp.removed").len() >= 3).then_some(()));
        running(&server, "web", 2);
    });

    assert!(asked > 20, "{asked} requests");
    let ended = events(&server, "actual_lrp.withdrawal_ended");
    assert_eq!(ended.len(), 3, "{ended:?}");
    assert!(ended.iter().all(|event| event.to_string().contains("routers")), "{ended:?}");
}

#[test]
fn no_request_is_lost_while_a_cell_is_evacuated() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let tokens = path("tokens.json");
    write_private(&tokens, r#"{"cell-1": "0123456789abcde1", "cell-2": "0123456789abcde2"}"#);
    let tokens = tokens.to_str().unwrap();
    let server = Server::start(&["serve", "--cell-tokens", tokens], &path("control-plane"));
    let cells = ["1", "2"].map(|number| {
        let token = path(&format!("token-{number}"));
        write_private(&token, &format!("0123456789abcde{number}"));
        let id = format!("cell-{number}");
        let mut command = diario();
        command.args(["cell", "--cell-id", &id, "--api", &server.api, "--remove-on-stop"]);
        Cell::spawn(command.arg("--token-file").arg(&token).arg("--data-dir").arg(path(&id)))
    });
    until("both cells", || {
        let cells = server.json(&["cells"]);
        (cells["cells"].as_array().unwrap().len() == 2).then_some(())
    });
    desire(&server, "web", 3, &[]);
    running(&server, "web", 3);

    let asked = ask_while(&server, "web.test", || {
        server.text(&["cells", "evacuate", "cell-1", "--wait"]);
    });

    assert!(asked > 20, "{asked} requests");
    let started = events(&server, "actual_lrp.withdrawal_started");
    assert!(!started.is_empty(), "something was on the cell");
    for cell in cells {
        cell.terminate();
    }
}
