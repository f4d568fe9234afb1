//! Writing: what is refused, and what stands when it is not.

use std::{sync::Arc, time::Duration};

use domain::log::{Position, StreamVersion};

use super::{
    super::{
        AppendError, BATCH_BYTES_MAX, Batch, EVENTS_PER_BATCH_MAX, EventStore, PAYLOAD_BYTES_MAX,
        Refusal, chain,
    },
    samples::{START, batch, cell_stream, fill, lost, upserted},
};

async fn refused(store: &dyn EventStore, batch: Batch) -> Refusal {
    let before = store.head().await.expect("a head");
    let refusal = match store.append(batch).await {
        Err(AppendError::Refused(refusal)) => refusal,
        other => panic!("must be refused, but is {other:?}"),
    };
    assert_eq!(store.head().await.expect("a head"), before);
    refusal
}

pub(super) async fn an_unfit_batch_is_refused_and_nothing_is_written(store: &dyn EventStore) {
    assert_eq!(refused(store, batch(1, START, 1, vec![])).await, Refusal::Empty);

    let events = vec![upserted("a"); EVENTS_PER_BATCH_MAX + 1];
    let expected = Refusal::TooManyEvents(EVENTS_PER_BATCH_MAX + 1);
    assert_eq!(refused(store, batch(1, START, 1, events)).await, expected);

    let events = vec![upserted("a"), lost("a", &"x".repeat(PAYLOAD_BYTES_MAX))];
    let refusal = refused(store, batch(1, START, 1, events)).await;
    assert!(matches!(refusal, Refusal::PayloadTooLarge { .. }), "{refusal:?}");

    let large = lost("a", &"x".repeat(PAYLOAD_BYTES_MAX - 100));
    let events = vec![large; BATCH_BYTES_MAX / PAYLOAD_BYTES_MAX + 1];
    let refusal = refused(store, batch(1, START, 1, events)).await;
    assert!(matches!(refusal, Refusal::TooManyBytes(_)), "{refusal:?}");

    let events = vec![upserted("a"); EVENTS_PER_BATCH_MAX];
    let written = store.append(batch(1, START, 1, events)).await.expect("the largest batch");
    assert_eq!(written.len(), EVENTS_PER_BATCH_MAX);
    assert_eq!(chain::verify(store).await.expect("a readable log"), None);
}

pub(super) async fn a_batch_decided_on_another_head_is_refused(store: &dyn EventStore) {
    fill(store, &[2]).await;
    let head = store.head().await.expect("a head");

    for decided_on in [0, 1, 3, u64::MAX] {
        let moved = store.append(batch(9, Position(decided_on), 9, vec![upserted("a")])).await;

        match moved {
            Err(AppendError::HeadMoved { head: told }) => assert_eq!(told, head),
            other => panic!("the head has moved, but the append is {other:?}"),
        }
    }
    assert_eq!(store.head().await.expect("a head"), head);
    assert_eq!(store.read_all(START, 10).await.expect("events").len(), 2);
}

pub(super) async fn time_never_decreases(store: &dyn EventStore) {
    store.append(batch(1, START, 10, vec![upserted("a")])).await.expect("an append");

    let refusal = refused(store, batch(2, Position(1), 9, vec![upserted("a")])).await;

    assert!(matches!(refusal, Refusal::TimeWentBack { .. }), "{refusal:?}");
    store.append(batch(3, Position(1), 10, vec![upserted("a")])).await.expect("the same time");
}

pub(super) async fn positions_are_dense_and_versions_count_per_stream(store: &dyn EventStore) {
    let first = vec![lost("a", "n"), lost("b", "n"), lost("a", "n")];
    let mut written = store.append(batch(1, START, 1, first)).await.expect("an append");
    let second = vec![lost("b", "n"), upserted("a")];
    written.extend(store.append(batch(2, Position(3), 2, second)).await.expect("an append"));

    let places: Vec<(u64, u64)> =
        written.iter().map(|event| (event.position.0, event.version.0)).collect();
    assert_eq!(places, [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1)]);
    assert_eq!(store.read_all(START, 10).await.expect("events"), written);
    assert_eq!(store.read_all(Position(3), 1).await.expect("events"), written[3..4]);
    assert_eq!(store.read_all(Position(u64::MAX), 1).await.expect("events"), []);
    let stream = cell_stream("a");
    let of_a = store.read_stream(&stream, StreamVersion(1), 10).await.expect("events");
    assert_eq!(of_a, written[2..3]);
}

pub(super) async fn a_caller_that_goes_away_leaves_a_whole_batch(store: &dyn EventStore) {
    let events = vec![upserted("a"); 300];
    let left = batch(1, START, 1, events);
    let id = left.id;

    tokio::select! {
        biased;
        _ = store.append(left) => {}
        () = std::future::ready(()) => {}
    }

    let found = async {
        loop {
            if let Some(events) = store.find_batch(id).await.expect("a look-up") {
                return events;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), found).await;
    assert_eq!(found.expect("the batch is written").len(), 300);
    fill(store, &[1]).await;
    assert_eq!(chain::verify(store).await.expect("a readable log"), None);
}

pub(super) async fn of_two_writers_on_one_head_one_wins(store: Arc<dyn EventStore>) {
    let (one, other) = tokio::join!(
        store.append(batch(1, START, 1, vec![lost("a", "one")])),
        store.append(batch(2, START, 1, vec![lost("a", "other")])),
    );

    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("exactly one must win, but the appends are {both:?}"),
    };
    assert!(matches!(lost, AppendError::HeadMoved { head } if head.position == Position(1)));
    assert_eq!(store.read_all(START, 10).await.expect("events"), won);
}
