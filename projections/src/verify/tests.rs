//! Tampering with any column of any table of a log, at random and on purpose: all is found, and
//! nothing is found where nothing was changed.

use std::{path::Path, sync::Arc};

use domain::{log::Position, testing::Dice, units::Timestamp};
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{Live, LogOptions, Report, log};
use crate::{
    checkpoint::CheckpointKey,
    event_store::{
        EventStore, HotLog,
        chain::FaultKind,
        conformance::samples::{self, INCARNATION},
        sqlite::{Database, SqliteStore},
    },
};

/// How many random tamperings are tried, where the environment names no other number.
const TAMPERINGS: u32 = 200;

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// A log of a few batches, with checkpoints in it and at its head; closed.
async fn sample(path: &Path) {
    let database = Database::open(path, INCARNATION).await.unwrap();
    let store = SqliteStore::new(database.clone());
    let key = CheckpointKey::from_bytes([7; 32]);
    for sizes in [&[3, 1, 2][..], &[4, 1], &[2, 2]] {
        samples::fill(&store, sizes).await;
        let identity = store.identity().await.unwrap();
        let head = store.head().await.unwrap();
        store.save_checkpoint(&key.checkpoint(identity, &head, Timestamp(5))).await.unwrap();
    }
    database.close().await;
}

async fn check(path: &Path) -> Result<Report, String> {
    let database =
        Database::open(path, INCARNATION).await.map_err(|failure| failure.to_string())?;
    let store = Arc::new(SqliteStore::new(database.clone()));
    let live = Live { store: store.clone(), tables: store, begin: None, checkpoints: Vec::new() };
    let report = log(&live, &LogOptions::default(), &|_| {}).await;
    database.close().await;
    report.map_err(|failure| failure.to_string())
}

async fn tamper(path: &Path, statements: &str) -> u64 {
    let mut connection = connect(path).await;
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .map_or(0, |done| done.rows_affected());
    sqlx::Connection::close(connection).await.unwrap();
    done
}

#[tokio::test]
async fn a_log_cut_off_or_written_anew_with_its_head_is_found_by_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path).await;
    let whole = check(&path).await.unwrap();
    assert_eq!((whole.fault, whole.checkpoints, whole.last), (None, 3, Position(15)));

    // The last batch goes, and the head row and the streams follow it.
    let done = tamper(
        &path,
        "DELETE FROM events WHERE position > 13; DELETE FROM batches WHERE first_position > 13; \
         UPDATE log_head SET position = 13, \
         recorded_at = (SELECT recorded_at FROM batches WHERE first_position = 12), \
         link = (SELECT link FROM batches WHERE first_position = 12); \
         UPDATE streams SET version = version - 1, last_position = 13 WHERE last_position = 15;",
    )
    .await;
    assert!(done > 0);

    let cut = check(&path).await.unwrap().fault.unwrap();
    assert_eq!((cut.position, cut.kind), (Position(14), FaultKind::CutOff));
}

/// The columns of the tables that make up the log.
const COLUMNS: &[(&str, &str, &[&str])] = &[
    (
        "events",
        "position",
        &[
            "position",
            "stream",
            "version",
            "owner",
            "type",
            "schema_version",
            "recorded_at",
            "actor_kind",
            "actor_name",
            "actor_via",
            "command_id",
            "causation",
            "correlation",
            "payload",
            "leaf",
        ],
    ),
    (
        "batches",
        "first_position",
        &["first_position", "event_count", "recorded_at", "batch_id", "link"],
    ),
    ("streams", "stream", &["stream", "version", "last_position"]),
    ("log_head", "id", &["position", "recorded_at", "incarnation", "link"]),
    (
        "checkpoints",
        "position",
        &["position", "incarnation", "link", "signed_at", "key", "signature"],
    ),
];

