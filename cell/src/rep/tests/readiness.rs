//! Readiness: told as it changes, round by round, and taken up by the next agent.

use domain::bbs::definition::Definition;
use domain::check::CheckDefinition;
use domain::rep::{Observed, Work};
use domain::sealed::PlainText;

use super::{Cell, app_with_check, lrp};

/// An app with two readiness checks and no other.
fn app() -> Definition<PlainText> {
    let check = app_with_check().check.unwrap().checks.remove(0);
    let readiness_checks = vec![check.clone(), check];
    let check = CheckDefinition { readiness_checks, ..CheckDefinition::default() };
    Definition { check: Some(check), ..super::app() }
}

/// What was told of whether it may take requests, in order.
fn told(cell: &Cell, work: &Work) -> Vec<bool> {
    let reports = cell.plane.reports().into_iter();
    let of_work = reports.filter(|told| told.report.work == work.reference);
    of_work
        .filter_map(|told| match told.report.observed {
            Observed::Healthy { is_ready, .. } | Observed::Readiness(is_ready) => Some(is_ready),
            Observed::Refused(_)
            | Observed::Claimed
            | Observed::MayStart
            | Observed::Ended(_)
            | Observed::Gone
            | Observed::Killed(_) => None,
        })
        .collect()
}

async fn pass(cell: &Cell, work: &Work, round: u32) {
    for number in 0..2 {
        let name = format!("until-ready-healthcheck-{number}-{round}");
        cell.until_runs(work, &name).await;
        cell.exit(work, &name, 0);
    }
    for number in 0..2 {
        cell.until_runs(work, &format!("readiness-healthcheck-{number}-{round}")).await;
    }
}

fn fail(cell: &Cell, work: &Work, number: u32, round: u32) {
    let name = format!("readiness-healthcheck-{number}-{round}");
    cell.write(work, &name, "Readiness check unsuccessful: busy\n");
    cell.exit(work, &name, 6);
}

#[tokio::test(start_paused = true)]
async fn an_instance_takes_requests_while_all_its_readiness_checks_pass() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.until_runs(&work, "until-ready-healthcheck-1-0").await;
    assert_eq!(told(&cell, &work), [false]);

    pass(&cell, &work, 0).await;
    cell.until("it is ready", |cell| told(cell, &work) == [false, true]).await;
    fail(&cell, &work, 1, 0);
    cell.until("it is not", |cell| told(cell, &work) == [false, true, false]).await;
    pass(&cell, &work, 1).await;
    cell.until("it is again", |cell| told(cell, &work) == [false, true, false, true]).await;

    cell.until("all lines", |cell| cell.lines_of(&work, "HEALTH").len() == 5).await;
    let lines = cell.lines_of(&work, "HEALTH");
    assert_eq!(
        lines,
        [
            "Starting readiness health monitoring of container",
            "Container passed the readiness health check. Container marked ready and added to \
             route pool.",
            "Readiness check unsuccessful: busy",
            "Container failed the readiness health check. Container marked not ready and removed \
             from route pool.",
            "Container passed the readiness health check. Container marked ready and added to \
             route pool.",
        ]
    );
    assert!(!cell.reported(&work).contains(&"ended"));
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_goes_on_with_the_round_that_was_under_way() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    pass(&cell, &work, 0).await;
    fail(&cell, &work, 0, 0);
    pass(&cell, &work, 1).await;
    cell.until("it is ready", |cell| told(cell, &work).last() == Some(&true)).await;
    let executed = cell.garden.executed().len();

    cell.kill_agent().await;
    fail(&cell, &work, 0, 1);
    cell.start_agent();

    cell.until("it is not ready", |cell| told(cell, &work).last() == Some(&false)).await;
    cell.until_runs(&work, "until-ready-healthcheck-1-2").await;
    assert_eq!(cell.garden.executed().len(), executed + 2);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_check_that_cannot_be_run_ends_the_instance_with_the_reason() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "until-ready-healthcheck-0-0").await;

    cell.write(&work, "until-ready-healthcheck-0-0", "failure to find suitable interface\n");
    cell.exit(&work, "until-ready-healthcheck-0-0", 3);
    cell.until_reported(&work, "ended").await;

    let reason = cell.ended(&work).failure_reason;
    let expected = "Failed to run the readiness check: failure to find suitable interface";
    assert_eq!(reason.as_deref(), Some(expected));
}
