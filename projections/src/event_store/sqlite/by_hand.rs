//! For tests only: a log that somebody changed past this program, or that a newer one wrote.

use std::path::Path;

use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

/// Runs SQL statements on a database file, past every check.
///
/// # Panics
/// When SQLite refuses them.
pub async fn change_by_hand(path: &Path, statements: &str) {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("a database file");
    let statements = sqlx::AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(statements).execute(&mut connection).await.expect("statements that SQLite takes");
    sqlx::Connection::close(connection).await.expect("an end");
}
