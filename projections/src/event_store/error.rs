//! What can go wrong with the log, by operation.

use std::path::PathBuf;

use domain::{
    event::UnreadableEvent,
    log::{LeaseEpoch, Position},
};

use super::{BatchId, Head, Refusal, TURN_MAX, chain::Fault};

/// How far a node's clock may be from its database's, in milliseconds.
pub const CLOCK_DISTANCE_MAX_MS: i64 = 5_000;

/// Why the log could not be opened, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened, made or reached.
    #[error("cannot open the database {database}")]
    Open {
        /// The file, or the server's address without its password.
        database: String,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The database holds something else.
    #[error("{database} is not a Diario database; it was left as it is")]
    NotADatabase {
        /// The file or address.
        database: String,
    },
    /// The database was written by a newer Diario.
    #[error(
        "{database} has database version {found}, newer than {known} known here: upgrade diario"
    )]
    NewerDatabase {
        /// The file or address.
        database: String,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The file was written by an older Diario, and is only to be read.
    #[error(
        "{database} has database version {found}, older than {known} known here: start a node on it once"
    )]
    OlderDatabase {
        /// The database.
        database: String,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A backup was written into the database, and not to its end.
    #[error(
        "a restore into {database} was broken off, or still runs: it holds no whole log; restore \
         into a new database"
    )]
    HalfRestored {
        /// The file or address.
        database: String,
    },
    /// The file's pages are damaged or cut off.
    #[error("{path} is damaged ({reason}); it was left as it is: restore a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// The log's last batch is not what its hash says.
    #[error("the log in {database} is damaged: {fault}; it was left as it is: restore a backup")]
    TailDamaged {
        /// The file or address.
        database: String,
        /// Where and how.
        fault: Fault,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring {database} up to date")]
    Migrate {
        /// The file or address.
        database: String,
        /// What failed.
        source: sqlx::migrate::MigrateError,
    },
    /// The database cannot be reached or does not answer in time; it is tried again by itself.
    #[error("the database {database} cannot be reached to {operation}: try again")]
    Unavailable {
        /// The file or address.
        database: String,
        /// What was being done.
        operation: &'static str,
        /// What the connection said.
        source: sqlx::Error,
    },
    /// The database has no connection left for us.
    #[error(
        "the database {database} is out of connections: raise its max_connections or stop other \
         clients, and try again"
    )]
    OutOfConnections {
        /// The file or address.
        database: String,
    },
    /// The database takes no writes.
    #[error(
        "the database {database} is read-only (a standby, or set so): nothing was written; \
         connect to the one that takes writes, or try again when this one does"
    )]
    ReadOnly {
        /// The file or address.
        database: String,
    },
    /// The database holds another log than the one that this process works on.
    #[error(
        "the log in the database {database} is not the one any more that this node works on \
         ({reason}): a backup was restored under it, or a standby without the newest events took \
         over; start this node again"
    )]
    Replaced {
        /// The file or address.
        database: String,
        /// How it was seen.
        reason: String,
    },
    /// There is no room for what was to be written.
    #[error("the disk that holds the database {database} is full: make room; nothing was written")]
    DiskFull {
        /// The file or address.
        database: String,
    },
    /// The disk failed under a commit: nothing more is written to it.
    #[error(
        "the disk under the database {database} failed ({reason}): see to the disk, then start \
         diario again; what was written last may be there or not, all that was acknowledged is"
    )]
    DiskFailed {
        /// The file.
        database: String,
        /// What the database said.
        reason: String,
    },
    /// This node's clock and the database's are too far apart to record the time.
    #[error(
        "this node's clock is {milliseconds} ms from that of the database {database}, more than \
         {CLOCK_DISTANCE_MAX_MS} ms: set both clocks; until then nothing is written"
    )]
    ClockOff {
        /// The file or address.
        database: String,
        /// The node's time less the database's.
        milliseconds: i64,
    },
    /// A statement failed.
    #[error("cannot {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// A stored event cannot be read.
    #[error("cannot read the event at position {position}")]
    Unreadable {
        /// Where it is.
        position: Position,
        /// Why not.
        source: UnreadableEvent,
    },
    /// A stored column is not what it must be.
    #[error("the {column} of the event at position {position} is malformed")]
    Malformed {
        /// Where it is.
        position: Position,
        /// Which column.
        column: &'static str,
    },
    /// An event cannot be written as JSON, which is a defect.
    #[error("cannot encode an event as JSON")]
    Encode {
        /// What the encoder said.
        source: serde_json::Error,
    },
    /// Reading in order, a position was not there.
    #[error("the log lacks position {0}")]
    Gap(Position),
    /// A reader wants to go on from behind the log's end: its cursor is of another log.
    #[error(
        "position {after} is behind the head {head} of the log: it is of another log, or this one was cut off"
    )]
    AheadOfHead {
        /// What the reader has seen.
        after: Position,
        /// Where the log ends.
        head: Position,
    },
    /// The holder of a turn kept it for too long.
    #[error("the turn lasted longer than {} s and was taken back: nothing was written", TURN_MAX.as_secs())]
    TurnTakenBack,
    /// What was asked about was pruned.
    #[error(
        "position {position} was pruned: the log begins behind position {floor}; ask about \
         {floor} or later"
    )]
    Pruned {
        /// The first position that was asked for.
        position: Position,
        /// The last one that was pruned; the state there is known.
        floor: Position,
    },
    /// The older part of the log cannot be read.
    #[error("cannot read the archive")]
    Archive(#[source] Box<crate::archive::Error>),
    /// The store was closed, or its writer has stopped.
    #[error("the event store is closed")]
    Closed,
}

