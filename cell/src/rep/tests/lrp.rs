//! The stories of LRPs: refused, healthy, crashed, never healthy, unhealthy, stopped.

use std::sync::Arc;

use domain::action::{Action, Serial, Timeout};
use domain::bbs::definition::{Definition, Rootfs};
use domain::check::{Check, TcpCheck};
use domain::exit::{ExitStatus, OutOfMemory, ProcessExit};
use domain::labels::{DynamicValue, Labels, MetricTag};
use domain::observation::{Observation, ObservationRecord};
use domain::rep::Work;
use domain::units::{Mebibytes, Milliseconds};
use tokio::time::Instant;

use super::{Cell, app, app_with_check, checked, handle, lrp, process_id, run, variables};
use crate::agent::Outcome;
use crate::config::OnShutdown;
use crate::garden::{self, OomReport, Signal};

#[tokio::test(start_paused = true)]
async fn what_cannot_be_here_is_refused_in_words() {
    let cell = Cell::started();
    let unknown = Definition { rootfs: Rootfs::new("preloaded:moon").unwrap(), ..app() };
    let large = Definition { memory_mb: Mebibytes(1001), ..app() };

    cell.plane.place(&lrp("a"), unknown);
    cell.plane.place(&lrp("b"), large);
    cell.until_reported(&lrp("a"), "refused").await;
    cell.until_reported(&lrp("b"), "refused").await;

    assert_eq!(cell.refusal(&lrp("a")), "rootfs preloaded:moon does not exist on this cell");
    let reason = "insufficient resources: memory (1001 MiB wanted, 1000 MiB free)";
    assert_eq!(cell.refusal(&lrp("b")), reason);
    assert!(cell.garden.executed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_waits_for_what_leaves_and_no_longer() {
    let cell = Cell::started();
    let (old, new) = (lrp("old"), lrp("new"));
    let large = || Definition { memory_mb: Mebibytes(900), ..app() };
    cell.plane.place(&old, large());
    cell.until_runs(&old, "run-0").await;

    cell.plane.place(&lrp("hopeless"), large());
    cell.until_reported(&lrp("hopeless"), "refused").await;
    cell.plane.want_stop(&old);
    cell.plane.place(&new, large());

    assert_eq!(cell.until_reported(&new, "healthy").await, ["claimed", "healthy"]);
    assert!(!cell.has_container(&old));
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_checks_is_healthy_when_its_process_runs() {
    let cell = Cell::started();
    let work = lrp("a");

    cell.plane.place(&work, app());

    assert_eq!(cell.until_reported(&work, "healthy").await, ["claimed", "healthy"]);
    let variables = variables(&cell, &work, "run-0");
    assert_eq!(variables["CF_INSTANCE_PORT"], "8080");
    assert!(variables["CF_INSTANCE_ADDR"].ends_with(":8080"));
    let book = cell.folder.path().join("book/a.json");
    assert!(!std::fs::read_to_string(book).unwrap().contains("hunter2"), "a secret on disk");
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_told_in_diegos_words_with_its_last_lines() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "run-0").await;

    for number in 0..30 {
        cell.write(&work, "run-0", &format!("line {number}\n"));
    }
    cell.write(&work, "run-0", "without an end");
    let starved = OomReport { limit_bytes: 5, peak_bytes: 4, kills: 1 };
    let killed = garden::ExitStatus::Signaled { signal: 9 };
    cell.garden.finish(&handle(&work), &process_id("run-0"), killed, Some(starved));
    cell.until_reported(&work, "ended").await;

    let ended = cell.ended(&work);
    let reason = "APP: Exited with status 137 (out of memory)";
    assert_eq!(ended.failure_reason.as_deref(), Some(reason));
    let out_of_memory = Some(OutOfMemory { limit_bytes: 5, peak_bytes: 4, kills: 1 });
    assert_eq!(ended.exit, Some(ProcessExit { status: ExitStatus::Signalled(9), out_of_memory }));
    let lines: Vec<_> = ended.evidence.log_lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines.len(), 32);
    assert_eq!(lines[29..], ["line 29", "without an end", "Exit status 137 (out of memory)"]);
    assert!(!ended.evidence.metrics.is_empty());
    cell.until_container_is_gone(&work).await;
    cell.until("all lines are pushed", |cell| cell.lines(&work).len() == 32).await;
}

#[tokio::test(start_paused = true)]
async fn an_exit_with_status_0_is_an_end_too() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "run-0").await;

    cell.exit(&work, "run-0", 0);
    cell.until_reported(&work, "ended").await;

    assert_eq!(cell.ended(&work).failure_reason, None);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_or_execd_says_why() {
    let cell = Cell::started();

    cell.garden.fail_next_create("no more veth");
    cell.plane.place(&lrp("a"), app());
    cell.until_reported(&lrp("a"), "ended").await;
    cell.garden.fail_next_run("executable /app not found");
    cell.plane.place(&lrp("b"), app());
    cell.until_reported(&lrp("b"), "ended").await;

    let reason = |guid: &str| cell.ended(&lrp(guid)).failure_reason.unwrap();
    assert_eq!(reason("a"), "failed to create container: no more veth");
    assert_eq!(reason("b"), "executable /app not found");
    cell.until_container_is_gone(&lrp("b")).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_healthy_only_when_its_check_has_passed_and_until_it_fails() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app_with_check());
    cell.until_runs(&work, "startup-healthcheck-0").await;
    assert_eq!(cell.reported(&work), ["claimed"]);

    cell.exit(&work, "startup-healthcheck-0", 0);
    cell.until_reported(&work, "healthy").await;
    cell.until_runs(&work, "liveness-healthcheck-0").await;
    cell.write(&work, "liveness-healthcheck-0", "Liveness check unsuccessful: gone\n");
    cell.garden.ignore_terminate("/app");
    let before = Instant::now();
    cell.exit(&work, "liveness-healthcheck-0", 4);
    cell.until_reported(&work, "ended").await;

    assert!(before.elapsed().as_secs() < 5, "reported before the process has stopped");
    let ended = cell.ended(&work);
    let reason = "Instance became unhealthy: Liveness check unsuccessful: gone";
    assert_eq!(ended.failure_reason.as_deref(), Some(reason));
    cell.until_container_is_gone(&work).await;
    assert!(before.elapsed().as_secs() >= 10, "it had its grace");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_never_passes_its_check_is_told_with_the_checks_words() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app_with_check());
    cell.until_runs(&work, "startup-healthcheck-0").await;

    tokio::time::sleep(std::time::Duration::from_millis(60_012)).await;
    cell.write(&work, "startup-healthcheck-0", "Timed out\n");
    cell.exit(&work, "startup-healthcheck-0", 4);
    cell.until_reported(&work, "ended").await;

    let ended = cell.ended(&work);
    let reason = "Instance never healthy after 1m0s: Timed out";
    assert_eq!(ended.failure_reason.as_deref(), Some(reason));
    assert_eq!(cell.reported(&work), ["claimed", "ended"]);
}

