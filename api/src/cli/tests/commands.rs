//! Every command against the real edge.

use std::{io::Write as _, time::Duration};

use domain::{
    auction,
    bbs::{
        actual_lrp::{self, CrashReport},
        task::{self, TaskResult},
    },
    exit::{ExitStatus, ProcessExit},
    id::{ActualLrpKey, CellId, ProcessGuid},
    log::{CellEpoch, Owner, Position},
    observation::{LogLine, Observation, ObservationRecord, OutputStream},
    rep::Evidence,
    units::Timestamp,
};
use projections::observations::Push;
use serde_json::{Value, json};

use super::Server;
use crate::{cli::Outcome, graphql, http::Access, testing::InMemory};

/// The secret that no output may hold.
const CANARY: &str = "canary-5f3c";

/// A control plane in memory with its edge.
async fn start() -> (InMemory, Server) {
    let inner = InMemory::start(7);
    let router = graphql::router(inner.control_plane.clone(), Access::loopback());
    (inner, Server::start(router).await)
}

fn file(suffix: &str, text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A process of three instances: one runs, one has crashed, one waits.
async fn eventful() -> (InMemory, Server) {
    let (inner, server) = start().await;
    inner.register("cell-1").await;
    let env = format!("PASSWORD={CANARY}");
    server
        .done(&[
            "lrp",
            "desire",
            "--guid",
            "web",
            "--instances",
            "3",
            "--port",
            "8080",
            "--route",
            "web.example.com",
            "--env",
            &env,
            "--health-check",
            "http",
            "--",
            "/bin/diario",
            "sample-app",
        ])
        .await;
    let running = inner.create("web", 0).await;
    inner.run(&inner.place(&running, "cell-1").await).await;
    let crashed = inner.create("web", 1).await;
    let instance = inner.place(&crashed, "cell-1").await;
    inner.crash(&instance, crash_report(&inner).await).await;
    inner.create("web", 2).await;
    (inner, server)
}

async fn crash_report(inner: &InMemory) -> CrashReport {
    let log_lines = vec![line("the last words")];
    let evidence = Evidence { log_lines, ..Evidence::default() };
    let owner = Owner::Process(ProcessGuid::new("web").unwrap());
    let bytes = serde_json::to_vec(&evidence).unwrap();
    let digest = inner.control_plane.keyring.put_sealed_blob(&owner, &bytes).await.unwrap();
    CrashReport {
        reason: "killed by signal 9".to_owned(),
        exit: Some(ProcessExit { status: ExitStatus::Signalled(9), out_of_memory: None }),
        evidence: Some(digest),
    }
}

fn line(text: &str) -> LogLine {
    LogLine::new(Timestamp(4), "APP", OutputStream::Out, text.to_owned())
}

#[tokio::test]
async fn wishes_are_refused_in_the_control_planes_words() {
    let (_inner, server) = start().await;

    let absurd = ["lrp", "desire", "--guid", "web", "--memory-mb", "0", "--", "/bin/true"];
    let why = server.refused(&absurd).await;
    assert!(why.contains("spec.definition.memoryMb must be from 1"), "{why}");
    assert!(why.ends_with("(INVALID)"), "{why}");

    for arguments in [
        &["lrp", "scale", "web", "2"][..],
        &["lrp", "rm", "web"],
        &["lrp", "restart", "web", "0"],
        &["lrp", "restart-policy", "web", "--inherit"],
        &["domains", "restart-policy", "jobs", "--default"],
        &["task", "cancel", "job"],
    ] {
        let why = server.refused(arguments).await;
        assert!(why.contains("NOT_FOUND"), "{why}");
    }
    let why = server.refused(&["lrp", "show", "web"]).await;
    assert_eq!(why, "there is no LRP web; `diario lrp list` shows those that there are");
    let why = server.refused(&["task", "show", "job"]).await;
    assert!(why.contains("diario task list"), "{why}");
    let why = server.refused(&["at", "@99", "lrps"]).await;
    assert!(why.contains("(AHEAD_OF_HEAD)"), "{why}");
    assert!(server.refused(&["log", "show", "@99"]).await.contains("(AHEAD_OF_HEAD)"));
    assert!(server.refused(&["log", "show", "@0"]).await.contains("no event @0"));
    assert!(server.refused(&["crash", "show", "1"]).await.contains("no crash @1"));
}

#[tokio::test]
async fn flags_that_do_not_go_together_are_told() {
    let (_inner, server) = start().await;
    let desire = ["lrp", "desire", "--guid", "web"];

    let why = server.refused(&desire).await;
    assert!(why.contains("behind `--`"), "{why}");
    let with_route = [&desire[..], &["--route", "a", "--", "/bin/true"]].concat();
    assert!(server.refused(&with_route).await.contains("--route needs a --port"));
    let with_check = [&desire[..], &["--health-check", "http", "--", "/bin/true"]].concat();
    assert!(server.refused(&with_check).await.contains("--health-check needs a --port"));
    let with_env = [&desire[..], &["--env", CANARY, "--", "/bin/true"]].concat();
    assert_eq!(server.refused(&with_env).await, "--env must be NAME=VALUE");
}

#[tokio::test]
async fn an_lrp_is_desired_by_a_file_once_however_often_it_is_sent() {
    let (_inner, server) = start().await;
    let spec = file(
        ".yaml",
        "process_guid: web\ninstances: 2\ndefinition:\n  rootfs: preloaded:diario\n  memory_mb: 64\n  disk_mb: 64\n  action: {run: {path: /bin/true, user: vcap}}\n  check: {checks: [{tcp: {port: 8080}}]}\n",
    );
    let path = spec.path().to_str().unwrap();

    let first = server.done(&["lrp", "desire", path, "--command-id", "c1", "--json"]).await;
    let again = server.done(&["lrp", "desire", path, "--command-id", "c1", "--json"]).await;

    assert_eq!(first, again);
    let accepted: Value = serde_json::from_str(&first.concat()).unwrap();
    assert_eq!((&accepted["position"], &accepted["commandId"]), (&json!("1"), &json!("c1")));
    let shown = server.done(&["lrp", "show", "web", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown.concat()).unwrap();
    let definition = &shown["desiredLrp"]["definition"];
    assert_eq!(definition["checks"], json!([{ "__typename": "TcpCheck", "port": 8080 }]));
    assert_eq!(definition["startTimeoutMs"], 60_000);
}

#[tokio::test]
async fn lists_show_what_is_there_and_what_was() {
    let (_inner, server) = eventful().await;

    let list = server.done(&["lrp", "list"]).await;
    assert_eq!(list.len(), 2, "{list:?}");
    assert!(list[0].starts_with("GUID  RUNNING"), "{list:?}");
    assert!(
        list[1].starts_with("web   1/3      128 MiB  128 MiB  web.example.com:8080"),
        "{list:?}"
    );
    let before = server.done(&["at", "@1", "lrps"]).await;
    assert_eq!(before, ["no LRPs are desired; `diario lrp desire --help` shows how"]);
    assert_eq!(server.done(&["at", "now", "lrps"]).await, list);
    assert_eq!(server.done(&["at", "-0s", "lrps"]).await, list);

    let show = server.done(&["lrp", "show", "web"]).await;
    assert!(show.contains(&"command    /bin/diario sample-app".to_owned()), "{show:#?}");
    assert!(show.iter().any(|line| line.starts_with("0      running")), "{show:#?}");
    let cells = server.done(&["cells"]).await;
    assert!(cells[1].contains("cell-1  z1    present"), "{cells:?}");
    assert!(cells[1].contains("896 of 1024 MiB"), "{cells:?}");
    assert!(server.done(&["at", "@1", "cells"]).await[1].contains("1024 of 1024"));
    let routes = server.done(&["routes"]).await;
    assert_eq!(routes[1], "web.example.com  web/0     10.0.0.2:8080  cell-1");
    let tasks = server.done(&["at", "@1", "tasks"]).await;
    assert!(tasks[0].starts_with("no tasks"), "{tasks:?}");
}

#[tokio::test]
async fn crashes_and_the_log_are_shown_without_secrets() {
    let (_inner, server) = eventful().await;

    let crashes = server.done(&["crash", "list", "web"]).await;
    let id = crashes[1].split(' ').next().unwrap();
    assert!(crashes[1].ends_with("web/1     cell-1  1         killed by signal 9"), "{crashes:?}");
    let crash = server.done(&["crash", "show", id]).await;
    assert!(crash.contains(&"exit      signal 9".to_owned()), "{crash:#?}");
    assert!(crash.last().unwrap().ends_with("[APP] OUT the last words"), "{crash:#?}");
    assert_eq!(server.done(&["crash", "list", "other"]).await, ["no crashes"]);

    let log = server.done(&["log", "tail"]).await;
    assert!(log[1].contains("desired_lrp.desired") && log[1].ends_with("by user local"), "{log:?}");
    let event = server.done(&["log", "show", "@2"]).await;
    assert!(event.contains(&"type      desired_lrp.desired".to_owned()), "{event:#?}");
    assert!(event.concat().contains("ciphertext") && !event.concat().contains(CANARY));
    let behind = server.done(&["log", "tail", "--after", "@1", "--limit", "1", "--json"]).await;
    let behind: Value = serde_json::from_str(&behind[0]).unwrap();
    assert_eq!(behind["position"], "2");
    let cursor = behind["cursor"].as_str().unwrap();
    let next = server.done(&["log", "tail", "--after", cursor, "--limit", "1"]).await;
    assert!(next[0].starts_with("@3 "), "{next:?}");
    let filtered =
        server.done(&["log", "tail", "--owner", "cell/cell-1", "--type", "cell.registered"]).await;
    assert_eq!(filtered.len(), 1, "{filtered:?}");
}

#[tokio::test]
async fn a_diff_shows_a_scaling_and_its_event() {
    let (_inner, server) = eventful().await;

    let before = server.done(&["at", "now", "lrps", "--json"]).await;
    let before: Value = serde_json::from_str(&before.concat()).unwrap();
    let before = format!("@{}", before["position"].as_str().unwrap());
    let scaled = server.done(&["lrp", "scale", "web", "5"]).await;
    assert!(scaled[0].starts_with("LRP web is desired, instances: 5 (@"), "{scaled:?}");
    let again = server.done(&["lrp", "scale", "web", "5"]).await;
    assert!(again[0].starts_with("nothing to change: "), "{again:?}");

    let diff = server.done(&["diff", &before]).await;
    assert!(diff[1].starts_with("~ lrp web  (@") && diff[1].ends_with(" scaled)"), "{diff:#?}");
    assert_eq!(diff[2..], ["    instances: 3 -> 5"]);
    assert_eq!(server.done(&["diff", &before, &before]).await[1], "nothing changed");
    assert!(server.done(&["diff", "-1h", "now"]).await.concat().contains("+ instance web/0"));
}

#[tokio::test]
async fn waiting_for_a_task_tells_how_it_ended() {
    let (inner, server) = start().await;
    inner.register("cell-1").await;
    let end = |guid: &'static str, status: i32| {
        let inner = &inner;
        async move {
            // The command below is on its way: the task is there as soon as it is desired.
            let desired = inner.control_plane.now.clone();
            let is_there = || {
                let guid = guid.parse().unwrap();
                desired.read(|world| world.aggregates().task(&guid).is_some())
            };
            while !is_there() {
                tokio::task::yield_now().await;
            }
            let task = inner.start_task(guid, "cell-1").await;
            let exit = ProcessExit { status: ExitStatus::Exited(status), out_of_memory: None };
            let failure_reason = (status != 0).then(|| format!("exited with status {status}"));
            let (evidence, result) = (None, String::new());
            let result = TaskResult { failure_reason, exit: Some(exit), evidence, result };
            inner.command(task::Command::Complete { task, result }).await;
        }
    };
    let run = |guid: &'static str| {
        let server = &server;
        async move { server.run(&["task", "run", "--guid", guid, "--wait", "--", "/bin/true"]).await }
    };

    let run_to_end = async |guid, status| {
        let both = async { tokio::join!(run(guid), end(guid, status)).0 };
        tokio::time::timeout(Duration::from_secs(30), both).await.unwrap()
    };

    let (printed, outcome) = run_to_end("good", 0).await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
    assert_eq!(printed[..3], ["guid     good", "state    completed", "result   succeeded"]);
    let (printed, outcome) = run_to_end("bad", 3).await;
    assert_eq!(outcome.unwrap(), Outcome::Failed);
    assert_eq!(printed[2], "result   failed: exited with status 3");
    assert_eq!(server.done(&["task", "list"]).await.len(), 3);
    assert_eq!(server.done(&["task", "show", "bad"]).await, printed);
}

