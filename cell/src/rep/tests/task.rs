//! The stories of tasks: above all, that a task's process is exec'd at most once.

use std::time::Duration;

use super::{Cell, app, app_with_check, task};
use crate::config::OnShutdown;

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_it_may_and_its_end_is_told() {
    let cell = Cell::started();
    let work = task("t");

    cell.plane.place(&work, app_with_check());
    cell.until_runs(&work, "run-0").await;
    cell.exit(&work, "run-0", 0);

    assert_eq!(cell.until_reported(&work, "ended").await, ["may start", "ended"]);
    assert_eq!(cell.ended(&work).failure_reason, None);
    assert_eq!(cell.executions(&work), 1);
    assert_eq!(cell.garden.executed().len(), 1, "nobody checks the health of a task");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_may_not_start_never_runs() {
    let cell = Cell::started();
    let work = task("t");

    cell.plane.disown(&work);
    cell.plane.place(&work, app());
    cell.until("a refused start", |cell| !cell.plane.requests().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(30)).await;

    assert_eq!(cell.executions(&work), 0);
    assert!(!cell.has_container(&work));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_whose_answer_was_lost_is_asked_for_again() {
    let cell = Cell::started();
    let work = task("t");

    cell.plane.lose_answers(1);
    cell.plane.disown(&work);
    cell.plane.place(&work, app());
    cell.until("asked again", |cell| cell.plane.requests().len() >= 3).await;
    tokio::time::sleep(Duration::from_secs(30)).await;

    assert_eq!(cell.plane.requests(), [vec![1], vec![1], vec![2]]);
    assert_eq!(cell.executions(&work), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_cancelled_before_its_start_is_released() {
    let cell = Cell::started();
    let work = task("t");

    cell.plane.cancel_unseen(&work);
    cell.plane.place(&work, app());

    assert_eq!(cell.until_reported(&work, "gone").await, ["gone"]);
    assert_eq!(cell.executions(&work), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_is_stopped_and_gone() {
    let cell = Cell::started();
    let work = task("t");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "run-0").await;

    cell.plane.want_stop(&work);

    assert_eq!(cell.until_reported(&work, "gone").await, ["may start", "gone"]);
    assert!(!cell.has_container(&work));
}

/// The agent is killed after each step that can be told from outside, and after times in between.
#[tokio::test(start_paused = true)]
async fn a_task_runs_at_most_once_wherever_the_agent_is_killed() {
    for pause_us in (0..40).map(|step| step * 250) {
        let mut cell = Cell::started();
        let work = task("t");
        cell.plane.place(&work, app());
        // Real steps (disk writes) pass in virtual time too: yields are what moves them on.
        for _ in 0..pause_us / 50 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(pause_us)).await;
        cell.kill_agent().await;
        cell.start_agent();
        if cell.has_container(&work) && cell.executions(&work) == 1 {
            cell.exit(&work, "run-0", 0);
        } else {
            cell.until("it runs or it ended", |cell| {
                cell.executions(&work) == 1 || cell.reported(&work).contains(&"ended")
            })
            .await;
            cell.exit(&work, "run-0", 0);
        }

        cell.until_reported(&work, "ended").await;
        cell.until_container_is_gone(&work).await;
        assert!(cell.executions(&work) <= 1, "killed after {pause_us} us");
        let reason = cell.ended(&work).failure_reason;
        let not_started = "agent restarted before the task was started";
        match cell.executions(&work) {
            0 => assert_eq!(reason.as_deref(), Some(not_started)),
            _ => assert_eq!(reason, None),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_start_was_not_recorded_failed() {
    let mut cell = Cell::started();
    let work = task("t");
    cell.plane.lose_answers(u32::MAX);
    cell.plane.place(&work, app());
    cell.until("it asked", |cell| cell.reported(&work) == ["may start"]).await;

    cell.kill_agent().await;
    cell.plane.lose_answers(0);
    cell.start_agent();
    cell.until_reported(&work, "ended").await;

    let reason = cell.ended(&work).failure_reason;
    assert_eq!(reason.as_deref(), Some("agent restarted before the task was started"));
    cell.until_container_is_gone(&work).await;
    assert_eq!(cell.executions(&work), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_container_vanished_failed() {
    let mut cell = Cell::started();
    let work = task("t");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "run-0").await;
    cell.kill_agent().await;

    cell.garden.vanish(&super::handle(&work));
    cell.start_agent();
    cell.until_reported(&work, "ended").await;

    assert_eq!(cell.ended(&work).failure_reason.as_deref(), Some("missing garden container"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cell.executions(&work), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_takes_its_tasks_along_says_so_and_never_runs_them_again() {
    let mut cell = Cell::started();
    cell.kill_agent().await;
    cell.on_shutdown = OnShutdown::DestroyAll;
    cell.start_agent();
    let work = task("t");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "run-0").await;

    cell.plane.cut_off(true);
    cell.stop_agent().await.unwrap();
    assert!(!cell.has_container(&work));
    cell.plane.cut_off(false);
    cell.start_agent();
    cell.until_reported(&work, "ended").await;

    assert_eq!(cell.ended(&work).failure_reason.as_deref(), Some("the cell was shut down"));
    assert_eq!(cell.executions(&work), 1);
}
