//! Starts and stops one control-plane node over a data folder: store, views, bus, loops.
//!
//! Everything is opened in the order in which it depends on each other, and closed the other way
//! round; a failure leaves nothing half done, because nothing is written before all is open.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    auction,
    command::Command,
    log::{Incarnation, LeaseEpoch, Position},
    units::Timestamp,
};
use projections::{
    data_dir::{self, DataDirLock},
    event_store::{
        self,
        keys::{self, Keyring, MasterKey, OsEntropy},
    },
    history::{self, History, Snapshotter},
    observations::{self, Observations},
    presence::Presence,
    projector::Now,
    storage::{Location, Storage},
    worker,
    world::World,
};
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    auctioneer,
    clock::{self, Clock},
    command_bus::CommandBus,
    control_plane::ControlPlane,
    converger, presence_watch, reconciler,
};

/// The lease of the only node on a data folder: the folder's lock keeps every other node out.
const ONLY_NODE: LeaseEpoch = LeaseEpoch(1);

/// How long each step of a stop may take.
const STOP_STEP_MAX: Duration = Duration::from_secs(10);

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
    storage: Storage,
    loops: Loops,
    snapshotter: oneshot::Receiver<Snapshotter>,
    _lock: DataDirLock,
}

/// Where a node keeps what, and what it is called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of its keys and observations, and of its log unless that is elsewhere.
    pub data_dir: PathBuf,
    /// The log.
    pub location: Location,
    /// The node's name, for the actor of its loops.
    pub name: String,
}

impl Settings {
    /// A node that keeps all in one folder.
    #[must_use]
    pub fn in_folder(data_dir: &Path, name: &str) -> Self {
        let location = Location::in_folder(data_dir);
        Self { data_dir: data_dir.to_owned(), location, name: name.to_owned() }
    }
}

impl Node {
    /// Opens a data folder and its log, folds the present and starts the loops.
    ///
    /// # Errors
    /// What cannot be opened, and what to do about it.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let data_dir = settings.data_dir.as_path();
        make_folder(data_dir)?;
        make_private(data_dir)?;
        let lock = DataDirLock::acquire(data_dir)?;
        let clock = Arc::new(Clock::default());
        let storage = Storage::open(&settings.location, Incarnation(clock::new_uuid())).await?;
        let (store, snapshots) = (Arc::clone(&storage.store), Arc::clone(&storage.snapshots));
        let keyring = open_keyring(data_dir, &storage).await?;
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
            presence: Arc::new(Mutex::new(Presence::new(clock.monotonic()))),
            clock,
            incarnation: head.incarnation,
            node: Arc::from(settings.name),
        };
        let loops = Loops::default();
        start_loops(&control_plane, &loops);
        let snapshotter = start_snapshotter(snapshotter, &loops);
        Ok(Self { control_plane, storage, loops, snapshotter, _lock: lock })
    }

    /// Waits until a part ends that this node is of no use without, and names it: the process
    /// should end then with an error, and be started anew. Only a stop ends them otherwise.
    pub fn failed(&self) -> impl Future<Output = &'static str> + Send + use<> {
        let (bus, now) = (self.control_plane.bus.clone(), self.control_plane.now.clone());
        let mut ended = self.loops.ended.subscribe();
        async move {
            let name = tokio::select! {
                () = bus.ended() => "command bus",
                // No log gets there: this ends only when the view follows it no more.
                _ = now.reach(Position(u64::MAX)) => "projector",
                name = ended.wait_for(Option::is_some) => {
                    name.ok().and_then(|name| *name).unwrap_or("loop")
                }
            };
            error!(part = name, "A part that the node cannot do without has ended.");
            name
        }
    }

    /// Stops the loops, takes a last snapshot and closes the store. What takes longer than it may
    /// is left behind: the log is whole at any moment.
    pub async fn stop(self) {
        self.loops.shutdown.cancel();
        self.loops.running.close();
        within("end the loops", self.loops.running.wait()).await;
        if let Some(Ok(mut snapshotter)) = within("end the snapshotter", self.snapshotter).await {
            within("take a last snapshot", snapshotter.save()).await;
        }
        within("close the store", self.storage.close()).await;
    }
}

