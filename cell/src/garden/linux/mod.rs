//! Garden on Linux: namespaces, cgroups, overlay and veth, with one shim per container.
//!
//! This file answers the trait's calls; making, removing and taking up containers have files of
//! their own. The kernel's interface is in `kernel`, `netlink` and `mounts`; what runs inside
//! the shim and the container is `init` and `process`. Not yet a security boundary: user
//! namespaces, seccomp and a firewall are not here.

mod capabilities;
mod cgroups;
mod client;
mod config;
mod create;
pub(crate) mod depot;
mod destroy;
pub(crate) mod init;
mod inspect;
pub(crate) mod kernel;
mod masks;
mod mounts;
pub(crate) mod netlink;
mod network;
mod open;
mod paths;
pub(crate) mod process;
mod root;
pub(crate) mod shim_process;
mod subnet;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::statvfs::statvfs;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use self::cgroups::Cgroups;
use self::client::ShimClient;
use self::depot::{ContainerConfig, Depot};
use self::network::Network;
use crate::clock;
use crate::garden::{
    Capacity, ContainerInfo, ContainerSpec, ContainerState, Error, ExitRecord, Garden, Handle,
    Inspection, Metrics, OutputChunk, OutputCursor, ProcessId, ProcessSpec, ProcessState, Signal,
};
use crate::shim::protocol::{Answer, Command, Refusal};
use crate::shim::spool;

pub use config::LinuxConfig;
pub use subnet::Subnet;

/// The real Garden; cheap to clone.
#[derive(Debug, Clone)]
pub struct LinuxGarden {
    cell: Arc<Cell>,
}

/// What all calls share.
#[derive(Debug)]
struct Cell {
    config: LinuxConfig,
    cgroups: Cgroups,
    network: Network,
    containers: Mutex<BTreeMap<Handle, Slot>>,
    /// Told whenever a creation has ended, well or not.
    creation_ended: Notify,
    /// Locked as long as this agent lives: a second one would fight over the shims.
    _lock: File,
}

/// A container's place in the table.
#[derive(Debug)]
enum Slot {
    /// Being made: the handle is taken, and nobody can use it yet.
    Creating,
    Whole(Arc<Container>),
    /// Its creation failed and so did removing it: it keeps handle and lease until it is gone.
    Broken(Box<Remains>),
}

/// What is known of a container that could be neither made nor removed.
#[derive(Debug)]
struct Remains {
    config: ContainerConfig,
    depot: Depot,
}

/// A whole container.
#[derive(Debug)]
struct Container {
    config: ContainerConfig,
    depot: Depot,
    client: ShimClient,
    /// Held by whoever destroys it; a second one waits and finds it gone.
    destroying: tokio::sync::Mutex<()>,
}

impl LinuxGarden {
    /// Opens a cell's folder: takes up the containers that run, removes what is half made, and
    /// sweeps every cgroup, interface, mount and shim that carries the cell's prefix and
    /// belongs to no container.
    ///
    /// # Errors
    /// Not root, a machine without what containers need, a folder in use, or a configuration
    /// that breaks a rule: the text says which, and nothing is changed.
    pub async fn open(config: LinuxConfig) -> Result<Self, Error> {
        Ok(Self { cell: Arc::new(open::open(config).await?) })
    }

    /// The network that the containers are in.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        self.cell.network.subnet()
    }

    /// Destroys every container, the bridge and the cell's cgroup: nothing of the cell is left
    /// on the machine but its folder.
    ///
    /// # Errors
    /// Something could not be removed; what is left may be tried again.
    pub async fn tear_down(&self) -> Result<(), Error> {
        let handles: Vec<Handle> = self.cell.containers().keys().cloned().collect();
        let mut outcome = Ok(());
        for handle in handles {
            // One that resists keeps no other from being removed; the first is told.
            if let Err(error) = self.destroy(&handle).await {
                tracing::warn!(%handle, %error, "A container resists.");
                outcome = outcome.and(Err(error));
            }
        }
        let cell = Arc::clone(&self.cell);
        let removed = blocking(move || destroy::remove_cell(&cell)).await.and_then(|done| done);
        outcome.and(removed)
    }
}

#[async_trait]
impl Garden for LinuxGarden {
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo, Error> {
        // In a task of its own: a caller that gives up leaves no half container.
        let cell = Arc::clone(&self.cell);
        // Before it: whoever destroys after the caller gave up finds it under way.
        create::reserve(&cell, &spec)?;
        detached(async move { create::create(&cell, spec).await }).await?
    }

