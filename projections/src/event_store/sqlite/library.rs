//! What SQLite's library says when it is asked directly, as the driver would have said it: so that
//! a reader of an error sees no difference, and its code says whether the file is damaged.

use std::{borrow::Cow, error::Error, fmt};

use sqlx::error::{DatabaseError, ErrorKind};

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

    /// These connections only read: no constraint can be in the way.
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
