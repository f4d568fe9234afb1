//! The bus on a memory store that can be made to fail.

mod ahead;
mod faulty_store;

use std::sync::{Arc, atomic::Ordering};

use domain::{
    aggregates::Aggregates,
    bbs::{actual_lrp, desired_lrp},
    command::{Command, Seen},
    event::Event,
    id::CommandId,
    log::{Actor, ActorKind, LeaseEpoch, Position, Recorded, Stamp},
    testing,
    units::Timestamp,
};
use projections::event_store::{self, EventStore};

use super::*;
use faulty_store::{Fault, FaultyStore};

fn bus(store: &Arc<FaultyStore>) -> CommandBus {
    let store: Arc<dyn EventStore> = store.clone();
    CommandBus::start(store, &World::empty(), Arc::new(Clock::default()), LeaseEpoch(1))
}

/// The bus of one of several nodes.
fn node(store: &Arc<FaultyStore>) -> (CommandBus, Lease) {
    let lease = Lease::held(LeaseEpoch(1));
    let as_store: Arc<dyn EventStore> = store.clone();
    let clock = Arc::new(Clock::default());
    let writers = Writers::Several;
    let bus = CommandBus::start_under(as_store, &World::empty(), clock, lease.clone(), writers);
    (bus, lease)
}

fn user(id: &str, command: impl Into<Command>) -> Envelope {
    let command_id = CommandId::new(id).unwrap();
    Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: Actor { kind: ActorKind::User, name: "ann".into(), via: "test".into() },
        seen: None,
        causation: None,
        command: command.into(),
    }
}

fn remove(process: &str) -> desired_lrp::Command {
    desired_lrp::Command::Remove { process_guid: testing::process_guid(process) }
}

async fn log(store: &FaultyStore) -> Vec<Recorded<Event>> {
    store.inner.read_all(Position(0), 10_000).await.unwrap()
}

async fn world_of(store: &FaultyStore) -> World {
    let mut world = World::empty();
    for recorded in log(store).await {
        world.apply(&recorded);
    }
    world
}

fn rejection(result: Result<Accepted, Error>) -> &'static str {
    match result {
        Err(Error::Rejected(rejection)) => rejection.code(),
        other => panic!("not a rejection: {other:?}"),
    }
}

#[tokio::test]
async fn a_refused_command_leaves_no_trace() {
    let store = FaultyStore::new();
    let bus = bus(&store);

    let refused = bus.submit(user("c1", remove("web"))).await;

    assert_eq!(rejection(refused), "NOT_FOUND");
    assert_eq!(log(&store).await, []);
}

#[tokio::test]
async fn a_repeated_command_is_answered_as_before_also_by_the_next_node() {
    let store = FaultyStore::new();
    let first_bus = bus(&store);
    let desire = user("c1", testing::desire("web", 1));

    let first = first_bus.submit(desire.clone()).await.unwrap();
    let again = first_bus.submit(desire.clone()).await.unwrap();
    let world = world_of(&store).await;
    let as_store: Arc<dyn EventStore> = store.clone();
    let next_bus = CommandBus::start(as_store, &world, Arc::new(Clock::default()), LeaseEpoch(1));
    let by_next_node = next_bus.submit(desire).await.unwrap();

    assert_eq!((again, by_next_node), (first, first));
    assert_eq!(log(&store).await.len(), 1);
}

#[tokio::test]
async fn a_command_that_changed_nothing_changes_nothing_when_it_is_repeated() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    let scale = |id, instances| {
        let update = desired_lrp::Update { instances: Some(instances), ..Default::default() };
        let process_guid = testing::process_guid("web");
        user(id, desired_lrp::Command::Update { process_guid, update })
    };
    bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    bus.submit(scale("c2", 1)).await.unwrap();
    bus.submit(scale("c3", 2)).await.unwrap();

    let repeated = bus.submit(scale("c2", 1)).await.unwrap();

    assert_eq!(repeated, Accepted { position: Position(1), events: 0 });
    assert_eq!(log(&store).await.len(), 2, "one wish, one change");
}

#[tokio::test]
async fn a_command_id_of_another_command_is_refused() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();

    let refused = bus.submit(user("c1", testing::desire("other", 1))).await;

    assert_eq!(rejection(refused), "COMMAND_ID_REUSED");
}

#[tokio::test]
async fn commands_that_wait_together_are_committed_together() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    let commands = (0..500).map(|number| {
        bus.submit(user(&format!("c{number}"), testing::desire(&format!("p{number}"), 1)))
    });

    let outcomes = futures_util::future::join_all(commands).await;

    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(log(&store).await.len(), 500);
    let appends = store.appends.load(Ordering::Relaxed);
    assert!(appends <= 10, "500 commands took {appends} appends");
}

