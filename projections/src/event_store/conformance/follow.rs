//! Following: every event once, in order, whatever happens at the same time.

use std::{sync::Arc, time::Duration};

use domain::log::{Owner, Position};
use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::{
    super::{AppendError, Error, EventStore, OwnerSubscription, RING_EVENTS, Subscription, chain},
    samples::{START, batch, cell_stream, fill, forgotten, lost},
};

const WRITERS: u64 = 8;
const BATCHES: u64 = 12;

pub(super) async fn a_reader_behind_the_end_is_refused(store: &dyn EventStore) {
    fill(store, &[1]).await;

    let refused = store.subscribe(Position(2)).next().await;

    let expected = (Position(2), Position(1));
    match refused {
        Err(Error::AheadOfHead { after, head }) => assert_eq!((after, head), expected),
        other => panic!("must be refused, but is {other:?}"),
    }
    let refused = store.subscribe_to(&owner("cell-0"), Position(2)).next().await;
    match refused {
        Err(Error::AheadOfHead { after, head }) => assert_eq!((after, head), expected),
        other => panic!("must be refused, but is {other:?}"),
    }
}

/// Asks for the next event as one does who is called away at once, until there is one.
async fn next_of_impatient(subscription: &mut Subscription) -> u64 {
    let asking = async {
        loop {
            if let Some(event) = subscription.next().now_or_never() {
                return event.expect("an event").position.0;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("the event in time")
}

pub(super) async fn a_reader_that_is_called_away_again_and_again_gets_forward(
    store: &dyn EventStore,
) {
    fill(store, &[2]).await;
    let mut subscription = store.subscribe(START);

    let positions =
        [next_of_impatient(&mut subscription).await, next_of_impatient(&mut subscription).await];

    assert_eq!(positions, [1, 2]);
}

pub(super) async fn what_a_reader_knows_already_is_passed_over(store: &dyn EventStore) {
    fill(store, &[3]).await;
    let mut subscription = store.subscribe(START);
    // It may be in the middle of reading all three.
    drop(subscription.next().now_or_never());

    subscription.skip_to(Position(2));
    let third = next_of_impatient(&mut subscription).await;
    store.append(batch(4, Position(3), 1, vec![lost("cell-9", "")])).await.expect("written");
    subscription.skip_to(Position(1));
    let fourth = next_of_impatient(&mut subscription).await;

    assert_eq!((third, fourth), (3, 4));
}

fn owner(cell_id: &str) -> Owner {
    cell_stream(cell_id).owner()
}

/// Reads so many events of one owner, each behind the last.
async fn follow_one(mut subscription: OwnerSubscription, owner: Owner, count: u64) -> Vec<u64> {
    let reading = async {
        let mut positions = Vec::new();
        for _ in 0..count {
            let event = subscription.next().await.expect("an event");
            assert_eq!(event.stream.owner(), owner);
            assert!(positions.last().is_none_or(|last| *last < event.position.0), "in order");
            positions.push(event.position.0);
        }
        positions
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("all events in time")
}

/// Reads up to a position, each event the one behind the last.
async fn follow(mut subscription: Subscription, until: Position) {
    let reading = async {
        while subscription.position() < until {
            let before = subscription.position();
            let events = subscription.next_batch(7).await.expect("events");
            let mut expected = before;
            for event in events {
                expected = expected.next();
                assert_eq!(event.position, expected);
            }
            assert_eq!(subscription.position(), expected);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("all events in time");
}

async fn write(store: Arc<dyn EventStore>, writer: u64) {
    let mut written = 0;
    while written < BATCHES {
        let head = store.head().await.expect("a head");
        let id = u128::from(writer * 1_000 + written);
        let events = vec![lost("shared", "n"), lost(&format!("own-{writer}"), "n")];
        let seconds = head.recorded_at.0 / 1_000_000_000;
        match store.append(batch(id, head.position, seconds, events)).await {
            Ok(_) => written += 1,
            Err(AppendError::HeadMoved { .. }) => tokio::task::yield_now().await,
            Err(failure) => panic!("a writer failed: {failure:?}"),
        }
    }
}

pub(super) async fn racing_writers_are_followed_without_gap_or_double(store: Arc<dyn EventStore>) {
    let total = Position(WRITERS * BATCHES * 2);
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(store.subscribe(START), total));
    let follow_one = |cell_id: String, count| {
        let (owner, store) = (owner(&cell_id), Arc::clone(&store));
        async move {
            let subscription = store.subscribe_to(&owner, START);
            follow_one(subscription, owner, count).await;
        }
    };
    tasks.spawn(follow_one("shared".to_owned(), WRITERS * BATCHES));
    for writer in 0..WRITERS {
        tasks.spawn(write(store.clone(), writer));
        // Readers that begin while others write.
        tasks.spawn(follow(store.subscribe(START), total));
        tasks.spawn(follow_one("shared".to_owned(), WRITERS * BATCHES));
        tasks.spawn(follow_one(format!("own-{writer}"), BATCHES));
    }

    while let Some(ended) = tasks.join_next().await {
        ended.expect("no writer and no reader fails");
    }

    follow(store.subscribe(Position(7)), total).await;
    assert_eq!(store.head().await.expect("a head").position, total);
    assert_eq!(chain::verify(&*store).await.expect("a readable log"), None);
}

pub(super) async fn a_reader_that_lags_behind_the_ring_misses_nothing(store: &dyn EventStore) {
    fill(store, &[1]).await;
    let mut lagging = store.subscribe(START);
    lagging.next().await.expect("an event");
    fill(store, &[1]).await;
    lagging.next().await.expect("a live event");

    let mut of_one = store.subscribe_to(&owner("cell-1"), START);
    fill(store, &[2]).await;
    assert_eq!(of_one.next().await.expect("an event").position, Position(4));

    fill(store, &[1_000; RING_EVENTS / 1_000 + 2]).await;

    let total = store.head().await.expect("a head").position;
    follow(lagging, total).await;
    // Cell 1 has the second of every three events of each of these batches.
    let batches = u64::try_from(RING_EVENTS / 1_000 + 2).unwrap_or(u64::MAX);
    let expected = (0..batches).flat_map(|number| {
        (0..1_000).filter(|at| at % 3 == 1).map(move |at| 5 + number * 1_000 + at)
    });
    let positions = follow_one(of_one, owner("cell-1"), batches * 333).await;
    assert_eq!(positions, expected.collect::<Vec<_>>());
}

pub(super) async fn a_reader_of_one_owner_sees_all_of_it_and_nothing_else(store: &dyn EventStore) {
    fill(store, &[3, 3]).await;
    let of_one = owner("cell-1");
    let from_start = store.subscribe_to(&of_one, START);
    let from_within = store.subscribe_to(&of_one, Position(2));

    let mut last = Vec::new();
    for size in [1, 2, 4] {
        last = fill(store, &[size]).await;
    }
    let last = last.last().map_or(START, |event| event.position);
    let secret = batch(99, last, 1_000, vec![lost("cell-0", "n"), forgotten(&of_one)]);
    store.append(secret).await.expect("an append");

    // Of the batches of 3, 3, 1, 2 and 4 the second event each, and what was forgotten.
    let expected = [2, 5, 9, 11, 15];
    assert_eq!(follow_one(from_start, of_one.clone(), 5).await, expected);
    assert_eq!(follow_one(from_within, of_one.clone(), 4).await, &expected[1..]);
    let mut at_the_end = store.subscribe_to(&of_one, Position(15));
    assert!(at_the_end.next().now_or_never().is_none(), "there is nothing behind the end");
    fill(store, &[1]).await;
    fill(store, &[2]).await;
    let event = at_the_end.next().await.expect("an event");
    assert_eq!(event.position, Position(18));
}
