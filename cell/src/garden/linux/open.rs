//! Opens a cell's folder: takes up what runs, removes what is half made, sweeps the rest.
//!
//! Runs before the garden answers any call, under the folder's lock, so nothing is made or
//! destroyed meanwhile. Only names that carry the cell's prefix are ever touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use super::cgroups::Cgroups;
use super::depot::{ContainerConfig, Depot};
use super::network::{Network, await_interface_gone};
use super::shim_process::shims_of;
use super::{Cell, Container, LinuxConfig, Slot, blocking, destroy, poll_until};
use crate::garden::{Error, Handle};

/// How long another agent may take to let go of the folder.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const SHIM_SWEEPS_MAX: u32 = 10;
/// How long a swept shim may take to die.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the folder and gives what all calls share.
pub(super) async fn open(config: LinuxConfig) -> Result<Cell, Error> {
    let (cell, kept) = blocking(move || prepare(config)).await??;
    for (config, depot) in kept {
        let handle = config.handle.clone();
        let container = Container::adopt(config, depot).await;
        let state = container.info().state;
        tracing::info!(%handle, ?state, "Took up container.");
        cell.containers().insert(handle, Slot::Whole(Arc::new(container)));
    }
    Ok(cell)
}

type Whole = (ContainerConfig, Depot);

/// The blocking part: everything but the connections.
fn prepare(config: LinuxConfig) -> Result<(Cell, Vec<Whole>), Error> {
    config.validate()?;
    let cgroups = Cgroups::probe(&config.prefix)?;
    make_folders(&config).map_err(Error::host("make the cell's folders"))?;
    let lock = lock(&config.cell_dir)?;
    let network = Network::establish(&config.prefix, config.subnet)?;
    let containers = Mutex::new(BTreeMap::new());
    let creation_ended = Notify::new();
    let cell = Cell { config, cgroups, network, containers, creation_ended, _lock: lock };
    let (whole, half) = scan(&cell).map_err(Error::host("read the cell's folder"))?;
    sweep(&cell, &whole, &half)
        .map_err(io::Error::other)
        .map_err(Error::host("remove what an earlier agent left"))?;
    for (config, _) in &whole {
        cell.network.retake(&config.network);
    }
    Ok((cell, whole))
}

fn make_folders(config: &LinuxConfig) -> io::Result<()> {
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).recursive(true);
    private.create(config.containers_dir())?;
    private.create(config.trash_dir())
}

fn lock(cell_dir: &Path) -> Result<File, Error> {
    let failed = || Error::host("lock the cell's folder");
    let lock = File::create(cell_dir.join("garden.lock")).map_err(failed())?;
    let mut tried = Err(TryLockError::WouldBlock);
    // A killed agent's lock may live on for a moment in a child that it was about to exec. To
    // wait for it is also to wait until that child is to be found as a shim.
    poll_until(LOCK_TIMEOUT, || {
        tried = lock.try_lock();
        !matches!(tried, Err(TryLockError::WouldBlock))
    });
    match tried {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(Error::FolderInUse { folder: cell_dir.display().to_string() })
        }
        Err(TryLockError::Error(error)) => Err(failed()(error)),
    }
}

/// Tells the whole containers from the folders of half-made ones.
fn scan(cell: &Cell) -> io::Result<(Vec<Whole>, Vec<Depot>)> {
    let (mut whole, mut half) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(cell.config.containers_dir())? {
        let depot = Depot::at(entry?.path());
        let is_created = depot.created_marker().exists();
        match depot.read_config() {
            Ok(config) if is_created => whole.push((config, depot)),
            Ok(_) | Err(_) => half.push(depot),
        }
    }
    Ok((whole, half))
}

/// Removes everything of the cell that belongs to no whole container.
fn sweep(cell: &Cell, whole: &[Whole], half: &[Depot]) -> Result<(), String> {
    let kept: BTreeSet<&Path> = whole.iter().map(|(_, depot)| depot.folder()).collect();
    sweep_shims(cell, &kept)?;
    let handles: BTreeSet<&Handle> = whole.iter().map(|(config, _)| &config.handle).collect();
    let cgroups: BTreeSet<String> =
        handles.iter().map(|handle| cell.cgroups.name(handle)).collect();
    for name in cell.cgroups.list() {
        if !cgroups.contains(&name) {
            tracing::info!(name, "Removing a cgroup that belongs to no container.");
            cell.cgroups.remove(&name)?;
        }
    }
    let interfaces: BTreeSet<&str> =
        whole.iter().map(|(config, _)| config.network.host_interface.as_str()).collect();
    for name in cell.network.list_interfaces() {
        if !interfaces.contains(name.as_str()) {
            tracing::info!(name, "Removing an interface that belongs to no container.");
            await_interface_gone(&name)
                .map_err(|error| format!("cannot remove {name}: {error}"))?;
        }
    }
    sweep_folders(cell, half).map_err(|error| format!("cannot remove folders: {error}"))
}

/// Kills every shim without a whole container, again until there is none: one may have been
/// forking another.
fn sweep_shims(cell: &Cell, kept: &BTreeSet<&Path>) -> Result<(), String> {
    for _ in 0..SHIM_SWEEPS_MAX {
        let mut shims = shims_of(&cell.config.containers_dir());
        shims.retain(|(_, config)| !config.parent().is_some_and(|folder| kept.contains(folder)));
        if shims.is_empty() {
            return Ok(());
        }
        for (shim, config) in shims {
            let config = config.display();
            tracing::info!(%config, "Removing the shim of a half-made container.");
            if !shim.kill(KILL_TIMEOUT) {
                return Err(format!("the shim of {config} does not die"));
            }
        }
    }
    Err("shims of half-made containers do not die out".to_owned())
}

fn sweep_folders(cell: &Cell, half: &[Depot]) -> io::Result<()> {
    destroy::unmount_below(&cell.config.containers_dir())?;
    for depot in half {
        tracing::info!(folder = %depot.folder().display(), "Removing a half-made container.");
        destroy::remove_folder(cell, depot.folder())?;
    }
    for entry in fs::read_dir(cell.config.trash_dir())? {
        fs::remove_dir_all(entry?.path())?;
    }
    Ok(())
}
