//! The control plane ends, by request or by force, and goes on from its journal.

use crate::harness::{Cell, Server, folder, http, left_on_machine, until, write_private};

#[test]
fn a_killed_control_plane_goes_on_from_its_journal() {
    let folder = folder();
    let data = folder.path().join("control-plane");
    let cell_data = folder.path().join("cell");
    let tokens = folder.path().join("cells.json");
    let token = folder.path().join("cell.token");
    write_private(&tokens, "{\"cell-1\": \"0123456789abcdef\"}");
    write_private(&token, "0123456789abcdef");
    let serve = ["serve", "--cell-tokens", tokens.to_str().unwrap()];
    let server = Server::start(&serve, &data);
    let port = server.port();
    let cell = Cell::start(&server.api, &token, &cell_data, &[]);
    server.text(&[
        "lrp",
        "desire",
        "--guid",
        "web",
        "--rootfs",
        "preloaded:diario",
        "--memory-mb",
        "64",
        "--disk-mb",
        "64",
        "--port",
        "8080",
        "--route",
        "web.test",
        "--health-check",
        "port",
        "--",
        "/bin/diario",
        "sample-app",
    ]);
    let before = until("the instance to run", || running(&server));

    server.kill();
    let server = Server::start_on(&serve, &data, port);

    until("the route to answer", || {
        http(&server.router, "web.test").filter(|(status, _)| *status == 200)
    });
    assert_eq!(running(&server).unwrap(), before, "the instance was left alone");

    cell.kill();
    assert_eq!(http(&server.router, "web.test").unwrap().0, 200, "a container outlives its agent");
    let cell = Cell::start(&server.api, &token, &cell_data, &[]);
    let address = before["address"].as_str().unwrap().to_owned();
    http(&format!("http://{address}:8080/log/after-adoption"), "x");
    until("the adopted container's line", || {
        server.text(&["logs", "web"]).contains("after-adoption").then_some(())
    });
    let log = server.text(&["log", "tail", "--limit", "20"]);
    assert_eq!(running(&server), Some(before), "the new agent took the container up: {log}");

    cell.terminate();
    assert!(!left_on_machine(&cell_data).is_empty(), "SIGTERM leaves containers running");
    let cell = Cell::start(&server.api, &token, &cell_data, &["--remove-on-stop"]);
    // Its line comes only by way of an agent that has taken it up.
    http(&format!("http://{address}:8080/log/after-upgrade"), "x");
    until("the new agent to take the container up", || {
        server.text(&["logs", "web"]).contains("after-upgrade").then_some(())
    });
    cell.terminate();
    assert_eq!(left_on_machine(&cell_data), Vec::<String>::new(), "all of it was removed");
}

fn running(server: &Server) -> Option<serde_json::Value> {
    let shown = server.json(&["lrp", "show", "web"]);
    let slot = shown["actualLrps"].get(0)?;
    (slot["state"] == "RUNNING").then(|| slot.clone())
}
