//! Reading: look-ups, filters, times, hashes.

use domain::{
    log::{Owner, Position},
    units::Timestamp,
};
use uuid::Uuid;

use super::{
    super::{BatchId, EventStore, Filter, Order, chain},
    samples::{START, actor, batch, cell_stream, command, fill, forgotten, lost, upserted},
};

pub(super) async fn batches_and_commands_are_found_again(store: &dyn EventStore) {
    let mut other = lost("b", "n");
    other.command_id = command("command-2");
    other.causation = Some(Position(1));
    let events = vec![lost("a", "n"), other, lost("c", "n")];
    let written = store.append(batch(1, START, 1, events)).await.expect("an append");
    fill(store, &[1]).await;

    let of_batch = store.find_batch(BatchId(Uuid::from_u128(1))).await.expect("a look-up");
    let of_command = store.find_command(&command("command-2")).await.expect("a look-up");

    assert_eq!(of_batch, Some(written.clone()));
    assert_eq!(of_command.as_deref(), Some(&written[1..2]));
    assert_eq!(store.find_batch(BatchId(Uuid::from_u128(2))).await.expect("a look-up"), None);
    assert_eq!(store.find_command(&command("command-9")).await.expect("a look-up"), None);
}

pub(super) async fn filters_let_through_what_they_name(store: &dyn EventStore) {
    let mut by_another = lost("a", "n");
    by_another.actor = actor("another");
    let events = vec![lost("a", "n"), upserted("a"), lost("b", "n"), by_another, upserted("b")];
    store.append(batch(1, START, 1, events)).await.expect("an append");
    let check = async |filter: Filter, after: u64, limit: usize, order: Order, expected: &[u64]| {
        let found = store.read_filtered(&filter, Position(after), limit, order).await;
        let found: Vec<u64> = found.expect("events").iter().map(|event| event.position.0).collect();
        assert_eq!(found, expected, "{filter:?} {after} {limit} {order:?}");
    };
    let all = Filter::default;
    let owner = |owner: Owner| Filter { owner: Some(owner), ..all() };
    let types = |types: &[&str]| Filter {
        types: types.iter().map(|name| (*name).to_owned()).collect(),
        ..all()
    };

    check(all(), 0, 10, Order::OldestFirst, &[1, 2, 3, 4, 5]).await;
    check(all(), 2, 2, Order::OldestFirst, &[3, 4]).await;
    check(all(), 0, 2, Order::NewestFirst, &[5, 4]).await;
    check(all(), 4, 2, Order::NewestFirst, &[3, 2]).await;
    check(all(), 1, 2, Order::NewestFirst, &[]).await;
    check(owner(cell_stream("a").owner()), 0, 10, Order::OldestFirst, &[1, 4]).await;
    check(owner(cell_stream("c").owner()), 0, 10, Order::OldestFirst, &[]).await;
    check(types(&["freshness_domain.upserted"]), 0, 10, Order::NewestFirst, &[5, 2]).await;
    check(types(&["cell.lost", "freshness_domain.upserted"]), 3, 10, Order::OldestFirst, &[4, 5])
        .await;
    check(types(&["no.such.type"]), 0, 10, Order::OldestFirst, &[]).await;
    let of_another = Filter { actor: Some(actor("another")), ..all() };
    check(of_another, 0, 10, Order::OldestFirst, &[4]).await;
    let until = Filter { until: Some(Position(2)), ..types(&["cell.lost"]) };
    check(until, 0, 10, Order::NewestFirst, &[1]).await;

    let gone = cell_stream("a").owner();
    store.append(batch(6, Position(5), 6, vec![forgotten(&gone)])).await.expect("an append");
    let found = store.read_filtered(&owner(gone), Position(0), 10, Order::OldestFirst).await;
    let found: Vec<u64> = found.expect("a page").iter().map(|it| it.position.0).collect();
    assert_eq!(found, [1, 4, 6], "that an owner's secrets were forgotten is the owner's history");
}

/// An index may find events by stretches of the log.
pub(super) async fn one_type_is_found_in_order_over_a_long_stretch(store: &dyn EventStore) {
    for first in [0, 4_000, 8_000] {
        let events = (1..=4_000_u64).map(|number| match number % 1_500 {
            0 => upserted("a"),
            _ => lost("a", "n"),
        });
        let seconds = i64::try_from(first).expect("a small number") + 1;
        let written = batch(u128::from(first), Position(first), seconds, events.collect());
        store.append(written).await.expect("an append");
    }
    let rare = Filter { types: vec!["freshness_domain.upserted".to_owned()], ..Filter::default() };
    for (after, limit, order, expected) in [
        (0, 10, Order::OldestFirst, [1_500, 3_000, 5_500, 7_000, 9_500, 11_000].as_slice()),
        (3_000, 2, Order::OldestFirst, &[5_500, 7_000]),
        (11_000, 2, Order::OldestFirst, &[]),
        (0, 3, Order::NewestFirst, &[11_000, 9_500, 7_000]),
        (9_500, 9, Order::NewestFirst, &[7_000, 5_500, 3_000, 1_500]),
        (4_500, 1, Order::NewestFirst, &[3_000]),
        (1_500, 9, Order::NewestFirst, &[]),
    ] {
        let found = store.read_filtered(&rare, Position(after), limit, order).await;
        let found = found.expect("events");
        let found: Vec<u64> = found.iter().map(|event| event.position.0).collect();
        assert_eq!(found, expected, "{after} {limit} {order:?}");
    }
    let newest = store.newest_of_each_type().await.expect("types");
    let positions: Vec<u64> = newest.iter().map(|it| it.position.0).collect();
    assert_eq!(positions, [11_000, 12_000]);
}

pub(super) async fn a_time_has_a_position(store: &dyn EventStore) {
    let two = || vec![upserted("a"), upserted("b")];
    store.append(batch(1, START, 10, two())).await.expect("an append");
    store.append(batch(2, Position(2), 20, two())).await.expect("an append");
    store.append(batch(3, Position(4), 20, two())).await.expect("an append");

    for (nanoseconds, expected) in [
        (i64::MIN, 0),
        (9_999_999_999, 0),
        (10_000_000_000, 2),
        (19_999_999_999, 2),
        (20_000_000_000, 6),
        (i64::MAX, 6),
    ] {
        let position = store.position_at(Timestamp(nanoseconds)).await.expect("a position");
        assert_eq!(position, Position(expected), "at {nanoseconds} ns");
    }
}

pub(super) async fn hashes_depend_on_the_input_alone(store: &dyn EventStore) {
    fill(store, &[3, 1, 2]).await;

    assert_eq!(chain::verify(store).await.expect("a readable log"), None);
    let head = store.head().await.expect("a head");
    assert_eq!(
        hex::encode(head.link),
        "b00747df506da47c2c421ec64703fdbfaabc33ff4fbe245e2c96409d1c7a0e00",
        "every store gives these events this link"
    );
}

pub(super) async fn the_newest_event_of_each_type_is_told(store: &dyn EventStore) {
    assert_eq!(store.newest_of_each_type().await.expect("types"), []);
    let events = vec![lost("a", "n"), upserted("a"), lost("b", "n"), upserted("b"), lost("c", "n")];
    store.append(batch(1, START, 1, events)).await.expect("an append");

    let newest = store.newest_of_each_type().await.expect("types");

    let told = newest.iter().map(|it| (it.type_name.as_str(), it.schema_version, it.position.0));
    let expected = [("freshness_domain.upserted", 1, 4), ("cell.lost", 1, 5)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}
