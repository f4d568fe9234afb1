//! How far the reader of one subscription has come: the last cursor that it has taken for sure.
//!
//! Kept beside the stream, so that a socket that gives its reader up can say where to go on.

use std::sync::{Mutex, PoisonError};

use domain::log::Cursor;

/// The last cursor that a reader has taken.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<Cursor>>);

impl Progress {
    /// The reader has taken everything up to here.
    pub(super) fn passed(&self, cursor: Cursor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor);
    }

    /// Where the reader is; `None` when it does not read the log.
    pub(super) fn last(&self) -> Option<Cursor> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