impl Error {
    /// Whether the database is expected to serve the same request again without a change of it.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::OutOfConnections { .. }
            | Self::ReadOnly { .. }
            | Self::DiskFull { .. }
            | Self::ClockOff { .. }
            | Self::TurnTakenBack => true,
            Self::Open { .. }
            | Self::NotADatabase { .. }
            | Self::NewerDatabase { .. }
            | Self::OlderDatabase { .. }
            | Self::HalfRestored { .. }
            | Self::Damaged { .. }
            | Self::TailDamaged { .. }
            | Self::Migrate { .. }
            | Self::Replaced { .. }
            | Self::Database { .. }
            | Self::DiskFailed { .. }
            | Self::Unreadable { .. }
            | Self::Malformed { .. }
            | Self::Encode { .. }
            | Self::Gap(_)
            | Self::AheadOfHead { .. }
            | Self::Pruned { .. }
            | Self::Archive(_)
            | Self::Closed => false,
        }
    }

    /// Whether this process must neither read on nor write: the log holds an event that it cannot
    /// read, or is another one now.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::Replaced { .. })
    }

    /// Whether nothing must be written any more before the program was started anew: it must not
    /// read on either, or the disk has failed.
    #[must_use]
    pub fn ends_writing(&self) -> bool {
        self.is_final() || matches!(self, Self::DiskFailed { .. })
    }

    /// The error and what it follows from, in one line.
    #[must_use]
    pub fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// Why an append did not answer with events.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another writer was first: nothing was written. Decide again on this head.
    #[error("the head has moved to position {}", head.position)]
    HeadMoved {
        /// Where the log ends now.
        head: Head,
    },
    /// The lease that the batch acts under has passed to another node: nothing was written.
    /// Decide again without the loops' commands.
    #[error("lease epoch {} has passed", lease_epoch.0)]
    LeasePassed {
        /// The batch's.
        lease_epoch: LeaseEpoch,
    },
    /// Written or not, nobody knows: look the batch up before deciding anything.
    #[error("it is not known whether batch {batch} was written")]
    OutcomeUnknown {
        /// What to look up.
        batch: BatchId,
    },
    /// The batch can never be written as it is: nothing was written.
    #[error("the batch was refused")]
    Refused(#[source] Refusal),
    /// Nothing was written; the same batch may be tried again.
    #[error("cannot append")]
    Failed(#[source] Error),
}
