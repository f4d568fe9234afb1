//! The log is folded again beside a running control plane, and its views are what the log says.

use std::{
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use crate::harness::{Server, diario, folder, told, until};

fn replay(server: Option<&Server>, data: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = diario();
    command.arg("replay").arg("--data-dir").arg(data).args(arguments);
    if let Some(server) = server {
        command.env("DIARIO_API", &server.api);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", told(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_log_is_replayed_beside_its_node_and_its_views_are_verified() {
    let folder = folder();
    let server = Server::start(&["serve"], folder.path());
    let data = folder.path();
    let wish = ["lrp", "desire", "--guid", "web", "--rootfs", "preloaded:diario", "--instances"];
    let rest = ["2", "--memory-mb", "64", "--disk-mb", "64", "--", "/bin/diario", "sample-app"];
    server.text(&[&wish[..], &rest].concat());
    server.text(&["lrp", "scale", "web", "3"]);
    until("all slots", || {
        let shown = server.json(&["lrp", "show", "web"]);
        (shown["actualLrps"].as_array()?.len() == 3).then_some(())
    });

    // No cell is there: nothing more happens, so the node and the log stand still.
    let verified = text(&replay(Some(&server), data, &["--verify-views"], ""));
    assert!(verified.contains("the running node's 7 views"), "{verified}");

    let found = text(&replay(None, data, &["--until", "lrp.web.unclaimed == 3"], ""));
    assert!(found.starts_with("it holds first at @"), "{found}");
    assert!(found.contains("actual_lrp.created"), "{found}");
    let walked = text(&replay(None, data, &["--step"], "n\nn\nb\nv auction_queue\nq\n"));
    assert!(walked.contains("desired_lrp.desired") && walked.contains("undone: @2"), "{walked}");
    let queue = text(&replay(None, data, &["--view", "auction_queue", "--json"], ""));
    assert_eq!(queue.matches("web/").count(), 3, "{queue}");

    let wrong = replay(None, data, &["--until", "lrp.web.walking == 3"], "");
    assert_eq!(wrong.status.code(), Some(2), "{}", told(&wrong));
    assert!(told(&wrong).contains("column 1"), "{}", told(&wrong));
    let never = replay(None, data, &["--until", "position > 100000"], "");
    assert_eq!(never.status.code(), Some(1), "{}", told(&never));

    server.stop();
    let offline = text(&replay(None, data, &["--verify-views", "--offline"], ""));
    assert!(offline.contains("lead to the same views"), "{offline}");
    let unreachable = replay(None, data, &["--verify-views", "--api", "http://127.0.0.1:1"], "");
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(told(&unreachable).contains("--offline"), "{}", told(&unreachable));
}
