//! What is seen of instances and kept of their ends: lines within limits, samples, probes, peaks,
//! processes; what is told of a cell's own earlier lives and of its health.

use std::time::Duration;

use domain::bbs::definition::{Definition, LogRateLimit};
use domain::observation::{LogLine, ObservationRecord};
use domain::rep::{Evidence, Health, Observed, Work};
use domain::units::{Mebibytes, Milliseconds};
use tokio::time::sleep;

use super::{Cell, app, app_with_check, handle, lrp, process_id, task};
use crate::garden::{Inspection, ProcessInfo};

fn inspection() -> Inspection {
    let shell = ProcessInfo {
        pid: 7,
        parent_pid: 1,
        state: "S".to_owned(),
        memory_bytes: 4096,
        command: "sleep 60".to_owned(),
    };
    Inspection {
        memory_peak_bytes: 99,
        memory_kills: 1,
        processes: vec![shell],
        ..Inspection::default()
    }
}

/// Every line that was pushed of a container.
fn all_lines(cell: &Cell, work: &Work) -> Vec<LogLine> {
    let observations = cell.plane.observations().into_iter();
    let of_work = observations.filter(|it| it.instance_guid == work.reference.instance_guid);
    of_work
        .filter_map(|observation| match observation.record {
            ObservationRecord::Line(line) => Some(line),
            ObservationRecord::Metrics(_) => None,
        })
        .collect()
}