#[tokio::test]
async fn nodes_on_one_log_yield_to_each_other_and_lose_nothing() {
    let store = FaultyStore::new();
    let nodes = [node(&store).0, node(&store).0, node(&store).0];
    for round in 0..10 {
        let commands = (0..30).map(|number| {
            let name = format!("{round}-{number}");
            nodes[number % 3].submit(user(&name, testing::desire(&name, 1)))
        });
        let outcomes = futures_util::future::join_all(commands).await;
        assert!(outcomes.iter().all(Result::is_ok));
    }

    let repeated = nodes[1].submit(user("0-0", testing::desire("0-0", 1))).await.unwrap();
    let same = nodes[2].submit(user("again", testing::desire("9-0", 1))).await;

    let log = log(&store).await;
    assert_eq!(log.len(), 300);
    let first = log.iter().find(|event| event.command_id.as_str() == "0-0").unwrap();
    assert_eq!((repeated.position, repeated.events), (first.position, 1));
    assert_eq!(rejection(same), "ALREADY_EXISTS");
    let moved = [&store.moved[0], &store.moved[1]].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(moved[1], 0, "a batch was refused within its turn");
    assert!(moved[0] <= 3, "who met another writer did not go on with turns: {moved:?}");
}

#[tokio::test]
async fn what_another_node_wrote_before_counts_also_for_what_changes_nothing() {
    let store = FaultyStore::new();
    let (one, two) = (node(&store).0, node(&store).0);
    for number in 0..50 {
        let name = format!("p{number}");
        one.submit(user(&format!("c{number}"), testing::desire(&name, 1))).await.unwrap();
        let refused = two.submit(user(&format!("d{number}"), testing::desire(&name, 1))).await;
        assert_eq!(rejection(refused), "ALREADY_EXISTS");
        assert!(two.submit(user(&format!("r{number}"), remove(&name))).await.is_ok());
        assert_eq!(
            rejection(one.submit(user(&format!("s{number}"), remove(&name))).await),
            "NOT_FOUND"
        );
    }
}

