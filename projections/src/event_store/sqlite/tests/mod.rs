//! What only a file can suffer: tampering, damage, strangers' files, cuts in the middle.

mod converted;
mod lookups;
mod paged;
mod tampered;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use rusqlite::types::Value;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::{Database, SqliteStore, change_by_hand, change_event_by_hand, change_events_by_hand};
use crate::event_store::{
    AppendError, Error, EventStore, Filter, HotLog as _, Order, Row, StreamRow,
    chain::{self, Fault, FaultKind},
    check_known,
    conformance::{
        self, Factory,
        samples::{self, INCARNATION, START},
    },
    memory::{MemoryLog, MemoryStore},
};
use crate::world::World;
use domain::{
    bbs::freshness_domain,
    event::Event,
    log::{Position, StreamVersion},
    units::Timestamp,
};

struct Sqlite {
    folder: TempDir,
    run_events: u64,
    opened: std::sync::Mutex<Vec<Database>>,
}

impl Sqlite {
    async fn open(&self, name: &str) -> Arc<dyn EventStore> {
        let path = self.folder.path().join(name);
        let database = Database::open_with_runs(&path, INCARNATION, self.run_events).await.unwrap();
        self.opened.lock().unwrap().push(database.clone());
        Arc::new(SqliteStore::new(database))
    }
}

#[async_trait]
impl Factory for Sqlite {
    async fn fresh(&self) -> Arc<dyn EventStore> {
        let name = format!("{}.db", self.opened.lock().unwrap().len());
        self.open(&name).await
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        drop(store);
        let last = self.opened.lock().unwrap().last().cloned()?;
        last.close().await;
        Some(self.open(last.path().file_name()?.to_str()?).await)
    }
}

struct Memory;

#[async_trait]
impl Factory for Memory {
    async fn fresh(&self) -> Arc<dyn EventStore> {
        Arc::new(MemoryStore::new(MemoryLog::new(INCARNATION)))
    }

