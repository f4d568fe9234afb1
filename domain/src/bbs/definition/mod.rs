//! What a container of an LRP or a task is made of and runs: all that Diego knows to say of it.
//!
//! Immutable once desired: a changed definition is a new process guid. `V` is how secret values
//! are held, as in [`crate::action`].
//!
//! - here: the whole; `artifacts` what is unpacked in it; `egress` whom it may call; `volumes` what
//!   is mounted in it
//! - `map` the same with other secrets; `check` what is wrong with one; `written` how it is written

mod artifacts;
mod check;
mod egress;
mod map;
mod volumes;
mod written;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, EnvironmentVariable, File},
    check::{Check, CheckDefinition},
    labels::MetricTags,
    sealed::{Digest, Sealed},
    units::{Mebibytes, Milliseconds},
};

pub use super::rootfs::{InvalidRootfs, Rootfs};
pub use artifacts::{CachedDependency, ImageLayer, LayerType, MediaType};
pub use egress::{IcmpInfo, PortRange, Protocol, SecurityGroupRule};
pub use volumes::{DedicatedDevice, SharedDevice, VolumeMode, VolumeMount};

/// The most memory or disk that one container may ask for: 4 TiB.
pub const AMOUNT_MAX: Mebibytes = Mebibytes(4 << 20);

/// What a container is made of and runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition<V = Sealed> {
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Variables of every process in it.
    #[serde(default = "Vec::new")]
    pub env: Vec<EnvironmentVariable<V>>,
    /// Runs to its end before the action.
    #[serde(default = "no_setup")]
    pub setup: Option<Action<V>>,
    /// What it is there for.
    pub action: Action<V>,
    /// What makes it healthy, by declaration. Where it is there the monitor has no say, even if it
    /// holds no check.
    #[serde(default)]
    pub check: Option<CheckDefinition>,
    /// What makes it healthy, by any command: an action that must succeed (Diego's older way).
    #[serde(default = "no_monitor")]
    pub monitor: Option<Box<Action<V>>>,
    /// How long it may take to become healthy, in milliseconds; 0 is for ever.
    #[serde(default = "default_start_timeout")]
    pub start_timeout_ms: Milliseconds,
    /// How long it may take to end by itself after SIGTERM, in milliseconds; then comes SIGKILL. 0
    /// is at once; absent is the cell's default. (Diego has one value for all apps of a cell.)
    #[serde(default)]
    pub graceful_stop_ms: Option<Milliseconds>,
    /// Its memory limit, in mebibytes; also what is reserved on the cell.
    pub memory_mb: Mebibytes,
    /// What is reserved of the cell's disk, in mebibytes.
    pub disk_mb: Mebibytes,
    /// The most processes and threads in it; 0 is the cell's default (1024).
    #[serde(default)]
    pub max_pids: u32,
    /// Its share of the processor against other containers, from 1 to 100.
    #[serde(default = "default_cpu_weight")]
    pub cpu_weight: u32,
    /// The ports it listens on.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The source that its log lines carry.
    #[serde(default = "default_log_source")]
    pub log_source: String,
    /// The tags that a cell must carry to hold it.
    #[serde(default)]
    pub placement_tags: Vec<String>,
    /// The drivers of the volumes that are mounted in it: a cell must have all of them.
    #[serde(default)]
    pub volume_drivers: Vec<String>,
    /// How an instance leaves a cell that is being evacuated. A task has no use for it.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,
    /// Processes beside the action: the end of one ends the instance.
    #[serde(default = "Vec::new")]
    pub sidecars: Vec<Sidecar<V>>,
    /// Archives that the cell unpacks once for all containers that share them, read-only.
    #[serde(default = "Vec::new")]
    pub cached_dependencies: Vec<CachedDependency<V>>,
    /// Archives that make up its files; another way to say cached dependencies and downloads.
    #[serde(default = "Vec::new")]
    pub image_layers: Vec<ImageLayer<V>>,
    /// As whom exclusive image layers are unpacked, by name.
    #[serde(default)]
    pub legacy_download_user: Option<String>,
    /// Who may load its root file system, where that is an image.
    #[serde(default)]
    pub image_username: Option<String>,
    /// The password of that user.
    #[serde(default = "no_secret")]
    pub image_password: Option<V>,
    /// Whether root in it is root on the cell.
    #[serde(default)]
    pub privileged: bool,
    /// Whom it may call.
    #[serde(default)]
    pub egress_rules: Vec<SecurityGroupRule>,
    /// What the platform's network is told of it.
    #[serde(default)]
    pub network: BTreeMap<String, String>,
    /// Volumes that are mounted in it.
    #[serde(default = "Vec::new")]
    pub volume_mounts: Vec<VolumeMount<V>>,
    /// Files that are put into it.
    #[serde(default = "Vec::new")]
    pub volume_mounted_files: Vec<File<V>>,
    /// Where it sees the certificates that the platform trusts.
    #[serde(default)]
    pub trusted_system_certificates_path: Option<String>,
    /// What its identity's certificate says of it.
    #[serde(default)]
    pub certificate_properties: Option<CertificateProperties>,
    /// How much it may log.
    #[serde(default)]
    pub log_rate_limit: Option<LogRateLimit>,
    /// What its log lines belong to (of an LRP of Cloud Foundry the app).
    #[serde(default)]
    pub log_guid: String,
    /// What its metrics belong to.
    #[serde(default)]
    pub metrics_guid: String,
    /// What a task's lines and samples are tagged with; those of an LRP may change and stand beside
    /// its definition.
    #[serde(default)]
    pub metric_tags: MetricTags,
    /// The file in it that holds a task's result when it has ended; an LRP has no use for it.
    #[serde(default)]
    pub result_file: Option<String>,
}