    async fn run(&self, handle: &Handle, process: ProcessSpec) -> Result<(), Error> {
        process.validate()?;
        let container = self.cell.find(handle)?;
        let id = process.id.clone();
        match container.ask(&id, Command::Run(Box::new(process))).await? {
            Answer::Started { warnings, .. } => {
                for warning in warnings {
                    tracing::warn!(%handle, process = %id, warning, "A process got less.");
                }
                Ok(())
            }
            Answer::Status(_) | Answer::Done => Ok(()),
        }
    }

    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: Signal,
    ) -> Result<(), Error> {
        let container = self.cell.find(handle)?;
        if container.client.processes().exits.contains_key(process) {
            return Ok(());
        }
        let command = Command::Signal { process: process.clone(), signal };
        container.ask(process, command).await.map(drop)
    }

    async fn wait(&self, handle: &Handle, process: &ProcessId) -> Result<ExitRecord, Error> {
        let container = self.cell.find(handle)?;
        let client = &container.client;
        client.wait_for(|known| !known.running.contains_key(process)).await;
        let known = client.processes();
        match known.exits.get(process) {
            Some(record) => Ok(record.clone()),
            None if known.is_stopped => Err(Error::Stopped { handle: handle.clone() }),
            None if known.running.contains_key(process) => {
                Err(Error::Stopped { handle: handle.clone() })
            }
            None => Err(Error::UnknownProcess { handle: handle.clone(), process: process.clone() }),
        }
    }

    async fn read_output(
        &self,
        handle: &Handle,
        after: OutputCursor,
        max_bytes: usize,
    ) -> Result<OutputChunk, Error> {
        let folder = self.cell.find(handle)?.depot.output();
        blocking(move || spool::read(&folder, after, max_bytes))
            .await?
            .map_err(Error::host(format!("read the output of container {handle}")))
    }

    async fn output_ready(&self, handle: &Handle, after: OutputCursor) {
        if let Ok(container) = self.cell.find(handle) {
            container.client.wait_for(|known| known.output_end > after || known.is_stopped).await;
        }
    }

    async fn metrics(&self, handle: &Handle) -> Result<Metrics, Error> {
        let container = self.cell.find(handle)?;
        let cell = Arc::clone(&self.cell);
        let metrics = blocking(move || {
            let metrics = cell.cgroups.metrics(&container.config.handle)?;
            let (received_bytes, sent_bytes) = inspect::traffic(&container.config);
            Some(Metrics { received_bytes, sent_bytes, ..metrics })
        });
        metrics.await?.ok_or_else(|| Error::Stopped { handle: handle.clone() })
    }

    async fn disk_usage(&self, handle: &Handle) -> Result<u64, Error> {
        let folder = self.cell.find(handle)?.depot.upper();
        blocking(move || inspect::disk_usage(&folder))
            .await?
            .map_err(Error::host(format!("look at the disk of container {handle}")))
    }

    async fn inspect(&self, handle: &Handle) -> Result<Inspection, Error> {
        let container = self.cell.find(handle)?;
        blocking(move || inspect::inspect(&container.config)).await
    }

    async fn root(&self, handle: &Handle) -> Result<OwnedFd, Error> {
        let container = self.cell.find(handle)?;
        let opened = blocking(move || root::open(&container.config)).await?;
        opened.ok_or_else(|| Error::Stopped { handle: handle.clone() })
    }

    async fn state(&self, handle: &Handle) -> Option<ContainerState> {
        let container = self.cell.find(handle).ok()?;
        Some(match container.client.processes().is_stopped {
            true => ContainerState::Stopped,
            false => ContainerState::Running,
        })
    }

    async fn until_stopped(&self, handle: &Handle) {
        if let Ok(container) = self.cell.find(handle) {
            container.client.wait_for(|known| known.is_stopped).await;
        }
    }

    async fn list(&self) -> Vec<ContainerInfo> {
        let containers = self.cell.containers();
        let whole = containers.values().filter_map(|slot| match slot {
            Slot::Creating | Slot::Broken(_) => None,
            Slot::Whole(container) => Some(container.info()),
        });
        whole.collect()
    }

    async fn destroy(&self, handle: &Handle) -> Result<(), Error> {
        let Some(container) = self.cell.find_created(handle).await else {
            let (cell, handle) = (Arc::clone(&self.cell), handle.clone());
            return detached(async move { destroy::destroy_broken(&cell, &handle).await }).await?;
        };
        let cell = Arc::clone(&self.cell);
        detached(async move { destroy::destroy(&cell, &container).await }).await?
    }

    async fn capacity(&self) -> Result<Capacity, Error> {
        let folder = self.cell.config.cell_dir.clone();
        let containers_max = self.cell.config.containers_max;
        let (memory_bytes, disk_bytes) = blocking(move || {
            let disk = statvfs(&folder).map_err(std::io::Error::from)?;
            Ok((total_memory()?, disk.blocks().saturating_mul(disk.fragment_size())))
        })
        .await?
        .map_err(Error::host("look at the machine's memory and disk"))?;
        Ok(Capacity { memory_bytes, disk_bytes, containers_max })
    }
}

