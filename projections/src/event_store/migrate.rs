//! Brings a SQLite database's schema up to date, and refuses one from the future.

use std::{cmp::Ordering, path::Path};

use sqlx::{Connection as _, SqliteConnection};

use super::{Error, migrations::SQLITE};

/// The database version that this program writes.
pub(super) fn known_version() -> i64 {
    SQLITE.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Applies what is missing, each step in its own transaction.
pub(super) async fn run(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let known = known_version();
    if let Some(found) = newest_applied(path, connection).await?.filter(|found| *found > known) {
        return Err(Error::NewerDatabase { database: path.display().to_string(), found, known });
    }
    // `run` takes any connection, but its future is not `Send` for every lifetime of ours.
    SQLITE
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
