//! Recipes of every kind of step: how their steps end together, and what the next agent makes of them.

use std::time::Duration;

use domain::action::{Action, Codependent, EmitProgress, Parallel, Run, Serial, Timeout, Try};
use domain::bbs::definition::{Definition, Sidecar};
use domain::rep::Work;
use domain::sealed::PlainText;
use domain::units::{Mebibytes, Milliseconds};

use super::{Cell, app, app_with_check, handle, lrp, run, task};
use crate::garden::{ExitStatus, Signal};

fn serial(actions: Vec<Action<PlainText>>) -> Action<PlainText> {
    Action::Serial(Serial { actions, log_source: None })
}

fn parallel(actions: Vec<Action<PlainText>>) -> Action<PlainText> {
    Action::Parallel(Parallel { actions, log_source: None })
}

fn codependent(actions: Vec<Action<PlainText>>) -> Action<PlainText> {
    Action::Codependent(Codependent { actions, log_source: None })
}

fn tried(action: Action<PlainText>) -> Action<PlainText> {
    Action::Try(Try { action: Box::new(action), log_source: None })
}

fn told(action: Action<PlainText>) -> Action<PlainText> {
    Action::EmitProgress(EmitProgress {
        action: Box::new(action),
        start_message: "begins".to_owned(),
        success_message: "went well".to_owned(),
        failure_message_prefix: "went wrong".to_owned(),
        log_source: Some("STG".to_owned()),
    })
}

fn with(action: Action<PlainText>) -> Definition<PlainText> {
    Definition { action, ..app() }
}

fn with_sidecar(definition: Definition<PlainText>) -> Definition<PlainText> {
    let (memory_mb, disk_mb) = (Mebibytes(10), Mebibytes(0));
    let sidecar = Sidecar { action: run("/sidecar"), disk_mb, memory_mb };
    Definition { sidecars: vec![sidecar], ..definition }
}

fn monitored(monitor: Action<PlainText>) -> Definition<PlainText> {
    Definition { monitor: Some(Box::new(monitor)), ..app() }
}

/// How often each path was exec'd.
fn executions(cell: &Cell, path: &str) -> usize {
    cell.garden.executed().iter().filter(|(_, process)| process.path == path).count()
}

async fn reason(cell: &Cell, work: &Work) -> Option<String> {
    cell.until_reported(work, "ended").await;
    cell.ended(work).failure_reason
}

#[tokio::test(start_paused = true)]
async fn parallel_steps_all_go_to_their_end_and_all_failures_are_told() {
    let cell = Cell::started();
    let work = task("a");
    cell.plane.place(&work, with(parallel(vec![run("/a"), run("/b"), run("/c")])));
    cell.until_runs(&work, "run-2").await;

    cell.exit(&work, "run-0", 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!cell.reported(&work).contains(&"ended"));
    cell.exit(&work, "run-1", 0);
    cell.exit(&work, "run-2", 2);

    let told = "APP: Exited with status 1; APP: Exited with status 2";
    assert_eq!(reason(&cell, &work).await.as_deref(), Some(told));
}

