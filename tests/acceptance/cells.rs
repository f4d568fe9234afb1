//! Cells: their capacity, and a machine that is not let in.

use crate::harness::{Cell, Server, diario, folder, until, write_private};

#[test]
fn a_cell_tells_what_it_offers() {
    let folder = folder();
    let server = Server::start(&["dev", "--memory-mb", "512", "--zone", "z7"], folder.path());

    let cell = until("the cell", || {
        let cells = server.json(&["cells"]);
        cells["cells"].get(0).filter(|cell| cell["presence"] == "PRESENT").cloned()
    });

    assert_eq!(cell["cellId"], "cell-1");
    assert_eq!(cell["zone"], "z7");
    assert_eq!(cell["capacity"]["memoryMb"], 512, "{cell}");
}

#[test]
fn a_cell_with_a_wrong_token_is_not_let_in() {
    let folder = folder();
    let server = Server::start(&["serve"], &folder.path().join("control-plane"));
    let token = folder.path().join("token");
    write_private(&token, "wrong");
    let cell = Cell::start(&server.api, &token, &folder.path().join("cell"), &["--remove-on-stop"]);

    let asked = until("the cell to be refused", || {
        let answer =
            diario().args(["cells", "--json"]).env("DIARIO_API", &server.api).output().unwrap();
        answer.status.success().then_some(answer)
    });

    let asked: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(asked["cells"], serde_json::json!([]));
    drop(cell);
}
