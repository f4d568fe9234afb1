//! The agent: what `diario cell` runs, and `diario dev` inside its own process.
//!
//! Prepares the cell's folder, registers, and runs one session after another until it is asked to
//! end. Holds no rule: what should run here is decided elsewhere.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use domain::bbs::cell::Registration;
use domain::bbs::placement::Resources;
use domain::bbs::rootfs::RootfsProviders;
use domain::bbs::task::RESULT_BYTES_MAX;
use domain::id::MachineId;
use domain::rep::{PROTOCOL_VERSION, RegisterAnswer, RegisterRequest, understands};
use domain::units::Mebibytes;
use nix::sys::statvfs::statvfs;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{Config, OnShutdown};
use crate::control_plane::{self, ControlPlane, HttpControlPlane};
use crate::durable_file::{self, Survives};
use crate::executor::{Executor, Settings, Share};
use crate::garden::{self, Garden};
use crate::identity::{self, Authority};
use crate::rep::{
    self, Book, EarlierLife, Equipment, ObservationSpool, ReportSpool, SessionEnd, StorageError,
};
use crate::retry::BackOff;

/// Downloads may take one of so many equal parts of the disk, unless configured.
const DOWNLOADS_DISK_PART: u64 = 10;

/// How an agent ended that was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Containers run on; the next agent takes them up.
    LeftRunning,
    /// Containers were stopped and removed.
    Destroyed,
}

/// Why an agent could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cell's folder cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another agent works in the cell's folder.
    #[error("the cell's folder {folder} is in use by another agent")]
    FolderInUse {
        /// The folder.
        folder: String,
    },
    /// The machine does not tell what it has; configure the capacity.
    #[error("cannot find out what this machine can hold")]
    Capacity(#[source] garden::Error),
    /// Another live machine has the cell's id.
    #[error("cell id {cell_id} is in use by another live machine; choose another id")]
    CellIdInUse {
        /// The id.
        cell_id: String,
    },
    /// The control plane is too old or too new.
    #[error(
        "this cell speaks cell protocol {PROTOCOL_VERSION}, the control plane {found}; they may be \
         one apart: upgrade the older one first"
    )]
    ProtocolVersion {
        /// What the control plane speaks.
        found: u32,
    },
    /// The control plane cannot be talked to with these settings.
    #[error(transparent)]
    ControlPlane(control_plane::Error),
    /// The authority for the containers' identities cannot be used.
    #[error("cannot use the authority for instance identities")]
    InstanceIdentity(#[source] identity::Error),
    /// This program cannot be found on the disk, to be run in containers as health check.
    #[error("cannot find this program's own file; configure the health check's")]
    OwnFile(#[source] std::io::Error),
}

/// Runs a cell until it is asked to end.
///
/// # Errors
/// Its folder, its settings or its id cannot be used. A control plane that is not reached is not
/// an error: it is waited for.
pub async fn run(
    config: Config,
    garden: Arc<dyn Garden>,
    shutdown: CancellationToken,
) -> Result<Outcome, Error> {
    let control_plane = HttpControlPlane::new(&config.control_plane, config.cell_id.clone())
        .map_err(Error::ControlPlane)?;
    run_with(config, garden, Arc::new(control_plane), shutdown).await
}

/// Runs a cell on a control plane of the caller's.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    garden: Arc<dyn Garden>,
    control_plane: Arc<dyn ControlPlane>,
    shutdown: CancellationToken,
) -> Result<Outcome, Error> {
    let _lock = lock_folder(&config.folder)?;
    let machine_id = machine_id(&config.folder)?;
    let capacity = capacity(&config, garden.as_ref()).await?;
    let registration = registration(&config, machine_id, capacity);
    let equipment = equip(config, capacity, garden, control_plane)?;
    loop {
        let registered = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(end_unregistered(&equipment).await),
            registered = register(&equipment, &registration) => registered?,
        };
        match Box::pin(rep::run(&equipment, &registered, &shutdown)).await? {
            SessionEnd::EpochPassed => {
                tracing::warn!("The cell's registration has passed; registering again.");
            }
            SessionEnd::Shutdown => {
                return Ok(match equipment.config.on_shutdown {
                    OnShutdown::LeaveRunning => Outcome::LeftRunning,
                    OnShutdown::DestroyAll => Outcome::Destroyed,
                });
            }
        }
    }
}

/// Without a registration nothing can be reported, but what is to be destroyed still is.
async fn end_unregistered(equipment: &Equipment) -> Outcome {
    match equipment.config.on_shutdown {
        OnShutdown::LeaveRunning => Outcome::LeftRunning,
        OnShutdown::DestroyAll => {
            rep::destroy_everything(equipment).await;
            Outcome::Destroyed
        }
    }
}

/// One agent at a time; the lock goes with the process.
fn lock_folder(folder: &Path) -> Result<File, Error> {
    let path = folder.join("agent.lock");
    let failed = |source| {
        let path = path.display().to_string();
        StorageError { operation: "lock", path, source }
    };
    durable_file::create_folder(folder).map_err(failed)?;
    let file = durable_file::private().create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::FolderInUse { folder: folder.display().to_string() })
        }
        Err(TryLockError::Error(source)) => Err(failed(source).into()),
    }
}

/// Drawn once, when the cell's folder is made: another folder is another machine.
fn machine_id(folder: &Path) -> Result<MachineId, Error> {
    let path = folder.join("machine_id");
    let failed = |operation: &'static str| {
        let path = path.display().to_string();
        move |source| StorageError { operation, path, source }
    };
    if let Some(known) = durable_file::read_json(&path).map_err(failed("read"))? {
        return Ok(known);
    }
    let drawn = MachineId(clock::random_uuid());
    durable_file::write_json(&path, &drawn, Survives::Machine).map_err(failed("write"))?;
    Ok(drawn)
}

