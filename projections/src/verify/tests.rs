//! Tampering with any column of any table of a log, at random and on purpose: all is found, and
//! nothing is found where nothing was changed.

use std::{path::Path, sync::Arc};

use domain::{log::Position, testing::Dice, units::Timestamp};
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{Live, LogOptions, Report, log};
use crate::{
    checkpoint::{Checkpoint, CheckpointKey},
    event_store::{
        Error, EventStore, HotLog, Leaf, Row,
        chain::{self, FaultKind},
        conformance::samples::{self, INCARNATION},
        sqlite::{Database, SqliteStore, change_events_by_hand, index_all},
    },
};

/// How many random tamperings are tried, where the environment names no other number.
const TAMPERINGS: u32 = 200;

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// A log of a few batches, with checkpoints in it and at its head; closed.
async fn sample(path: &Path) -> LogOptions {
    let database = Database::open(path, INCARNATION).await.unwrap();
    let store = SqliteStore::new(database.clone());
    let remembered = fill_with_checkpoints(&store, &store).await;
    let head = store.head().await.unwrap();
    database.close().await;
    // As in a log that has grown: what its events are found by is in the file too.
    index_all(path, head, 4).await.unwrap();
    remembered
}

/// Gives what an operator's `verify` reads from the data folder: the newest checkpoint.
async fn fill_with_checkpoints(store: &dyn EventStore, tables: &dyn HotLog) -> LogOptions {
    let key = CheckpointKey::from_bytes([7; 32]);
    let mut last: Option<Checkpoint> = None;
    for sizes in [&[3, 1, 2][..], &[4, 1], &[2, 2]] {
        samples::fill(store, sizes).await;
        let identity = tables.identity().await.unwrap();
        let head = store.head().await.unwrap();
        let signed = key.checkpoint_behind(last.as_ref(), identity, &head, Timestamp(5));
        tables.save_checkpoint(&signed).await.unwrap();
        last = Some(signed);
    }
    LogOptions { last, ..LogOptions::default() }
}

async fn check(path: &Path, options: &LogOptions) -> Result<Report, String> {
    let database =
        Database::open(path, INCARNATION).await.map_err(|failure| failure.to_string())?;
    let store = Arc::new(SqliteStore::new(database.clone()));
    let live = Live { store: store.clone(), tables: store, archive: None };
    let report = log(&live, options, &|_| {}).await;
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

/// The last batch of the sample goes, and the head row and the streams follow it.
const CUT_BEHIND_13: &str = "DELETE FROM batches WHERE first_position > 13; \
     DELETE FROM lookups; DELETE FROM lookup_runs; DELETE FROM newest_types; \
     UPDATE log_head SET position = 13, \
     recorded_at = (SELECT recorded_at FROM batches WHERE first_position = 12), \
     link = (SELECT link FROM batches WHERE first_position = 12); \
     UPDATE streams SET version = version - 1, last_position = 13 WHERE last_position = 15;";

#[tokio::test]
async fn a_log_cut_off_or_written_anew_with_its_head_is_found_by_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    sample(&path).await;
    let options = LogOptions::default();
    let whole = check(&path, &options).await.unwrap();
    assert_eq!((whole.fault, whole.checkpoints, whole.last), (None, 3, Position(15)));

    let done = tamper(&path, CUT_BEHIND_13).await;
    assert!(done > 0);

    let cut = check(&path, &options).await.unwrap().fault.unwrap();
    assert_eq!((cut.position, cut.kind), (Position(14), FaultKind::CutOff));
}

#[tokio::test]
async fn checkpoints_that_were_taken_away_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original.db");
    let remembered = sample(&original).await;
    let without = LogOptions::default();
    let missing = |position| Some((Position(position), FaultKind::CheckpointMissing));
    for (gone, options, expected) in [
        ("position = 6", &without, missing(6)),
        ("position = 11", &without, missing(11)),
        ("position <= 11", &without, missing(11)),
        // Nothing in the database is left that would tell.
        ("position = 15", &without, None),
        ("position = 15", &remembered, missing(15)),
        ("position >= 11", &remembered, missing(15)),
        ("true", &remembered, missing(15)),
        ("false", &remembered, None),
    ] {
        let path = folder.path().join("less.db");
        std::fs::copy(&original, &path).unwrap();
        tamper(&path, &format!("DELETE FROM checkpoints WHERE {gone}")).await;

        let found = check(&path, options).await.unwrap().fault;

        assert_eq!(found.map(|it| (it.position, it.kind)), expected, "{gone}");
    }
    // The log is cut off, and every checkpoint that would show it is gone.
    let path = folder.path().join("cut.db");
    std::fs::copy(&original, &path).unwrap();
    tamper(&path, &format!("{CUT_BEHIND_13} DELETE FROM checkpoints;")).await;
    let found = check(&path, &remembered).await.unwrap().fault.unwrap();
    assert_eq!((found.position, found.kind), (Position(14), FaultKind::CutOff));
    assert_eq!(check(&path, &without).await.unwrap().fault, None, "who forgets cannot tell");
}