async fn within<T>(step: &'static str, work: impl Future<Output = T>) -> Option<T> {
    let done = tokio::time::timeout(STOP_STEP_MAX, work).await.ok();
    if done.is_none() {
        warn!(step, seconds = STOP_STEP_MAX.as_secs(), "A step of the stop took too long.");
    }
    done
}

/// The running loops, and which of them ended first though nobody had asked.
#[derive(Debug, Clone)]
struct Loops {
    shutdown: CancellationToken,
    running: TaskTracker,
    ended: watch::Sender<Option<&'static str>>,
}

impl Default for Loops {
    fn default() -> Self {
        let (shutdown, running) = (CancellationToken::new(), TaskTracker::new());
        Self { shutdown, running, ended: watch::Sender::new(None) }
    }
}

impl Loops {
    fn spawn(&self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        let (shutdown, ended) = (self.shutdown.clone(), self.ended.clone());
        worker::spawn_essential(name, self.running.track_future(run), move |name| {
            if !shutdown.is_cancelled() {
                ended.send_modify(|first| *first = first.or(Some(name)));
            }
        });
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

/// A folder that was there before may be open to others.
fn make_private(path: &Path) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|source| Error::Folder { path: path.to_owned(), source })
}

async fn open_keyring(data_dir: &Path, storage: &Storage) -> Result<Keyring, Error> {
    let folder = data_dir.join("keys");
    make_folder(&folder)?;
    let master = MasterKey::create_or_open(&folder.join("master.key"), &OsEntropy)?;
    Ok(Keyring::open(master, Arc::clone(&storage.keys), Box::new(OsEntropy)).await?)
}

fn open_observations(data_dir: &Path) -> Result<Observations, Error> {
    let path = data_dir.join("observations");
    make_folder(&path)?;
    Observations::open(&path, observations::Limits::default())
        .map_err(|source| Error::Observations { path, source })
}

fn start_loops(control_plane: &ControlPlane, loops: &Loops) {
    let settings = auction::Settings::default();
    let auctioneer = move |world: &World, now: Timestamp| {
        auctioneer::step(world, now, &settings, clock::new_instance_guid)
    };
    start_loop("auctioneer", control_plane, auctioneer, loops);
    start_loop("converger", control_plane, converger::step, loops);
    let presence = Arc::clone(&control_plane.presence);
    let node = Arc::clone(&control_plane.node);
    let clock = Arc::clone(&control_plane.clock);
    let watch = move |world: &World, _: Timestamp| {
        let mut presence = presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence_watch::step(world, &mut presence, &node, clock.monotonic())
    };
    start_loop("presence watch", control_plane, watch, loops);
}

fn start_loop(
    name: &'static str,
    control_plane: &ControlPlane,
    step: impl Fn(&World, Timestamp) -> Vec<Command> + Send + Sync + 'static,
    loops: &Loops,
) {
    loops.spawn(name, reconciler::run(name, control_plane.clone(), step, loops.shutdown.clone()));
}

/// Runs the snapshotter until the node stops, then hands it back for the last snapshot.
fn start_snapshotter(
    mut snapshotter: Snapshotter,
    loops: &Loops,
) -> oneshot::Receiver<Snapshotter> {
    let (hand_back, handed_back) = oneshot::channel();
    let shutdown = loops.shutdown.clone();
    let run = async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = snapshotter.run() => {}
        }
        drop(hand_back.send(snapshotter));
    };
    loops.spawn("snapshotter", run);
    handed_back
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_panics_fails_its_node_and_a_stop_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(Settings::in_folder(folder.path(), "test")).await.unwrap();
        let failed = node.failed();
        node.loops.spawn("doomed", async { panic!("as a defect would") });

        let name = tokio::time::timeout(Duration::from_secs(10), failed).await.unwrap();
        assert_eq!(name, "doomed");
        node.stop().await;

        let node = Node::start(Settings::in_folder(folder.path(), "test")).await.unwrap();
        let ended = node.loops.ended.subscribe();
        node.stop().await;
        assert_eq!(*ended.borrow(), None);
    }
}
