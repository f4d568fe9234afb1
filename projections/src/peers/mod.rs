//! What the benches run beside us: a Postgres server of their own, pgbench, SQLite's library.
//!
//! Part of the product, so that whoever runs `diario bench` compares on their own machine. Never
//! touches a database that it has not made, and measures no time itself: that is the caller's.

pub mod pgbench;
pub mod postgres_server;
pub mod sqlite;

pub use postgres_server::PostgresServer;

/// Why a peer cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not there.
    #[error("{program} is not installed: install the Debian package {package}")]
    Missing {
        /// Which.
        program: String,
        /// What brings it.
        package: &'static str,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Run {
        /// Which.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: String,
        /// The last of what it said.
        said: String,
    },
    /// A file or folder of the bench cannot be used.
    #[error("cannot use {path} for the bench")]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("the peer's SQLite database failed")]
    Sqlite(#[from] rusqlite::Error),
}
