//! What becomes of containers when the agent is killed, restarted, or registered anew.

use std::time::Duration;

use super::{Cell, app, app_with_check, handle, lrp, task};
use crate::agent::{Error, Outcome};
use crate::config::OnShutdown;

#[tokio::test(start_paused = true)]
async fn what_runs_is_taken_up_again_and_nothing_is_run_twice() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app_with_check());
    cell.until_runs(&work, "startup-healthcheck-0").await;
    cell.exit(&work, "startup-healthcheck-0", 0);
    cell.until_runs(&work, "liveness-healthcheck-0").await;
    let executed = cell.garden.executed().len();

    cell.kill_agent().await;
    cell.write(&work, "run-0", "while it was dead\n");
    cell.start_agent();
    cell.until("the line", |cell| cell.lines(&work).contains(&"while it was dead".to_owned()))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert_eq!(cell.garden.executed().len(), executed);
    assert_eq!(cell.reported(&work), ["claimed", "healthy"]);
    cell.write(&work, "liveness-healthcheck-0", "no answer\n");
    cell.exit(&work, "liveness-healthcheck-0", 4);
    cell.until_reported(&work, "ended").await;
    let reason = cell.ended(&work).failure_reason;
    assert_eq!(reason.as_deref(), Some("Instance became unhealthy: no answer"));
}

#[tokio::test(start_paused = true)]
async fn an_older_list_of_a_node_that_is_behind_is_not_obeyed() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;

    let left_out = cell.plane.fall_behind();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(cell.has_container(&work));

    cell.plane.catch_up(left_out);
    cell.plane.want_stop(&work);
    cell.until_reported(&work, "gone").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_on_no_list_any_more_is_stopped() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;

    cell.plane.unlist(&work);

    cell.until("it is gone", |cell| !cell.has_container(&work)).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_watched_is_told_with_its_evidence() {
    let mut cell = Cell::started();
    let (work, also) = (lrp("a"), task("t"));
    cell.plane.place(&work, app());
    cell.plane.place(&also, app());
    cell.until_runs(&work, "run-0").await;
    cell.until_runs(&also, "run-0").await;
    cell.write(&work, "run-0", "before\n");
    cell.until("the line", |cell| cell.lines(&work) == ["before"]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    cell.kill_agent().await;
    cell.write(&work, "run-0", "last words");
    cell.exit(&work, "run-0", 3);
    cell.exit(&also, "run-0", 0);
    cell.start_agent();
    cell.until_reported(&work, "ended").await;
    cell.until_reported(&also, "ended").await;

    let ended = cell.ended(&work);
    assert_eq!(ended.failure_reason.as_deref(), Some("APP: Exited with status 3"));
    let lines: Vec<_> = ended.evidence.log_lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["before", "last words", "Exit status 3"]);
    assert_eq!(cell.ended(&also).failure_reason, None);
    cell.until("each line once", |cell| cell.lines(&work).len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn what_vanished_is_told_and_what_nobody_knows_is_destroyed() {
    let mut cell = Cell::started();
    let (vanishing, unknown) = (lrp("a"), lrp("b"));
    cell.plane.place(&vanishing, app());
    cell.plane.place(&unknown, app());
    cell.until_reported(&vanishing, "healthy").await;
    cell.until_reported(&unknown, "healthy").await;
    cell.kill_agent().await;

    cell.garden.vanish(&handle(&vanishing));
    std::fs::remove_file(cell.folder.path().join("book/b.json")).unwrap();
    cell.start_agent();
    cell.until_reported(&vanishing, "ended").await;

    let reason = cell.ended(&vanishing).failure_reason;
    assert_eq!(reason.as_deref(), Some("missing garden container"));
    // It is still assigned: after the unknown container was destroyed it is made anew.
    cell.until("made anew", |cell| cell.executions(&unknown) == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_stop_ends_the_stop() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.garden.ignore_terminate("/app");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.plane.want_stop(&work);
    tokio::time::sleep(Duration::from_secs(5)).await;

    cell.kill_agent().await;
    cell.start_agent();

    assert_eq!(cell.until_reported(&work, "killed").await, ["claimed", "healthy", "killed"]);
    assert!(!cell.has_container(&work));
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_agent_leaves_containers_running() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.write(&work, "run-0", "to be flushed\n");
    tokio::time::sleep(Duration::from_millis(20)).await;

    assert_eq!(cell.stop_agent().await.unwrap(), Outcome::LeftRunning);

    assert!(cell.runs(&work, "run-0"));
    assert_eq!(cell.lines(&work), ["to be flushed"]);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_takes_its_containers_along_leaves_none() {
    let mut cell = Cell::started();
    cell.kill_agent().await;
    cell.on_shutdown = OnShutdown::DestroyAll;
    cell.start_agent();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;

    assert_eq!(cell.stop_agent().await.unwrap(), Outcome::Destroyed);

    assert!(cell.garden.handles().is_empty());
    assert_eq!(cell.reported(&work), ["claimed", "healthy", "gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_ends_before_it_is_registered_takes_its_containers_along_too() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.kill_agent().await;
    cell.plane.cut_off(true);
    cell.on_shutdown = OnShutdown::DestroyAll;
    cell.start_agent();

    assert_eq!(cell.stop_agent().await.unwrap(), Outcome::Destroyed);

    assert!(cell.garden.handles().is_empty());
}

#[tokio::test(start_paused = true)]
async fn under_another_registration_nothing_of_before_is_kept_or_said() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.plane.cut_off(true);
    cell.exit(&work, "run-0", 3);
    tokio::time::sleep(Duration::from_secs(1)).await;

    cell.plane.begin_epoch(2);
    cell.plane.cut_off(false);
    cell.until_container_is_gone(&work).await;
    let next = lrp("b");
    cell.plane.place(&next, app());

    assert_eq!(cell.until_reported(&next, "healthy").await, ["claimed", "healthy"]);
    assert!(cell.reported(&work).is_empty());
    assert_eq!(cell.plane.reports().first().map(|report| report.sequence), Some(1));
    assert!(cell.stop_agent().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_id_in_use_ends_the_agent_with_a_clear_error() {
    let mut cell = Cell::started();
    cell.kill_agent().await;
    cell.plane.take_id_away();
    cell.start_agent();

    let error = cell.outcome().await.unwrap_err();

    assert!(matches!(error, Error::CellIdInUse { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_folder_in_use_is_refused() {
    let mut cell = Cell::started();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = cell.agent.take();
    cell.start_agent();

    let error = cell.outcome().await.unwrap_err();

    assert!(matches!(error, Error::FolderInUse { .. }), "{error}");
    drop(first);
}