#[tokio::test(start_paused = true)]
async fn the_first_of_codependent_steps_that_ends_ends_all_and_its_success_is_a_failure() {
    for (code, told) in [(0, "Codependent step exited"), (3, "APP: Exited with status 3")] {
        let cell = Cell::started();
        let work = task("a");
        cell.plane.place(&work, with(codependent(vec![run("/a"), run("/b")])));
        cell.until_runs(&work, "run-1").await;

        cell.exit(&work, "run-0", code);

        assert_eq!(reason(&cell, &work).await.as_deref(), Some(told));
        let signals = cell.garden.signals(&handle(&work));
        assert_eq!(signals.len(), 1);
        assert_eq!((signals[0].0.as_str(), signals[0].1), ("run-1", Signal::Terminate));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_steps_of_every_kind_gracefully() {
    let cell = Cell::started();
    let work = lrp("a");
    let action = parallel(vec![
        codependent(vec![run("/a"), run("/b")]),
        tried(run("/c")),
        told(serial(vec![run("/d"), run("/never")])),
    ]);
    cell.plane.place(&work, with(action));
    cell.until_runs(&work, "run-3").await;

    cell.plane.want_stop(&work);

    assert_eq!(cell.until_reported(&work, "gone").await, ["claimed", "gone"]);
    assert_eq!(cell.garden.signals(&handle(&work)).len(), 4);
    assert_eq!(executions(&cell, "/never"), 0);
    cell.until("told", |cell| !cell.lines_of(&work, "STG").is_empty()).await;
    assert_eq!(cell.lines_of(&work, "STG"), ["begins", "went wrong"]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_and_what_is_tried_may_fail() {
    let cell = Cell::started();
    let work = task("a");
    for (path, code) in [("/fails", 4), ("/works", 0)] {
        cell.garden.script_exit(path, ExitStatus::Exited { code });
    }
    let action =
        serial(vec![tried(told(run("/fails"))), told(run("/works")), told(tried(run("/fails")))]);
    cell.plane.place(&work, with(action));

    assert_eq!(reason(&cell, &work).await, None);
    cell.until("all lines", |cell| cell.lines_of(&work, "STG").len() == 6).await;
    let lines = cell.lines_of(&work, "STG");
    let wrong = "went wrong: APP: Exited with status 4";
    assert_eq!(lines, ["begins", wrong, "begins", "went well", "begins", "went well"]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_several_steps_ends_all_and_says_so() {
    let cell = Cell::started();
    let work = task("a");
    let inner = codependent(vec![run("/a"), run("/b")]);
    let action = Action::Timeout(Timeout {
        action: Box::new(told(inner)),
        timeout_ms: Milliseconds(90_000),
        log_source: None,
    });
    cell.plane.place(&work, with(action));

    let told = "exceeded 1m30s timeout";
    assert_eq!(reason(&cell, &work).await.as_deref(), Some(told));
    assert_eq!(cell.garden.signals(&handle(&work)).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_sidecar_ends_the_instance_and_so_does_the_app_itself() {
    for (ends, code, told) in
        [("run-1", 0, None), ("run-1", 2, Some("APP: Exited with status 2")), ("run-0", 0, None)]
    {
        for definition in [with_sidecar(app()), with_sidecar(app_with_check())] {
            let has_check = definition.check.is_some();
            let cell = Cell::started();
            let work = lrp("a");
            cell.plane.place(&work, definition);
            cell.until_runs(&work, "run-1").await;
            if has_check {
                cell.until_runs(&work, "startup-healthcheck-0").await;
                cell.exit(&work, "startup-healthcheck-0", 0);
            }
            cell.until_reported(&work, "healthy").await;

            cell.exit(&work, ends, code);

            assert_eq!(reason(&cell, &work).await.as_deref(), told);
            assert_eq!(cell.garden.signals(&handle(&work)).len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_sidecar_asks_for_itself_is_told_to_be_the_containers() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, with_sidecar(app()));
    cell.until_reported(&work, "healthy").await;

    let told =
        "Cell cell-1 does not have yet: limits for each sidecar (they share the container's)";
    cell.until("told", |cell| cell.lines_of(&work, "CELL").contains(&told.to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_waits_for_what_runs_and_runs_nothing_twice() {
    let mut cell = Cell::started();
    let work = task("a");
    let both = parallel(vec![
        serial(vec![run("/a"), told(run("/b")), run("/c")]),
        codependent(vec![run("/d"), run("/e")]),
    ]);
    let setup = Some(run("/setup"));
    cell.garden.script_exit("/setup", ExitStatus::Exited { code: 0 });
    cell.garden.script_exit("/a", ExitStatus::Exited { code: 0 });
    cell.plane.place(&work, Definition { setup, ..with_sidecar(with(both)) });
    cell.until_runs(&work, "run-2").await;
    cell.until_runs(&work, "run-6").await;

    cell.kill_agent().await;
    cell.exit(&work, "run-2", 0);
    cell.start_agent();
    cell.until_runs(&work, "run-3").await;
    cell.exit(&work, "run-4", 7);
    cell.exit(&work, "run-3", 0);

    assert_eq!(reason(&cell, &work).await.as_deref(), Some("APP: Exited with status 7"));
    for path in ["/setup", "/a", "/b", "/c", "/d", "/e", "/sidecar"] {
        assert_eq!(executions(&cell, path), 1, "{path}");
    }
    cell.until("all lines", |cell| cell.lines_of(&work, "STG") == ["begins", "went well"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_monitor_looks_at_once_and_then_less_and_less_often() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.garden.script_exit("/check", ExitStatus::Exited { code: 1 });
    let before = tokio::time::Instant::now();
    cell.plane.place(&work, monitored(run("/check")));
    cell.until("some looks", |cell| executions(cell, "/check") == 6).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());

    cell.garden.script_exit("/check", ExitStatus::Exited { code: 0 });
    cell.until_reported(&work, "healthy").await;
    let healthy = executions(&cell, "/check");
    tokio::time::sleep(Duration::from_secs(95)).await;
    assert_eq!(executions(&cell, "/check"), healthy + 3);
    // As a program that goes to the background.
    cell.exit(&work, "run-0", 0);
    tokio::time::sleep(Duration::from_secs(95)).await;
    assert!(!cell.reported(&work).contains(&"ended"));

    cell.garden.script_exit("/check", ExitStatus::Exited { code: 6 });
    let told = "Instance became unhealthy: APP: Exited with status 6";
    assert_eq!(reason(&cell, &work).await.as_deref(), Some(told));
    cell.until("all lines", |cell| cell.lines_of(&work, "HEALTH").len() == 3).await;
    let lines = cell.lines_of(&work, "HEALTH");
    let begun = "Starting health monitoring of container";
    assert_eq!(lines, [begun, "Container became healthy", "Container became unhealthy"]);
    assert_eq!(cell.lines(&work), ["Exit status 0"], "a monitor says nothing in the log");
}

#[tokio::test(start_paused = true)]
async fn monitors_that_never_pass_together_end_the_instance_in_time() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.garden.script_exit("/passes", ExitStatus::Exited { code: 0 });
    cell.garden.script_exit("/fails", ExitStatus::Exited { code: 1 });
    let monitor = parallel(vec![run("/passes"), run("/fails"), run("/fails")]);
    let start_timeout_ms = Milliseconds(5000);
    cell.plane.place(&work, Definition { start_timeout_ms, ..monitored(monitor) });

    let told = "Instance never healthy after 5s: \
        APP: Exited with status 1; APP: Exited with status 1";
    assert_eq!(reason(&cell, &work).await.as_deref(), Some(told));
    assert_eq!(cell.reported(&work), ["claimed", "ended"]);
    let line = "Failed after 5s: startup health check never passed.".to_owned();
    cell.until("told", |cell| cell.lines_of(&work, "HEALTH").contains(&line)).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_goes_on_with_the_look_that_was_under_way() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, monitored(run("/check")));
    cell.until_runs(&work, "startup-monitor-1-0").await;
    cell.kill_agent().await;
    cell.start_agent();
    cell.exit(&work, "startup-monitor-1-0", 0);
    cell.until_reported(&work, "healthy").await;
    cell.until_runs(&work, "liveness-monitor-1-0").await;
    cell.exit(&work, "liveness-monitor-1-0", 0);
    cell.until_runs(&work, "liveness-monitor-1-1").await;

    cell.kill_agent().await;
    cell.exit(&work, "liveness-monitor-1-1", 1);
    cell.start_agent();

    let told = "Instance became unhealthy: APP: Exited with status 1";
    assert_eq!(reason(&cell, &work).await.as_deref(), Some(told));
    assert_eq!(executions(&cell, "/check"), 3);
    assert_eq!(cell.executions(&work), 1);
}

#[tokio::test(start_paused = true)]
async fn what_this_cell_cannot_run_is_refused_in_words() {
    let mounts = Run {
        volume_mounted_files: vec![domain::action::File {
            path: "secret".to_owned(),
            content: PlainText(String::new()),
        }],
        ..Run::new("/app", "vcap")
    };
    for (definition, told) in [
        (Definition { privileged: true, ..app() }, "this cell cannot run a privileged container"),
        (with(tried(Action::Run(mounts))), "this cell cannot run volume mounted files"),
    ] {
        let cell = Cell::started();
        let work = lrp("a");
        cell.plane.place(&work, definition);
        cell.until_reported(&work, "refused").await;
        assert_eq!(cell.refusal(&work), told);
    }
}