/// A process beside the action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar<V = Sealed> {
    /// What it runs.
    pub action: Action<V>,
    /// The part of the container's disk that it is meant to have, in mebibytes.
    #[serde(default)]
    pub disk_mb: Mebibytes,
    /// The part of the container's memory that it is meant to have, in mebibytes.
    #[serde(default)]
    pub memory_mb: Mebibytes,
}

/// What an identity's certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateProperties {
    /// The units that its subject names.
    #[serde(default)]
    pub organizational_unit: Vec<String>,
}

/// How much may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRateLimit {
    /// Bytes a second of one instance; -1 is without limit, and 0 nothing.
    pub bytes_per_second: i64,
}

/// How an instance is replaced by its next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStrategy {
    /// It runs on until the next one is healthy.
    #[default]
    Rolling,
    /// It is stopped first: never two at once on cells that are heard.
    Recreate,
}

fn no_setup<V>() -> Option<Action<V>> {
    None
}

fn no_monitor<V>() -> Option<Box<Action<V>>> {
    None
}

fn no_secret<V>() -> Option<V> {
    None
}

fn default_start_timeout() -> Milliseconds {
    Milliseconds::from_seconds(60)
}

fn default_cpu_weight() -> u32 {
    100
}

fn default_log_source() -> String {
    "APP".to_owned()
}

impl<V> Definition<V> {
    /// A definition that says only what must be said; all else is Diego's default.
    pub fn new(
        rootfs: Rootfs,
        action: Action<V>,
        memory_mb: Mebibytes,
        disk_mb: Mebibytes,
    ) -> Self {
        Self {
            rootfs,
            env: Vec::new(),
            setup: None,
            action,
            check: None,
            monitor: None,
            start_timeout_ms: default_start_timeout(),
            graceful_stop_ms: None,
            memory_mb,
            disk_mb,
            max_pids: 0,
            cpu_weight: default_cpu_weight(),
            ports: Vec::new(),
            log_source: default_log_source(),
            placement_tags: Vec::new(),
            volume_drivers: Vec::new(),
            update_strategy: UpdateStrategy::default(),
            sidecars: Vec::new(),
            cached_dependencies: Vec::new(),
            image_layers: Vec::new(),
            legacy_download_user: None,
            image_username: None,
            image_password: None,
            privileged: false,
            egress_rules: Vec::new(),
            network: BTreeMap::new(),
            volume_mounts: Vec::new(),
            volume_mounted_files: Vec::new(),
            trusted_system_certificates_path: None,
            certificate_properties: None,
            log_rate_limit: None,
            log_guid: String::new(),
            metrics_guid: String::new(),
            metric_tags: MetricTags::new(),
            result_file: None,
        }
    }

    /// The same, asking for every driver of its volumes: a cell must have them.
    #[must_use]
    pub(crate) fn with_drivers(mut self) -> Self {
        for mount in &self.volume_mounts {
            if !self.volume_drivers.contains(&mount.driver) {
                self.volume_drivers.push(mount.driver.clone());
            }
        }
        self
    }

    /// The declared checks that say whether it lives; none where a living process is healthy, or
    /// where its monitor has the word.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        self.check.as_ref().map_or(&[], |check| &check.checks)
    }
}

impl Definition<Sealed> {
    /// The name of this very definition: the digest of its JSON form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}