#[tokio::test]
async fn output_is_shown_by_instance() {
    let (inner, server) = start().await;
    let observation = |index: u32, text: &str| Observation {
        owner: Owner::Process(ProcessGuid::new("web").unwrap()),
        index: Some(index),
        instance_guid: "i-1".parse().unwrap(),
        log_position: Position(0),
        tags: Default::default(),
        record: ObservationRecord::Line(line(text)),
    };
    let push = Push {
        cell_id: CellId::new("cell-1").unwrap(),
        cell_epoch: CellEpoch(1),
        first_sequence: 1,
        observations: vec![observation(0, "one"), observation(1, "two"), observation(0, "three")],
    };
    inner.control_plane.observations.append(push).await.unwrap();

    let all = server.done(&["logs", "web"]).await;
    assert_eq!(all[0], "1970-01-01T00:00:00.000Z [APP/0] OUT one");
    assert_eq!(all.len(), 3, "{all:?}");
    let of_one = server.done(&["logs", "web", "--instance", "0", "--recent", "1", "--json"]).await;
    let last: Value = serde_json::from_str(&of_one[0]).unwrap();
    assert_eq!((of_one.len(), &last["text"]), (1, &json!("three")));
    assert!(server.done(&["logs", "other"]).await.is_empty());
}

#[tokio::test]
async fn a_domain_is_vouched_for_and_gives_its_restart_policy_to_wishes_without_one() {
    let (_inner, server) = eventful().await;
    assert!(server.done(&["domains"]).await[0].starts_with("nobody vouches yet"));

    server.done(&["domains", "vouch", "jobs"]).await;
    let never = ["domains", "restart-policy", "jobs", "--restart", "never", "--crashes-max", "7"];
    let told = server.done(&never).await;
    assert!(told[0].starts_with("freshness domain jobs has its restart policy"), "{told:?}");
    let told = server.done(&["domains"]).await;
    assert!(told[1].starts_with("jobs    yes    for ever  never, 2 at once"), "{told:?}");
    assert!(told[1].ends_with("given up after 7"), "{told:?}");
    server.done(&["domains", "restart-policy", "jobs", "--default"]).await;
    assert!(server.done(&["domains"]).await[1].ends_with("-"));

    server.done(&["lrp", "restart-policy", "web", "--restart", "on-failure"]).await;
    let told = server.done(&["lrp", "restart-policy", "web", "--inherit"]).await;
    assert!(told[0].starts_with("LRP web has the restart policy of its freshness domain"));
    let again = server.done(&["lrp", "restart-policy", "web", "--inherit"]).await;
    assert!(again[0].starts_with("nothing to change"), "{again:?}");
}

