//! Brings a SQLite database's schema up to date, and refuses one from the future.

use std::{cmp::Ordering, path::Path};

use sqlx::{Connection as _, SqliteConnection, migrate::Migrator};

use super::{
    Error,
    migrations::{SQLITE, SQLITE_BEFORE_PACKING},
};

/// The database version that this program writes.
pub(super) fn known_version() -> i64 {
    newest_of(&SQLITE)
}

fn newest_of(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Applies what is missing before the program must pack what the old tables hold, and says whether
/// it must.
pub(super) async fn run_before_packing(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<bool, Error> {
    let packing = newest_of(&SQLITE_BEFORE_PACKING);
    // A new database has nothing to pack.
    if newest_applied(path, connection).await?.is_none_or(|found| found > packing) {
        return Ok(false);
    }
    apply(&SQLITE_BEFORE_PACKING, path, connection).await?;
    Ok(true)
}

/// Applies what is missing, each step in its own transaction.
pub(super) async fn run(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let known = known_version();
    if let Some(found) = newest_applied(path, connection).await?.filter(|found| *found > known) {
        return Err(Error::NewerDatabase { database: path.display().to_string(), found, known });
    }
    apply(&SQLITE, path, connection).await
}

async fn apply(
    migrator: &Migrator,
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), Error> {
    // `run` takes any connection, but its future is not `Send` for every lifetime of ours.
    migrator
        .run_direct(None, &mut *connection, false)
        .await
        .map_err(|source| Error::Migrate { database: path.display().to_string(), source })?;
    // Statements prepared before a change of schema would be prepared again at each use.
    connection
        .clear_cached_statements()
        .await
        .map_err(|source| super::sqlite::open_error(path, source))
}

/// Refuses a database that is not of the version known here; nothing is changed.
pub(super) async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let known = known_version();
    let found = newest_applied(path, connection).await?.unwrap_or(0);
    let database = path.display().to_string();
    match found.cmp(&known) {
        Ordering::Greater => Err(Error::NewerDatabase { database, found, known }),
        Ordering::Less => Err(Error::OlderDatabase { database, found, known }),
        Ordering::Equal => Ok(()),
    }
}

async fn newest_applied(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Option<i64>, Error> {
    let failed = |source| super::sqlite::open_error(path, source);
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
    if tables == 0 {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)
}