/// A table with its key and its columns.
type Table = (&'static str, &'static str, &'static [&'static str]);

const STREAMS: Table = ("streams", "stream", &["stream", "version", "last_position"]);
const LOG_HEAD: Table =
    ("log_head", "id", &["log_id", "position", "recorded_at", "incarnation", "link"]);
const CHECKPOINTS: Table = (
    "checkpoints",
    "position",
    &["position", "incarnation", "link", "signed_at", "key", "signature", "previous"],
);

/// The columns of the tables that make up the log in a file.
const COLUMNS: &[Table] = &[
    (
        "batches",
        "first_position",
        &["first_position", "event_count", "recorded_at", "batch_id", "link", "events"],
    ),
    STREAMS,
    LOG_HEAD,
    CHECKPOINTS,
    ("lookups", "run, kind, first_hash", &["run", "kind", "first_hash", "entries"]),
    ("lookup_runs", "last_position", &["last_position", "filter"]),
    ("newest_types", "type", &["type", "schema_version", "position"]),
];

/// The columns of an event that its batch does not give it.
const EVENT_COLUMNS: &[&str] = &[
    "stream",
    "version",
    "type",
    "schema_version",
    "actor_kind",
    "actor_name",
    "actor_via",
    "command_id",
    "causation",
    "correlation",
    "payload",
    "leaf",
];