#[tokio::test]
async fn why_something_is_where_it_is_and_what_would_be_better_elsewhere_is_shown() {
    let (inner, server) = eventful().await;
    let best = vec![(CellId::new("cell-9").unwrap(), auction::Score(250_000))];
    let refused = vec![(CellId::new("cell-1").unwrap(), auction::Refusal::PlacementTags)];
    let counts = vec![(auction::Refusal::HigherScore, 40)];
    let candidates = auction::Candidates { seen: Position(3), best, refused, counts };
    let key = ActualLrpKey { process_guid: ProcessGuid::new("web").unwrap(), index: 2 };
    let (error, candidates) = ("no room".to_owned(), Some(Box::new(candidates)));
    inner.command(actual_lrp::Command::FailPlacement { key, error, candidates }).await;

    let all = server.done(&["lrp", "why", "web"]).await;
    let one = server.done(&["lrp", "why", "web/2"]).await;
    let plan = server.done(&["cells", "rebalance-plan"]).await;

    assert!(all[0].starts_with("WHAT   CELL     CAME TO"), "{all:?}");
    assert!(all[1].starts_with("web/0  cell-1   not judged"), "{all:?}");
    assert_eq!(
        one[1..],
        [
            "web/2  cell-9   score 0.250000  @3",
            "web/2  cell-1   placement tags  @3",
            "web/2  40 more  higher score    @3",
        ]
    );
    assert!(server.refused(&["lrp", "why", "web/9"]).await.contains("no instance web/9"));
    assert!(server.refused(&["task", "why", "job"]).await.contains("no task job"));
    assert_eq!(plan[0], "nothing would be better elsewhere");
    assert!(plan[1].starts_with("imbalance 0."), "{plan:?}");
}