impl Cell {
    fn containers(&self) -> MutexGuard<'_, BTreeMap<Handle, Slot>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, handle: &Handle) -> Result<Arc<Container>, Error> {
        match self.containers().get(handle) {
            Some(Slot::Whole(container)) => Ok(Arc::clone(container)),
            Some(Slot::Creating | Slot::Broken(_)) | None => {
                Err(Error::UnknownHandle { handle: handle.clone() })
            }
        }
    }
}

impl Cell {
    /// Finds a container, after its creation if that is under way; `None` if there is none, or
    /// only what is left of one.
    async fn find_created(&self, handle: &Handle) -> Option<Arc<Container>> {
        loop {
            let ended = self.creation_ended.notified();
            tokio::pin!(ended);
            // Registered before looking, so that no end is missed in between.
            ended.as_mut().enable();
            match self.containers().get(handle) {
                None | Some(Slot::Broken(_)) => return None,
                Some(Slot::Whole(container)) => return Some(Arc::clone(container)),
                Some(Slot::Creating) => {}
            }
            ended.await;
        }
    }
}

impl Container {
    /// Takes up a container that has a folder.
    async fn adopt(config: ContainerConfig, depot: Depot) -> Self {
        let client = ShimClient::connect(depot.clone()).await;
        Self { config, depot, client, destroying: tokio::sync::Mutex::new(()) }
    }

    /// Asks the shim something about a process.
    async fn ask(&self, process: &ProcessId, command: Command) -> Result<Answer, Error> {
        let handle = || self.config.handle.clone();
        let process = || process.clone();
        self.client.ask(command).await.map_err(|refusal| match refusal {
            Refusal::UnknownProcess => {
                Error::UnknownProcess { handle: handle(), process: process() }
            }
            Refusal::ProcessInUse => Error::ProcessInUse { handle: handle(), process: process() },
            Refusal::Stopped => Error::Stopped { handle: handle() },
            Refusal::Unanswered => Error::Unanswered { handle: handle() },
            Refusal::Failed(reason) => Error::Run { handle: handle(), process: process(), reason },
        })
    }

    fn info(&self) -> ContainerInfo {
        let known = self.client.processes();
        let running = known.running.into_iter().map(|(id, process)| {
            let (pid, started_at_ns) = (process.pid, process.started_at_ns);
            (id, ProcessState::Running { pid, started_at_ns })
        });
        let ended = known.exits.into_iter().map(|(id, record)| (id, ProcessState::Ended(record)));
        let config = &self.config;
        ContainerInfo {
            handle: config.handle.clone(),
            rootfs: config.rootfs.clone(),
            address: config.network.address,
            cgroup: config.cgroup.name.clone(),
            created_at_ns: config.created_at_ns,
            limits: config.limits,
            properties: config.properties.clone(),
            state: match known.is_stopped {
                true => ContainerState::Stopped,
                false => ContainerState::Running,
            },
            processes: running.chain(ended).collect(),
            output_end: known.output_end,
        }
    }
}

fn total_memory() -> std::io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .ok_or_else(|| std::io::Error::other("/proc/meminfo has no MemTotal"))?;
    Ok(kibibytes * 1024)
}

/// Runs what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work)
        .await
        .map_err(|error| Error::host("finish a blocking step")(std::io::Error::other(error)))
}

/// Runs to the end even if the caller stops waiting.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    tokio::runtime::Handle::current()
        .spawn(work)
        .await
        .map_err(|error| Error::host("finish a detached step")(std::io::Error::other(error)))
}

/// Looks again and again until something is so; false if it is not in time. Blocks its thread.
#[expect(clippy::disallowed_methods, reason = "only called where blocking is allowed")]
fn poll_until(timeout: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = clock::monotonic() + timeout;
    let mut pause = Duration::from_micros(500);
    loop {
        if is_so() {
            return true;
        }
        if clock::monotonic() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
