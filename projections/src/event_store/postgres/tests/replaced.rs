//! A log that is another one under a running node: noticed by every operation, and told. Never
//! taken for that where it is still the same.

use domain::log::Position;

use super::{database_of, faults::append_until_acknowledged, soon, store};
use crate::{
    event_store::{
        AppendError, BatchId, Error, EventStore, Floor, HotLog as _,
        conformance::samples::{batch, fill, lost},
        postgres::PostgresStore,
    },
    testing::postgres::shared,
};

/// What a restored server looks like: every connection was cut.
const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// The log as it was after its first batch of two events.
const EARLIER: &str = "DELETE FROM events WHERE position > 2; \
     DELETE FROM batches WHERE first_position > 2; \
     UPDATE streams SET version = 1, last_position = 2; \
     UPDATE log_head SET position = 2, recorded_at = 1000000000, \
     link = (SELECT link FROM batches WHERE first_position = 1)";

const OTHER_LIFE: &str = "UPDATE log_head SET incarnation = '\\x00112233445566778899aabbccddeeff'";

/// As long as before and longer, but not the same.
const OTHER_EVENTS: &str = "UPDATE batches SET link = decode(repeat('ab', 32), 'hex') \
     WHERE first_position = 5; \
     UPDATE log_head SET position = 99, link = decode(repeat('cd', 32), 'hex')";

const OTHER_HEAD: &str = "UPDATE log_head SET link = decode(repeat('cd', 32), 'hex')";

const GONE: &str = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";

/// A log of five events, and a reader that has seen them all.
async fn followed(url: &str) -> (PostgresStore, crate::event_store::Subscription) {
    let ours = store(url).await;
    fill(&ours, &[2, 2, 1]).await;
    let mut following = ours.subscribe(Position(4));
    soon("the last event", following.next()).await.unwrap();
    (ours, following)
}

#[tokio::test]
async fn a_log_that_was_replaced_is_told_to_whoever_reads_follows_or_writes() {
    for (change, cut, reason) in [
        (EARLIER, CUT, "it ends at position 2 now and held position 5"),
        (EARLIER, "", "it ends at position 2 now and held position 5"),
        (OTHER_LIFE, CUT, "its incarnation is 00112233-4455-6677-8899-aabbccddeeff now"),
        (OTHER_LIFE, "", "its incarnation is 00112233-4455-6677-8899-aabbccddeeff now"),
        (OTHER_EVENTS, CUT, "other events stand now up to position 5"),
        (OTHER_HEAD, "", "other events stand now up to position 5"),
        (GONE, CUT, "it holds no log now"),
    ] {
        let url = shared().fresh_database();
        let (ours, mut following) = followed(&url).await;
        // In one transaction: nobody sees a half.
        shared().psql(database_of(&url), &format!("BEGIN; {change}; COMMIT"));
        if !cut.is_empty() {
            shared().psql(database_of(&url), cut);
        }

        let append = |id| ours.append(batch(id, Position(5), 100, vec![lost("a", "n")]));
        let refused = match append(77).await {
            // Nothing is known of what was sent on a connection that was cut.
            Err(AppendError::OutcomeUnknown { .. }) => append(78).await,
            other => other,
        };
        let Err(AppendError::Failed(failure @ Error::Replaced { .. })) = refused else {
            panic!("{change}: {refused:?}");
        };

        let told = failure.to_string();
        assert!(told.contains(reason) && told.ends_with("start this node again"), "{told}");
        assert!(failure.is_final() && !failure.is_passing());
        let heard = soon("the reader to hear of it", following.next()).await;
        assert!(matches!(heard, Err(Error::Replaced { .. })), "{change}: {heard:?}");
        for read in [
            ours.head().await.map(drop),
            ours.ready().await.map(drop),
            ours.read_all(Position(0), 9).await.map(drop),
            ours.find_batch(BatchId(uuid::Uuid::from_u128(5))).await.map(drop),
        ] {
            assert!(matches!(read, Err(Error::Replaced { .. })), "{change}: {read:?}");
        }
        let turn = ours.turn().await.map(|turn| turn.head());
        assert!(
            matches!(turn, Err(AppendError::Failed(Error::Replaced { .. }))),
            "{change}: {turn:?}"
        );
    }
}

#[tokio::test]
async fn a_reader_hears_that_the_log_was_replaced_also_when_nobody_asks() {
    let url = shared().fresh_database();
    let (_ours, mut following) = followed(&url).await;
    shared().psql(database_of(&url), &format!("BEGIN; {EARLIER}; COMMIT"));
    shared().psql(database_of(&url), CUT);

    let heard = soon("the reader to hear of it", following.next()).await;

    assert!(matches!(heard, Err(Error::Replaced { .. })), "{heard:?}");
}

#[tokio::test]
async fn a_log_that_others_wrote_to_and_archived_is_still_the_same() {
    let url = shared().fresh_database();
    let (ours, mut following) = followed(&url).await;
    let theirs = store(&url).await;
    for round in 0..3 {
        shared().psql(database_of(&url), CUT);
        for id in 0..4 {
            append_until_acknowledged(&theirs, 1_000_000 * (4 * round + id + 1)).await;
        }
        let floor = theirs.read_batches(Position(0), 99).await.unwrap();
        let floor = &floor[floor.len() - 2];
        let floor = Floor {
            position: floor.last(),
            recorded_at: floor.recorded_at,
            link: floor.link,
            archive: "/elsewhere".to_owned(),
        };
        theirs.trim(floor).await.unwrap();
        shared().psql(database_of(&url), CUT);

        append_until_acknowledged(&ours, 100_000_000 * (round + 1)).await;
    }
    assert_eq!(ours.head().await.unwrap().position, Position(20));
    // The reader of it lost nothing that it had been told before.
    let next = soon("the next event", following.next()).await;
    assert!(!matches!(next, Err(Error::Replaced { .. })), "{next:?}");
}
