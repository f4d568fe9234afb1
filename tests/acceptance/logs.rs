//! Lines and metrics of containers: floods, limits, bytes that are no text, lines of what is gone,
//! following over a restart, looking back.

use crate::{
    harness::{Server, folder, http, until},
    lrps::{desire, running},
};

/// The address of the only instance.
fn address(server: &Server, guid: &str) -> String {
    let slot = running(server, guid, 1).remove(0);
    format!("http://{}:8080", slot["address"].as_str().unwrap())
}

/// All lines of an app that hold a text.
fn lines(server: &Server, guid: &str, text: &str) -> Vec<String> {
    let all = server.text(&["logs", guid, "--since", "@1"]);
    all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn a_flood_comes_whole_and_in_order_and_what_is_over_the_limit_is_dropped_and_counted() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "loud", 1, &[]);
    let flood = 20_000;
    http(&format!("{}/flood/{flood}", address(&server, "loud")), "x");

    let last = format!("{:0>93}", flood - 1);
    until("the last line", || (!lines(&server, "loud", &last).is_empty()).then_some(()));
    let written = lines(&server, "loud", " flood ");
    assert_eq!(written.len(), flood, "none is lost, none comes twice");
    assert!(written.is_sorted_by_key(|line| line.rsplit(' ').next().map(str::to_owned)));
    server.stop();

    let limited = crate::harness::folder();
    let server = Server::start(&["dev", "--log-lines-per-second", "100"], limited.path());
    desire(&server, "loud", 1, &[]);
    http(&format!("{}/flood/{flood}", address(&server, "loud")), "x");
    let told = "app instance exceeded log rate limit (100 log-lines/sec) set by platform operator";
    until("the limit to be told", || (!lines(&server, "loud", told).is_empty()).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(1));
    http(&format!("{}/log/after", address(&server, "loud")), "x");
    let dropped = until("the count of what was dropped", || {
        lines(&server, "loud", "over the log rate limit were dropped").pop()
    });
    assert!(dropped.contains("ERR"), "{dropped}");
    let through = lines(&server, "loud", " flood ").len();
    assert!((50..1000).contains(&through), "{through} lines got through");
}

#[test]
fn lines_that_are_no_text_are_whole_and_lines_outlive_their_instance() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "web", 1, &[]);
    http(&format!("{}/binary", address(&server, "web")), "x");

    let line = until("the binary line", || {
        let lines = server.run(&["logs", "web", "--json"]).stdout;
        let lines = String::from_utf8(lines).unwrap();
        let mut lines = lines.lines().filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok().filter(|it| !it["raw"].is_null())
        });
        lines.next()
    });
    assert_eq!(line["raw"], "62696e61727920ff00fe", "{line}");
    assert!(line["logPosition"].as_str().is_some(), "{line}");

    server.text(&["lrp", "rm", "web"]);
    until("the instance to go", || {
        server.text(&["logs", "web"]).contains("successfully destroyed container").then_some(())
    });
    assert_eq!(lines(&server, "web", "OUT binary").len(), 1, "it is there when the app is gone");
}

#[test]
fn following_goes_on_over_a_restart_and_any_instant_can_be_looked_at() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "web", 1, &[]);
    let before = address(&server, "web");
    let mut following = server.follow(&["logs", "web", "-f", "--recent", "500"]);
    http(&format!("{before}/log/from-the-first"), "x");
    following.wait_for("from-the-first");
    let then = server.json(&["log", "tail", "--limit", "1"]);

    server.text(&["lrp", "restart", "web", "0"]);
    following.wait_for("stopping instance");
    following.wait_for("listening on port 8080");
    http(&format!("{}/log/from-the-second", address(&server, "web")), "x");
    following.wait_for("from-the-second");

    let until_then = format!("@{}", then["position"].as_str().unwrap());
    let past = server.text(&["logs", "web", "--at", &until_then]);
    assert!(past.contains("listening on port") && !past.contains("from-the-second"), "{past}");
    let since = server.text(&["logs", "web", "--since", "-5m", "--recent", "2"]);
    assert_eq!(since.lines().count(), 2, "{since}");
}

#[test]
fn what_an_instance_uses_is_told_every_quarter_of_a_minute_and_a_tasks_lines_are_kept() {
    let folder = folder();
    let server = Server::dev(folder.path());
    desire(&server, "web", 1, &[]);
    address(&server, "web");
    let task = ["task", "run", "--guid", "version", "--rootfs", "preloaded:diario"];
    let sizes =
        ["--memory-mb", "64", "--disk-mb", "16", "--wait", "--", "/bin/diario", "--version"];
    server.text(&[&task[..], &sizes[..]].concat());

    let lines = until("the last line of the task's container", || {
        let lines = server.text(&["logs", "version", "--task"]);
        lines.contains("successfully destroyed container").then_some(lines)
    });
    assert!(lines.contains("diario "), "{lines}");
    let sample = until("a sample", || server.json(&["metrics", "web"]).get(0).cloned());
    assert_eq!(sample["memoryLimitBytes"], 64 << 20, "{sample}");
    for name in ["memoryBytes", "cpuNanoseconds", "cpuEntitlementNanoseconds", "pids"] {
        assert!(sample[name].as_u64().unwrap() > 0, "{name}: {sample}");
    }
    for name in ["diskBytes", "receivedBytes", "sentBytes", "pidsLimit"] {
        assert!(sample[name].as_u64().is_some(), "{name}: {sample}");
    }
}
