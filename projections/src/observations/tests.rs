//! Observations: doubles, limits, crashes, followers.

use std::time::Duration;

use domain::{
    id::{InstanceGuid, TaskGuid},
    log::Position,
    observation::{LogLine, MetricsSample, OutputStream},
    units::Timestamp,
};
use tempfile::TempDir;

use super::*;

const CELL: &str = "cell-1";

fn owner(guid: &str) -> Owner {
    Owner::Task(TaskGuid::new(guid).unwrap())
}

fn observation(of: &str, record: ObservationRecord) -> Observation {
    Observation {
        owner: owner(of),
        index: Some(3),
        instance_guid: InstanceGuid::new("instance-1").unwrap(),
        log_position: Position(7),
        tags: Default::default(),
        record,
    }
}

fn line(of: &str, at: i64, text: &str) -> Observation {
    let line = LogLine::new(Timestamp(at), "APP", OutputStream::Err, text.to_owned());
    let record = ObservationRecord::Line(line);
    observation(of, record)
}

fn lines(of: &str, numbers: std::ops::RangeInclusive<i64>) -> Vec<Observation> {
    numbers.map(|number| line(of, number, &format!("line {number}"))).collect()
}

fn push(first_sequence: u64, observations: Vec<Observation>) -> Push {
    let cell_id = CellId::new(CELL).unwrap();
    Push { cell_id, cell_epoch: CellEpoch(1), first_sequence, observations }
}

fn open(folder: &TempDir, limits: Limits) -> Observations {
    Observations::open(&folder.path().join("observations"), limits).unwrap()
}

fn at(stored: &Stored) -> i64 {
    match &stored.observation.record {
        ObservationRecord::Line(line) => line.at.0,
        ObservationRecord::Metrics(sample) => sample.at.0,
    }
}

/// The instants of the records that a query finds.
async fn found(store: &Observations, of: &str, query: Query) -> Vec<i64> {
    let page = store.read(&owner(of), query).await.unwrap();
    page.records.iter().map(at).collect()
}

fn everything() -> Query {
    Query::default()
}

#[tokio::test]
async fn a_repeated_push_adds_nothing_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Limits::default());
    let mixed = vec![line("a", 1, "x"), line("b", 2, "y"), line("a", 3, "z")];
    let too_large = store.append(push(1, vec![line("a", 1, "x"); PUSH_RECORDS_MAX + 1])).await;
    assert!(matches!(too_large, Err(Error::PushTooLarge(_))));

    assert_eq!(store.append(push(1, mixed.clone())).await.unwrap(), 3);
    assert_eq!(store.append(push(1, mixed.clone())).await.unwrap(), 3);
    assert_eq!(found(&store, "a", everything()).await, [1, 3]);

    let store = open(&folder, Limits::default());
    let mut longer = mixed;
    longer.push(line("a", 4, "new"));
    assert_eq!(store.append(push(1, longer)).await.unwrap(), 4);
    assert_eq!(found(&store, "a", everything()).await, [1, 3, 4]);
    assert_eq!(found(&store, "b", everything()).await, [2]);
    assert_eq!(found(&store, "c", everything()).await, [] as [i64; 0]);

    // A new machine under the same id counts from 1 again.
    let mut of_new_machine = push(1, vec![line("a", 5, "hello")]);
    of_new_machine.cell_epoch = CellEpoch(2);
    store.append(of_new_machine).await.unwrap();
    assert_eq!(found(&store, "a", everything()).await, [1, 3, 4, 5]);
}

#[tokio::test]
async fn queries_find_what_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { segment_bytes_max: 200, ..Limits::default() };
    let store = open(&folder, limits);
    for number in 1..=9_i64 {
        let sequence = u64::try_from(number).unwrap();
        store.append(push(sequence, lines("a", number..=number))).await.unwrap();
    }
    let sample = MetricsSample { at: Timestamp(10), memory_bytes: 1, ..MetricsSample::default() };
    let metrics = observation("a", ObservationRecord::Metrics(sample));
    store.append(push(10, vec![metrics])).await.unwrap();

    assert_eq!(found(&store, "a", Query { last: Some(3), ..everything() }).await, [8, 9, 10]);
    let lines_only = Query { kind: Some(Kind::Lines), ..everything() };
    assert_eq!(found(&store, "a", Query { last: Some(3), ..lines_only }).await, [7, 8, 9]);
    let metrics_only = Query { kind: Some(Kind::Metrics), ..everything() };
    assert_eq!(found(&store, "a", metrics_only).await, [10]);
    let after = Query { after: RecordNumber(7), ..everything() };
    assert_eq!(found(&store, "a", after).await, [8, 9, 10]);
    let other_index = Query { index: Some(4), ..everything() };
    assert_eq!(found(&store, "a", other_index).await, [] as [i64; 0]);
    let page = store.read(&owner("a"), everything()).await.unwrap();
    assert_eq!((page.next, page.dropped), (RecordNumber(10), 0));
}

