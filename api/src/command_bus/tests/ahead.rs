//! What is decided while the batch before it is being committed.

#![expect(clippy::disallowed_methods, reason = "each task is awaited: its panic fails the test")]

use std::collections::BTreeMap;

use domain::id::ProcessGuid;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

fn scale(process: &str, instances: u32) -> desired_lrp::Command {
    let update = desired_lrp::Update { instances: Some(instances), ..Default::default() };
    desired_lrp::Command::Update { process_guid: testing::process_guid(process), update }
}

/// What became of two commands, the second of which comes while the first one's batch, which meets
/// a fault, is being committed; and a moment between.
async fn one_behind_another(
    store: &Arc<FaultyStore>,
    fault: Fault,
    [first, second]: [Envelope; 2],
) -> ([Result<Accepted, Error>; 2], Timestamp) {
    let bus = bus(store);
    store.fail_next(fault);
    let appending = Arc::clone(&store.turn).lock_owned().await;
    let between = async {
        while store.appends.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let bus = bus.clone();
            async move { bus.submit(second).await }
        });
        // Whatever can go on without the append has gone on after that.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let between = Clock::default().now();
        drop(appending);
        (second.await.unwrap(), between)
    };
    let (first, (second, between)) = tokio::join!(bus.submit(first), between);
    ([first, second], between)
}

