//! What events are found by, in memory, in runs and across both, beside a store that keeps it all
//! in memory: the same answers at every moment.

use std::path::Path;

use domain::{
    bbs::freshness_domain,
    event::Event,
    log::{Owner, Position, StreamId, StreamVersion},
    testing::Dice,
    units::Timestamp,
};
use uuid::Uuid;

use super::{Database, SqliteStore, change_by_hand, streams_of};
use crate::event_store::{
    Batch, BatchId, Error, EventStore, Filter, HotLog, Order,
    conformance::samples::{self, INCARNATION, START},
    memory::{MemoryLog, MemoryStore},
};

const READ: usize = 1_000;

/// A batch of a few events over a few owners, two types, and commands of several events.
fn some_batch(dice: &mut Dice, number: u128, head: Position) -> Batch {
    let events = (0..=dice.below(4)).map(|_| {
        let name = format!("name-{}", dice.below(5));
        let mut event = match dice.below(3) {
            0 => samples::upserted(&name),
            1 => samples::lost(&name, "node"),
            _ => samples::forgotten(&samples::cell_stream(&name).owner()),
        };
        event.command_id = samples::command(&format!("command-{}", dice.below(40)));
        event
    });
    let events = events.collect();
    samples::batch(number, head, i64::try_from(number / 3).unwrap(), events)
}

fn owners() -> Vec<Owner> {
    let names = (0..6).map(|number| format!("name-{number}"));
    names
        .flat_map(|name| {
            [samples::cell_stream(&name).owner(), samples::upserted(&name).stream.owner()]
        })
        .collect()
}

fn filters() -> Vec<Filter> {
    let lost = "cell.lost".to_owned();
    let upserted = Event::from(freshness_domain::Event::from(freshness_domain::Upserted {
        fresh_until: None,
    }));
    let both = vec![lost.clone(), upserted.type_name().to_owned(), lost.clone()];
    let mut filters: Vec<Filter> = owners()
        .into_iter()
        .flat_map(|owner| {
            let of_owner = Filter { owner: Some(owner), ..Filter::default() };
            let of_type = Filter { types: vec![lost.clone()], ..of_owner.clone() };
            [of_owner, of_type]
        })
        .collect();
    filters.extend([vec![], vec![lost], both].map(|types| Filter { types, ..Filter::default() }));
    let until = |filter: &Filter| Filter { until: Some(Position(33)), ..filter.clone() };
    filters.extend(filters.iter().map(until).collect::<Vec<_>>());
    filters
}

/// Every question, asked of both.
async fn agree(store: &SqliteStore, model: &MemoryStore, batches: u128) {
    for filter in filters() {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for (after, limit) in [(0, READ), (17, 3), (40, 1)] {
                let after = Position(after);
                let found = store.read_filtered(&filter, after, limit, order).await.unwrap();
                let expected = model.read_filtered(&filter, after, limit, order).await.unwrap();
                assert_eq!(found, expected, "{filter:?} after {after}, {limit}, {order:?}");
            }
        }
    }
    let streams = owners().into_iter().flat_map(|owner| {
        let name = owner.to_string();
        [name.parse::<StreamId>().ok(), Some(StreamId::Secrets(owner))]
    });
    for stream in streams.flatten() {
        for after in [0, 3] {
            let after = StreamVersion(after);
            let found = store.read_stream(&stream, after, READ).await.unwrap();
            assert_eq!(found, model.read_stream(&stream, after, READ).await.unwrap(), "{stream}");
        }
    }
    let ids: Vec<_> =
        (0..42).map(|number| samples::command(&format!("command-{number}"))).collect();
    let found = store.find_commands(&ids).await.unwrap();
    assert_eq!(found, model.find_commands(&ids).await.unwrap());
    for number in 0..=batches {
        let id = BatchId(Uuid::from_u128(number));
        assert_eq!(store.find_batch(id).await.unwrap(), model.find_batch(id).await.unwrap());
        let time = Timestamp(i64::try_from(number).unwrap() * 1_000_000_000);
        let (found, expected) = (store.position_at(time).await, model.position_at(time).await);
        assert_eq!(found.unwrap(), expected.unwrap(), "{time:?}");
    }
    assert_eq!(
        store.newest_of_each_type().await.unwrap(),
        model.newest_of_each_type().await.unwrap()
    );
    assert_eq!(store.streams("", READ).await.unwrap(), streams_of(model).await);
    let mut paged = Vec::new();
    while let Some(last) = {
        let after = paged.last().map_or("", |row: &crate::event_store::StreamRow| &row.stream);
        let page = store.streams(after, 2).await.unwrap();
        let last = page.last().cloned();
        paged.extend(page);
        last
    } {
        assert_eq!(paged.last(), Some(&last));
    }
    assert_eq!(paged, streams_of(model).await);
}

