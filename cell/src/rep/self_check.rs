//! The cell's look at itself: makes a container, runs something in it, destroys it, every few
//! minutes. What came of it goes along with the heartbeats.
//!
//! The container is in no book: what is left of it after an agent's death is destroyed by the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::rep::Health;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::config::SelfCheckConfig;
use crate::garden::{
    BindMount, ContainerSpec, Environment, Error, ExitStatus, Garden, Handle, Limits, ProcessId,
    ProcessSpec, RootfsName,
};

/// Where the static binary is seen in the container.
const BINARY: &str = "/etc/cf-assets/healthcheck/healthcheck";
const MEMORY_BYTES: u64 = 64 << 20;
const PIDS_MAX: u32 = 16;
const NOFILE: u64 = 64;

/// What the cell found out about itself.
#[derive(Debug, Default)]
pub(super) struct CellHealth {
    found: Mutex<Option<Health>>,
    /// Told when it is another than before.
    pub(super) changed: Notify,
}

impl CellHealth {
    pub(super) fn get(&self) -> Option<Health> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, health: Health) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref() == Some(&health) {
            return;
        }
        match &health.failure {
            Some(failure) => tracing::error!(failure, "This cell cannot make containers."),
            None => tracing::info!("This cell can make containers."),
        }
        *found = Some(health);
        self.changed.notify_one();
    }
}

/// Looks now, and again and again; sooner while something is wrong.
pub(super) async fn run(
    garden: Arc<dyn Garden>,
    health: Arc<CellHealth>,
    rootfs: String,
    config: SelfCheckConfig,
) {
    loop {
        let looked = timeout(config.timeout.duration(), look(garden.as_ref(), &rootfs, &config));
        let failure = match looked.await {
            Ok(Ok(())) => None,
            Ok(Err(reason)) => Some(reason),
            Err(_) => {
                let seconds = config.timeout.duration().as_secs();
                Some(format!("a container of its own was not there and gone within {seconds} s"))
            }
        };
        let is_well = failure.is_none();
        health.set(Health { failure });
        let every = config.every.duration();
        sleep(if is_well { every } else { every.min(Duration::from_secs(30)) }).await;
    }
}

/// One container from its making to its end.
async fn look(garden: &dyn Garden, rootfs: &str, config: &SelfCheckConfig) -> Result<(), String> {
    let name = format!("check-{}", clock::random_uuid().simple());
    let handle = Handle::parse(&name).map_err(|error| error.to_string())?;
    let made = garden.create(container(&handle, rootfs, config)?).await;
    made.map_err(|error| told("make", &error))?;
    let ran = run_in(garden, &handle).await;
    // Also when nothing ran in it: it is of no use to anybody.
    let destroyed = garden.destroy(&handle).await.map_err(|error| told("destroy", &error));
    ran.and(destroyed)
}

async fn run_in(garden: &dyn Garden, handle: &Handle) -> Result<(), String> {
    let id = ProcessId::parse("check").map_err(|error| error.to_string())?;
    let process = ProcessSpec {
        id: id.clone(),
        path: BINARY.to_owned(),
        args: Vec::new(),
        environment: Environment::default(),
        dir: Some("/".to_owned()),
        user: None,
        nofile: Some(NOFILE),
        is_fleeting: false,
    };
    garden.run(handle, process).await.map_err(|error| told("run a process in", &error))?;
    let record = garden.wait(handle, &id).await.map_err(|error| told("watch", &error))?;
    match record.status {
        // It has nothing to probe and says so: what matters is that it ran and ended by itself.
        ExitStatus::Exited { .. } => Ok(()),
        ExitStatus::Signaled { signal } => {
            Err(format!("a process in a container of its own was ended by signal {signal}"))
        }
    }
}

fn container(
    handle: &Handle,
    rootfs: &str,
    config: &SelfCheckConfig,
) -> Result<ContainerSpec, String> {
    Ok(ContainerSpec {
        handle: handle.clone(),
        rootfs: RootfsName::parse(rootfs).map_err(|error| error.to_string())?,
        hostname: handle.to_string(),
        environment: Environment::default(),
        limits: Limits {
            memory_bytes: Some(MEMORY_BYTES),
            pids_max: Some(PIDS_MAX),
            ..Limits::default()
        },
        bind_mounts: vec![BindMount {
            source: config.binary.clone(),
            destination: BINARY.into(),
            is_read_only: true,
        }],
        properties: BTreeMap::new(),
    })
}

/// The garden's words with their causes.
fn told(what: &str, error: &Error) -> String {
    let reason = match error {
        Error::Create { reason, .. } | Error::Run { reason, .. } => reason.clone(),
        other @ (Error::InvalidSpec { .. }
        | Error::HandleInUse { .. }
        | Error::UnknownHandle { .. }
        | Error::UnknownProcess { .. }
        | Error::ProcessInUse { .. }
        | Error::UnknownRootfs { .. }
        | Error::Full { .. }
        | Error::Stopped { .. }
        | Error::Unanswered { .. }
        | Error::Destroy { .. }
        | Error::Timeout { .. }
        | Error::Unsupported { .. }
        | Error::FolderInUse { .. }
        | Error::Host { .. }) => {
            let cause = std::error::Error::source(other).map(|cause| format!(": {cause}"));
            format!("{other}{}", cause.unwrap_or_default())
        }
    };
    format!("cannot {what} a container of its own: {reason}")
}