#[tokio::test]
async fn an_owner_keeps_its_newest_records_and_counts_the_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { owner_bytes_max: 4_000, segment_bytes_max: 1_000, ..Limits::default() };
    let store = open(&folder, limits);
    let filling: i64 = 500;
    for number in 1..=filling {
        let sequence = u64::try_from(number).unwrap();
        store.append(push(sequence, lines("noisy", number..=number))).await.unwrap();
    }

    let page = store.read(&owner("noisy"), everything()).await.unwrap();
    let kept = u64::try_from(page.records.len()).unwrap();
    assert_eq!(page.dropped + kept, 500);
    assert!(page.dropped > 400, "{} were dropped", page.dropped);
    assert_eq!(page.records.last().unwrap().number, RecordNumber(500));
    assert_eq!(page.records[0].number, RecordNumber(page.dropped + 1));

    let store = open(&folder, limits);
    let again = store.append(push(500, lines("noisy", filling..=filling))).await.unwrap();
    assert_eq!(again, 500);
    let reopened = store.read(&owner("noisy"), everything()).await.unwrap();
    assert_eq!(reopened.records, page.records);
    assert_eq!(reopened.dropped, page.dropped);
}

#[tokio::test]
async fn in_all_the_owners_that_were_silent_longest_give_way() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { total_bytes_max: 6_000, segment_bytes_max: 1_000, ..Limits::default() };
    let store = open(&folder, limits);
    store.append(push(1, lines("old", 1..=20))).await.unwrap();
    store.append(push(21, lines("older-but-busy", 1..=5))).await.unwrap();
    let mut sequence = 26;
    for round in 0..8 {
        let first = round * 10 + 1;
        store.append(push(sequence, lines("new", first..=first + 9))).await.unwrap();
        store.append(push(sequence + 10, lines("older-but-busy", 100..=100))).await.unwrap();
        sequence += 11;
    }

    assert_eq!(found(&store, "old", everything()).await, [] as [i64; 0]);
    assert_eq!(*found(&store, "new", everything()).await.last().unwrap(), 80);
    assert_eq!(*found(&store, "older-but-busy", everything()).await.last().unwrap(), 100);
    let on_disk = bytes_under(folder.path());
    assert!(on_disk <= limits.total_bytes_max, "{on_disk} bytes are on the disk");
}

fn bytes_under(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => bytes_under(&entry.path()),
        metadata => metadata.len(),
    });
    bytes.sum()
}

#[tokio::test]
async fn a_record_torn_by_a_crash_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Limits::default());
    store.append(push(1, lines("a", 1..=3))).await.unwrap();
    let of_owner = std::fs::read_dir(folder.path().join("observations")).unwrap().next();
    let segment = std::fs::read_dir(of_owner.unwrap().unwrap().path()).unwrap().next();
    let path = segment.unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();

    for cut in [1, 20] {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let store = open(&folder, Limits::default());
        assert_eq!(found(&store, "a", everything()).await, [1, 2]);
        store.append(push(3, lines("a", 3..=4))).await.unwrap();
        assert_eq!(found(&store, "a", everything()).await, [1, 2, 3, 4]);
    }

    std::fs::write(&path, "not a segment").unwrap();
    let store = open(&folder, Limits::default());
    assert_eq!(found(&store, "a", everything()).await, [] as [i64; 0]);
    store.append(push(5, lines("a", 5..=5))).await.unwrap();
    assert_eq!(found(&store, "a", everything()).await, [5]);
}

#[tokio::test]
async fn there_may_be_more_owners_than_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Limits::default());
    for number in 1..=300_i64 {
        let sequence = u64::try_from(number).unwrap();
        let of = format!("task-{number}");
        store.append(push(sequence, lines(&of, number..=number))).await.unwrap();
    }

    // Only this store's files count: other tests of the process have theirs open.
    let opened = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let target = std::fs::read_link(entry.as_ref().unwrap().path());
        target.is_ok_and(|target| target.starts_with(folder.path()))
    });
    assert_eq!(opened.count(), 0);
    assert_eq!(found(&store, "task-1", everything()).await, [1]);
}

#[tokio::test]
async fn waiting_for_an_owner_that_never_was_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { total_bytes_max: 1, ..Limits::default() };
    let store = open(&folder, limits);
    let kept = || std::fs::read_dir(folder.path().join("observations")).unwrap().count();

    for number in 0..10 {
        let of = format!("nosuch-{number}");
        drop(store.follow(&owner(&of), everything()).await.unwrap());
    }
    assert_eq!(kept(), 0);
    assert!(store.shelf.lock().unwrap().known() <= 1);

    // One without a folder may give way like any other.
    store.append(push(1, lines("a", 1..=1))).await.unwrap();
    assert_eq!(kept(), 1);
}

#[tokio::test]
async fn a_follower_sees_what_arrives_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Limits::default());
    store.append(push(1, lines("a", 1..=5))).await.unwrap();
    let last_two = Query { last: Some(2), ..everything() };
    let mut following = store.follow(&owner("a"), last_two).await.unwrap();
    let mut waiting = store.follow(&owner("not-yet"), everything()).await.unwrap();
    let writer = store.clone();
    let first = following.next().await.unwrap().records;
    assert_eq!(first.iter().map(at).collect::<Vec<_>>(), [4, 5]);

    let written = async move {
        for number in 6..=30_i64 {
            let sequence = u64::try_from(number).unwrap();
            writer.append(push(sequence, lines("a", number..=number))).await.unwrap();
        }
        writer.append(push(31, lines("not-yet", 1..=1))).await.unwrap();
    };
    let seen = async {
        let mut seen = Vec::new();
        while seen.last() != Some(&30) {
            let page = following.next().await.unwrap();
            seen.extend(page.records.iter().map(at));
        }
        (seen, waiting.next().await.unwrap().records.len())
    };
    let both = async { tokio::join!(written, seen) };

    let ((), (seen, of_other)) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(seen, (6..=30).collect::<Vec<i64>>());
    assert_eq!(of_other, 1);
}
