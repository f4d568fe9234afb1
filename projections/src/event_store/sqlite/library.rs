//! SQLite's library, asked directly where the driver takes longer than all the rest. What it says
//! is told as the driver would have told it: a reader of an error sees no difference, and its code
//! says whether the file is damaged.

use std::{borrow::Cow, error::Error, fmt, path::Path};

use rusqlite::{Connection, OpenFlags};

use sqlx::error::{DatabaseError, ErrorKind};

use super::database::BUSY_TIMEOUT;

/// For a connection that only reads.
pub(super) const READS: &str = "PRAGMA query_only = ON";
/// For the one that writes: what is answered is on the disk, and deleted bytes are overwritten
/// where that costs no further page (`keys` asks for more). 64 MiB of pages are kept, so that the
/// streams of a large log are not read again and again. The WAL stays as short as SQLite keeps it:
/// a commit that makes the file longer takes half as long again as one that writes over it.
pub(super) const WRITES: &str = "PRAGMA synchronous = FULL; PRAGMA secure_delete = FAST; \
     PRAGMA cache_size = -65536";

/// More than there are.
const STATEMENTS_MAX: usize = 64;

/// A connection to a file that is known to be ours. One that only reads must be able to write the
/// index beside it all the same; what else it may is said by `pragmas`.
pub(super) fn connect(path: &Path, pragmas: &str) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch(pragmas)?;
    Ok(connection)
}

/// An error of the library.
#[derive(Debug)]
struct LibraryError {
    /// The extended result code, where the library gave one.
    code: Option<i32>,
    message: String,
}

/// The driver's form of an error.
pub(super) fn error(source: rusqlite::Error) -> sqlx::Error {
    let code = source.sqlite_error().map(|failure| failure.extended_code);
    sqlx::Error::Database(Box::new(LibraryError { code, message: source.to_string() }))
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "(code: {code}) {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Error for LibraryError {}

impl DatabaseError for LibraryError {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.code.map(|code| code.to_string().into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    /// Nobody asks which constraint was in the way.
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
