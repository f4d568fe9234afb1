//! What a failure of SQLite says of the disk under it: full, which passes, or failing, after which
//! nothing that was not synced before can be trusted.

use std::path::Path;

use super::super::Error;

/// SQLite's primary result codes.
const IO_ERROR: i32 = 10;
const FULL: i32 = 13;

fn primary_code(failure: &sqlx::Error) -> Option<i32> {
    let code = failure.as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}

/// Whether there was no room. What needed it was not written: a commit's mark is the last thing
/// that its frames carry, so without room for all of them there is none.
pub(super) fn is_disk_full(failure: &sqlx::Error) -> bool {
    primary_code(failure) == Some(FULL)
}

/// Whether the disk refused to read, write or sync.
pub(super) fn is_io_error(failure: &sqlx::Error) -> bool {
    primary_code(failure) == Some(IO_ERROR)
}

/// An operation's failure.
pub(super) fn classify(path: &Path, operation: &'static str, source: sqlx::Error) -> Error {
    if is_disk_full(&source) {
        return Error::DiskFull { database: path.display().to_string() };
    }
    Error::Database { operation, source }
}

/// As [`classify`], of a failure whose operation was named already.
pub(super) fn told(path: &Path, failure: Error) -> Error {
    match failure {
        Error::Database { operation, source } => classify(path, operation, source),
        failure => failure,
    }
}