#[tokio::test]
async fn when_the_lease_has_passed_only_the_loops_commands_are_refused() {
    let store = FaultyStore::new();
    let (bus, lease) = node(&store);
    bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    store.fail_next(Fault::LeasePassed);
    let mut create = user("c2", actual_lrp::Command::Create { key: testing::key("web", 0) });
    create.seen = Some(Seen { position: Position(1), lease_epoch: LeaseEpoch(1) });

    let (loops, users) =
        tokio::join!(bus.submit(create), bus.submit(user("c3", testing::desire("other", 1))));

    assert!(matches!(loops, Err(Error::Rejected(Rejection::LeasePassed { .. }))), "{loops:?}");
    assert!(users.is_ok());
    assert_eq!(lease.epoch(), None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_that_the_outcome_is_unknown_while_the_bus_goes_on() {
    let store = FaultyStore::new();
    let (bus, _) = node(&store);
    store.fail_next(Fault::LostAfterWriting);
    store.lost_finds.store(60, Ordering::Relaxed);

    let late = bus.submit(user("c2", testing::desire("other", 1)));
    let late = async { (tokio::time::sleep(Duration::from_secs(1)).await, late.await).1 };
    let (first, late) = tokio::join!(bus.submit(user("c1", testing::desire("web", 1))), late);
    assert!(matches!(first, Err(Error::OutcomeUnknown)), "{first:?}");
    assert!(matches!(late, Err(Error::Unavailable { .. })), "{late:?}");

    tokio::time::sleep(Duration::from_secs(5)).await;
    let repeated = bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    assert_eq!(repeated, Accepted { position: Position(1), events: 1 });
    assert_eq!(log(&store).await.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_closed_before_an_outcome_is_known_ends_the_bus() {
    let store = FaultyStore::new();
    let (bus, _) = node(&store);
    store.fail_next(Fault::LostAfterWriting);
    store.lost_finds.store(usize::MAX, Ordering::Relaxed);

    let asked = bus.submit(user("c1", testing::desire("web", 1)));
    let closed = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.fail_next(Fault::Closed);
    };
    let (asked, ()) = tokio::join!(asked, closed);

    assert!(matches!(asked, Err(Error::OutcomeUnknown)));
    timeout(Duration::from_secs(10), bus.ended()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_up_and_never_doubled() {
    for fault in [Fault::LostAfterWriting, Fault::LostBeforeWriting] {
        let store = FaultyStore::new();
        let bus = bus(&store);
        store.fail_next(fault);

        let accepted = bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();

        assert_eq!(accepted.position, Position(1), "{fault:?}");
        assert_eq!(log(&store).await.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_failed_append_is_told_and_undone() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    store.fail_next(Fault::Failed);

    let failed = bus.submit(user("c1", testing::desire("web", 1))).await;
    let retried = bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();

    assert!(matches!(failed, Err(Error::Unavailable { .. })));
    assert_eq!(retried.position, Position(1));
}

#[tokio::test]
async fn one_users_large_wish_fails_alone() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    let mut large = testing::desire("large", 1);
    if let desired_lrp::Command::Desire { annotation, .. } = &mut large {
        *annotation = "x".repeat(event_store::PAYLOAD_BYTES_MAX);
    }

    let (before, refused, after) = tokio::join!(
        bus.submit(user("c1", testing::desire("one", 1))),
        bus.submit(user("c2", large)),
        bus.submit(user("c3", testing::desire("two", 1))),
    );

    assert_eq!(rejection(refused), "TOO_LARGE");
    assert!(before.is_ok() && after.is_ok());
    assert_eq!(store.appends.load(Ordering::Relaxed), 1, "they were not decided together");
    assert_eq!(log(&store).await.len(), 2);
}

#[tokio::test]
async fn only_the_culprit_of_a_refused_batch_fails() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    store.fail_next(Fault::Refuses("c3"));
    let commands =
        (0..6).map(|n| bus.submit(user(&format!("c{n}"), testing::desire(&format!("p{n}"), 1))));

    let outcomes = futures_util::future::join_all(commands).await;

    let failed = outcomes.iter().map(|o| matches!(o, Err(Error::Unavailable { .. })));
    assert_eq!(failed.collect::<Vec<_>>(), [false, false, false, true, false, false]);
    assert!(outcomes.iter().enumerate().all(|(n, outcome)| n == 3 || outcome.is_ok()));
    assert_eq!(log(&store).await.len(), 5);
}

#[tokio::test]
async fn the_culprit_of_a_refused_batch_takes_nothing_from_who_asked_after_it() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    store.fail_next(Fault::Refuses("c1"));
    let several = vec![user("c1", testing::desire("a", 1)), user("c2", testing::desire("b", 1))];

    let (several, one, other) = tokio::join!(
        bus.submit_all(several),
        bus.submit(user("c3", testing::desire("c", 1))),
        bus.submit(user("c4", testing::desire("d", 1))),
    );

    assert!(matches!(several, Err(Error::Unavailable { .. })), "{several:?}");
    for (accepted, command_id) in [(one, "c3"), (other, "c4")] {
        let position = accepted.unwrap().position;
        let log = log(&store).await;
        let event = log.iter().find(|event| event.position == position).unwrap();
        assert_eq!(event.command_id.as_str(), command_id);
    }
}

#[tokio::test]
async fn a_log_that_ends_before_what_was_decided_on_ends_the_bus() {
    let store = FaultyStore::new();
    let (bus, _) = node(&store);
    bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    store.fail_next(Fault::CutOff);

    let refused = bus.submit(user("c2", testing::desire("other", 1))).await;

    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    timeout(Duration::from_secs(10), bus.ended()).await.unwrap();
    assert!(bus.failure().is_some_and(|reason| reason.contains("was cut off")));
}

/// Only what changed something is in the log, where every node finds it.
#[tokio::test]
async fn a_command_that_changed_nothing_is_judged_anew_by_another_node_and_takes_effect_once() {
    let store = FaultyStore::new();
    let (one, two) = (node(&store).0, node(&store).0);
    let scale = |id, instances| {
        let update = desired_lrp::Update { instances: Some(instances), ..Default::default() };
        let process_guid = testing::process_guid("web");
        user(id, desired_lrp::Command::Update { process_guid, update })
    };
    one.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    assert_eq!(one.submit(scale("c2", 1)).await.unwrap().events, 0);
    one.submit(scale("c3", 2)).await.unwrap();

    let elsewhere = two.submit(scale("c2", 1)).await.unwrap();
    two.submit(scale("c4", 3)).await.unwrap();
    // That node has heard meanwhile that it took effect elsewhere, or finds it in the log.
    let repeated = [one.submit(scale("c2", 1)).await, two.submit(scale("c2", 1)).await];

    assert_eq!(elsewhere, Accepted { position: Position(3), events: 1 });
    assert!(repeated.iter().all(Result::is_ok));
    assert_eq!(log(&store).await.len(), 4, "it took effect twice");
}

#[tokio::test]
async fn a_bus_whose_store_is_closed_ends_and_says_so() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    store.fail_next(Fault::Closed);

    let failed = bus.submit(user("c1", testing::desire("web", 1))).await;
    timeout(Duration::from_secs(10), bus.ended()).await.unwrap();

    assert!(matches!(failed, Err(Error::Unavailable { .. })));
    let later = bus.submit(user("c2", testing::desire("web", 1))).await;
    assert!(matches!(later, Err(Error::Closed)));
}

#[tokio::test]
async fn a_disk_that_fails_under_a_commit_ends_the_bus_and_says_why() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    store.fail_next(Fault::DiskFailed);

    let asked = bus.submit(user("c1", testing::desire("web", 1))).await;
    timeout(Duration::from_secs(10), bus.ended()).await.unwrap();

    // It may be found there when the file is opened again.
    assert!(matches!(asked, Err(Error::OutcomeUnknown)), "{asked:?}");
    let reason = bus.failure().unwrap();
    assert!(reason.contains("see to the disk, then start diario again"), "{reason}");
    let later = bus.submit(user("c2", testing::desire("web", 1))).await;
    assert!(matches!(later, Err(Error::Closed)));
    assert!(log(&store).await.is_empty());
}

#[tokio::test]
async fn behind_a_newer_nodes_event_the_bus_writes_nothing_and_ends() {
    let store = FaultyStore::new();
    let bus = bus(&store);
    bus.submit(user("c1", testing::desire("web", 1))).await.unwrap();
    let another = CommandBus::start(
        store.clone(),
        &world_of(&store).await,
        Arc::new(Clock::default()),
        LeaseEpoch(1),
    );
    another.submit(user("c2", testing::desire("api", 1))).await.unwrap();
    store.is_newer.store(true, Ordering::Relaxed);

    let refused = bus.submit(user("c3", testing::desire("db", 1))).await.unwrap_err();

    let told = refused.to_string();
    assert!(told.contains("position 2") && told.contains("upgrade"), "{told}");
    timeout(Duration::from_secs(10), bus.ended()).await.unwrap();
    assert!(bus.failure().is_some_and(|reason| told.contains(reason)));
    assert_eq!(log(&store).await.len(), 2);
}

#[test]
fn a_loops_command_is_refused_when_its_stream_moved_or_its_lease_passed() {
    let start = Stamp { position: Position(0), recorded_at: Timestamp(0) };
    let mut decider = Decider::new(Aggregates::default(), start, Some(LeaseEpoch(2)));
    let created = actual_lrp::Command::Create { key: testing::key("web", 0) };
    let setup = [user("c1", testing::desire("web", 1)), user("c2", created)];
    assert!(decider.decide(&setup, Timestamp(5)).outcomes.iter().all(Result::is_ok));
    let retire = |position, lease_epoch| {
        let mut envelope = user("c3", actual_lrp::Command::Retire { key: testing::key("web", 0) });
        envelope.seen =
            Some(Seen { position: Position(position), lease_epoch: LeaseEpoch(lease_epoch) });
        envelope
    };

    let tentative = decider.decide(&[retire(1, 2), retire(2, 1), retire(2, 2)], Timestamp(6));

    let codes: Vec<_> =
        tentative.outcomes.iter().map(|o| o.as_ref().map_err(Rejection::code).is_ok()).collect();
    assert_eq!(codes, [false, false, true]);
}

#[test]
fn an_undone_batch_leaves_everything_as_it_was() {
    let start = Stamp { position: Position(0), recorded_at: Timestamp(9) };
    let mut decider = Decider::new(Aggregates::default(), start, Some(LeaseEpoch(1)));
    let register = user("c0", testing::register("cell-1", 1));
    let desire = user("c1", testing::desire("web", 1));
    let create = user("c2", actual_lrp::Command::Create { key: testing::key("web", 0) });
    decider.decide(&[register, desire, create], Timestamp(10));
    let before = decider.aggregates().clone();
    let place = user("c3", testing::place(&testing::key("web", 0), "i-1", "cell-1"));

    let tentative = decider.decide(&[place, user("c4", remove("web"))], Timestamp(3));
    assert_ne!(*decider.aggregates(), before);
    assert_eq!(tentative.recorded_at, Timestamp(10), "time went back with the node's clock");
    decider.undo(tentative);

    assert_eq!(*decider.aggregates(), before);
    assert!(!decider.remembers(&CommandId::new("c4").unwrap()));
}
