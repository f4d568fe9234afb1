//! Following: every event once, in order, whatever happens at the same time.

use std::{sync::Arc, time::Duration};

use domain::log::Position;
use tokio::task::JoinSet;

use super::{
    super::{AppendError, Error, EventStore, RING_EVENTS, Subscription, chain},
    samples::{START, batch, fill, lost},
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
    for writer in 0..WRITERS {
        tasks.spawn(write(store.clone(), writer));
        // Readers that begin while others write.
        tasks.spawn(follow(store.subscribe(START), total));
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

    fill(store, &[1_000; RING_EVENTS / 1_000 + 2]).await;

    let total = store.head().await.expect("a head").position;
    follow(lagging, total).await;
}