    async fn reopen(&self, _store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sqlite_store_behaves() {
    // Events are found in memory, or in runs that are written all the time.
    for run_events in [super::lookups::RUN_EVENTS, 3] {
        let folder = tempfile::tempdir().unwrap();
        conformance::run(&Sqlite { folder, run_events, opened: std::sync::Mutex::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_behaves() {
    conformance::run(&Memory).await;
}

/// Three batches: positions 1 to 3, 4 and 5, 6 to 8.
async fn sample(path: &Path) -> Database {
    let database = Database::open(path, INCARNATION).await.unwrap();
    samples::fill(&SqliteStore::new(database.clone()), &[3, 2, 3]).await;
    database
}

/// The streams of a log, as its events tell.
async fn streams_of(log: &dyn EventStore) -> Vec<StreamRow> {
    let batches = log.read_batches(START, 1_000).await.unwrap();
    let mut streams = BTreeMap::new();
    for (row, _) in log.read_rows(START, 1_000).await.unwrap() {
        let batch = batches.iter().find(|batch| batch.last() >= row.position).unwrap();
        let (version, last_position) = (row.version, batch.last());
        let stream = row.stream;
        streams.insert(stream.clone(), StreamRow { stream, version, last_position });
    }
    streams.into_values().collect()
}

fn fault(position: u64, kind: FaultKind) -> Option<Fault> {
    Some(Fault { position: Position(position), kind })
}

/// Something that is done to one event.
type Change = fn(&mut Row);

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diario.db");
    std::fs::write(&path, "shopping list").unwrap();
    let refused = Database::open(&path, INCARNATION).await;
    assert!(matches!(refused, Err(Error::NotADatabase { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"shopping list");

    std::fs::remove_file(&path).unwrap();
    {
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::query("CREATE TABLE shopping (item)").execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    let refused = Database::open(&path, INCARNATION).await;
    assert!(matches!(refused, Err(Error::NotADatabase { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let refused = Database::open(folder.path(), INCARNATION).await;
    assert!(matches!(refused, Err(Error::Open { .. })), "{refused:?}");
    let refused = Database::open(&folder.path().join("no/such.db"), INCARNATION).await;
    assert!(matches!(refused, Err(Error::Open { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diario.db");
    sample(&path).await.close().await;
    let newer = "INSERT INTO _sqlx_migrations \
                 (version, description, success, checksum, execution_time) \
                 VALUES (9001, 'from the future', 1, x'00', 0)";
    change_by_hand(&path, newer).await;
    let before = std::fs::read(&path).unwrap();

    let refused = Database::open(&path, INCARNATION).await.unwrap_err();

    assert!(matches!(refused, Error::NewerDatabase { found: 9001, .. }), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diario.db");
    let database = Database::open(&path, INCARNATION).await.unwrap();
    samples::fill(&SqliteStore::new(database.clone()), &[1_000, 1_000]).await;
    database.close().await;
    let whole = std::fs::read(&path).unwrap();
    let path = folder.path().join("cut.db");

    for kept in [whole.len() / 2, whole.len() - 4096, 4096, 50] {
        std::fs::write(&path, &whole[..kept]).unwrap();

        let refused = Database::open(&path, INCARNATION).await;

        let is_told = matches!(refused, Err(Error::Damaged { .. } | Error::NotADatabase { .. }));
        assert!(is_told, "cut to {kept} bytes: {refused:?}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..kept]);
    }
}

#[tokio::test]
async fn the_writer_waits_for_the_disk_at_every_commit() {
    let folder = tempfile::tempdir().unwrap();
    let database = sample(&folder.path().join("diario.db")).await;

    let settings: (String, i64) = database
        .write("read the settings", |connection| {
            Box::pin(async move {
                let journal = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection);
                let journal = journal.await?;
                let synchronous = sqlx::query_scalar("PRAGMA synchronous").fetch_one(connection);
                Ok((journal, synchronous.await?))
            })
        })
        .await
        .unwrap();

    // 2 is FULL: the write-ahead log is fsynced before a commit is answered.
    assert_eq!(settings, ("wal".to_owned(), 2));
    let asked = |pragma: &'static str| {
        by_library(&database, move |connection| {
            connection.pragma_query_value(None, pragma, |row| row.get::<_, Value>(0))
        })
    };
    assert_eq!(asked("journal_mode").await, Value::Text("wal".to_owned()));
    assert_eq!(asked("synchronous").await, Value::Integer(2));
}

/// Something that is done on the connection that appends.
async fn by_library<T: std::fmt::Debug + Send + 'static>(
    database: &Database,
    work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
) -> T {
    let work =
        |connection: &rusqlite::Connection| Ok::<_, rusqlite::Error>((work(connection)?, ()));
    database.transaction_by_library(work, |_| {}, |()| {}).await.unwrap()
}

#[tokio::test]
async fn without_room_nothing_is_written_and_with_room_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let database = sample(&folder.path().join("diario.db")).await;
    let store = SqliteStore::new(database.clone());
    let before = store.head().await.unwrap();
    let limit = async |pages: u32| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        by_library(&database, move |connection| connection.query_row(&pragma, (), |_| Ok(())))
            .await;
    };
    // SQLite cuts it to the pages that there are.
    limit(1).await;
    let events: Vec<_> = (0..500).map(|n| samples::lost(&format!("cell-{n}"), "node")).collect();
    let batch = samples::batch(9, before.position, 9, events);

    let refused = store.append(batch.clone()).await;

    let Err(AppendError::Failed(failure)) = refused else { panic!("{refused:?}") };
    assert!(matches!(failure, Error::DiskFull { .. }), "{failure:?}");
    assert!(failure.is_passing() && !failure.ends_writing());
    assert_eq!(store.head().await.unwrap(), before);
    limit(100_000).await;
    assert_eq!(store.append(batch).await.unwrap().len(), 500);
    assert_eq!(chain::verify(&store).await.unwrap(), None);
}

#[tokio::test]
async fn two_processes_on_one_file_agree_on_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diario.db");
    let ours = SqliteStore::new(sample(&path).await);
    let theirs = SqliteStore::new(Database::open(&path, INCARNATION).await.unwrap());
    let mut following = ours.subscribe(Position(7));
    following.next().await.unwrap();

    samples::fill(&theirs, &[2]).await;
    samples::fill(&ours, &[1]).await;

    for expected in 9..=11 {
        assert_eq!(following.next().await.unwrap().position, Position(expected));
    }
    assert_eq!(theirs.read_all(START, 100).await.unwrap().len(), 11);
}

#[tokio::test]
async fn a_closed_database_answers_that_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let database = sample(&folder.path().join("diario.db")).await;
    let store = SqliteStore::new(database.clone());

    database.close().await;

    assert!(matches!(store.head().await, Err(Error::Closed)));
    let batch = samples::batch(9, Position(8), 9, vec![samples::upserted("a")]);
    let refused = store.append(batch).await;
    assert!(matches!(refused, Err(AppendError::Failed(Error::Closed))), "{refused:?}");
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let _open = sample(&path).await;

    for suffix in ["", "-wal", "-shm"] {
        let file = folder.path().join(format!("log.db{suffix}"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_commit_nobody_heard_of_is_followed_once_it_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let database = sample(&folder.path().join("log.db")).await;
    let store = SqliteStore::new(database.clone());
    let mut live = store.subscribe(Position(7));
    assert_eq!(live.next().await.unwrap().position, Position(8));
    // Time to catch up: from then on only what is published moves it on.
    let early = tokio::time::timeout(Duration::from_millis(200), live.next()).await;
    assert!(early.is_err(), "nothing more was written");
    // Another store's append stands for a commit that was taken for failed.
    let silent = SqliteStore::new(database);
    samples::fill(&silent, &[2]).await;
    let id = silent.read_batches(Position(8), 1).await.unwrap()[0].id;

    for _ in 0..2 {
        store.find_batch(id).await.unwrap().unwrap();
    }

    let seen = tokio::time::timeout(Duration::from_secs(20), live.next_batch(9));
    let seen = seen.await.expect("it is woken").unwrap();
    let positions: Vec<u64> = seen.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, [9, 10], "each once");
}

#[tokio::test]
async fn rows_of_an_old_version_are_read_in_the_newest_shape_by_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let database = Database::open(&path, INCARNATION).await.unwrap();
    let store = SqliteStore::new(database.clone());
    let first = samples::batch(1, START, 1, vec![samples::upserted("a"), samples::lost("b", "n")]);
    let id = first.id;
    store.append(first).await.unwrap();
    samples::fill(&store, &[1]).await;
    change_event_by_hand(&path, 1, |row| {
        row.schema_version = 0;
        row.payload = domain::testing::version_0(7);
    });

    let stream = samples::upserted("a").stream;
    let owner = Some(stream.owner());
    let filter = Filter { owner, ..Filter::default() };
    let command = samples::upserted("a").command_id;
    let mut paths = vec![
        store.read_all(START, 1).await.unwrap(),
        store.read_stream(&stream, StreamVersion(0), 1).await.unwrap(),
        store.read_filtered(&filter, START, 1, Order::OldestFirst).await.unwrap(),
        store.find_batch(id).await.unwrap().unwrap(),
        store.find_command(&command).await.unwrap().unwrap(),
    ];
    let followed = store.subscribe(START).next().await.unwrap();
    paths.push(vec![followed.as_ref().clone()]);

    let expected = freshness_domain::Upserted { fresh_until: Some(Timestamp(7_000_000_000)) };
    let expected = Event::from(freshness_domain::Event::from(expected));
    for (number, events) in paths.iter().enumerate() {
        assert_eq!(events[0].event, expected, "path {number}");
    }
    let mut world = World::empty();
    for recorded in &paths[0] {
        world.apply(recorded);
    }
    let domains: Vec<_> = world.aggregates().freshness_domains().collect();
    assert_eq!(domains[0].fresh_until, Some(Timestamp(7_000_000_000)));
    // What is stored is never touched: the row is hashed as it was written.
    let rows = store.read_rows(START, 1).await.unwrap();
    assert_eq!((rows[0].0.schema_version, &rows[0].0.payload), (0, &domain::testing::version_0(7)));
    database.close().await;
}

#[tokio::test]
async fn a_kind_of_event_that_is_not_known_here_is_found_wherever_it_is() {
    let changes: [(Change, &str); 3] = [
        (|row| row.schema_version = 2, "event freshness_domain.upserted has schema version 2"),
        (
            |row| row.type_name = "zeppelin.landed".to_owned(),
            "event type \"zeppelin.landed\" is unknown here",
        ),
        (|row| row.type_name = "a".to_owned(), "event type \"a\" is unknown here"),
    ];
    for (change, expected) in changes {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("newer.db");
        let database = Database::open(&path, INCARNATION).await.unwrap();
        let store = SqliteStore::new(database.clone());
        samples::fill(&store, &[2]).await;
        let head = store.head().await.unwrap().position;
        store.append(samples::batch(9, head, 9, vec![samples::upserted("a")])).await.unwrap();
        samples::fill(&store, &[2]).await;
        assert!(check_known(&store).await.is_ok());
        database.close().await;
        change_event_by_hand(&path, 3, change);
        let database = Database::open(&path, INCARNATION).await.unwrap();
        let store = SqliteStore::new(database.clone());

        let failure = check_known(&store).await.unwrap_err();

        assert!(failure.is_final());
        assert_eq!(failure.to_string(), "cannot read the event at position 3");
        let reason = std::error::Error::source(&failure).unwrap().to_string();
        assert!(reason.starts_with(expected), "{reason}");
        database.close().await;
    }
}

#[tokio::test]
async fn a_log_that_is_filled_at_once_is_what_appends_would_have_written() {
    let folder = tempfile::tempdir().unwrap();
    let batches = |count: u64| {
        let events = [samples::lost("a", "n"), samples::lost("b", "n"), samples::upserted("c")];
        (0..count).map(move |number| {
            let seconds = i64::try_from(number / 2).unwrap();
            let decided_on = Position(number * 3);
            samples::batch(u128::from(number), decided_on, seconds, events.to_vec())
        })
    };
    let appended = folder.path().join("appended.db");
    let database = Database::open(&appended, INCARNATION).await.unwrap();
    let store = SqliteStore::new(database.clone());
    for batch in batches(40) {
        store.append(batch).await.unwrap();
    }
    let filled = folder.path().join("filled.db");
    let empty = Database::open(&filled, INCARNATION).await.unwrap();
    let head = SqliteStore::new(empty.clone()).head().await.unwrap();
    empty.close().await;

    let end = super::fill(&filled, head, batches(40)).unwrap();

    let database_filled = Database::open(&filled, INCARNATION).await.unwrap();
    let other = SqliteStore::new(database_filled.clone());
    assert_eq!(end, store.head().await.unwrap());
    assert_eq!(other.head().await.unwrap(), end);
    assert_eq!(
        other.read_rows(START, 200).await.unwrap(),
        store.read_rows(START, 200).await.unwrap()
    );
    assert_eq!(
        other.read_batches(START, 200).await.unwrap(),
        store.read_batches(START, 200).await.unwrap()
    );
    assert_eq!(other.streams("", 9).await.unwrap(), store.streams("", 9).await.unwrap());
    assert_eq!(chain::verify(&other).await.unwrap(), None);
    let mut schemas = Vec::new();
    for database in [&database, &database_filled] {
        let schema: Vec<String> =
            sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
                .fetch_all(database.readers())
                .await
                .unwrap();
        schemas.push(schema);
    }
    assert_eq!(schemas[0], schemas[1]);
    // It goes on as any other.
    samples::fill(&other, &[2]).await;
    assert_eq!(chain::verify(&other).await.unwrap(), None);
    let refused = super::fill(&folder.path().join("none.db"), head, batches(1));
    assert!(refused.is_err(), "a file without our tables");
}

#[tokio::test]
async fn pages_are_read_no_more_once_the_database_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diario.db");
    let database = Database::open(&path, INCARNATION).await.unwrap();
    let store = SqliteStore::new(database.clone());
    samples::fill(&store, &[1, 1]).await;
    let reads = futures_util::future::join_all((0..9).map(|_| store.read_all(START, 9))).await;
    assert!(reads.into_iter().all(|read| read.unwrap().len() == 2));

    database.close().await;

    assert!(matches!(store.read_all(START, 9).await, Err(Error::Closed)));
    assert!(matches!(store.read_rows(START, 9).await, Err(Error::Closed)));
    let wal = path.with_extension("db-wal");
    assert!(!wal.exists(), "the last connection folded the WAL into the file");
}
