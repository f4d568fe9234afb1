//! What can be wrong with an archive, and what to do then.

use domain::log::Position;

use crate::{
    checkpoint,
    event_store::{self, LogId, chain::Fault},
};

/// Why an archive cannot be read, written or trusted. Nothing is ever answered from a part that
/// is damaged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place of the archive is not one.
    #[error(
        "{location:?} is no place for an archive ({reason}): name a folder or s3://BUCKET/PREFIX"
    )]
    Location {
        /// What was named.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The place cannot be reached, or refuses.
    #[error("cannot {operation} {object}")]
    Place {
        /// What was being done.
        operation: &'static str,
        /// With which object.
        object: String,
        /// What the place said.
        source: object_store::Error,
    },
    /// There is no archive.
    #[error("there is no archive at {location}: name the right place, or bring it back")]
    NoArchive {
        /// Where it was looked for.
        location: String,
    },
    /// There is one where a new one should begin.
    #[error("there is another archive at {location}: name a new place")]
    Taken {
        /// Where.
        location: String,
    },
    /// An object of the archive is gone.
    #[error("the archive lacks {object}: bring it back from a copy of the archive")]
    Missing {
        /// Its name.
        object: String,
    },
    /// An object of the archive is not what was written.
    #[error("{object} is damaged ({reason}): bring it back from a copy of the archive")]
    Damaged {
        /// Its name.
        object: String,
        /// What was seen.
        reason: String,
    },
    /// An object was written by a newer program.
    #[error("{object} has format version {found}, newer than {known} known here: upgrade diario")]
    Newer {
        /// Its name.
        object: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The archive is of another log.
    #[error(
        "the archive at {location} is of another log, {found}: name the archive of log {known}"
    )]
    OtherLog {
        /// Where it is.
        location: String,
        /// The archive's log.
        found: LogId,
        /// The log that was asked about.
        known: LogId,
    },
    /// Positions are neither in the archive nor in the database.
    #[error(
        "the archive at {location} lacks positions {from} to {to}: it is not the one that this \
         log was moved to, or a part of it was lost; bring it back from a copy"
    )]
    Hole {
        /// Where it is.
        location: String,
        /// The first position that is lacking.
        from: Position,
        /// The last one.
        to: Position,
    },
    /// The log that should be archived fails its own hashes.
    #[error("the log was not archived: {fault}; `diario verify` says more, a backup helps")]
    LogDamaged {
        /// What is wrong.
        fault: Fault,
    },
    /// What was written reads back differently.
    #[error(
        "{object} reads back differently from what was written; nothing was deleted: see to the storage"
    )]
    ReadBack {
        /// Its name.
        object: String,
    },
    /// Another program wrote to the archive at the same time.
    #[error("another program writes to the archive at {location}: run one at a time")]
    Concurrent {
        /// Where it is.
        location: String,
    },
    /// The database failed.
    #[error(transparent)]
    Log(#[from] event_store::Error),
    /// The base state cannot be written as JSON, which is a defect.
    #[error("cannot write the base state")]
    Encode(#[source] serde_json::Error),
    /// What was signed cannot be remembered outside of the database.
    #[error(transparent)]
    Remember(checkpoint::last::Error),
    /// There is nothing that may be pruned.
    #[error("nothing was pruned: {reason}")]
    NothingToPrune {
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// Whether a part of the archive is gone or altered; anything else is about reaching it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. } | Self::Hole { .. })
    }

    pub(super) fn damaged(object: &str, reason: impl Into<String>) -> Self {
        Self::Damaged { object: object.to_owned(), reason: reason.into() }
    }
}

impl From<Error> for event_store::Error {
    fn from(failure: Error) -> Self {
        if let Error::Log(inner) = failure {
            return inner;
        }
        Self::Archive(Box::new(failure))
    }
}
