//! A file from before batches were packed, opened by this program.

use std::path::Path;

use domain::log::{Position, StreamVersion};
use rusqlite::{Connection, params};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, migrate::Migrator,
    sqlite::SqliteConnectOptions,
};

use super::{Database, SqliteStore, streams_of};
use crate::event_store::{
    EventStore, Head, HotLog as _, Row,
    chain::{self, Fault, FaultKind},
    conformance::samples::{self, INCARNATION, START},
    memory::{MemoryLog, MemoryStore},
    migrations::SQLITE,
    packed::Packed,
};

/// Makes a file with the tables of its first steps.
async fn with_steps(path: &Path, steps: usize) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    for pragma in ["PRAGMA application_id = 1145651538", "PRAGMA journal_mode = WAL"] {
        sqlx::query(pragma).execute(&mut connection).await.unwrap();
    }
    let first = Migrator::with_migrations(SQLITE.iter().take(steps).cloned().collect());
    first.run_direct(None, &mut connection, false).await.unwrap();
    connection.close().await.unwrap();
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

/// Writes what a log holds as the version before wrote it.
async fn written_before(path: &Path, log: &MemoryStore, head: &Head) {
    with_steps(path, 3).await;
    let file = Connection::open(path).unwrap();
    for (row, leaf) in log.read_rows(START, 1_000).await.unwrap() {
        let Packed { owner_hash, command_hash, command_id, correlation } = Packed::of(&row);
        let Row { stream, version, type_name, schema_version, recorded_at, .. } = row;
        let Row { actor_kind, actor_name, actor_via, causation, payload, .. } = row;
        let values = params![
            number(row.position.0),
            number(version.0),
            recorded_at.0,
            causation.map(|it| number(it.0)),
            owner_hash,
            command_hash,
            schema_version,
            stream,
            type_name,
            actor_kind,
            actor_name,
            actor_via,
            command_id,
            correlation,
            leaf,
            payload,
        ];
        let insert = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        file.execute(insert, values).unwrap();
    }
    for batch in log.read_batches(START, 1_000).await.unwrap() {
        let (id, link) = (batch.id.0.as_bytes().to_vec(), batch.link);
        let values =
            params![number(batch.first.0), number(batch.count), batch.recorded_at.0, id, link];
        file.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", values).unwrap();
    }
    for row in streams_of(log).await {
        let values = params![row.stream, number(row.version.0), number(row.last_position.0)];
        file.execute("INSERT INTO streams VALUES (?, ?, ?)", values).unwrap();
    }
    let incarnation = head.incarnation.0.as_bytes().to_vec();
    let values =
        params![incarnation, number(head.position.0), head.recorded_at.0, incarnation, head.link];
    file.execute("INSERT INTO log_head VALUES (1, ?, ?, ?, ?, ?)", values).unwrap();
}

async fn sample() -> (MemoryStore, Head) {
    let log = MemoryStore::new(MemoryLog::new(INCARNATION));
    samples::fill(&log, &[3, 1, 2]).await;
    let mut other = samples::lost("b", "n");
    other.command_id = samples::command("3d4f1cc4-5a3b-4c57-9a3e-2a35ffbd4f3c");
    other.causation = Some(Position(2));
    let head = log.head().await.unwrap();
    log.append(samples::batch(9, head.position, 9, vec![other])).await.unwrap();
    let head = log.head().await.unwrap();
    (log, head)
}

async fn is_the_same(path: &Path, log: &MemoryStore, head: Head) {
    let database = Database::open(path, INCARNATION).await.unwrap();
    let store = SqliteStore::new(database.clone());
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(
        store.read_rows(START, 1_000).await.unwrap(),
        log.read_rows(START, 1_000).await.unwrap()
    );
    assert_eq!(
        store.read_batches(START, 1_000).await.unwrap(),
        log.read_batches(START, 1_000).await.unwrap()
    );
    assert_eq!(store.streams("", 99).await.unwrap(), streams_of(log).await);
    assert_eq!(chain::verify(&store).await.unwrap(), None);
    // It goes on where it ended.
    let written = samples::fill(&store, &[1]).await;
    assert_eq!(written[0].version, StreamVersion(4));
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('events', 'packed_batches')",
    )
    .fetch_one(database.readers())
    .await
    .unwrap();
    assert_eq!(tables, 0, "nothing of the old form is left");
    database.close().await;
}

#[tokio::test]
async fn a_log_of_the_version_before_is_the_same_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (log, head) = sample().await;
    written_before(&path, &log, &head).await;

    is_the_same(&path, &log, head).await;
}

#[tokio::test]
async fn packing_that_was_broken_off_is_ended_by_the_next_start() {
    for packed in [0, 2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let (log, head) = sample().await;
        written_before(&path, &log, &head).await;
        with_steps(&path, 4).await;
        super::super::convert::pack_batches(&path).await.unwrap();
        let delete = "DELETE FROM packed_batches WHERE first_position IN \
             (SELECT first_position FROM batches ORDER BY first_position LIMIT -1 OFFSET ?)";
        Connection::open(&path).unwrap().execute(delete, [packed]).unwrap();

        is_the_same(&path, &log, head).await;
    }
}

#[tokio::test]
async fn a_tampering_from_before_is_found_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (log, head) = sample().await;
    written_before(&path, &log, &head).await;
    let tampering = "UPDATE events SET actor_name = 'me' WHERE position = 2; \
         UPDATE events SET owner_hash = 7 WHERE position = 5";
    Connection::open(&path).unwrap().execute_batch(tampering).unwrap();

    let database = Database::open(&path, INCARNATION).await.unwrap();

    let found = chain::verify(&SqliteStore::new(database.clone())).await.unwrap();
    assert_eq!(found, Some(Fault { position: Position(2), kind: FaultKind::Altered }));
    database.close().await;
}
