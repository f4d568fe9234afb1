//! What a failure of Postgres means: whether anything can have been written, whether the
//! connection is still good, and what to tell.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::super::Error;

fn code(failure: &sqlx::Error) -> Option<&str> {
    failure
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .map(PgDatabaseError::code)
}

/// Whether the server refused one statement: it was rolled back for certain, and the connection
/// goes on. Any other failure leaves both in doubt.
pub(super) fn is_refusal(failure: &sqlx::Error) -> bool {
    failure
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .is_some_and(|error| error.severity() == PgSeverity::Error)
}

/// Whether the connection must be thrown away.
pub(super) fn is_lost(failure: &sqlx::Error) -> bool {
    if matches!(failure, sqlx::Error::Database(_)) {
        return !is_refusal(failure);
    }
    matches!(
        failure,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
    )
}

/// Whether a statement named a table that the database does not have.
pub(super) fn is_missing_table(failure: &sqlx::Error) -> bool {
    code(failure) == Some("42P01")
}

/// An operation's failure.
pub(super) fn classify(database: &str, operation: &'static str, source: sqlx::Error) -> Error {
    let database = database.to_owned();
    if matches!(source, sqlx::Error::PoolClosed) {
        return Error::Closed;
    }
    match code(&source) {
        Some("53300") => Error::OutOfConnections { database },
        Some("25006") => Error::ReadOnly { database },
        Some("53100") => Error::DiskFull { database },
        // Shutting down or starting; a lock or statement that took too long; a turn taken back.
        Some("57P01" | "57P02" | "57P03" | "55P03" | "57014" | "25P03" | "57P05") => {
            Error::Unavailable { database, operation, source }
        }
        Some(code) if code.starts_with("08") => Error::Unavailable { database, operation, source },
        Some(_) => Error::Database { operation, source },
        None if is_lost(&source) || matches!(source, sqlx::Error::PoolTimedOut) => {
            Error::Unavailable { database, operation, source }
        }
        None => Error::Database { operation, source },
    }
}

/// A failure while opening: what an operation's failure does not say is about the address.
pub(super) fn at_open(database: &str, source: sqlx::Error) -> Error {
    let failure = classify(database, "open it", source);
    if let Error::Database { source, .. } = failure {
        return Error::Open { database: database.to_owned(), source };
    }
    failure
}
