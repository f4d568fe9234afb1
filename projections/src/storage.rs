//! Where a log and all beside it is kept, opened as one: SQLite in a file, or Postgres by its
//! address.
//!
//! Who opens a storage closes it. The password of an address is never shown, logged or put into an
//! error.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use domain::log::Incarnation;
use sqlx::postgres::PgConnectOptions;

use crate::{
    event_store::{
        Error, EventStore, HotLog,
        keys::{KeyStore, PostgresKeyStore, SqliteKeyStore},
        postgres::{self, PostgresStore, WallClock},
        sqlite::{Database, SqliteStore},
    },
    leases::{Leases, PostgresLeases, SqliteLeases},
    presence::{MemoryPresenceTable, PostgresPresenceTable, PresenceTable},
    snapshot::{PostgresSnapshotStore, SnapshotStore, SqliteSnapshotStore},
};

/// The name of the SQLite file in a data folder.
pub const SQLITE_FILE: &str = "diario.db";

/// The address of a Postgres database. Shown without password and options.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: Box<PgConnectOptions>,
    shown: String,
}

/// Why an address of a database cannot be used. Does not repeat it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database address is not of the form postgres://user:password@host:port/database")]
pub struct InvalidDatabaseUrl;

impl DatabaseUrl {
    /// How to connect.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.as_ref().clone()
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidDatabaseUrl)?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(InvalidDatabaseUrl);
        }
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = user.split(':').next().unwrap_or_default();
        let at = if user.is_empty() { "" } else { "@" };
        let options = Box::new(PgConnectOptions::from_str(text).map_err(|_| InvalidDatabaseUrl)?);
        Ok(Self { options, shown: format!("{scheme}://{user}{at}{host}/{database}") })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.shown)
    }
}

/// Which database holds the log.
#[derive(Debug, Clone)]
pub enum Location {
    /// A SQLite file, which one process at a time writes.
    Sqlite {
        /// The file.
        file: PathBuf,
    },
    /// A Postgres database, which several nodes share.
    Postgres {
        /// Its address.
        url: DatabaseUrl,
    },
}

impl Location {
    /// The SQLite file of a data folder.
    #[must_use]
    pub fn in_folder(data_dir: &Path) -> Self {
        Self::Sqlite { file: data_dir.join(SQLITE_FILE) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { file } => write!(f, "{}", file.display()),
            Self::Postgres { url } => write!(f, "{url}"),
        }
    }
}

/// The database itself, for what only one kind of it can do.
#[derive(Debug, Clone)]
pub enum Backend {
    /// SQLite.
    Sqlite(Database),
    /// Postgres.
    Postgres(postgres::Database),
}

/// An open log and all that is kept beside it in the same database.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// What the database keeps beside the log: its floor and checkpoints.
    pub tables: Arc<dyn HotLog>,
    /// Snapshots of folded state.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Wrapped keys and sealed blobs.
    pub keys: Arc<dyn KeyStore>,
    /// Which node runs the loops.
    pub leases: Arc<dyn Leases>,
    /// Which cell was heard when, as all nodes share it.
    pub presence: Arc<dyn PresenceTable>,
    /// The database itself.
    pub backend: Backend,
}

impl Storage {
    /// Opens a database to read and write, made or brought up to date where needed. A new log
    /// lives under `new_incarnation`; an existing one keeps its own. `wall_clock` is compared with
    /// that of a database elsewhere.
    ///
    /// # Errors
    /// As [`Database::open`] and [`postgres::Database::open`].
    pub async fn open(
        location: &Location,
        new_incarnation: Incarnation,
        wall_clock: WallClock,
    ) -> Result<Self, Error> {
        match location {
            Location::Sqlite { file } => {
                Ok(Self::of_sqlite(Database::open(file, new_incarnation).await?))
            }
            Location::Postgres { url } => {
                let database = postgres::Database::open(url, new_incarnation, wall_clock).await?;
                Ok(Self::of_postgres(database))
            }
        }
    }

