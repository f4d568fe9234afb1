//! Starts and stops one control-plane node over a data folder: store, views, bus, loops.
//!
//! Everything is opened in the order in which it depends on each other, and closed the other way
//! round; a failure leaves nothing half done, because nothing is written before all is open.

mod loops;

use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    auction,
    log::{Incarnation, Position},
    units::Milliseconds,
};
use projections::{
    archive,
    checkpoint::{self, last::LastFile},
    data_dir::{self, DataDirLock, keys_folder},
    event_store::{
        self,
        keys::{self, ForgottenLists, Keyring, OsEntropy},
    },
    history::{self, History, Snapshotter},
    leases::LEASE_TIME_TO_LIVE,
    observations::{self, Observations},
    presence::{Presence, Routers},
    projector::Now,
    storage::{Location, Storage},
};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::{
    clock::{self, Clock},
    command_bus::{CommandBus, Writers},
    control_plane::ControlPlane,
    forgetting,
    lease::{Keeper, Lease},
    live_routers::LiveRouters,
    log_keeper, master_keys, presence_sync,
};
use loops::{Loops, start_keeper, start_loops, start_snapshotter};

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
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The checkpoint key cannot be used, or the log is not the one that it has signed.
    #[error(transparent)]
    CheckpointKey(#[from] checkpoint::Error),
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

/// A part has ended that a node is of no use without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Which.
    pub part: &'static str,
    /// Why, where starting anew is no remedy.
    pub reason: Option<String>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, reason } = self;
        match reason {
            Some(reason) => write!(f, "the {part} has ended: {reason}"),
            None => write!(f, "the {part} has failed, the log says why; start diario again"),
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its parts.
    pub control_plane: ControlPlane,
    storage: Storage,
    loops: Loops,
    keeper: oneshot::Receiver<Keeper>,
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
    /// How long the loops' lease lasts unless it is renewed.
    pub lease_time_to_live: Milliseconds,
    /// Where the older part of the log goes.
    pub archive: log_keeper::Options,
    /// Where it is noted what was forgotten.
    pub lists: forgetting::lists::Options,
    /// How cells are weighed.
    pub placement: auction::Settings,
}

impl Settings {
    /// A node that keeps all in one folder.
    #[must_use]
    pub fn in_folder(data_dir: &Path, name: &str) -> Self {
        let location = Location::in_folder(data_dir);
        Self {
            data_dir: data_dir.to_owned(),
            location,
            name: name.to_owned(),
            lease_time_to_live: LEASE_TIME_TO_LIVE,
            archive: log_keeper::Options::default(),
            lists: forgetting::lists::Options::default(),
            placement: auction::Settings::default(),
        }
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
        let last_checkpoint = LastFile::in_folder(&keys_folder(data_dir));
        last_checkpoint.check_there(&settings.location).map_err(checkpoint::Error::from)?;
        let storage =
            Storage::open(&settings.location, Incarnation(clock::new_uuid()), clock::wall_clock())
                .await?;
        let (hot, tables) = (Arc::clone(&storage.store), Arc::clone(&storage.tables));
        last_checkpoint
            .check_log(tables.identity().await?, &hot.head().await?)
            .map_err(checkpoint::Error::from)?;
        let place = &settings.archive.place;
        let (store, archive) =
            archive::join(hot, tables, place.named(), archive::Purpose::Write).await?;
        let snapshots = Arc::clone(&storage.snapshots);
        // Before anything is written: a snapshot may pass over what a newer version wrote.
        event_store::check_known(store.as_ref()).await?;
        let keyring = open_keyring(&settings, &storage).await?;
        let log_keeper =
            log_keeper::open(&storage, archive, &settings.archive, &keys_folder(data_dir))?;
        let observations = open_observations(data_dir)?;
        let head = store.head().await?;
        let loaded = history::load(store.as_ref(), snapshots.as_ref(), head.position).await?;
        let passed_over =
            history::newest_passed_over(snapshots.as_ref(), head.position, loaded.base).await?;
        if let Some(snapshot) = passed_over {
            warn!(%snapshot, "A snapshot of another format, or damaged, was passed over.");
        }
        info!(position = %head.position, from_snapshot = ?loaded.base.map(|p| p.0), "Folded the log.");
        let lease = Lease::free();
        let bus = CommandBus::start_under(
            Arc::clone(&store),
            &loaded.world,
            Arc::clone(&clock),
            lease.clone(),
            writers(&settings.location),
        );
        let keeper = Keeper::new(
            Arc::clone(&storage.leases),
            lease,
            format!("{}/{}", settings.name, clock::new_uuid()),
            settings.lease_time_to_live,
        );
        let now = Now::follow(Arc::clone(&store), loaded.world);
        let snapshotter =
            Snapshotter::new(now.clone(), Arc::clone(&snapshots), loaded.base, loaded.dirty);
        let routers = if storage.presence.is_shared() {
            Routers::shared(&settings.name, clock.monotonic())
        } else {
            Routers::alone(&settings.name)
        };
        let control_plane = ControlPlane {
            history: Arc::new(History::new(Arc::clone(&store), snapshots)),
            store,
            bus,
            now,
            keyring: Arc::new(keyring),
            observations: Arc::new(observations),
            presence: Arc::new(Mutex::new(Presence::new(clock.monotonic()))),
            routers: Arc::new(LiveRouters::new(routers)),
            clock,
            incarnation: head.incarnation,
            node: Arc::from(settings.name),
            placement: settings.placement,
        };
        let loops = Loops::default();
        start_loops(&control_plane, &loops);
        let forgetting = forgetting::run(control_plane.clone(), loops.shutdown.clone());
        loops.spawn("keeper of forgotten keys", forgetting);
        let sharing = presence_sync::run(
            Arc::clone(&storage.presence),
            control_plane.clone(),
            loops.shutdown.clone(),
        );
        loops.spawn("presence sharing", sharing);
        let clock = Arc::clone(&control_plane.clock);
        let lease = control_plane.bus.lease().clone();
        loops
            .spawn("log keeper", log_keeper::run(log_keeper, clock, lease, loops.shutdown.clone()));
        let keeper = start_keeper(keeper, &loops);
        let snapshotter = start_snapshotter(snapshotter, control_plane.bus.lease().clone(), &loops);
        Ok(Self { control_plane, storage, loops, keeper, snapshotter, _lock: lock })
    }

