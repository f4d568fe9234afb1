//! Several nodes on one database: leases, turns, races, and what one node assumes of another.

use std::{sync::Arc, time::Duration};

use domain::log::{LeaseEpoch, Position, StreamVersion};
use tokio::task::JoinSet;

use super::{soon, store, verified};
use crate::{
    event_store::{
        AppendError, Batch, Error, EventStore, TURN_MAX,
        conformance::samples::{START, batch, cell_stream, fill, lost},
        postgres::PostgresStore,
    },
    leases::{LEASE_TIME_TO_LIVE, LeaseState, Leases as _, PostgresLeases},
    testing::postgres,
};

fn next(id: u128, head: Position, cell: &str) -> Batch {
    batch(id, head, 100, vec![lost(cell, "n")])
}

#[tokio::test]
async fn a_batch_under_a_passed_lease_is_refused() {
    let database = postgres::open(&postgres::shared().fresh_database()).await;
    let leases = PostgresLeases::new(database.clone());
    let store = PostgresStore::new(database);
    let under = |id, epoch| Batch { lease: Some(LeaseEpoch(epoch)), ..next(id, START, "a") };
    let refused = store.append(under(1, 1)).await;
    assert!(matches!(refused, Err(AppendError::LeasePassed { lease_epoch: LeaseEpoch(1) })));

    leases.acquire("one", LEASE_TIME_TO_LIVE).await.unwrap();
    leases.release("one").await.unwrap();
    let state = leases.acquire("other", LEASE_TIME_TO_LIVE).await.unwrap();
    assert_eq!(state, LeaseState::Held { lease_epoch: LeaseEpoch(2) });

    let refused = store.append(under(2, 1)).await;
    assert!(matches!(refused, Err(AppendError::LeasePassed { lease_epoch: LeaseEpoch(1) })));
    assert_eq!(store.head().await.unwrap().position, START);
    store.append(under(3, 2)).await.unwrap();
}

#[tokio::test]
async fn a_turn_keeps_other_nodes_out_and_its_batch_is_not_refused() {
    let url = postgres::shared().fresh_database();
    let (ours, theirs) = (store(&url).await, store(&url).await);
    fill(&theirs, &[2]).await;
    let mut turn = ours.turn().await.unwrap();
    assert_eq!(turn.head().position, Position(2));
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        let result = theirs.append(next(20, Position(2), "b")).await;
        (theirs, result)
    });

    assert_eq!(turn.read_all(START, 9).await.unwrap().len(), 2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waiting.try_join_next().is_none(), "kept out");
    let written = turn.append(next(21, Position(2), "a")).await.unwrap();

    assert_eq!(written[0].position, Position(3));
    let (theirs, refused) = soon("the other's append", waiting.join_next()).await.unwrap().unwrap();
    match refused {
        Err(AppendError::HeadMoved { head }) => assert_eq!(head, ours.head().await.unwrap()),
        other => panic!("must be refused, but is {other:?}"),
    }
    // A turn that is only dropped leaves the way free.
    drop(ours.turn().await.unwrap());
    soon("the next append", theirs.append(next(22, Position(3), "b"))).await.unwrap();
    let refused = ours.turn().await.unwrap().append(next(23, Position(3), "b")).await;
    assert!(matches!(refused, Err(AppendError::HeadMoved { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_turn_that_is_not_used_is_taken_back() {
    let url = postgres::shared().fresh_database();
    let (ours, theirs) = (store(&url).await, store(&url).await);
    let mut turn = ours.turn().await.unwrap();

    soon("the other's append", theirs.append(next(1, START, "a"))).await.unwrap();

    assert!(matches!(turn.read_all(START, 9).await, Err(Error::TurnTakenBack)));
    let refused = turn.append(next(2, START, "a")).await;
    assert!(
        matches!(refused, Err(AppendError::Failed(Error::TurnTakenBack))),
        "kept for {TURN_MAX:?}: {refused:?}"
    );
    ours.append(next(3, Position(1), "a")).await.unwrap();
}

#[tokio::test]
async fn a_wrong_assumption_about_a_stream_is_corrected() {
    let url = postgres::shared().fresh_database();
    let (ours, theirs) = (store(&url).await, store(&url).await);
    let mut head = START;
    for (id, store) in [(1, &ours), (2, &theirs), (3, &ours), (4, &theirs), (5, &theirs)] {
        let events = vec![lost("a", "n"), lost("b", "n"), lost("a", "n")];
        head = store.append(batch(id, head, 7, events)).await.unwrap()[2].position;
    }
    // A node that has seen nothing of the streams.
    let fresh = store(&url).await;
    fresh.append(next(6, head, "a")).await.unwrap();

    let of_a = ours.read_stream(&cell_stream("a"), StreamVersion(0), 99).await.unwrap();
    let versions: Vec<u64> = of_a.iter().map(|event| event.version.0).collect();
    assert_eq!(versions, (1..=11).collect::<Vec<_>>());
}

/// Appends, on whatever head it finds, as a node's bus does: once, then in a turn.
async fn write(store: Arc<PostgresStore>, writer: u64, batches: u64) {
    for number in 0..batches {
        let events = || vec![lost("shared", "n"), lost(&format!("own-{writer}"), "n")];
        let id = u128::from(writer * 10_000 + number * 2);
        let head = store.head().await.unwrap();
        match store.append(batch(id, head.position, 7, events())).await {
            Ok(_) => continue,
            Err(AppendError::HeadMoved { .. }) => {}
            Err(failure) => panic!("a writer failed: {failure:?}"),
        }
        let turn = store.turn().await.unwrap();
        let again = batch(id + 1, turn.head().position, 7, events());
        turn.append(again).await.expect("in a turn a batch is refused by nobody");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_on_many_nodes_every_reader_sees_every_event_once_in_order() {
    const BATCHES: u64 = 25;
    let url = postgres::shared().fresh_database();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(Arc::new(store(&url).await));
    }
    let total = Position(8 * BATCHES * 2);
    let mut tasks = JoinSet::new();
    for node in &nodes {
        let mut reader = node.subscribe(START);
        tasks.spawn(async move {
            while reader.position() < total {
                let before = reader.position();
                let event = soon("the next event", reader.next()).await.unwrap();
                assert_eq!(event.position, before.next());
            }
        });
    }
    for writer in 0..8 {
        let node = nodes[usize::try_from(writer).unwrap() % nodes.len()].clone();
        tasks.spawn(write(node, writer, BATCHES));
    }

    while let Some(ended) = tasks.join_next().await {
        ended.expect("no writer and no reader fails");
    }

    assert_eq!(nodes[0].head().await.unwrap().position, total);
    assert_eq!(verified(nodes[0].as_ref().clone()).await, None);
}
