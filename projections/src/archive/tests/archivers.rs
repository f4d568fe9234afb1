//! Two archivers at once: on one place, of one log.

use super::*;
use crate::{
    event_store::postgres::PostgresStore,
    testing::{postgres, s3::Server},
};

const POLICY: Policy = Policy {
    keep_events: 1,
    before: None,
    segment_events: 3,
    short_segments: ShortSegments::Write,
};

/// A node's view of a log and its archive.
struct Archiver<S> {
    hot: Arc<S>,
    archive: Arc<Archive>,
}

impl<S: EventStore + HotLog + 'static> Archiver<S> {
    async fn open(hot: Arc<S>, place: Place) -> Self {
        let archive = Archive::of_log(place, hot.identity().await.unwrap()).await.unwrap();
        Self { hot, archive: Arc::new(archive) }
    }

    /// Archives until nothing is left. Being told that another one writes is all that may happen.
    async fn run(&self) -> u32 {
        let mut refused = 0;
        let last = Position(self.hot.head().await.unwrap().position.0 - 2);
        while self.hot.floor().await.unwrap().position < last {
            match run(Arc::clone(&self.hot) as _, self.hot.as_ref(), &self.archive, POLICY).await {
                Ok(_) => {}
                Err(Error::Concurrent { .. }) => refused += 1,
                Err(failure) => panic!("{failure}"),
            }
            tokio::task::yield_now().await;
        }
        refused
    }

    async fn check(&self, written: &[Recorded<Event>]) {
        let store =
            ArchivedStore::new(self.hot.clone(), self.hot.clone(), Arc::clone(&self.archive));
        assert_eq!(store.read_all(START, 10_000).await.unwrap(), written);
        let (store, tables) = (Arc::new(store), self.hot.clone());
        let live = Live { store, tables, archive: Some(Arc::clone(&self.archive)) };
        let report = verify::log(&live, &LogOptions::default(), &|_| {}).await.unwrap();
        assert_eq!(report.fault, None);
    }
}

async fn race<S: EventStore + HotLog + 'static>(hot: [Arc<S>; 2], places: [Place; 2]) -> u32 {
    let mut written = Vec::new();
    let [one, other] = hot;
    let [here, there] = places;
    let one = Archiver::open(one, here).await;
    let other = Archiver::open(other, there).await;
    let mut refused = 0;
    for _ in 0..6 {
        let decided_on = one.hot.head().await.unwrap().position;
        samples::fill(one.hot.as_ref(), &[2, 1, 3, 1, 2, 2]).await;
        let new = one.hot.read_all(decided_on, 100).await.unwrap();
        written.extend(new);
        let (ours, theirs) = tokio::join!(one.run(), other.run());
        refused += ours + theirs;
    }
    one.check(&written).await;
    other.check(&written).await;
    let listed: Vec<_> = one.archive.manifest().segments.clone();
    let end = listed.last().unwrap().last;
    let covered: u64 = listed.iter().map(|it| it.last.0 - it.first.0 + 1).sum();
    assert_eq!(covered, end.0, "each event is in one segment");
    refused
}

#[tokio::test]
async fn two_archivers_of_a_log_leave_one_whole_archive_whose_every_event_reads_back() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for kind in ["folder", "s3"] {
        let place = || match kind {
            "folder" => Place::create(folder.path().join(kind).to_str().unwrap(), None).unwrap(),
            _ => Place::in_s3(&server, kind),
        };
        let file = folder.path().join(format!("{kind}.db"));
        let database = Database::open(&file, INCARNATION).await.unwrap();
        let hot = Arc::new(SqliteStore::new(database));
        refused += race([hot.clone(), hot], [place(), place()]).await;

        let url = postgres::shared().fresh_database();
        let place = || match kind {
            "folder" => Place::create(folder.path().join("pg").to_str().unwrap(), None).unwrap(),
            _ => Place::in_s3(&server, "pg"),
        };
        let one = Arc::new(PostgresStore::new(postgres::open(&url).await));
        let other = Arc::new(PostgresStore::new(postgres::open(&url).await));
        refused += race([one, other], [place(), place()]).await;
    }
    assert!(refused > 0, "they never met: this test has shown nothing");
}

/// A list that was written since it was read is not replaced, whoever wrote it.
#[tokio::test]
async fn a_list_of_segments_that_moved_is_not_replaced() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let in_folder = Place::create(folder.path().to_str().unwrap(), None).unwrap();
    for place in [in_folder, Place::in_memory(), Place::in_s3(&server, "a")] {
        let any = |_: Option<&[u8]>| Ok(true);
        let none = |found: Option<&[u8]>| Ok(found.is_none());
        assert!(place.replace("list", none, b"one".to_vec()).await.unwrap());
        assert!(!place.replace("list", none, b"two".to_vec()).await.unwrap());
        assert!(place.replace("list", any, b"three".to_vec()).await.unwrap());
        assert_eq!(place.get("list").await.unwrap().unwrap(), b"three");

        // Between the look and the put another one writes.
        let other = place.clone();
        let meanwhile = move |_: Option<&[u8]>| {
            let write = async move { other.put("list", b"four".to_vec()).await };
            std::thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(write)
            })
            .join()
            .unwrap()?;
            Ok(true)
        };
        if place.to_string().starts_with('/') {
            // Whoever replaces in a folder has its lock; a plain put is nobody's list.
            let held = super::super::place::lock(folder.path()).unwrap();
            assert!(!place.replace("list", any, b"five".to_vec()).await.unwrap());
            drop(held);
            continue;
        }
        assert!(!place.replace("list", meanwhile, b"five".to_vec()).await.unwrap());
        assert_eq!(place.get("list").await.unwrap().unwrap(), b"four");
    }
}