fn killed(cell: &Cell, work: &Work) -> Evidence {
    let reports = cell.plane.reports();
    let mut of_work = reports.into_iter().filter(|told| told.report.work == work.reference);
    let found = of_work.find_map(|told| {
        if let Observed::Killed(killed) = told.report.observed {
            Some(killed.evidence)
        } else {
            None
        }
    });
    found.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_stopped_or_removed_from_outside_is_told_as_missing() {
    let cell = Cell::started();
    for (work, is_stopped) in [(lrp("a"), true), (lrp("b"), false)] {
        cell.plane.place(&work, app());
        cell.until_reported(&work, "healthy").await;

        if is_stopped {
            cell.garden.stop_container(&handle(&work));
        } else {
            cell.garden.vanish(&handle(&work));
        }

        cell.until_reported(&work, "ended").await;
        let reason = cell.ended(&work).failure_reason;
        assert_eq!(reason.as_deref(), Some("missing garden container"));
        cell.until_container_is_gone(&work).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_of_an_end_holds_all_that_was_seen_within_bounds() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app_with_check());
    cell.until_runs(&work, "startup-healthcheck-0").await;
    cell.exit(&work, "startup-healthcheck-0", 0);
    cell.until_runs(&work, "liveness-healthcheck-0").await;
    sleep(Duration::from_secs(100)).await;
    for number in 0..300 {
        cell.write(&work, "run-0", &format!("line {number}\n"));
    }
    cell.garden.set_inspection(&handle(&work), inspection());

    cell.write(&work, "liveness-healthcheck-0", "connection refused");
    cell.exit(&work, "liveness-healthcheck-0", 4);
    cell.until_reported(&work, "ended").await;

    let Evidence { log_lines, metrics, probes, peaks, processes } = cell.ended(&work).evidence;
    assert_eq!(log_lines.len(), 200);
    assert!(log_lines.iter().any(|line| line.text == "line 299"));
    let seconds = metrics.windows(2).filter(|pair| pair[1].at.since(pair[0].at).0 < 1500).count();
    assert!((55..=61).contains(&seconds), "{seconds} of {}", metrics.len());
    assert!(metrics.len() > 60, "some of before are there too: {}", metrics.len());
    assert_eq!(metrics[0].disk_bytes, Some(4096));
    let liveness = probes.iter().find(|probe| probe.name == "liveness-healthcheck-0").unwrap();
    assert_eq!(liveness.output, "connection refused");
    assert_eq!(peaks.unwrap().memory_bytes, 99);
    assert_eq!(processes[0].command, "sleep 60");
}

#[tokio::test(start_paused = true)]
async fn what_was_killed_after_its_grace_leaves_a_record_too() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.garden.ignore_terminate("/app");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.write(&work, "run-0", "busy\n");
    cell.garden.set_inspection(&handle(&work), inspection());

    cell.plane.want_stop(&work);
    cell.until_reported(&work, "killed").await;

    let evidence = killed(&cell, &work);
    assert!(evidence.log_lines.iter().any(|line| line.text == "busy"));
    assert_eq!(evidence.peaks.unwrap().memory_bytes, 99);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_dropped_beyond_the_cells_limit_and_counted_also_of_a_task() {
    for work in [lrp("a"), task("b")] {
        let mut cell = Cell::started();
        cell.log_lines_per_second = Some(10);
        cell.kill_agent().await;
        cell.start_agent();
        cell.plane.place(&work, app());
        cell.until_runs(&work, "run-0").await;

        for number in 0..1000 {
            cell.write(&work, "run-0", &format!("line {number}\n"));
        }
        cell.exit(&work, "run-0", 1);
        cell.until_reported(&work, "ended").await;

        let told =
            "app instance exceeded log rate limit (10 log-lines/sec) set by platform operator";
        cell.until("the drop is told", |cell| {
            all_lines(cell, &work).iter().any(|line| line.text.contains("were dropped"))
        })
        .await;
        let lines = all_lines(&cell, &work);
        let flood = lines.iter().filter(|line| line.text.starts_with("line ")).count();
        assert!((10..50).contains(&flood), "{flood} were let through");
        assert!(lines.iter().any(|line| line.text == told), "{lines:#?}");
        let kept = cell.ended(&work).evidence.log_lines;
        assert!(kept.iter().any(|line| line.text == "line 999"), "the last words are kept");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_text_come_as_they_were_written() {
    let cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "run-0").await;
    let stdout = crate::garden::OutputStream::Stdout;

    cell.garden.write(&handle(&work), &process_id("run-0"), stdout, b"a\xff\x00b\n");

    cell.until("the line", |cell| all_lines(cell, &work).iter().any(|line| line.raw.is_some()))
        .await;
    let lines = all_lines(&cell, &work);
    let binary = lines.iter().find(|line| line.raw.is_some()).unwrap();
    assert_eq!(binary.raw.as_deref(), Some(&b"a\xff\x00b"[..]));
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_told_that_its_cells_agent_was_restarted() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;

    cell.kill_agent().await;
    cell.start_agent();

    let told = "Cell cell-1 took up again instance a: its agent was restarted";
    cell.until("it is told", |cell| all_lines(cell, &work).iter().any(|line| line.text == told))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_cannot_make_containers_says_so_until_it_can() {
    let mut cell = Cell::started();
    cell.kill_agent().await;
    cell.self_check_every = Some(Milliseconds::from_seconds(600));
    cell.garden.fail_next_create("no more veth");
    cell.garden.script_exit(
        "/etc/cf-assets/healthcheck/healthcheck",
        crate::garden::ExitStatus::Exited { code: 127 },
    );
    cell.start_agent();

    let failure = Some("cannot make a container of its own: no more veth".to_owned());
    let ill = Some(Health { failure });
    cell.until("it is told", |cell| cell.plane.health() == ill).await;
    let well = Some(Health { failure: None });
    cell.until("it is well again", |cell| cell.plane.health() == well).await;

    assert!(cell.garden.handles().is_empty(), "nothing is left of it");
}

#[tokio::test(start_paused = true)]
async fn an_apps_own_limit_in_bytes_holds_and_0_keeps_nothing() {
    let cell = Cell::started();
    let (limited, silent) = (lrp("a"), lrp("b"));
    let limit = |bytes_per_second| Some(LogRateLimit { bytes_per_second });
    let small = || Definition { memory_mb: Mebibytes(10), ..app() };
    cell.plane.place(&limited, Definition { log_rate_limit: limit(100), ..small() });
    cell.plane.place(&silent, Definition { log_rate_limit: limit(0), ..small() });
    for work in [&limited, &silent] {
        cell.until_runs(work, "run-0").await;
        for number in 0..100 {
            cell.write(work, "run-0", &format!("line {number}\n"));
        }
        cell.exit(work, "run-0", 1);
        cell.until_reported(work, "ended").await;
    }

    let told = "app instance exceeded log rate limit (100 bytes/sec)";
    cell.until("it is told", |cell| all_lines(cell, &limited).iter().any(|it| it.text == told))
        .await;
    let of_app = |work: &Work| {
        let lines = all_lines(&cell, work).into_iter();
        lines.filter(|line| line.text.starts_with("line ")).count()
    };
    assert!((10..20).contains(&of_app(&limited)), "{}", of_app(&limited));
    cell.until_container_is_gone(&silent).await;
    assert_eq!(of_app(&silent), 0);
    let kept = cell.ended(&silent).evidence.log_lines;
    assert!(!kept.iter().any(|line| line.text.starts_with("line ")), "{kept:?}");
}