async fn opened(path: &Path, run_events: u64) -> (Database, SqliteStore) {
    let database = Database::open_with_runs(path, INCARNATION, run_events).await.unwrap();
    (database.clone(), SqliteStore::new(database))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_is_answered_as_from_memory_wherever_the_runs_end() {
    for seed in 1..=6 {
        let mut dice = Dice::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        // In some logs runs are written beside the appends, in others only where it is said here.
        let run_events = if seed % 2 == 0 { 6 } else { 1 << 20 };
        let (mut database, mut store) = opened(&path, run_events).await;
        let model = MemoryStore::new(MemoryLog::new(INCARNATION));
        let mut head = START;
        for number in 0..30 {
            let batch = some_batch(&mut dice, number, head);
            let written = model.append(batch.clone()).await.unwrap();
            assert_eq!(store.append(batch).await.unwrap(), written, "seed {seed}");
            head = written.last().unwrap().position;
            match dice.below(9) {
                0 => database.index_to(head).await.unwrap(),
                1 => {
                    database.close().await;
                    (database, store) = opened(&path, run_events).await;
                }
                2 => agree(&store, &model, number + 1).await,
                _ => {}
            }
            if dice.one_in(9) {
                store.check_lookups().await.unwrap();
            }
        }
        agree(&store, &model, 31).await;
        let (other, beside) = opened(&path, 4).await;
        agree(&beside, &model, 31).await;
        other.close().await;
        database.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_another_process_writes_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (ours, store) = opened(&path, 1 << 20).await;
    let (theirs, beside) = opened(&path, 1 << 20).await;
    let model = MemoryStore::new(MemoryLog::new(INCARNATION));
    let (mut dice, mut head) = (Dice::new(9), START);
    for number in 0..24 {
        let batch = some_batch(&mut dice, number, head);
        head = model.append(batch.clone()).await.unwrap().last().unwrap().position;
        let (database, store) = if dice.one_in(2) { (&ours, &store) } else { (&theirs, &beside) };
        store.append(batch).await.unwrap();
        if dice.one_in(3) {
            database.index_to(head).await.unwrap();
        }
        if dice.one_in(5) {
            agree(store, &model, number).await;
        }
    }
    agree(&store, &model, 24).await;
    agree(&beside, &model, 24).await;
    store.check_lookups().await.unwrap();
    theirs.close().await;
    ours.close().await;
}

#[tokio::test]
async fn what_a_run_left_that_was_not_finished_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (database, store) = opened(&path, 1 << 20).await;
    samples::fill(&store, &[3, 2, 4]).await;
    database.index_to(Position(5)).await.unwrap();
    database.close().await;
    // As a process leaves it that ends before the run has its name.
    let unfinish = "DELETE FROM lookup_runs; DELETE FROM newest_types; \
         DELETE FROM lookups WHERE kind = 1";
    change_by_hand(&path, unfinish).await;

    let (database, store) = opened(&path, 1 << 20).await;
    store.check_lookups().await.unwrap();
    samples::fill(&store, &[1]).await;
    database.index_to(Position(10)).await.unwrap();

    store.check_lookups().await.unwrap();
    let of_one =
        Filter { owner: Some(samples::cell_stream("cell-0").owner()), ..Filter::default() };
    let found = store.read_filtered(&of_one, START, READ, Order::OldestFirst).await.unwrap();
    let positions: Vec<u64> = found.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, [1, 4, 6, 9, 10]);
    database.close().await;
}

#[tokio::test]
async fn a_log_without_runs_gets_them_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (database, store) = opened(&path, 1 << 20).await;
    samples::fill(&store, &[3; 20]).await;
    database.close().await;

    let (database, store) = opened(&path, 8).await;

    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM lookup_runs")
        .fetch_one(database.readers())
        .await
        .unwrap();
    // What is less than two runs is found in memory.
    assert_eq!(runs, 5);
    store.check_lookups().await.unwrap();
    database.close().await;
}

#[tokio::test]
async fn a_run_that_leads_elsewhere_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (database, store) = opened(&path, 1 << 20).await;
    samples::fill(&store, &[3, 2, 4]).await;
    database.index_to(Position(9)).await.unwrap();
    change_by_hand(&path, "UPDATE lookups SET entries = substr(entries, 2) WHERE kind = 0").await;

    let failure = store.check_lookups().await.unwrap_err();

    assert!(matches!(failure, Error::Damaged { .. }));
    let expected = "the look-ups up to position 9 do not lead to its events";
    assert!(failure.to_string().contains(expected), "{failure}");
    database.close().await;
}