/// The columns of the tables that make up the log in Postgres.
const POSTGRES_COLUMNS: &[Table] = &[
    (
        "events",
        "position",
        &[
            "position",
            "stream",
            "version",
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
            "owner_hash",
            "command_hash",
        ],
    ),
    (
        "batches",
        "first_position",
        &["first_position", "event_count", "recorded_at", "batch_id", "link"],
    ),
    STREAMS,
    LOG_HEAD,
    CHECKPOINTS,
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

/// One row of a table, in SQL.
fn random_row(dice: &mut Dice, table: &str, key: &str) -> String {
    format!(
        "({key}) = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET \
         {} % (SELECT count(*) FROM {table}))",
        dice.below(1_000)
    )
}

/// One random tampering: what was done, in SQL.
fn random_tampering(dice: &mut Dice) -> String {
    let (table, key, columns) = dice.pick(COLUMNS);
    let row = random_row(dice, table, key);
    match dice.below(12) {
        0 => format!("DELETE FROM {table} WHERE {row}"),
        _ => {
            let column = dice.pick(columns);
            let value = another(dice, column);
            format!("UPDATE {table} SET {column} = {value} WHERE {row} AND {column} IS NOT {value}")
        }
    }
}

/// A setting of the long run.
pub(super) fn number(name: &str, default: u32) -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the long run names its size")]
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// Changes one column of one event.
fn tamper_with_event(dice: &mut Dice, row: &mut Row, leaf: &mut Leaf, column: &str) {
    let form = dice.below(4);
    let text = |text: &mut String| match form {
        0 => text.push('x'),
        1 => drop(text.pop()),
        2 => *text = text.to_uppercase(),
        _ => text.clear(),
    };
    match column {
        "stream" => text(&mut row.stream),
        "version" => row.version.0 = row.version.0.wrapping_add(form.into()).wrapping_sub(2),
        "type" => text(&mut row.type_name),
        "schema_version" => row.schema_version = u16::try_from(form).unwrap(),
        "actor_kind" => text(&mut row.actor_kind),
        "actor_name" => text(&mut row.actor_name),
        "actor_via" => text(&mut row.actor_via),
        "command_id" => text(&mut row.command_id),
        "causation" => row.causation = form.checked_sub(1).map(|it| Position(it.into())),
        "correlation" => text(&mut row.correlation),
        "payload" => match row.payload.last_mut() {
            Some(last) => *last ^= 1 << form,
            None => row.payload.push(b'{'),
        },
        "leaf" => leaf[0] ^= 1 << form,
        other => panic!("no column {other}"),
    }
}

/// Changes one column of a random event of the log; whether anything is different now.
fn tamper_with_some_event(dice: &mut Dice, path: &Path, column: &str) -> bool {
    let position = 1 + u64::from(dice.below(15));
    let mut is_different = false;
    change_events_by_hand(path, position, |rows| {
        let before = rows.clone();
        let (row, leaf) = rows.iter_mut().find(|(row, _)| row.position.0 == position).unwrap();
        tamper_with_event(dice, row, leaf, column);
        is_different = *rows != before;
    });
    is_different
}

/// The hash of each stored row, as one who knows this program would write it.
async fn recompute_leaves(path: &Path) {
    let database = Database::open(path, INCARNATION).await;
    let Ok(database) = database else { return };
    let batches = SqliteStore::new(database.clone()).read_batches(Position(0), 100).await;
    database.close().await;
    for batch in batches.unwrap_or_default() {
        change_events_by_hand(path, batch.first.0, |rows| {
            rows.iter_mut().for_each(|(row, leaf)| *leaf = chain::leaf(row));
        });
    }
}

#[tokio::test]
async fn every_random_tampering_is_found_and_nothing_else() {
    let (count, seed) = (number("DIARIO_TAMPERINGS", TAMPERINGS), number("DIARIO_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original.db");
    let remembered = sample(&original).await;
    let mut dice = Dice::new(u64::from(seed));
    let mut done = 0;
    while done < count {
        let path = folder.path().join("tampered.db");
        std::fs::copy(&original, &path).unwrap();
        let (tampering, is_changed) = if dice.one_in(3) {
            let column = dice.pick(EVENT_COLUMNS);
            let is_changed = tamper_with_some_event(&mut dice, &path, column);
            (column.to_owned(), is_changed)
        } else {
            let tampering = random_tampering(&mut dice);
            let changed = tamper(&path, &tampering).await;
            (tampering, changed > 0)
        };
        // That would put right what was just made wrong.
        let is_of_leaf = tampering == "leaf" || tampering.contains("SET events");
        let is_recomputed = is_changed && dice.one_in(3) && !is_of_leaf;
        if is_recomputed {
            recompute_leaves(&path).await;
        }

        let report = check(&path, &remembered).await;

        let is_found =
            report.as_ref().is_ok_and(|report| report.fault.is_some()) || report.is_err();
        assert_eq!(
            is_found, is_changed,
            "seed {seed}, tampering {done} (leaves recomputed: {is_recomputed}): {tampering}; \
             {report:?}"
        );
        done += u32::from(is_changed);
        std::fs::remove_file(&path).unwrap();
    }
}

/// How many of the tamperings are tried with Postgres, where each takes longer.
const POSTGRES_SHARE: u32 = 4;

/// Another value for a column of a table of Postgres, in SQL.
async fn another_in_postgres(
    dice: &mut Dice,
    connection: &mut sqlx::PgConnection,
    table: &str,
    column: &str,
) -> String {
    let of_type: String = sqlx::query_scalar(
        "SELECT data_type::text FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1 AND column_name = $2",
    )
    .bind(table)
    .bind(column)
    .fetch_one(connection)
    .await
    .unwrap();
    let forms: &[&str] = match of_type.as_str() {
        "bigint" | "integer" => &["coalesce({}, 0) + 1", "-coalesce({}, 0) - 1", "77", "{} - 1"],
        "text" => &["{} || 'x'", "substr({}, 2)", "''", "upper({}) || '7'"],
        "bytea" => &["{} || '\\x00'", "substr({}, 2)", "'\\x'", "sha256(coalesce({}, 'a'))"],
        other => panic!("{table}.{column} has the type {other}"),
    };
    dice.pick(forms).replace("{}", column)
}

/// Opened anew each time, as `verify` does: which log it is, is read then.
async fn check_postgres(url: &str, options: &LogOptions) -> Result<Report, Error> {
    use crate::{event_store::postgres, testing::postgres::wall_clock};

    let url = url.parse().unwrap();
    let database = postgres::Database::open_to_read(&url, wall_clock()).await?;
    let store = Arc::new(postgres::PostgresStore::new(database.clone()));
    let live = Live { store: store.clone(), tables: store, archive: None };
    let report = log(&live, options, &|_| {}).await;
    database.close().await;
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_random_tampering_with_postgres_is_found_and_nothing_else() {
    use sqlx::Connection as _;

    use crate::{event_store::postgres::PostgresStore, testing::postgres};

    let (count, seed) = (number("DIARIO_TAMPERINGS", TAMPERINGS), number("DIARIO_SEED", 1));
    let url = postgres::shared().fresh_database();
    let database = postgres::open(&url).await;
    let store = PostgresStore::new(database.clone());
    let remembered = fill_with_checkpoints(&store, &store).await;
    database.close().await;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let run = async |connection: &mut sqlx::PgConnection, statement: String| {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await;
        done.map_or(0, |done| done.rows_affected())
    };
    for (table, ..) in POSTGRES_COLUMNS {
        run(&mut connection, format!("CREATE TABLE {table}_before AS TABLE {table}")).await;
    }
    let mut dice = Dice::new(u64::from(seed));
    let mut done = 0;
    while done < count / POSTGRES_SHARE {
        let (table, key, columns) = dice.pick(POSTGRES_COLUMNS);
        let row = random_row(&mut dice, table, key);
        let column = dice.pick(columns);
        let tampering = if dice.one_in(12) {
            format!("DELETE FROM {table} WHERE {row}")
        } else {
            let value = another_in_postgres(&mut dice, &mut connection, table, column).await;
            format!(
                "UPDATE {table} SET {column} = {value} \
                 WHERE {row} AND {column} IS DISTINCT FROM {value}"
            )
        };
        let changed = run(&mut connection, tampering.clone()).await;

        let report = check_postgres(&url, &remembered).await;

        let is_found = report.as_ref().map_or(true, |report| report.fault.is_some());
        assert_eq!(is_found, changed > 0, "seed {seed}, {done}: {tampering}; {report:?}");
        done += u32::from(changed > 0);
        let back =
            format!("BEGIN; DELETE FROM {table}; INSERT INTO {table} TABLE {table}_before; COMMIT");
        run(&mut connection, back).await;
    }
}
