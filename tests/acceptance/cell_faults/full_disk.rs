//! A disk that is full under a cell: what runs goes on, what cannot be made is told why, and all is
//! made once there is room.

use std::time::Duration;

use crate::{
    disk::Disk,
    harness::{Cell, Server, folder, http, left_on_machine, until, until_within, write_private},
    lrps::{desire, running},
};

/// The program is in it once or twice.
const DISK_MEGABYTES: u64 = 1200;
/// Longer than the pauses between what is tried again.
const RECOVERY_MAX: Duration = Duration::from_secs(120);

#[test]
fn a_full_disk_under_a_cell_harms_nothing_that_runs_and_is_told() {
    let (folder, disk) = (folder(), Disk::new(DISK_MEGABYTES));
    let (tokens, token) = (folder.path().join("cells.json"), folder.path().join("cell.token"));
    write_private(&tokens, "{\"cell-1\": \"0123456789abcdef\"}");
    write_private(&token, "0123456789abcdef");
    let serve = ["serve", "--cell-tokens", tokens.to_str().unwrap()];
    let server = Server::start(&serve, &folder.path().join("control-plane"));
    let data = disk.at.join("cell");
    let offers = ["--memory-mb", "1024", "--disk-mb", "4096", "--remove-on-stop"];
    let cell = Cell::start(&server.api, &token, &data, &offers);
    desire(&server, "before", 1, &[]);
    let instance = running(&server, "before", 1).remove(0)["instanceGuid"].clone();
    let is_answered = |host: &str| http(&server.router, host).is_some_and(|it| it.0 == 200);
    until("the first to be answered", || is_answered("before.test").then_some(()));

    disk.fill_but(0);
    desire(&server, "late", 1, &[]);
    let told = until("what is told of the one that cannot be made", || {
        let why = server.text(&["lrp", "why", "late"]);
        let events = server.text(&["log", "tail", "--owner", "process/late", "--json"]);
        let said = format!("{why}{events}");
        said.contains("No space left").then_some(said)
    });
    assert!(is_answered("before.test"), "{told}");

    disk.make_room();
    until_within(RECOVERY_MAX, "the second to be answered", || {
        is_answered("late.test").then_some(())
    });
    assert_eq!(running(&server, "before", 1).remove(0)["instanceGuid"], instance);
    cell.terminate();
    assert_eq!(left_on_machine(&data), Vec::<String>::new());
}
