//! What can be wrong with an export, a backup or its target, and what to do then.

use std::{fmt, io, path::PathBuf};

use domain::{event::UnreadableEvent, log::Position};

use crate::event_store::{self, LogId, chain};

/// Where in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(u64),
    /// A record of the compact form, from 1.
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record(number) => write!(f, "record {number}"),
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is something else.
    #[error("this is no export of a Diario log")]
    NotAnExport,
    /// A newer program has written it.
    #[error("it has format version {found}, newer than {known} known here: upgrade diario")]
    NewerFormat {
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// It does not follow its own form.
    #[error("{reason}: the file was altered or damaged; export or copy it again")]
    Malformed {
        /// How.
        reason: String,
    },
    /// It has no end.
    #[error("the file is cut off here; export or copy it again")]
    CutOff,
    /// A position is not there, though later ones are.
    #[error("the event at position {position} is missing: the file has a hole; export it again")]
    Hole {
        /// The first one that is missing.
        position: Position,
    },
    /// The hash chain does not hold.
    #[error("{0}: the file was altered; export or copy it again")]
    Chain(chain::Fault),
    /// An event is of a newer program.
    #[error("the event at position {position} is of a newer diario: upgrade this one first")]
    NewerEvent {
        /// Where it is in the log.
        position: Position,
        /// What is new.
        source: UnreadableEvent,
    },
    /// The digest at its end is not that of its bytes.
    #[error("its digest does not fit: the file was altered; export or copy it again")]
    Digest,
    /// Something follows its end.
    #[error("something follows the end: the file was altered or joined with another one")]
    Trailing,
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not as it was written.
    #[error("{path}, {place}")]
    File {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong.
        #[source]
        fault: Box<Fault>,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A range's end is behind the log's.
    #[error("position {asked} is behind the log's end, {head}: name one up to {head}")]
    Future {
        /// The one that was named.
        asked: Position,
        /// Where the log ends.
        head: Position,
    },
    /// The range begins with what is not in the database.
    #[error(
        "the log here begins at position {first}, behind {from}: what was before is in an archive \
         (name it with --archive) or was pruned; --from @{first} takes the rest, `diario backup` \
         also the state before it"
    )]
    BelowFloor {
        /// Where the range should begin.
        from: Position,
        /// Where the log begins.
        first: Position,
    },
    /// A range ends before it begins.
    #[error("the range ends at position {to}, before its start {from}")]
    Backwards {
        /// Its start.
        from: Position,
        /// Its end.
        to: Position,
    },
    /// The log that is exported fails its own hashes.
    #[error("the log cannot be exported: {fault}; `diario verify` says more, a backup helps")]
    LogDamaged {
        /// What is wrong.
        fault: chain::Fault,
    },
    /// The export is of another log than the one it should continue.
    #[error(
        "the file is of log {found}, this is log {expected}: two logs cannot be joined; import \
         into an empty one"
    )]
    OtherLog {
        /// The target's log.
        expected: LogId,
        /// The file's log.
        found: LogId,
    },
    /// The target's log and the export are of one log, but went different ways.
    #[error(
        "the log here and the file differ at position {position}: they went different ways after \
         a restore; import into an empty one"
    )]
    Diverged {
        /// The log's last position.
        position: Position,
    },
    /// The target ends before the export begins.
    #[error(
        "the file begins at position {first}, but the log here ends at {head}: import the part \
         between first, or an export from position 1 into an empty log; a pruned log moves by \
         `diario backup` and `diario restore`"
    )]
    Gap {
        /// The export's first position.
        first: Position,
        /// Where the target ends.
        head: Position,
    },
    /// The target holds what the export does not.
    #[error("the log here has events up to position {head}, behind the file's last, {last}")]
    TargetAhead {
        /// Where the target ends.
        head: Position,
        /// The export's last position.
        last: Position,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] event_store::Error),
}