/// Another value for a column, by its type, in SQL.
fn another(dice: &mut Dice, column: &str) -> String {
    let number = dice.below(1 << 30);
    match dice.below(5) {
        0 => format!(
            "CASE typeof({column}) WHEN 'integer' THEN {column} + 1 + {number} \
             WHEN 'text' THEN {column} || 'x' WHEN 'blob' THEN {column} || x'00' ELSE 1 END"
        ),
        1 => format!(
            "CASE typeof({column}) WHEN 'integer' THEN -{column} - 1 \
             WHEN 'text' THEN substr({column}, 2) WHEN 'blob' THEN substr({column}, 2) ELSE 2 END"
        ),
        2 => format!(
            "CASE typeof({column}) WHEN 'integer' THEN {column} + 1 \
             WHEN 'text' THEN upper({column}) || '{number}' \
             WHEN 'blob' THEN randomblob(max(length({column}), 4)) ELSE 3 END"
        ),
        3 => format!(
            "CASE typeof({column}) WHEN 'integer' THEN {column} - 1 \
             WHEN 'text' THEN '' WHEN 'blob' THEN x'' ELSE 4 END"
        ),
        _ => format!(
            "CASE typeof({column}) WHEN 'integer' THEN 9223372036854775807 \
             WHEN 'text' THEN replace({column}, 'e', 'o') || char({number} % 26 + 97) \
             WHEN 'blob' THEN zeroblob(length({column})) ELSE {column} END"
        ),
    }
}

/// One random tampering: what was done, in SQL.
fn random_tampering(dice: &mut Dice) -> String {
    let (table, key, columns) = dice.pick(COLUMNS);
    let row = format!(
        "{key} = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET \
         {} % (SELECT count(*) FROM {table}))",
        dice.below(1_000)
    );
    match dice.below(12) {
        0 if matches!(table, "events" | "batches" | "streams") => {
            format!("DELETE FROM {table} WHERE {row}")
        }
        _ => {
            let column = dice.pick(columns);
            let value = another(dice, column);
            format!("UPDATE {table} SET {column} = {value} WHERE {row} AND {column} IS NOT {value}")
        }
    }
}

/// The hash of each stored row, as one who knows this program would write it.
async fn recompute_leaves(path: &Path) {
    let database = Database::open(path, INCARNATION).await;
    let Ok(database) = database else { return };
    let store = SqliteStore::new(database.clone());
    let rows = store.read_rows(Position(0), 100).await.unwrap_or_default();
    database.close().await;
    let mut connection = connect(path).await;
    for (row, _) in rows {
        sqlx::query("UPDATE events SET leaf = ? WHERE position = ?")
            .bind(crate::event_store::chain::leaf(&row).to_vec())
            .bind(i64::try_from(row.position.0).unwrap())
            .execute(&mut connection)
            .await
            .unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();
}

#[tokio::test]
async fn every_random_tampering_is_found_and_nothing_else() {
    let number = |name, default| {
        #[expect(clippy::disallowed_methods, reason = "the long run names its size")]
        let value = std::env::var(name).ok();
        value.map_or(default, |value| value.parse().expect("a number"))
    };
    let (count, seed) = (number("DIARIO_TAMPERINGS", TAMPERINGS), number("DIARIO_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original.db");
    sample(&original).await;
    let mut dice = Dice::new(u64::from(seed));
    let mut done = 0;
    while done < count {
        let path = folder.path().join("tampered.db");
        std::fs::copy(&original, &path).unwrap();
        let tampering = random_tampering(&mut dice);
        let changed = tamper(&path, &tampering).await;
        let is_recomputed = changed > 0 && dice.one_in(3);
        if is_recomputed {
            recompute_leaves(&path).await;
        }

        let report = check(&path).await;

        let is_found =
            report.as_ref().is_ok_and(|report| report.fault.is_some()) || report.is_err();
        assert_eq!(
            is_found,
            changed > 0,
            "seed {seed}, tampering {done} (leaves recomputed: {is_recomputed}): {tampering}; \
             {report:?}"
        );
        done += u32::from(changed > 0);
        std::fs::remove_file(&path).unwrap();
    }
}
