//! What is refused at the door, and what two nodes do that come at once.

use domain::log::Position;
use sqlx::{Connection as _, PgConnection};

use super::{super::migrate, database_of, faults::append_until_acknowledged, store};
use crate::{
    event_store::{
        AppendError, Error, EventStore,
        conformance::samples::{INCARNATION, batch, fill, lost},
        migrations::POSTGRES,
        postgres::{Database, PostgresStore},
    },
    testing::postgres::{self, Cluster, Settings, shared, wall_clock},
};

async fn refused(url: &str) -> Error {
    let opened = Database::open(&url.parse().unwrap(), INCARNATION, wall_clock()).await;
    let failure = opened.map(|_| ()).unwrap_err();
    let mut told = format!("{failure:?} {failure}");
    let mut source = std::error::Error::source(&failure);
    while let Some(failure) = source {
        told.push_str(&failure.to_string());
        source = failure.source();
    }
    assert!(!told.contains("never-shown"), "a password is shown: {told}");
    failure
}

#[tokio::test]
async fn what_is_not_ours_or_not_there_is_refused_and_left_as_it_is() {
    let unreachable = "postgres://ann:never-shown@127.0.0.1:1/log";
    assert!(matches!(refused(unreachable).await, Error::Unavailable { .. }));
    let missing = shared().url("no_such_database");
    assert!(matches!(refused(&missing).await, Error::Open { .. }));

    let url = shared().fresh_database();
    shared().psql(database_of(&url), "CREATE TABLE shopping (item text)");
    assert!(matches!(refused(&url).await, Error::NotADatabase { .. }));
    let tables = "SELECT string_agg(relname, ',') FROM pg_class \
                  WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(shared().psql(database_of(&url), tables), "shopping");

    let url = shared().fresh_database();
    fill(&store(&url).await, &[1]).await;
    shared().psql(
        database_of(&url),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9001, 'from the future', true, '', 0)",
    );
    assert!(matches!(refused(&url).await, Error::NewerDatabase { found: 9001, .. }));

    let url = shared().fresh_database();
    fill(&store(&url).await, &[3, 2]).await;
    shared().psql(database_of(&url), "DELETE FROM events WHERE position = 5");
    assert!(matches!(refused(&url).await, Error::TailDamaged { .. }));
}

#[tokio::test]
async fn nodes_that_start_together_make_one_log() {
    let url = shared().fresh_database();

    let opened = futures_util::future::join_all((0..4).map(|_| postgres::open(&url))).await;

    let applied = "SELECT count(*) FROM _sqlx_migrations";
    let steps = POSTGRES.iter().count().to_string();
    assert_eq!(shared().psql(database_of(&url), applied), steps);
    for database in opened {
        fill(&PostgresStore::new(database), &[1]).await;
    }
    assert_eq!(store(&url).await.head().await.unwrap().position.0, 4);
}

/// What an older program left is brought up to date by one of two newer ones, while the other
/// waits; both find it whole.
#[tokio::test]
async fn of_two_nodes_that_start_together_on_an_older_schema_one_migrates_and_the_other_waits() {
    let url = shared().fresh_database();
    let before = store(&url).await;
    fill(&before, &[2]).await;
    let newer = newer_migrations().await;
    let start = || async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        migrate::run_to(&newer, "a database", &mut connection, INCARNATION).await.unwrap();
        let changes = "SELECT count(*) FROM changes";
        sqlx::query_scalar::<_, i64>(changes).fetch_one(&mut connection).await.unwrap()
    };

    let (one, two) = tokio::join!(start(), start());

    // Each finds the table, and one row of one migration in it.
    assert_eq!((one, two), (1, 1));
    let applied = "SELECT string_agg(version::text, ' ' ORDER BY version) FROM _sqlx_migrations";
    let steps: Vec<String> = newer.iter().map(|migration| migration.version.to_string()).collect();
    assert!(steps.ends_with(&["9000".to_owned()]));
    assert_eq!(shared().psql(database_of(&url), applied), steps.join(" "));
    assert!(matches!(refused(&url).await, Error::NewerDatabase { found: 9000, .. }));
}

