//! What waits on the disk: reports in order and without loss, observations within a bound.

use std::time::Duration;

use domain::id::{CellId, InstanceGuid};
use domain::log::{CellEpoch, Owner, Position};
use domain::observation::{LogLine, Observation, ObservationRecord, OutputStream};
use domain::rep::{Observed, Report};
use domain::units::Timestamp;

use super::super::{ObservationSpool, ReportSpool};
use super::{Cell, app, lrp, task};

#[tokio::test(start_paused = true)]
async fn reports_are_sent_again_in_order_until_they_are_acknowledged() {
    let mut cell = Cell::started();
    let work = lrp("a");
    cell.plane.lose_answers(2);

    cell.plane.place(&work, app());
    cell.until_reported(&work, "healthy").await;
    cell.plane.cut_off(true);
    cell.exit(&work, "run-0", 1);
    cell.until_container_is_gone(&work).await;
    cell.kill_agent().await;
    cell.start_agent();
    cell.plane.cut_off(false);

    assert_eq!(cell.until_reported(&work, "ended").await, ["claimed", "healthy", "ended"]);
    let sequences: Vec<u64> = cell.plane.reports().iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert!(!cell.plane.is_assigned(&work));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cell.executions(&work), 1);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_as_it_is_holds_no_other_up() {
    let mut cell = Cell::started();
    let (bad, good) = (lrp("a"), task("t"));
    cell.plane.refuse_claims(&bad);
    cell.kill_agent().await;
    cell.plane.place(&bad, app());
    cell.plane.place(&good, app());
    cell.start_agent();

    cell.until_runs(&good, "run-0").await;
    cell.exit(&good, "run-0", 0);

    cell.until_reported(&good, "ended").await;
    assert!(!cell.reported(&bad).contains(&"claimed"));
    cell.until("what cannot be reported is stopped", |cell| !cell.has_container(&bad)).await;
}

#[test]
fn reports_that_the_control_plane_has_are_dropped_on_entering() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reports");
    let mut spool = ReportSpool::open(path.clone()).unwrap();
    spool.enter(CellEpoch(1), 0).unwrap();
    spool.append(vec![report(), report(), report()]).unwrap();

    spool.enter(CellEpoch(1), 2).unwrap();

    let waiting = |spool: &ReportSpool| -> Vec<u64> {
        spool.first(9, 9999).iter().map(|report| report.sequence).collect()
    };
    assert_eq!(waiting(&spool), [3]);
    drop(spool);
    assert_eq!(waiting(&ReportSpool::open(path).unwrap()), [3]);
}

#[test]
fn a_torn_place_keeps_no_cell_from_starting_and_hides_no_new_line() {
    let folder = tempfile::tempdir().unwrap();
    let spool = ObservationSpool::open(folder.path().to_owned(), 16 << 20).unwrap();
    spool.enter(CellEpoch(1));
    spool.push(&observation(0, 10));
    spool.acknowledge(&spool.batch(), 1);
    std::fs::write(folder.path().join("place.json"), "{\"epo").unwrap();

    let spool = ObservationSpool::open(folder.path().to_owned(), 16 << 20).unwrap();
    spool.enter(CellEpoch(1));
    spool.push(&observation(1, 10));

    assert!(spool.batch().first_sequence > 1_000_000_000_000);
    assert_eq!(drain(&spool).last(), Some(&1));
    spool.push(&observation(2, 10));
    let next = spool.batch().first_sequence;
    drop(spool);
    let spool = ObservationSpool::open(folder.path().to_owned(), 16 << 20).unwrap();
    spool.enter(CellEpoch(1));
    assert_eq!(spool.batch().first_sequence, next);
    spool.enter(CellEpoch(2));
    assert_eq!(drain(&spool), [2]);
}

fn report() -> Report {
    Report { work: lrp("a").reference, observed: Observed::Claimed }
}

