//! Starts and stops one control-plane node over a data folder: store, views, bus, loops.
//!
//! Everything is opened in the order in which it depends on each other, and closed the other way
//! round; a failure leaves nothing half done, because nothing is written before all is open.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    auction,
    command::Command,
    log::{Incarnation, LeaseEpoch},
    units::Timestamp,
};
use projections::{
    data_dir::{self, DataDirLock},
    event_store::{
        self, EventStore,
        keys::{self, Keyring, MasterKey, OsEntropy, SqliteKeyStore},
        sqlite::{Database, SqliteStore},
    },
    history::{self, History, Snapshotter},
    observations::{self, Observations},
    presence::Presence,
    projector::Now,
    snapshot::{SnapshotStore, SqliteSnapshotStore},
    worker,
    world::World,
};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    auctioneer,
    clock::{self, Clock},
    command_bus::CommandBus,
    control_plane::ControlPlane,
    converger, presence_watch, reconciler,
};

/// The lease of the only node on a data folder: the folder's lock keeps every other node out.
const ONLY_NODE: LeaseEpoch = LeaseEpoch(1);

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder cannot be made.
    #[error("cannot make the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the data folder.
    #[error(transparent)]
    Locked(#[from] data_dir::Error),
    /// The log cannot be opened.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// The keys cannot be opened.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// The present cannot be folded.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The observations cannot be opened.
    #[error("cannot open the observations in {path}")]
    Observations {
        /// Their folder.
        path: PathBuf,
        /// Why not.
        source: observations::Error,
    },
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its parts.
    pub control_plane: ControlPlane,
    database: Database,
    shutdown: CancellationToken,
    loops: TaskTracker,
    snapshotter: oneshot::Receiver<Snapshotter>,
    _lock: DataDirLock,
}

impl Node {
    /// Opens a data folder, folds the present and starts the loops.
    ///
    /// # Errors
    /// What cannot be opened, and what to do about it.
    pub async fn start(data_dir: &Path, name: &str) -> Result<Self, Error> {
        make_folder(data_dir)?;
        let lock = DataDirLock::acquire(data_dir)?;
        let clock = Arc::new(Clock::default());
        let database =
            Database::open(&data_dir.join("diario.db"), Incarnation(clock::new_uuid())).await?;
        let store: Arc<dyn EventStore> = Arc::new(SqliteStore::new(database.clone()));
        let snapshots: Arc<dyn SnapshotStore> =
            Arc::new(SqliteSnapshotStore::new(database.clone()));
        let keyring = open_keyring(data_dir, &database).await?;
        let observations = open_observations(data_dir)?;
        let head = store.head().await?;
        let loaded = history::load(store.as_ref(), snapshots.as_ref(), head.position).await?;
        info!(position = %head.position, from_snapshot = ?loaded.base.map(|p| p.0), "Folded the log.");
        let bus =
            CommandBus::start(Arc::clone(&store), &loaded.world, Arc::clone(&clock), ONLY_NODE);
        let now = Now::follow(Arc::clone(&store), loaded.world);
        let snapshotter =
            Snapshotter::new(now.clone(), Arc::clone(&snapshots), loaded.base, loaded.dirty);
        let control_plane = ControlPlane {
            history: Arc::new(History::new(Arc::clone(&store), snapshots)),
            store,
            bus,
            now,
            keyring: Arc::new(keyring),
            observations: Arc::new(observations),
            presence: Arc::new(Mutex::new(Presence::new(clock.now()))),
            clock,
            incarnation: head.incarnation,
            node: Arc::from(name),
        };
        let shutdown = CancellationToken::new();
        let loops = TaskTracker::new();
        start_loops(&control_plane, &shutdown, &loops);
        let snapshotter = start_snapshotter(snapshotter, &shutdown, &loops);
        Ok(Self { control_plane, database, shutdown, loops, snapshotter, _lock: lock })
    }

    /// Stops the loops, takes a last snapshot and closes the store.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.loops.close();
        self.loops.wait().await;
        if let Ok(mut snapshotter) = self.snapshotter.await {
            snapshotter.save().await;
        }
        self.database.close().await;
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    // Keys and logs are nobody else's business.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Folder { path: path.to_owned(), source })
}

async fn open_keyring(data_dir: &Path, database: &Database) -> Result<Keyring, Error> {
    let folder = data_dir.join("keys");
    make_folder(&folder)?;
    let master = MasterKey::create_or_open(&folder.join("master.key"), &OsEntropy)?;
    let keys = Arc::new(SqliteKeyStore::new(database.clone()));
    Ok(Keyring::open(master, keys, Box::new(OsEntropy)).await?)
}

fn open_observations(data_dir: &Path) -> Result<Observations, Error> {
    let path = data_dir.join("observations");
    make_folder(&path)?;
    Observations::open(&path, observations::Limits::default())
        .map_err(|source| Error::Observations { path, source })
}

fn start_loops(control_plane: &ControlPlane, shutdown: &CancellationToken, loops: &TaskTracker) {
    let settings = auction::Settings::default();
    let auctioneer = move |world: &World, now: Timestamp| {
        auctioneer::step(world, now, &settings, clock::new_instance_guid)
    };
    start_loop("auctioneer", control_plane, auctioneer, shutdown, loops);
    start_loop("converger", control_plane, converger::step, shutdown, loops);
    let presence = Arc::clone(&control_plane.presence);
    let node = Arc::clone(&control_plane.node);
    let watch = move |world: &World, now: Timestamp| {
        let presence = presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence_watch::step(world, &presence, &node, now)
    };
    start_loop("presence watch", control_plane, watch, shutdown, loops);
}

fn start_loop(
    name: &'static str,
    control_plane: &ControlPlane,
    step: impl Fn(&World, Timestamp) -> Vec<Command> + Send + Sync + 'static,
    shutdown: &CancellationToken,
    loops: &TaskTracker,
) {
    let run = reconciler::run(name, control_plane.clone(), step, shutdown.clone());
    drop(worker::spawn(name, loops.track_future(run)));
}

/// Runs the snapshotter until the node stops, then hands it back for the last snapshot.
fn start_snapshotter(
    mut snapshotter: Snapshotter,
    shutdown: &CancellationToken,
    loops: &TaskTracker,
) -> oneshot::Receiver<Snapshotter> {
    let (hand_back, handed_back) = oneshot::channel();
    let shutdown = shutdown.clone();
    let run = async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = snapshotter.run() => {}
        }
        drop(hand_back.send(snapshotter));
    };
    drop(worker::spawn("snapshotter", loops.track_future(run)));
    handed_back
}
