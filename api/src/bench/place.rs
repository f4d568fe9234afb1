//! Where a bench works: a temporary folder, a Postgres server in it, and fresh logs on either.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use domain::log::{Incarnation, LeaseEpoch};
use projections::{
    event_store::{
        EventStore, HotLog,
        postgres::{self, PostgresStore},
        sqlite::{self, SqliteStore},
    },
    leases::{LEASE_TIME_TO_LIVE, LeaseState, Leases, PostgresLeases, SqliteLeases},
    peers::PostgresServer,
    snapshot::{PostgresSnapshotStore, SnapshotStore, SqliteSnapshotStore},
    storage::{DatabaseUrl, Location},
    world::World,
};

use super::Error;
use crate::{
    clock::{self, Clock},
    command_bus::{CommandBus, Writers},
    lease::Lease,
};

/// A folder that is removed with the bench.
#[derive(Debug)]
pub(super) struct Place {
    // Dropped first: its own folder lies in ours.
    server: OnceLock<PostgresServer>,
    folder: Folder,
    logs: AtomicU32,
    /// The large log, once it was made.
    pub(super) large: OnceLock<Location>,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(failure) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %failure, "The bench's folder is left.");
        }
    }
}

/// An open log with its snapshots.
#[derive(Debug)]
pub(super) struct OpenLog {
    /// The log.
    pub(super) store: Arc<dyn EventStore>,
    /// Its snapshots.
    pub(super) snapshots: Arc<dyn SnapshotStore>,
    /// The log's tables, for moving events to an archive.
    pub(super) tables: Arc<dyn HotLog>,
    database: Database,
}

#[derive(Debug)]
enum Database {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

impl OpenLog {
    /// Takes the lease under which loops' commands are written, on a log that nobody else writes: of
    /// a new one it is the first.
    pub(super) async fn take_lease(&self) -> Result<LeaseState, Error> {
        let leases: Box<dyn Leases> = match &self.database {
            Database::Sqlite(database) => Box::new(SqliteLeases::new(database.clone())),
            Database::Postgres(database) => Box::new(PostgresLeases::new(database.clone())),
        };
        Ok(leases.acquire("bench", LEASE_TIME_TO_LIVE).await?)
    }

    /// Ends what is queued and closes the database.
    pub(super) async fn close(&self) {
        match &self.database {
            Database::Sqlite(database) => database.close().await,
            Database::Postgres(database) => database.close().await,
        }
    }
}

/// A log with a bus of its own, as one node has them.
#[derive(Debug)]
pub(super) struct BenchLog {
    /// The log.
    pub(super) storage: OpenLog,
    /// Its bus.
    pub(super) bus: CommandBus,
}

impl Place {
    /// A new folder among the system's temporary ones.
    pub(super) fn new() -> Result<Self, Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("diario-bench-{}", clock::new_uuid()));
        fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o711)))
            .map_err(|source| Error::Io { what: "make a temporary folder", source })?;
        Ok(Self {
            server: OnceLock::new(),
            folder: Folder(path),
            logs: AtomicU32::new(0),
            large: OnceLock::new(),
        })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.folder.0
    }

    /// The Postgres server, started when it is first asked for.
    pub(super) fn server(&self) -> Result<&PostgresServer, Error> {
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        let server = PostgresServer::start(&self.folder.0.join("postgres"))?;
        Ok(self.server.get_or_init(|| server))
    }

    /// A name that no other log here has.
    pub(super) fn new_name(&self) -> String {
        format!("log_{}", self.logs.fetch_add(1, Ordering::Relaxed))
    }

    /// A new SQLite file, in a folder of its own.
    pub(super) fn new_sqlite(&self) -> Result<Location, Error> {
        let folder = self.folder.0.join(self.new_name());
        fs::create_dir(&folder)
            .map_err(|source| Error::Io { what: "make a folder for a log", source })?;
        Ok(Location::in_folder(&folder))
    }

    /// A new database on the server, and its name.
    pub(super) fn new_postgres(&self) -> Result<(Location, String), Error> {
        let name = self.new_name();
        let url = self.server()?.new_database(&name)?;
        let url: DatabaseUrl =
            url.parse().map_err(|_| Error::Unexpected("the server has no address".to_owned()))?;
        Ok((Location::Postgres { url }, name))
    }
}

/// Opens a log.
pub(super) async fn open(location: &Location) -> Result<OpenLog, Error> {
    let incarnation = Incarnation(clock::new_uuid());
    match location {
        Location::Sqlite { file } => {
            let database = sqlite::Database::open(file, incarnation).await?;
            let store = Arc::new(SqliteStore::new(database.clone()));
            Ok(OpenLog {
                tables: Arc::clone(&store) as Arc<dyn HotLog>,
                store,
                snapshots: Arc::new(SqliteSnapshotStore::new(database.clone())),
                database: Database::Sqlite(database),
            })
        }
        Location::Postgres { url } => {
            let clock = Clock::default();
            let wall_clock: postgres::WallClock = Arc::new(move || clock.now());
            let database = postgres::Database::open(url, incarnation, wall_clock).await?;
            let store = Arc::new(PostgresStore::new(database.clone()));
            Ok(OpenLog {
                tables: Arc::clone(&store) as Arc<dyn HotLog>,
                store,
                snapshots: Arc::new(PostgresSnapshotStore::new(database.clone())),
                database: Database::Postgres(database),
            })
        }
    }
}

/// Opens a log that is empty, with a bus on it.
pub(super) async fn open_with_bus(location: &Location) -> Result<BenchLog, Error> {
    let storage = open(location).await?;
    let store: Arc<dyn EventStore> = Arc::clone(&storage.store);
    let clock = Arc::new(Clock::default());
    let writers = match location {
        Location::Sqlite { .. } => Writers::This,
        Location::Postgres { .. } => Writers::Several,
    };
    let lease = Lease::held(LeaseEpoch(1));
    let bus = CommandBus::start_under(store, &World::empty(), clock, lease, writers);
    Ok(BenchLog { storage, bus })
}