    /// Opens a database only to read, beside a node that may be running on it. Every write fails.
    ///
    /// # Errors
    /// As [`Database::open_to_read`] and [`postgres::Database::open_to_read`].
    pub async fn open_to_read(location: &Location, wall_clock: WallClock) -> Result<Self, Error> {
        match location {
            Location::Sqlite { file } => Ok(Self::of_sqlite(Database::open_to_read(file).await?)),
            Location::Postgres { url } => {
                let database = postgres::Database::open_to_read(url, wall_clock).await?;
                Ok(Self::of_postgres(database))
            }
        }
    }

    fn of_sqlite(database: Database) -> Self {
        Self {
            tables: Arc::new(SqliteStore::new(database.clone())),
            store: Arc::new(SqliteStore::new(database.clone())),
            snapshots: Arc::new(SqliteSnapshotStore::new(database.clone())),
            keys: Arc::new(SqliteKeyStore::new(database.clone())),
            leases: Arc::new(SqliteLeases::new(database.clone())),
            presence: Arc::new(MemoryPresenceTable::default()),
            backend: Backend::Sqlite(database),
        }
    }

    fn of_postgres(database: postgres::Database) -> Self {
        let store = Arc::new(PostgresStore::new(database.clone()));
        Self {
            tables: store.clone(),
            store,
            snapshots: Arc::new(PostgresSnapshotStore::new(database.clone())),
            keys: Arc::new(PostgresKeyStore::new(database.clone())),
            leases: Arc::new(PostgresLeases::new(database.clone())),
            presence: Arc::new(PostgresPresenceTable::new(database.clone())),
            backend: Backend::Postgres(database),
        }
    }

    /// Ends what is queued and closes the database. Handles that are left answer
    /// [`Error::Closed`].
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(database) => database.close().await,
            Backend::Postgres(database) => database.close().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{log::LeaseEpoch, units::Milliseconds};
    use uuid::Uuid;

    use super::*;
    use crate::{leases::LeaseState, testing::postgres::wall_clock};

    #[test]
    fn an_address_never_shows_its_password_and_what_is_none_is_refused() {
        for (text, shown) in [
            (
                "postgres://ann:s3cret@db.example:5433/diario",
                "postgres://ann@db.example:5433/diario",
            ),
            ("postgresql://ann@[::1]/d?password=s3cret", "postgresql://ann@[::1]/d"),
            ("postgres://db/d", "postgres://db/d"),
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("s3cret"));
        }
        for text in ["", "diario.db", "mysql://ann:s3cret@db/d", "postgres://ann:s3cret@db:port/d"]
        {
            let refused = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(!refused.to_string().contains("s3cret"));
        }
    }

    #[tokio::test]
    async fn a_reader_beside_a_writer_reads_and_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::in_folder(folder.path());
        assert!(matches!(
            Storage::open_to_read(&location, wall_clock()).await,
            Err(Error::Open { .. })
        ));
        let storage =
            Storage::open(&location, Incarnation(Uuid::nil()), wall_clock()).await.unwrap();

        let reader = Storage::open_to_read(&location, wall_clock()).await.unwrap();

        assert_eq!(reader.store.head().await.unwrap(), storage.store.head().await.unwrap());
        let ttl = Milliseconds::from_seconds(15);
        assert!(matches!(reader.leases.acquire("a", ttl).await, Err(Error::Database { .. })));
        reader.close().await;
        assert!(storage.leases.acquire("a", ttl).await.is_ok());
        storage.close().await;
    }

    #[tokio::test]
    async fn each_process_on_a_file_acts_under_a_higher_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::in_folder(folder.path());
        let ttl = Milliseconds::from_seconds(15);
        for (holder, epoch) in [("a", 1), ("b", 2), ("c", 3)] {
            let storage =
                Storage::open(&location, Incarnation(Uuid::nil()), wall_clock()).await.unwrap();
            for _ in 0..2 {
                let held = storage.leases.acquire(holder, ttl).await.unwrap();
                assert_eq!(held, LeaseState::Held { lease_epoch: LeaseEpoch(epoch) });
            }
            storage.leases.release(holder).await.unwrap();
            storage.close().await;
        }
    }
}