    /// Waits until a part ends that this node is of no use without, and names it: the process
    /// should end then with an error, and be started anew. Only a stop ends them otherwise.
    pub fn failed(&self) -> impl Future<Output = Failed> + Send + use<> {
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
            let reason = bus.failure().map(str::to_owned);
            let reason = reason.or_else(|| now.failure().map(event_store::Error::with_cause));
            Failed { part: name, reason }
        }
    }

    /// Stops the loops, takes a last snapshot and closes the store. What takes longer than it may
    /// is left behind: the log is whole at any moment.
    pub async fn stop(self) {
        self.loops.shutdown.cancel();
        self.loops.running.close();
        within("end the loops", self.loops.running.wait()).await;
        if let Some(Ok(mut snapshotter)) = within("end the snapshotter", self.snapshotter).await {
            // Of several nodes only one takes them.
            if self.control_plane.bus.lease().epoch().is_some() {
                within("take a last snapshot", snapshotter.save()).await;
            }
        }
        if let Some(Ok(keeper)) = within("end the lease's keeper", self.keeper).await {
            within("give up the lease", keeper.release()).await;
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

async fn open_keyring(settings: &Settings, storage: &Storage) -> Result<Keyring, Error> {
    let data_dir = settings.data_dir.as_path();
    make_folder(&keys_folder(data_dir))?;
    let source = master_keys::source(data_dir)?;
    let lists = settings.lists.paths(data_dir);
    let lists = ForgottenLists::open(lists, storage.store.log_id().await?)?;
    let keyring = Keyring::open(source, Arc::clone(&storage.keys), Box::new(OsEntropy)).await?;
    Ok(keyring.listing(lists))
}

fn open_observations(data_dir: &Path) -> Result<Observations, Error> {
    let path = data_dir.join("observations");
    make_folder(&path)?;
    Observations::open(&path, observations::Limits::default())
        .map_err(|source| Error::Observations { path, source })
}

fn writers(location: &Location) -> Writers {
    match location {
        Location::Sqlite { .. } => Writers::This,
        Location::Postgres { .. } => Writers::Several,
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        bbs::freshness_domain,
        command::Envelope,
        id::{CommandId, FreshnessDomainName},
        log::{Actor, ActorKind},
    };
    use projections::event_store::sqlite::{change_by_hand, change_event_by_hand};

    use super::*;
    use crate::command_bus;

    #[tokio::test]
    async fn a_loop_that_panics_fails_its_node_and_a_stop_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(Settings::in_folder(folder.path(), "test")).await.unwrap();
        let failed = node.failed();
        node.loops.spawn("doomed", async { panic!("as a defect would") });

        let failed = tokio::time::timeout(Duration::from_secs(10), failed).await.unwrap();
        assert_eq!(failed, Failed { part: "doomed", reason: None });
        node.stop().await;

        let node = Node::start(Settings::in_folder(folder.path(), "test")).await.unwrap();
        let ended = node.loops.ended.subscribe();
        node.stop().await;
        assert_eq!(*ended.borrow(), None);
    }

    /// A node's log as a newer version left it, in a folder: the event at position 2 is changed.
    async fn left_by_a_newer_version(folder: &Path) -> PathBuf {
        let node = Node::start(Settings::in_folder(folder, "test")).await.unwrap();
        for name in ["a", "b", "c"] {
            node.control_plane.bus.submit(vouch(name)).await.unwrap();
        }
        assert!(node.control_plane.now.reach(Position(3)).await);
        node.stop().await;
        let file = folder.join("diario.db");
        change_event_by_hand(&file, 2, |row| row.type_name = "zeppelin.landed".to_owned());
        file
    }

    fn vouch(name: &str) -> Envelope {
        let command_id = CommandId::new(&format!("vouch/{name}")).unwrap();
        let name = FreshnessDomainName::new(name).unwrap();
        Envelope {
            correlation: command_id.clone(),
            command_id,
            actor: Actor { kind: ActorKind::User, name: "ann".into(), via: "test".into() },
            seen: None,
            causation: None,
            command: freshness_domain::Command::Upsert { name, time_to_live: None }.into(),
        }
    }

    #[tokio::test]
    async fn a_newer_event_stops_a_start_also_from_a_snapshot_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = left_by_a_newer_version(folder.path()).await;
        let before = (fs::read(&file).unwrap(), files_in(folder.path()));

        let refused = Node::start(Settings::in_folder(folder.path(), "test")).await.unwrap_err();

        let told = format!("{:#}", anyhow::Error::new(refused));
        assert_eq!(
            told,
            "cannot read the event at position 2: event type \"zeppelin.landed\" is unknown here: \
             it was written by a newer version; upgrade"
        );
        let log = Storage::open_to_read(&Location::in_folder(folder.path()), clock::wall_clock())
            .await
            .unwrap();
        assert_eq!(log.store.head().await.unwrap().position, Position(3));
        // The snapshot from behind it was there, and would have been taken.
        assert_eq!(log.snapshots.positions().await.unwrap(), [Position(3)]);
        log.close().await;
        assert_eq!(before, (fs::read(&file).unwrap(), files_in(folder.path())));
    }

    fn files_in(folder: &Path) -> Vec<PathBuf> {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> =
            files.filter(|path| !path.to_string_lossy().contains("db-")).collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn a_newer_event_of_another_node_ends_this_one_before_it_writes_again() {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(Settings::in_folder(folder.path(), "test")).await.unwrap();
        let failed = node.failed();
        let bus = node.control_plane.bus.clone();
        bus.submit(vouch("a")).await.unwrap();
        let file = folder.path().join("diario.db");
        let newer = "INSERT INTO batches SELECT 2, event_count, recorded_at, batch_id, link, events \
            FROM batches WHERE first_position = 1; UPDATE log_head SET position = 2";
        change_by_hand(&file, newer).await;
        change_event_by_hand(&file, 2, |row| {
            row.version.0 = 2;
            row.schema_version = 7;
        });

        for name in ["b", "c"] {
            let refused = bus.submit(vouch(name)).await.unwrap_err();
            assert!(matches!(
                refused,
                command_bus::Error::Unavailable { .. } | command_bus::Error::Closed
            ));
        }

        let failed = tokio::time::timeout(Duration::from_secs(10), failed).await.unwrap();
        let told = failed.to_string();
        assert!(told.contains("the event at position 2: "), "{told}");
        assert!(told.ends_with("schema version 7, newer than 1 known here: upgrade"), "{told}");
        assert_eq!(node.control_plane.store.head().await.unwrap().position, Position(2));
        node.stop().await;
    }
}