/// Ours and one more, which is slow and shows how often it was applied.
async fn newer_migrations() -> sqlx::migrate::Migrator {
    let folder = tempfile::tempdir().unwrap();
    let ours = "../migrations/postgres";
    for file in std::fs::read_dir(ours).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let newer = "CREATE TABLE changes (number integer); \
                 INSERT INTO changes VALUES (1); SELECT pg_sleep(0.3);";
    std::fs::write(folder.path().join("9000_newer.sql"), newer).unwrap();
    sqlx::migrate::Migrator::new(folder.path()).await.unwrap()
}

#[tokio::test]
async fn a_read_only_database_is_read_and_not_written() {
    let url = shared().fresh_database();
    let before = store(&url).await;
    fill(&before, &[2]).await;
    let reader = Database::open_to_read(&url.parse().unwrap(), wall_clock()).await.unwrap();
    let only_reading = PostgresStore::new(reader);
    let name = database_of(&url);
    shared().psql(name, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let read_only = store(&url).await;

    for store in [&only_reading, &read_only] {
        let head = store.head().await.unwrap();
        assert_eq!(head.position.0, 2);
        assert!(matches!(store.ready().await, Err(Error::ReadOnly { .. })), "it looks ready");
        assert!(matches!(
            store.find_batch(crate::event_store::BatchId(uuid::Uuid::nil())).await,
            Err(Error::ReadOnly { .. })
        ));
        let refused = store.append(batch(9, head.position, 100, vec![lost("a", "n")])).await;
        assert!(matches!(refused, Err(AppendError::Failed(Error::ReadOnly { .. }))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_server_without_connections_is_named_and_works_again_once_it_has_some() {
    let settings = Settings {
        further: vec![
            ("max_connections".to_owned(), "6".to_owned()),
            ("superuser_reserved_connections".to_owned(), "0".to_owned()),
        ],
        ..Settings::default()
    };
    let cluster = Cluster::start(&settings);
    let url = cluster.fresh_database();
    let ours = store(&url).await;
    fill(&ours, &[1]).await;
    let mut others = Vec::new();
    while let Ok(other) = PgConnection::connect(&cluster.url("postgres")).await {
        others.push(other);
    }

    assert!(matches!(refused(&url).await, Error::OutOfConnections { .. }));
    // A running node whose connections were cut is told the same.
    super::soon("a read to be told why", async {
        loop {
            let mut first = others.swap_remove(0);
            sqlx::query(CUT).execute(&mut first).await.unwrap();
            others.push(first);
            while let Ok(other) = PgConnection::connect(&cluster.url("postgres")).await {
                others.push(other);
            }
            // A read may have been quicker to take a connection that was left.
            if matches!(ours.read_all(Position(0), 1).await, Err(Error::OutOfConnections { .. })) {
                return;
            }
        }
    })
    .await;

    drop(others);
    super::soon("a connection", async {
        while Database::open(&url.parse().unwrap(), INCARNATION, wall_clock()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    append_until_acknowledged(&ours, 1).await;
}

/// Ends every connection of a node.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE application_name LIKE 'diario %'";

#[tokio::test]
async fn a_closed_database_answers_that_it_is_closed() {
    let database = postgres::open(&shared().fresh_database()).await;
    let store = PostgresStore::new(database.clone());
    let head = store.head().await.unwrap();
    let mut following = store.subscribe(head.position);
    let append = || store.append(batch(1, head.position, 7, vec![lost("a", "n")]));

    database.close().await;

    assert!(matches!(store.head().await, Err(Error::Closed)));
    assert!(matches!(append().await, Err(AppendError::Failed(Error::Closed))));
    assert!(matches!(store.turn().await, Err(AppendError::Failed(Error::Closed))));
    assert!(matches!(following.next().await, Err(Error::Closed)));
}
