//! A log that somebody has changed past this program: `verify` names the first wrong position.

use std::path::Path;

use domain::log::Position;

use super::{
    Change, Database, SqliteStore, change_by_hand, change_event_by_hand, change_events_by_hand,
    fault, sample,
};
use crate::event_store::{
    Error, Leaf, Row,
    chain::{self, FaultKind},
    conformance::samples::INCARNATION,
};

/// Something that somebody does to a log.
enum Tampering {
    Sql(&'static str),
    Event(u64, Change),
    Events(u64, fn(&mut Vec<(Row, Leaf)>)),
}

impl Tampering {
    async fn run(&self, path: &Path) {
        match self {
            Self::Sql(statements) => change_by_hand(path, statements).await,
            Self::Event(position, change) => change_event_by_hand(path, *position, change),
            Self::Events(position, change) => change_events_by_hand(path, *position, change),
        }
    }
}

fn rename_in_payload(row: &mut Row) {
    row.payload = String::from_utf8(row.payload.clone()).unwrap().replace("node", "mode").into();
}

#[tokio::test]
async fn verify_names_the_first_wrong_position_and_how() {
    use Tampering::{Event, Events, Sql};

    let moved = FaultKind::Reordered { belongs_at: Position(2) };
    for (number, (tampering, expected)) in [
        (Event(4, rename_in_payload), fault(4, FaultKind::Altered)),
        (Event(2, |row| row.actor_name = "me".into()), fault(2, FaultKind::Altered)),
        (Event(8, |row| row.stream = "cell/other".into()), fault(8, FaultKind::Altered)),
        (Event(2, |row| row.command_id = "other".into()), fault(2, FaultKind::Altered)),
        (Event(3, |row| row.correlation.clone_from(&row.command_id)), fault(3, FaultKind::Altered)),
        (Event(4, |row| row.stream = "nothing".into()), fault(4, FaultKind::Altered)),
        (Event(5, |row| row.causation = Some(Position(1))), fault(5, FaultKind::Altered)),
        (Events(5, |rows| rows[1].1 = [0; 32]), fault(5, FaultKind::Altered)),
        (Events(1, |rows| rows.swap(0, 1)), fault(1, moved)),
        (Events(4, |rows| drop(rows.pop())), fault(5, FaultKind::Missing)),
        (
            Events(4, |rows| drop(rows.remove(0))),
            fault(4, FaultKind::Reordered { belongs_at: Position(5) }),
        ),
        (Events(6, |rows| rows.truncate(1)), fault(7, FaultKind::CutOff)),
        (
            Sql("UPDATE batches SET events = x'00' WHERE first_position = 4"),
            fault(4, FaultKind::Missing),
        ),
        (
            Sql("UPDATE batches SET events = x'ffff' WHERE first_position = 4"),
            fault(4, FaultKind::Altered),
        ),
        (
            Sql("UPDATE batches SET events = substr(events, 1, 200) WHERE first_position = 6"),
            fault(6, FaultKind::Altered),
        ),
        (Sql("DELETE FROM batches WHERE first_position >= 6"), fault(6, FaultKind::CutOff)),
        (
            Sql("UPDATE batches SET event_count = 3 WHERE first_position = 4"),
            fault(4, FaultKind::BatchAltered),
        ),
        (
            Sql("UPDATE batches SET event_count = 1 WHERE first_position = 4"),
            fault(4, FaultKind::BatchAltered),
        ),
        (
            Sql("UPDATE batches SET event_count = 4000000000 WHERE first_position = 4"),
            fault(4, FaultKind::BatchAltered),
        ),
        (
            Sql("UPDATE batches SET recorded_at = 7 WHERE first_position = 4"),
            fault(4, FaultKind::Altered),
        ),
        (
            Sql("UPDATE batches SET batch_id = zeroblob(16) WHERE first_position = 4"),
            fault(4, FaultKind::BatchAltered),
        ),
        (Sql("DELETE FROM batches WHERE first_position = 4"), fault(4, FaultKind::BatchAltered)),
        (Sql("UPDATE log_head SET link = zeroblob(32)"), fault(8, FaultKind::HeadAltered)),
        (Sql("UPDATE log_head SET position = 5"), fault(5, FaultKind::HeadAltered)),
        (Sql("UPDATE log_head SET position = 9"), fault(9, FaultKind::CutOff)),
        (Sql("SELECT 1"), None),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diario.db");
        let database = sample(&path).await;
        tampering.run(&path).await;

        let found = chain::verify(&SqliteStore::new(database.clone())).await.unwrap();

        assert_eq!(found, expected, "tampering {number}");
        // Damage in the last batch is seen by every open, before anything is built on it.
        let at_end = expected.filter(|fault| fault.position >= Position(6));
        database.close().await;
        match (Database::open(&path, INCARNATION).await, at_end) {
            (Err(Error::TailDamaged { fault, .. }), Some(expected)) => assert_eq!(fault, expected),
            (Ok(_), Some(expected)) => panic!("tampering {number}: opened in spite of {expected}"),
            (_, _) => {}
        }
    }
}

#[tokio::test]
async fn a_row_changed_together_with_its_leaf_still_breaks_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diario.db");
    let store = SqliteStore::new(sample(&path).await);
    change_events_by_hand(&path, 5, |rows| {
        rows[1].0.actor_name = "me".to_owned();
        rows[1].1 = chain::leaf(&rows[1].0);
    });

    let found = chain::verify(&store).await.unwrap();

    assert_eq!(found, fault(4, FaultKind::BatchAltered));
}
