//! Several control-plane nodes on one Postgres, started as the README says: one is killed, another
//! takes its loops over, and whatever was written is read anywhere.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use projections::testing::postgres::{Cluster, Settings};
use serde_json::Value;

use crate::{
    harness::{Cell, Server, diario, folder, http, told, until, write_private},
    readme,
};

/// How long the lease lasts here; by default it is 15 s.
const LEASE_SECONDS: u64 = 3;

/// Two nodes and a cell that knows both.
struct Nodes {
    one: Server,
    two: Server,
    // Before the folder and the database: dropped first.
    cell: Cell,
    folder: tempfile::TempDir,
    database: String,
    _cluster: Cluster,
}

/// What follows `diario` in the README's command that starts so.
fn of_readme(start: &str) -> Vec<String> {
    let text = fs::read_to_string("README.md").unwrap();
    let found = readme::commands(&text).into_iter().filter(|command| command.contains(start));
    let [command] = <[String; 1]>::try_from(found.collect::<Vec<_>>()).unwrap();
    command.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn node(name: &str, folder: &Path, database: &str, port: u16) -> Server {
    let mut arguments = of_readme(&format!("--node {name} "));
    for (option, value) in
        [("--database-url", database), ("--port", &port.to_string()), ("--router-port", "0")]
    {
        match arguments.iter().position(|argument| argument == option) {
            Some(at) => value.clone_into(&mut arguments[at + 1]),
            None => arguments.extend([option.to_owned(), value.to_owned()]),
        }
    }
    let lease = LEASE_SECONDS.to_string();
    let mut command = diario();
    command.args(arguments).args(["--lease-ttl", &lease]).current_dir(folder);
    Server::spawn(&mut command, None)
}

fn cell(folder: &Path, urls: [&str; 2]) -> Command {
    let mut urls = urls.into_iter();
    let arguments = of_readme("--cell-id").into_iter().map(|argument| {
        if argument.starts_with("http") { urls.next().unwrap().to_owned() } else { argument }
    });
    let mut command = diario();
    command.args(arguments).args(["--remove-on-stop", "--data-dir", "cell"]).current_dir(folder);
    command
}

impl Nodes {
    fn start() -> Self {
        let cluster = Cluster::start(&Settings::default());
        let database = cluster.fresh_database();
        let folder = folder();
        let at = folder.path();
        write_private(&at.join("cells.json"), "{\"cell-1\": \"0123456789abcdef\"}");
        write_private(&at.join("cell-1.token"), "0123456789abcdef");
        let one = node("one", at, &database, 0);
        fs::create_dir_all(at.join("two/keys")).unwrap();
        let key = fs::read_to_string(at.join("one/keys/master.key")).unwrap();
        write_private(&at.join("two/keys/master.key"), &key);
        let two = node("two", at, &database, 0);
        let cell = Cell::spawn(&mut cell(at, [&one.api, &two.api]));
        Self { one, two, cell, folder, database, _cluster: cluster }
    }
}

fn readiness(server: &Server) -> (u16, Value) {
    let (status, answer) = http(&format!("{}/readyz", server.api), "127.0.0.1").unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn leads(server: &Server) -> bool {
    readiness(server).1["leads"] == true
}

/// Scales through one node, and gives the position to read at.
fn scale(server: &Server, instances: u32) -> String {
    let answer = server.json(&["lrp", "scale", "web", &instances.to_string()]);
    answer["position"].as_str().unwrap().to_owned()
}

fn running(server: &Server) -> usize {
    let shown = server.json(&["lrp", "show", "web"]);
    let slots = shown["actualLrps"].as_array().unwrap().iter();
    slots.filter(|slot| slot["state"] == "RUNNING").count()
}

fn desire(server: &Server) {
    let words = "lrp desire --guid web --rootfs preloaded:diario --instances 1 --memory-mb 64 \
        --disk-mb 64 --port 8080 --route web.test --health-check port --env SECRET=sealed \
        -- /bin/diario sample-app";
    server.text(&words.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn two_nodes_share_a_log_and_one_takes_over_when_the_other_is_killed() {
    let Nodes { one, two, cell, folder, database, _cluster } = Nodes::start();
    let first = until("a leader", || [&one, &two].into_iter().position(leads));
    assert_eq!(first, 0, "the first node took the lease");
    until("the cell", || two.json(&["cells"]).to_string().contains("PRESENT").then_some(()));

    desire(&two);
    for server in [&one, &two] {
        until("the route to answer", || {
            http(&server.router, "web.test").filter(|(status, _)| *status == 200)
        });
    }
    for round in 0..10 {
        let (writer, reader) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let at_least = scale(writer, 2 + round % 2);
        let shown = reader.json(&["lrp", "show", "web", "--at-least", &at_least]);
        assert_eq!(shown["desiredLrp"]["instances"], 2 + round % 2, "what was written elsewhere");
    }
    let future = two.run(&["lrp", "list", "--at-least", "1000000"]);
    assert!(!future.status.success() && told(&future).contains("AHEAD_OF_HEAD"));
    assert_eq!(readiness(&two).0, 200, "{:?}", readiness(&two));

    // The leader dies, and the cell's own node with it.
    let port = one.port();
    one.kill();
    let killed = Instant::now();
    scale(&two, 4);
    until("another leader", || leads(&two).then_some(()));
    let taken_over = killed.elapsed();
    until("the wish of meanwhile to run", || (running(&two) == 4).then_some(()));
    crate::harness::tell(&format!(
        "Taken over after {taken_over:?}, all running after {:?}.",
        killed.elapsed()
    ));
    assert!(taken_over <= Duration::from_secs(LEASE_SECONDS + 1), "{taken_over:?}");

    let one = node("one", folder.path(), &database, port);
    assert_eq!(readiness(&one).1["leads"], false);
    let at_least = scale(&two, 1);
    let shown = one.json(&["lrp", "show", "web", "--at-least", &at_least]);
    assert_eq!(shown["desiredLrp"]["instances"], 1);
    until("the others to stop", || (running(&one) == 1).then_some(()));

    // A leader that is asked to stop hands the lease on.
    two.stop();
    let stopped = Instant::now();
    until("the next leader", || leads(&one).then_some(()));
    assert!(stopped.elapsed() <= Duration::from_secs(1), "{:?}", stopped.elapsed());
    until("the cell to be heard there", || (running(&one) == 1).then_some(()));
    drop(cell);
}