#[tokio::test]
async fn a_command_that_comes_during_a_commit_is_decided_before_its_end() {
    let store = FaultyStore::new();
    let commands = [user("c1", testing::desire("web", 1)), user("c2", scale("web", 2))];

    let (outcomes, between) = one_behind_another(&store, Fault::None, commands).await;

    let positions = outcomes.map(|outcome| outcome.unwrap().position);
    assert_eq!(positions, [Position(1), Position(2)]);
    let log = log(&store).await;
    assert!(log[1].recorded_at < between, "it was decided after the commit");
    assert_eq!(store.appends.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_rests_on_a_batch_that_is_not_written_is_decided_anew() {
    for fault in [Fault::Failed, Fault::Refuses("c1")] {
        let store = FaultyStore::new();
        let commands = [user("c1", testing::desire("web", 1)), user("c2", scale("web", 2))];

        let ([first, second], _) = one_behind_another(&store, fault, commands).await;

        assert!(matches!(first, Err(Error::Unavailable { .. })), "{fault:?}: {first:?}");
        assert_eq!(rejection(second), "NOT_FOUND", "{fault:?}");
        assert_eq!(log(&store).await, [], "{fault:?}");
    }
}

#[tokio::test]
async fn what_rests_on_a_batch_whose_outcome_is_unknown_is_committed_behind_it() {
    for fault in [Fault::LostAfterWriting, Fault::LostBeforeWriting] {
        let store = FaultyStore::new();
        let commands = [user("c1", testing::desire("web", 1)), user("c2", scale("web", 2))];

        let (outcomes, _) = one_behind_another(&store, fault, commands).await;

        let positions = outcomes.map(|outcome| outcome.unwrap().position);
        assert_eq!(positions, [Position(1), Position(2)], "{fault:?}");
        assert_eq!(log(&store).await.len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_repeated_command_is_not_answered_before_the_first_one_is_durable() {
    let store = FaultyStore::new();
    let desire = user("c1", testing::desire("web", 1));

    let ([first, repeated], _) =
        one_behind_another(&store, Fault::Failed, [desire.clone(), desire]).await;

    assert!(matches!(first, Err(Error::Unavailable { .. })), "{first:?}");
    assert_eq!(repeated.unwrap().position, Position(1), "it was decided anew");
    assert_eq!(log(&store).await.len(), 1);
}

#[tokio::test]
async fn what_was_decided_and_undone_hides_nothing_that_another_node_writes_there() {
    let store = FaultyStore::new();
    let (one, two) = (node(&store).0, node(&store).0);
    store.fail_next(Fault::Failed);
    let undone = (0..3).map(|n| user(&format!("u{n}"), testing::desire(&format!("u{n}"), 1)));
    assert!(one.submit_all(undone.collect()).await.is_err());

    two.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    for instances in 2..5 {
        two.submit(user(&format!("s{instances}"), scale("web", instances))).await.unwrap();
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }

    let again = one.submit(user("c2", testing::desire("web", 1))).await;
    assert_eq!(rejection(again), "ALREADY_EXISTS");
}

#[tokio::test]
async fn what_changed_nothing_and_was_not_confirmed_is_judged_anew() {
    let store = FaultyStore::new();
    let (one, two) = (node(&store).0, node(&store).0);
    one.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    store.lost_heads.store(1, Ordering::Relaxed);
    let unconfirmed = one.submit(user("c2", scale("web", 1))).await;
    assert!(matches!(unconfirmed, Err(Error::Unavailable { .. })), "{unconfirmed:?}");

    two.submit(user("c3", scale("web", 5))).await.unwrap();

    assert_eq!(one.submit(user("c2", scale("web", 1))).await.unwrap().events, 1);
}

#[tokio::test]
async fn an_id_that_changed_nothing_here_and_something_else_there_names_that_one() {
    let store = FaultyStore::new();
    let (one, two) = (node(&store).0, node(&store).0);
    one.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    assert_eq!(one.submit(user("c2", scale("web", 1))).await.unwrap().events, 0);

    let done = two.submit(user("c2", testing::desire("api", 1))).await.unwrap();

    let reused = one.submit(user("c2", scale("web", 1))).await;
    assert_eq!(rejection(reused), "COMMAND_ID_REUSED");
    assert_eq!(one.submit(user("c2", testing::desire("api", 1))).await.unwrap(), done);
}

#[tokio::test]
async fn an_answer_that_was_undone_takes_no_later_one_with_it() {
    let store = FaultyStore::new();
    bus(&store).submit(user("c0", testing::desire("other", 1))).await.unwrap();
    let events = log(&store).await;
    let head = Stamp { position: Position(0), recorded_at: Timestamp(0) };
    let mut decider = Decider::new(Aggregates::default(), head, None);
    let wish = user("c1", testing::desire("web", 1));
    let undone = decider.decide([&wish], Timestamp(1));
    decider.undo(undone);
    for number in 0..65_000 {
        decider.remember(&user(&format!("before{number}"), scale("web", 1)), &events);
    }

    decider.decide([&wish], Timestamp(2));
    for number in 0..600 {
        decider.remember(&user(&format!("after{number}"), scale("web", 1)), &events);
    }

    assert!(decider.remembers(&wish.command_id));
}

#[tokio::test]
async fn whatever_fails_in_between_everyone_is_told_the_truth() {
    for seed in 0..40 {
        let store = FaultyStore::new();
        let bus = bus(&store);
        let clients = (0..20).map(|client| tokio::spawn(client_of(bus.clone(), seed, client)));
        let clients: Vec<_> = clients.collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
            let faults = [Fault::Failed, Fault::LostAfterWriting, Fault::LostBeforeWriting];
            if rng.random_ratio(1, 10) {
                store.fail_next(faults[rng.random_range(0..faults.len())]);
            }
            tokio::task::yield_now().await;
        }
        store.fail_next(Fault::None);

        let mut expected = BTreeMap::new();
        let mut events = 0;
        for client in clients {
            let (process, instances, caused) = client.await.unwrap();
            expected.extend(instances.map(|instances| (process, instances)));
            events += caused;
        }

        let world = world_of(&store).await;
        let found = world.aggregates().desired_lrps();
        let found: BTreeMap<_, _> =
            found.map(|lrp| (lrp.process_guid.clone(), lrp.instances)).collect();
        assert_eq!(found, expected, "seed {seed}");
        assert_eq!(log(&store).await.len(), events, "seed {seed}");
    }
}

/// Changes a process of its own; what it was told tells how many instances it wishes for at last,
/// and how many events it caused.
async fn client_of(bus: CommandBus, seed: u64, client: u64) -> (ProcessGuid, Option<u32>, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed * 1000 + client);
    let process = format!("p{client}");
    let (mut wished, mut events) = (None, 0);
    for number in 0..30 {
        let instances = rng.random_range(1..5);
        let (command, then) = match wished {
            None => (testing::desire(&process, instances), Some(instances)),
            Some(_) if rng.random_ratio(1, 4) => (remove(&process), None),
            Some(_) => (scale(&process, instances), Some(instances)),
        };
        match bus.submit(user(&format!("c{client}-{number}"), command)).await {
            Ok(accepted) => {
                wished = then;
                events += accepted.events;
            }
            Err(Error::Unavailable { .. }) => {}
            Err(other) => panic!("client {client}, command {number}: {other:?}"),
        }
    }
    (testing::process_guid(&process), wished, events)
}