async fn capacity(config: &Config, garden: &dyn Garden) -> Result<Resources, Error> {
    let wanted = config.capacity;
    let found = garden.capacity().await.map_err(Error::Capacity)?;
    let memory_mb = wanted
        .memory_mb
        .unwrap_or_else(|| Mebibytes::floor(found.memory_bytes).minus(wanted.memory_reserve_mb));
    let disk_mb = wanted.disk_mb.unwrap_or_else(|| Mebibytes::floor(found.disk_bytes));
    let containers = wanted.containers.min(found.containers_max);
    Ok(Resources { memory_mb, disk_mb, containers })
}

/// What downloads may take of the disk: a part of it, if that is not said.
fn downloads_max(config: &Config) -> Result<Mebibytes, StorageError> {
    if let Some(wanted) = config.containers.downloads_mb {
        return Ok(wanted);
    }
    let disk = statvfs(&config.folder).map_err(|errno| StorageError {
        operation: "look at the disk of",
        path: config.folder.display().to_string(),
        source: errno.into(),
    })?;
    let bytes = disk.blocks().saturating_mul(disk.fragment_size());
    Ok(Mebibytes::floor(bytes / DOWNLOADS_DISK_PART))
}

fn processors() -> u32 {
    let found = std::thread::available_parallelism().ok();
    found.and_then(|count| u32::try_from(count.get()).ok()).unwrap_or(1)
}

fn registration(config: &Config, machine_id: MachineId, capacity: Resources) -> Registration {
    Registration {
        machine_id,
        capacity,
        zone: config.zone.clone(),
        address: config.address,
        rootfs_providers: RootfsProviders::preloaded(config.preloaded_rootfses.clone()),
        volume_drivers: BTreeSet::new(),
        placement_tags: config.placement_tags.clone(),
        optional_placement_tags: config.optional_placement_tags.clone(),
    }
}

fn equip(
    config: Config,
    capacity: Resources,
    garden: Arc<dyn Garden>,
    control_plane: Arc<dyn ControlPlane>,
) -> Result<Equipment, Error> {
    let output = config.folder.join("output");
    durable_file::create_folder(&output).map_err(|source| StorageError {
        operation: "make the folder",
        path: output.display().to_string(),
        source,
    })?;
    let healthcheck_binary = match &config.containers.healthcheck_binary {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(Error::OwnFile)?,
    };
    let identity = config.containers.instance_identity.as_ref();
    let authority = identity.map(Authority::new).transpose().map_err(Error::InstanceIdentity)?;
    let settings = Settings {
        authority: authority.map(Arc::new),
        identities: config.folder.join("identities"),
        cell_name: config.cell_id.to_string(),
        folder: output,
        healthcheck_binary,
        graceful_stop: config.containers.graceful_stop.duration(),
        nofile: config.containers.nofile,
        log_lines_per_second: config.containers.log_lines_per_second,
        share: Share { processors: processors(), memory_bytes: capacity.memory_mb.bytes() },
        downloads_folder: config.folder.join("downloads"),
        downloads_bytes_max: downloads_max(&config)?.bytes(),
        result_bytes_max: u64::try_from(RESULT_BYTES_MAX).unwrap_or(u64::MAX),
    };
    let executor = Executor::new(Arc::clone(&garden), settings).map_err(|source| StorageError {
        operation: "use the downloads in",
        path: config.folder.display().to_string(),
        source,
    })?;
    let observations = ObservationSpool::open(
        config.folder.join("observations"),
        config.observation_spool_bytes_max,
    )?;
    let earlier_life = EarlierLife::look(&config.folder)?;
    tracing::info!(cell_id = %config.cell_id, %earlier_life, "The agent starts.");
    Ok(Equipment {
        earlier_life,
        executor: Arc::new(executor),
        book: Arc::new(Book::open(config.folder.join("book"))?),
        reports: Arc::new(Mutex::new(ReportSpool::open(config.folder.join("reports"))?)),
        observations: Arc::new(observations),
        config: Arc::new(config),
        capacity,
        garden,
        control_plane,
    })
}

/// Tries until the cell is registered. Says each new reason once.
async fn register(
    equipment: &Equipment,
    registration: &Registration,
) -> Result<RegisterAnswer, Error> {
    let request =
        RegisterRequest { protocol_version: PROTOCOL_VERSION, registration: registration.clone() };
    let cell_id = &equipment.config.cell_id;
    let mut back_off = BackOff::for_requests();
    let mut told = String::new();
    loop {
        match equipment.control_plane.register(&request).await {
            Ok(answer) if !understands(answer.protocol_version) => {
                return Err(Error::ProtocolVersion { found: answer.protocol_version });
            }
            Ok(answer) => {
                let cell_epoch = answer.cell_epoch.0;
                tracing::info!(%cell_id, cell_epoch, "The cell is registered.");
                return Ok(answer);
            }
            Err(error) if error.has_code("CELL_ID_IN_USE") => {
                return Err(Error::CellIdInUse { cell_id: cell_id.to_string() });
            }
            Err(error) => {
                let reason = error.to_string();
                if reason != told {
                    tracing::warn!(%cell_id, reason, "Cannot register the cell; trying again.");
                    told = reason;
                }
                sleep(back_off.pause()).await;
            }
        }
    }
}