#[test]
fn the_sequence_goes_on_where_disk_or_control_plane_were_further() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reports");
    let mut spool = ReportSpool::open(path.clone()).unwrap();
    spool.enter(CellEpoch(1), 0).unwrap();
    assert_eq!(spool.append(vec![report(), report()]).unwrap(), [1, 2]);
    let (done, written) = spool.acknowledge(1);
    written.unwrap();
    assert_eq!(done.len(), 1);

    // Half a line at the end: the machine died while it was written.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"report\":{\"sequ");
    std::fs::write(&path, bytes).unwrap();
    let mut spool = ReportSpool::open(path.clone()).unwrap();
    spool.enter(CellEpoch(1), 0).unwrap();

    let waiting: Vec<u64> = spool.first(9, 9999).iter().map(|report| report.sequence).collect();
    assert_eq!(waiting, [2]);
    assert_eq!(spool.append(vec![report()]).unwrap(), [3]);
    drop(spool);
    let mut spool = ReportSpool::open(path).unwrap();
    spool.enter(CellEpoch(1), 9).unwrap();
    assert_eq!(spool.append(vec![report()]).unwrap(), [10]);
    spool.enter(CellEpoch(2), 0).unwrap();
    assert!(spool.is_empty());
    assert_eq!(spool.append(vec![report()]).unwrap(), [1]);
}

#[test]
fn a_spool_that_is_broken_before_its_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reports");
    std::fs::write(&path, "{\"epoch\":1}\nrubbish\n{\"acknowledged\":1}\n").unwrap();

    assert!(ReportSpool::open(path).is_err());
}

fn observation(number: usize, bytes: usize) -> Observation {
    let text = format!("{number} {}", "x".repeat(bytes));
    let line = LogLine::new(Timestamp(0), "APP", OutputStream::Out, text);
    Observation {
        owner: Owner::Cell(CellId::new("c").unwrap()),
        index: None,
        instance_guid: InstanceGuid::new("i").unwrap(),
        log_position: Position(1),
        tags: Default::default(),
        record: ObservationRecord::Line(line),
    }
}

fn drain(spool: &ObservationSpool) -> Vec<usize> {
    let mut numbers = Vec::new();
    let mut next = None;
    loop {
        let batch = spool.batch();
        if batch.observations.is_empty() {
            return numbers;
        }
        assert_eq!(batch.first_sequence, next.unwrap_or(batch.first_sequence), "no gaps");
        let count = batch.observations.len();
        let last = batch.first_sequence + u64::try_from(count).unwrap() - 1;
        for observation in &batch.observations {
            if let ObservationRecord::Line(line) = &observation.record {
                numbers.push(line.text.split(' ').next().unwrap().parse().unwrap());
            }
        }
        spool.acknowledge(&batch, last);
        next = Some(last + 1);
    }
}

#[test]
fn observations_outlive_the_agent_and_a_lost_answer() {
    let folder = tempfile::tempdir().unwrap();
    let spool = ObservationSpool::open(folder.path().to_owned(), 16 << 20).unwrap();
    spool.enter(CellEpoch(1));
    for number in 0..2500 {
        assert_eq!(spool.push(&observation(number, 10)), 0);
    }
    let batch = spool.batch();
    assert_eq!((batch.first_sequence, batch.observations.len()), (1, 1000));
    spool.acknowledge(&batch, 300);

    let spool = ObservationSpool::open(folder.path().to_owned(), 16 << 20).unwrap();
    spool.enter(CellEpoch(1));
    spool.push(&observation(2500, 10));

    assert_eq!(spool.batch().first_sequence, 301);
    assert_eq!(drain(&spool), (300..=2500).collect::<Vec<_>>());
    assert!(spool.is_empty());
}

#[test]
fn the_oldest_observations_go_when_there_is_no_room_but_none_that_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let spool = ObservationSpool::open(folder.path().to_owned(), 4 << 20).unwrap();
    spool.enter(CellEpoch(1));
    spool.push(&observation(0, 50_000));
    let under_way = spool.batch();

    let dropped: u64 = (1..400).map(|number| spool.push(&observation(number, 50_000))).sum();

    assert!(dropped > 300, "{dropped}");
    spool.acknowledge(&under_way, 1);
    let left = drain(&spool);
    assert_eq!(left.len() + 1 + usize::try_from(dropped).unwrap(), 400);
    assert_eq!((left.first(), left.last()), (Some(&1), Some(&399)));
}
