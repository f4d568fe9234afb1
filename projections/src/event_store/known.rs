//! Whether this program knows every kind of event that a log holds, told before anything is
//! written: a start from a snapshot reads too little of the log to meet what it cannot read.

use domain::{event, log::Position};

use super::{Error, EventStore};

/// The newest event of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestOfType {
    /// The stored name.
    pub type_name: String,
    /// The shape of its payload. No event of the type has a newer one: whoever writes has read
    /// all that is there, and writes no older shape than it reads.
    pub schema_version: u16,
    /// Where it is.
    pub position: Position,
}

/// Compares the kinds of events in a log with those that this program knows. Takes a few look-ups
/// in an index, however long the log is.
///
/// # Errors
/// [`Error::Unreadable`] names a newer event; or the look-up's error.
pub async fn check_known(store: &dyn EventStore) -> Result<(), Error> {
    for newest in store.newest_of_each_type().await? {
        let NewestOfType { type_name, schema_version, position } = newest;
        event::check_known(&type_name, schema_version)
            .map_err(|source| Error::Unreadable { position, source })?;
    }
    Ok(())
}
