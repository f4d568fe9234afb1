//! Removes a container, whole or half made, and everything of it on the machine.
//!
//! Every step is fine with finding its part gone already, so that any of them may be tried
//! again after a crash or an error. The folder goes last: as long as it is there, a new agent
//! finds the container and removes the rest.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use tokio::time::timeout;

use super::depot::{ContainerConfig, Depot};
use super::network::await_interface_gone;
use super::shim_process::ShimProcess;
use super::{Cell, Container, Slot, blocking};
use crate::clock;
use crate::garden::{Error, Handle};
use crate::shim::protocol::Command;

/// How long a shim may take to end everything in its container.
const SHIM_TIMEOUT: Duration = Duration::from_secs(10);

/// Destroys a container that is whole.
pub(super) async fn destroy(cell: &Arc<Cell>, container: &Arc<Container>) -> Result<(), Error> {
    let handle = container.config.handle.clone();
    let _only_one_destroys = container.destroying.lock().await;
    if !cell.find(&handle).is_ok_and(|found| Arc::ptr_eq(&found, container)) {
        return Ok(());
    }
    match timeout(SHIM_TIMEOUT, container.client.ask(Command::Destroy)).await {
        Ok(_done_or_dead) => {}
        Err(_) => tracing::warn!(%handle, "A shim does not end its container; killing it."),
    }
    let removed = {
        let (cell, container) = (Arc::clone(cell), Arc::clone(container));
        blocking(move || remove(&cell, &container.config, &container.depot)).await?
    };
    removed.map_err(|reason| Error::Destroy { handle: handle.clone(), reason })?;
    cell.containers().remove(&handle);
    cell.network.release(&container.config.network);
    tracing::info!(%handle, "Destroyed container.");
    Ok(())
}

/// Tries again to remove what a failed creation left; does nothing if there is no such thing.
pub(super) async fn destroy_broken(cell: &Arc<Cell>, handle: &Handle) -> Result<(), Error> {
    let remains = {
        let mut containers = cell.containers();
        match containers.remove(handle) {
            // Taken meanwhile, so that a second one waits.
            Some(Slot::Broken(remains)) => {
                containers.insert(handle.clone(), Slot::Creating);
                remains
            }
            Some(slot @ (Slot::Creating | Slot::Whole(_))) => {
                containers.insert(handle.clone(), slot);
                return Ok(());
            }
            None => return Ok(()),
        }
    };
    let (remains, removed) = {
        let cell = Arc::clone(cell);
        blocking(move || {
            let removed = remove(&cell, &remains.config, &remains.depot);
            (remains, removed)
        })
        .await?
    };
    let outcome = match removed {
        Ok(()) => {
            cell.containers().remove(handle);
            cell.network.release(&remains.config.network);
            tracing::info!(%handle, "Removed what a failed creation had left.");
            Ok(())
        }
        Err(reason) => {
            cell.containers().insert(handle.clone(), Slot::Broken(remains));
            Err(Error::Destroy { handle: handle.clone(), reason })
        }
    };
    cell.creation_ended.notify_waiters();
    outcome
}

/// Removes what there is of a container. Blocks.
pub(super) fn remove(cell: &Cell, config: &ContainerConfig, depot: &Depot) -> Result<(), String> {
    kill_shim(depot)?;
    cell.cgroups.remove(&config.cgroup.name)?;
    await_interface_gone(&config.network.host_interface)
        .map_err(|error| format!("cannot remove {}: {error}", config.network.host_interface))?;
    remove_folder(cell, depot.folder())
        .map_err(|error| format!("cannot remove its folder: {error}"))
}

/// Kills a shim that does not answer or was never taken up; its init dies with it.
fn kill_shim(depot: &Depot) -> Result<(), String> {
    let Ok(text) = fs::read(depot.shim_pid()) else { return Ok(()) };
    let Ok(process) = serde_json::from_slice::<ShimProcess>(&text) else { return Ok(()) };
    match process.kill(SHIM_TIMEOUT) {
        true => Ok(()),
        false => Err("its shim does not die".to_owned()),
    }
}

/// Moves a folder out of the way at once, then removes it.
pub(super) fn remove_folder(cell: &Cell, folder: &Path) -> io::Result<()> {
    unmount_below(folder)?;
    let Some(name) = folder.file_name() else { return Ok(()) };
    // The handle may be used again before all of it is gone.
    let name = format!("{}.{}", name.to_string_lossy(), clock::wall_ns());
    let trash = cell.config.trash_dir().join(name);
    match fs::rename(folder, &trash) {
        Ok(()) => fs::remove_dir_all(&trash),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets go of every mount in a folder. Containers mount in namespaces of their own, so there is
/// none unless something went wrong or an older version left it.
pub(super) fn unmount_below(folder: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // The last mounted first.
    for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
        if Path::new(target).starts_with(folder) {
            tracing::warn!(target, "Removing a mount that was left behind.");
            umount2(target, MntFlags::MNT_DETACH)?;
        }
    }
    Ok(())
}

/// Removes what the cell itself has on the machine, when it has no containers.
pub(super) fn remove_cell(cell: &Cell) -> Result<(), Error> {
    let bridge = cell.network.remove_bridge().map_err(Error::host("remove the bridge"));
    let cgroup = cell.cgroups.remove_parent().map_err(io::Error::other);
    let cgroup = cgroup.map_err(Error::host("remove the cell's cgroup"));
    bridge.and(cgroup)
}