#[tokio::test(start_paused = true)]
async fn setup_runs_first_and_a_step_that_takes_too_long_is_stopped() {
    let cell = Cell::started();
    let work = lrp("a");
    let action = Box::new(run("/slow"));
    let timeout = Timeout { action, timeout_ms: Milliseconds(900_000), log_source: None };
    let actions = vec![run("/first"), Action::Timeout(timeout)];
    let action = Action::Serial(Serial { actions, log_source: None });
    cell.plane.place(&work, Definition { setup: Some(run("/setup")), action, ..app() });
    cell.until_runs(&work, "run-0").await;
    assert!(!cell.runs(&work, "run-1"));

    cell.exit(&work, "run-0", 0);
    cell.until_runs(&work, "run-1").await;
    cell.exit(&work, "run-1", 0);
    cell.until_runs(&work, "run-2").await;
    cell.until_reported(&work, "healthy").await;
    tokio::time::sleep(std::time::Duration::from_secs(901)).await;
    cell.until_reported(&work, "ended").await;

    let ended = cell.ended(&work);
    assert_eq!(ended.failure_reason.as_deref(), Some("exceeded 15m0s timeout"));
    assert_eq!(ended.exit.map(|exit| exit.status), Some(ExitStatus::Signalled(15)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_graceful_for_ten_seconds_and_then_not() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.garden.ignore_terminate("/app");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;

    let before = Instant::now();
    cell.plane.want_stop(&work);
    cell.until("SIGKILL", |cell| cell.garden.signals(&handle(&work)).len() == 2).await;

    let signals: Vec<_> =
        cell.garden.signals(&handle(&work)).into_iter().map(|(_, signal)| signal).collect();
    assert_eq!(signals, [Signal::Terminate, Signal::Kill]);
    assert_eq!(before.elapsed().as_secs(), 10);
    assert_eq!(cell.until_reported(&work, "killed").await, ["claimed", "healthy", "killed"]);
    assert!(!cell.has_container(&work));
    cell.until("it is struck out", |cell| !cell.folder.path().join("book/a.json").exists()).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_as_long_as_the_most_patient_app_asks_for() {
    let mut cell = Cell::started();
    cell.on_shutdown = OnShutdown::DestroyAll;
    cell.kill_agent().await;
    cell.start_agent();
    let work = lrp("a");
    cell.garden.ignore_terminate("/app");
    let graceful_stop_ms = Some(Milliseconds::from_seconds(300));
    cell.plane.place(&work, Definition { graceful_stop_ms, ..app() });
    cell.until_reported(&work, "healthy").await;

    let before = Instant::now();
    assert_eq!(cell.stop_agent().await.unwrap(), Outcome::Destroyed);

    assert_eq!(before.elapsed().as_secs(), 300);
    assert_eq!(cell.until_reported(&work, "killed").await, ["claimed", "healthy", "killed"]);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_run_with_its_own_timings() {
    let cell = Cell::started();
    let work = lrp("a");
    let check = Check::Tcp(TcpCheck {
        port: 8080,
        timeout_ms: Milliseconds(700),
        interval_ms: Milliseconds(5_000),
        unhealthy_interval_ms: Milliseconds(500),
        failure_threshold: 3,
    });
    let check = Some(checked(vec![check]));
    cell.plane.place(&work, Definition { check, ..app() });

    let arguments = async |process: &str| {
        cell.until_runs(&work, process).await;
        let runs = cell.garden.runs(&handle(&work)).into_iter();
        runs.filter(|run| run.id.as_str() == process).flat_map(|run| run.args).collect::<Vec<_>>()
    };
    let startup = arguments("startup-healthcheck-0").await;
    cell.exit(&work, "startup-healthcheck-0", 0);
    let liveness = arguments("liveness-healthcheck-0").await;

    let (port, timeout) = ("-port=8080", "-timeout=700ms");
    assert_eq!(startup, [port, timeout, "-startup-interval=500ms", "-startup-timeout=1m0s"]);
    let [interval, unhealthy] = ["-liveness-interval=5s", "-unhealthy-interval=500ms"];
    assert_eq!(liveness, [port, timeout, interval, unhealthy, "-failure-threshold=3"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_here_is_reported_gone_once() {
    let cell = Cell::started();
    let work = lrp("a");
    let stopped = Work { wanted: domain::rep::Wanted::Stop, ..work.clone() };

    cell.plane.cut_off(true);
    cell.plane.place(&stopped, app());
    cell.plane.cut_off(false);
    cell.until_reported(&work, "gone").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;

    assert_eq!(cell.reported(&work), ["gone"]);
}

#[tokio::test(start_paused = true)]
async fn an_assignment_that_the_cell_could_not_hear_of_stands_until_it_does() {
    let cell = Cell::started();
    let work = lrp("a");

    cell.plane.cut_off(true);
    cell.plane.place(&work, app());
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(cell.reported(&work), Vec::<&str>::new());
    cell.plane.cut_off(false);

    cell.until_reported(&work, "healthy").await;
}

#[tokio::test(start_paused = true)]
async fn what_the_control_plane_disowns_is_stopped_quietly() {
    let cell = Cell::started();
    let work = lrp("a");

    cell.plane.disown(&work);
    cell.plane.place(&work, app_with_check());
    cell.until("a refused claim", |cell| !cell.plane.requests().is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;

    assert!(!cell.has_container(&work));
    assert_eq!(cell.plane.requests(), [vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn changed_tags_hold_for_the_next_line_and_restart_nothing() {
    let cell = Cell::started();
    let tagged = |text: &str| {
        let dynamic = MetricTag::Dynamic(DynamicValue::Index);
        let given = MetricTag::Static(text.to_owned());
        let metric_tags = [("slot".to_owned(), dynamic), ("v".to_owned(), given)].into();
        Labels { internal_routes: Vec::new(), metric_tags }
    };
    let work = Work { labels: Some(Arc::new(tagged("1"))), ..lrp("a") };
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.write(&work, "run-0", "first\n");
    let tags = async |text: &str| {
        let told = || {
            let all = cell.plane.observations().into_iter();
            let of_line = |it: &Observation| match &it.record {
                ObservationRecord::Line(line) => line.text == text,
                ObservationRecord::Metrics(_) => false,
            };
            all.filter(of_line).map(|it| it.tags).next()
        };
        cell.until(text, |_| told().is_some()).await;
        told().unwrap()
    };
    let wanted = |text: &str| {
        Arc::new([("slot", "0"), ("v", text)].map(|(n, v)| (n.to_owned(), v.to_owned())).into())
    };
    assert_eq!(tags("first").await, wanted("1"));

    cell.plane.label(&work, tagged("2"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    cell.write(&work, "run-0", "second\n");

    assert_eq!(tags("second").await, wanted("2"));
    assert_eq!(cell.reported(&work), ["claimed", "healthy"]);
}