#[tokio::test]
async fn internal_routes_and_metric_tags_change_without_touching_instances() {
    let (inner, server) = eventful().await;
    let set = ["lrp", "metric-tags", "web", "source_id=web", "slot=@index", "i=@instance-guid"];
    let placed = |inner: &InMemory| {
        inner.control_plane.now.read(|world| {
            let cell_id = CellId::new("cell-1").unwrap();
            world.cell_assignments().of(world.aggregates(), &cell_id).unwrap().work
        })
    };
    let before = placed(&inner);

    server.done(&["lrp", "internal-routes", "web", "web.apps.internal"]).await;
    server.done(&set).await;
    assert!(server.done(&set).await[0].starts_with("nothing to change"));
    let shown = server.done(&["lrp", "show", "web"]).await;

    assert!(shown.contains(&"internal   web.apps.internal".to_owned()), "{shown:?}");
    let tags = "tags       i=@instance-guid, slot=@index, source_id=web";
    assert!(shown.contains(&tags.to_owned()), "{shown:?}");
    let told = placed(&inner);
    assert_eq!(told.len(), before.len());
    for (now, before) in told.iter().zip(&before) {
        assert_eq!((&now.reference, &now.definition), (&before.reference, &before.definition));
        let labels = now.labels.as_ref().unwrap();
        assert_eq!(labels.internal_routes[0].as_str(), "web.apps.internal");
        assert_eq!(labels.metric_tags.len(), 3);
    }
    server.done(&["lrp", "internal-routes", "web"]).await;
    server.done(&["lrp", "metric-tags", "web"]).await;
    assert_eq!(placed(&inner), before);
    let why = server.refused(&["lrp", "internal-routes", "web", "a b"]).await;
    assert!(why.contains("internalRoutes[0]"), "{why}");
}
