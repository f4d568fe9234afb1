//! The peer of durable commits on SQLite: its own library, one insert a transaction, under the
//! same pragmas as ours.

use std::path::Path;

use rusqlite::Connection;

use super::Error;

const SCHEMA: &str = "PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS peer_events (
        position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,
        type TEXT NOT NULL, recorded_at INTEGER NOT NULL, payload BLOB NOT NULL
    );";

/// Inserts one row after the other while `goes_on`, each in a transaction of its own, and answers
/// with how many. Blocks.
///
/// # Errors
/// When the database fails.
pub fn insert_while(
    file: &Path,
    payload: &[u8],
    mut goes_on: impl FnMut() -> bool,
) -> Result<u64, Error> {
    let connection = Connection::open(file)?;
    connection.execute_batch(SCHEMA)?;
    let mut insert = connection.prepare(
        "INSERT INTO peer_events (stream, version, type, recorded_at, payload) \
         VALUES (?1, 1, 'DesiredLrpDesired', ?2, ?3)",
    )?;
    let mut inserted: u64 = 0;
    while goes_on() {
        // Outside BEGIN every statement is a transaction.
        insert.execute((format!("desired_lrp/{inserted}"), 1_700_000_000_i64, payload))?;
        inserted += 1;
    }
    Ok(inserted)
}
