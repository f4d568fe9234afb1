//! Brings a Postgres database's schema up to date under a lock, so that of several nodes that
//! start together one does it; refuses a database of the future and one that is somebody else's.

use std::cmp::Ordering;

use domain::log::Incarnation;
use sqlx::{
    Connection as _, PgConnection,
    migrate::{MigrateError, Migrator},
};

use super::{
    super::{Error, chain::GENESIS, migrations::POSTGRES},
    begin,
    failure::at_open,
};

/// The advisory lock of whoever brings a log's schema up to date: `DIAR`.
const LOCK: i64 = 0x4449_4152;

pub(super) async fn run(
    name: &str,
    connection: &mut PgConnection,
    new_incarnation: Incarnation,
) -> Result<(), Error> {
    run_to(&POSTGRES, name, connection, new_incarnation).await
}

/// As [`run`], to the schema of these migrations.
pub(super) async fn run_to(
    migrator: &Migrator,
    name: &str,
    connection: &mut PgConnection,
    new_incarnation: Incarnation,
) -> Result<(), Error> {
    // Held by the session: a node that dies gives it up.
    execute(name, connection, "SELECT pg_advisory_lock($1)").await?;
    let result = run_locked(migrator, name, connection, new_incarnation).await;
    execute(name, connection, "SELECT pg_advisory_unlock($1)").await?;
    result
}

async fn execute(
    name: &str,
    connection: &mut PgConnection,
    statement: &'static str,
) -> Result<(), Error> {
    let lock = sqlx::query(statement).bind(LOCK).execute(connection).await;
    lock.map(drop).map_err(|source| at_open(name, source))
}

async fn run_locked(
    migrator: &Migrator,
    name: &str,
    connection: &mut PgConnection,
    new_incarnation: Incarnation,
) -> Result<(), Error> {
    let known = newest_in(migrator);
    let found = newest_applied(name, connection).await?;
    if found > known {
        return Err(Error::NewerDatabase { database: name.to_owned(), found, known });
    }
    // A read-only database that is up to date can still be read.
    if found < known {
        migrator
            .run_direct(None, &mut *connection, false)
            .await
            .map_err(|source| migration_failed(name, source))?;
        // Statements prepared before a change of schema would be prepared again at each use.
        connection.clear_cached_statements().await.map_err(|source| at_open(name, source))?;
    }
    start_log(connection, new_incarnation).await.map_err(|source| at_open(name, source))
}

fn newest_in(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Refuses a database that is not of the version known here; nothing is changed.
pub(super) async fn check(name: &str, connection: &mut PgConnection) -> Result<(), Error> {
    let known = newest_in(&POSTGRES);
    let found = newest_applied(name, connection).await?;
    let database = name.to_owned();
    match found.cmp(&known) {
        Ordering::Greater => Err(Error::NewerDatabase { database, found, known }),
        Ordering::Less => Err(Error::OlderDatabase { database, found, known }),
        Ordering::Equal => Ok(()),
    }
}

fn migration_failed(name: &str, source: MigrateError) -> Error {
    let source = if let MigrateError::Execute(source) = source {
        let failure = at_open(name, source);
        let Error::Open { source, .. } = failure else { return failure };
        MigrateError::Execute(source)
    } else {
        source
    };
    Error::Migrate { database: name.to_owned(), source }
}

/// The database's version; 0 in an empty one.
async fn newest_applied(name: &str, connection: &mut PgConnection) -> Result<i64, Error> {
    let failed = |source| at_open(name, source);
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace \
         AND relkind IN ('r', 'p', 'v', 'm', 'f')",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let has = |table: &str| tables.iter().any(|found| found == table);
    if tables.is_empty() {
        return Ok(0);
    }
    // A first start that was cut off leaves the empty table of versions alone.
    let is_ours = has("_sqlx_migrations") && (tables.len() == 1 || has("log_head"));
    if !is_ours {
        return Err(Error::NotADatabase { database: name.to_owned() });
    }
    if has(begin::RESTORE_MARK) {
        return Err(Error::HalfRestored { database: name.to_owned() });
    }
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    Ok(newest.unwrap_or(0))
}

/// Writes the head row of a log that was just made. Its first incarnation is its id for ever.
async fn start_log(
    connection: &mut PgConnection,
    new_incarnation: Incarnation,
) -> Result<(), sqlx::Error> {
    let is_new: bool = sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM log_head) AND NOT EXISTS (SELECT 1 FROM events) \
         AND NOT EXISTS (SELECT 1 FROM batches)",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !is_new {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO log_head (id, log_id, position, recorded_at, incarnation, link) \
         VALUES (1, $1, 0, 0, $1, $2)",
    )
    .bind(new_incarnation.0.as_bytes().to_vec())
    .bind(GENESIS.to_vec())
    .execute(connection)
    .await
    .map(drop)
}
