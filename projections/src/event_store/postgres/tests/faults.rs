//! Answers that are lost, servers that die, stall or refuse, hands that alter.

use std::time::Duration;

use domain::log::Position;
use nix::sys::signal::Signal;

use super::{database_of, soon, store, verified};
use crate::{
    event_store::{
        AppendError, BatchId, Error, EventStore,
        chain::FaultKind,
        conformance::samples::{START, batch, fill, lost},
        postgres::PostgresStore,
    },
    testing::{
        postgres::{self, Cluster, Settings},
        proxy::{Fate, Proxy},
    },
};

fn id(number: u128) -> BatchId {
    BatchId(uuid::Uuid::from_u128(number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_found_and_what_was_never_written_never_will_be() {
    let cluster = postgres::shared();
    let url = cluster.fresh_database();
    let proxy = Proxy::start(cluster.port()).await;
    let ours = store(&cluster.url_through(proxy.port(), database_of(&url))).await;
    let mut following = ours.subscribe(START);
    let mut head = START;
    let mut expected = Vec::new();

    for (number, fate) in [
        (1, Fate::AnswerLost),
        (2, Fate::RequestLost),
        (3, Fate::RequestDelayed),
        (4, Fate::AnswerLost),
        (5, Fate::RequestDelayed),
    ] {
        let mark = format!("mark-{number}");
        proxy.mark(mark.as_bytes(), fate);
        let result = ours.append(batch(number, head, 7, vec![lost("a", &mark)])).await;
        assert!(
            matches!(result, Err(AppendError::OutcomeUnknown { batch }) if batch == id(number)),
            "{fate:?}: {result:?}"
        );
        soon("the fate", proxy.met()).await;

        let found = soon("the look-up", ours.find_batch(id(number))).await.unwrap();

        assert_eq!(found.is_some(), fate == Fate::AnswerLost, "{fate:?}");
        if fate == Fate::RequestDelayed {
            // It arrives after all, on the very head that it was decided on.
            soon("the delivery", proxy.release()).await;
        }
        let after = ours.head().await.unwrap().position;
        assert_eq!(after.0, head.0 + u64::from(fate == Fate::AnswerLost), "{fate:?}");
        head = after;
        let told = format!("told-{number}");
        let written = ours.append(batch(100 + number, head, 7, vec![lost("a", &told)])).await;
        head = written.unwrap()[0].position;
        expected.push(head);
    }

    while following.position() < head {
        soon("the next event", following.next()).await.unwrap();
    }
    assert_eq!(head, Position(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_whose_commit_is_lost_leaves_no_head_behind_that_never_was() {
    let cluster = postgres::shared();
    let url = cluster.fresh_database();
    let proxy = Proxy::start(cluster.port()).await;
    let ours = store(&cluster.url_through(proxy.port(), database_of(&url))).await;
    let next = |number, head| batch(number, head, 7, vec![lost("a", &number.to_string())]);
    proxy.mark(b"COMMIT", Fate::RequestLost);
    let unknown = ours.turn().await.unwrap().append(next(1, START)).await;
    assert!(matches!(unknown, Err(AppendError::OutcomeUnknown { .. })), "{unknown:?}");
    assert_eq!(soon("the look-up", ours.find_batch(id(1))).await.unwrap(), None);

    // As long as the one that was lost.
    let turn = soon("a turn", ours.turn()).await.unwrap();
    turn.append(next(2, START)).await.unwrap();
    let written = ours.append(next(3, Position(1))).await.unwrap();

    assert_eq!(written[0].position, Position(2));
    assert_eq!(verified(ours).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_terminated_killed_or_stalled_comes_back_by_itself() {
    let cluster = Cluster::start(&Settings::default());
    let url = cluster.fresh_database();
    let ours = store(&url).await;
    let mut following = ours.subscribe(START);
    let mut acknowledged = fill(&ours, &[2]).await.len();
    for harm in ["terminate", "terminate", "stop", "kill", "stall"] {
        match harm {
            "terminate" => {
                cluster.psql(
                    "postgres",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE application_name LIKE 'diario %'",
                );
            }
            "stop" => {
                cluster.stop(true);
                let refused = ours.read_all(START, 1).await;
                assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
                assert!(!format!("{refused:?}").contains("never-shown"));
                cluster.restart();
            }
            "kill" => {
                cluster.kill();
                cluster.restart();
            }
            _ => {
                cluster.signal(Signal::SIGSTOP);
                let stalled = tokio::time::timeout(Duration::from_millis(300), ours.head()).await;
                assert!(stalled.is_err(), "{stalled:?}");
                cluster.signal(Signal::SIGCONT);
            }
        }
        let number = u128::try_from(acknowledged).unwrap();
        acknowledged += soon(harm, append_until_acknowledged(&ours, number * 1_000)).await;
        while following.position().0 < u64::try_from(acknowledged).unwrap() {
            soon("the next event", following.next()).await.unwrap();
        }
    }
    assert_eq!(ours.read_all(START, 99).await.unwrap().len(), acknowledged);
}

/// What a bus does: looks up what is unknown, and tries again what failed.
pub(super) async fn append_until_acknowledged(store: &PostgresStore, first_id: u128) -> usize {
    for number in first_id.. {
        let result = match store.head().await {
            Ok(head) => store.append(batch(number, head.position, 100, vec![lost("a", "n")])).await,
            Err(failure) => Err(AppendError::Failed(failure)),
        };
        match result {
            Ok(events) => return events.len(),
            Err(AppendError::OutcomeUnknown { batch }) => loop {
                match store.find_batch(batch).await {
                    Ok(Some(events)) => return events.len(),
                    Ok(None) => break,
                    Err(failure) => assert!(failure.is_passing(), "{failure:?}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            },
            Err(AppendError::Failed(failure)) => {
                assert!(failure.is_passing(), "{failure:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(failure) => panic!("{failure:?}"),
        }
    }
    unreachable!("the ids do not end");
}

#[tokio::test]
async fn a_clock_that_is_far_off_writes_nothing() {
    let url = postgres::shared().fresh_database();
    for (off, is_refused) in [(-8, true), (-3, false), (3, false), (8, true)] {
        let clock = postgres::wall_clock();
        let off =
            std::sync::Arc::new(move || domain::units::Timestamp(clock().0 + off * 1_000_000_000));
        let incarnation = crate::event_store::conformance::samples::INCARNATION;
        let database =
            super::Database::open(&url.parse().unwrap(), incarnation, off).await.unwrap();
        let store = PostgresStore::new(database);
        let head = store.head().await.unwrap().position;
        let result = store.append(batch(u128::from(head.0), head, 7, vec![lost("a", "n")])).await;
        let is_told = matches!(
            &result,
            Err(AppendError::Failed(Error::ClockOff { milliseconds, .. }))
                if milliseconds.abs() > 7_000
        );
        assert_eq!(is_told, is_refused, "{result:?}");
    }
}

#[tokio::test]
async fn verify_names_what_was_changed_by_hand() {
    for (tampering, position, kind) in [
        ("UPDATE events SET owner_hash = 7 WHERE position = 2", 2, FaultKind::Altered),
        ("UPDATE events SET command_hash = 7 WHERE position = 2", 2, FaultKind::Altered),
        ("UPDATE events SET correlation = command_id WHERE position = 2", 2, FaultKind::Altered),
        ("UPDATE events SET command_id = 'u' WHERE position = 2", 2, FaultKind::Altered),
        ("UPDATE events SET causation = 1 WHERE position = 4", 4, FaultKind::Altered),
        ("UPDATE events SET payload = 'x' WHERE position = 4", 4, FaultKind::Altered),
        ("DELETE FROM events WHERE position = 4", 4, FaultKind::Missing),
        ("UPDATE batches SET recorded_at = 1 WHERE first_position = 4", 4, FaultKind::BatchAltered),
    ] {
        let url = postgres::shared().fresh_database();
        let ours = store(&url).await;
        fill(&ours, &[3, 2, 3]).await;
        postgres::shared().psql(database_of(&url), tampering);

        let fault = verified(ours).await;

        let fault = fault.unwrap_or_else(|| panic!("not found: {tampering}"));
        assert_eq!((fault.position, fault.kind), (Position(position), kind), "{tampering}");
    }
}
