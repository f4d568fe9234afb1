//! A batch that is longer than the pages it is read in.

use domain::{
    event::Event,
    log::{Position, Recorded},
};

use super::{Database, SqliteStore, change_by_hand};
use crate::event_store::{
    EventStore,
    conformance::samples::{self, INCARNATION},
};

const PAGE: usize = 150;

async fn page(store: &SqliteStore, after: u64) -> Vec<Recorded<Event>> {
    store.read_all(Position(after), PAGE).await.unwrap()
}

#[tokio::test]
async fn pages_go_on_within_a_batch_as_long_as_it_stands_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let database = Database::open(&path, INCARNATION).await.unwrap();
    let store = SqliteStore::new(database.clone());
    let written = samples::fill(&store, &[2, 400, 1]).await;

    let mut read = Vec::new();
    loop {
        let next = page(&store, u64::try_from(read.len()).unwrap()).await;
        if next.is_empty() {
            break;
        }
        read.extend(next);
    }
    assert_eq!(read, written);

    // Two readers at once take it from each other.
    for after in [0, 100, 150, 250, 0, 300, 402] {
        let behind = usize::try_from(after).unwrap();
        let expected = &written[behind..(behind + PAGE).min(written.len())];
        assert_eq!(page(&store, after).await, expected, "behind {after}");
    }

    page(&store, 0).await;
    change_by_hand(&path, "DELETE FROM batches WHERE first_position = 3").await;
    assert_eq!(page(&store, 150).await, written[402..], "what was kept is not what the log holds");
    database.close().await;
}
