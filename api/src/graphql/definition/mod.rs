//! What a container is made of and runs, as clients see it. Secrets are never shown: only that they
//! are sealed, and a fingerprint that tells whether two are the same.

mod action;
mod check;
mod parts;

use async_graphql::SimpleObject;
use domain::{bbs::definition, routes};

use super::{
    kinds::UpdateStrategy,
    labels::{self, MetricTag},
    scalars::BigInt,
};
use action::{Action, EnvironmentVariable, File, SealedText, files, variables};
use check::Check;
use parts::{
    CachedDependency, ImageLayer, NetworkProperty, SecurityGroupRule, Sidecar, VolumeMount,
};

/// What a container is made of and runs.
#[derive(SimpleObject)]
pub(super) struct Definition {
    /// Its root file system, such as `preloaded:<name>`.
    rootfs: String,
    /// Variables of every process in it.
    env: Vec<EnvironmentVariable>,
    /// Runs to its end before the action.
    setup: Option<Action>,
    /// What it is there for.
    action: Action,
    /// What makes it healthy: all of these. Without any, and without a monitor, a living process is
    /// healthy.
    checks: Vec<Check>,
    /// While all of these pass it takes requests; one that fails never ends it.
    readiness_checks: Vec<Check>,
    /// The source that the checks' lines carry; `HEALTH` when absent.
    check_log_source: Option<String>,
    /// What makes it healthy, by any command: an action that must succeed.
    monitor: Option<Action>,
    /// How long it may take to become healthy, in milliseconds; 0 is for ever.
    start_timeout_ms: BigInt,
    /// How long it may take to end by itself after SIGTERM, in milliseconds; then comes SIGKILL.
    /// Absent: the cell's default.
    graceful_stop_ms: Option<BigInt>,
    /// Its memory limit in mebibytes; also what is reserved on the cell.
    memory_mb: u32,
    /// What is reserved of the cell's disk, in mebibytes.
    disk_mb: u32,
    /// The most processes and threads in it; 0 is the cell's default.
    max_pids: u32,
    /// Its share of the processor against other containers, from 1 to 100.
    cpu_weight: u32,
    /// The ports it listens on.
    ports: Vec<u16>,
    /// The source that its log lines carry.
    log_source: String,
    /// The tags that a cell must carry to hold it.
    placement_tags: Vec<String>,
    /// The drivers of the volumes that are mounted in it: a cell must have all of them.
    volume_drivers: Vec<String>,
    /// How an instance leaves a cell that is being evacuated.
    update_strategy: UpdateStrategy,
    /// Processes beside the action: the end of one ends the instance.
    sidecars: Vec<Sidecar>,
    /// Archives that the cell unpacks once for all containers that share them, read-only.
    cached_dependencies: Vec<CachedDependency>,
    /// Archives that make up its files.
    image_layers: Vec<ImageLayer>,
    /// As whom exclusive image layers are unpacked, by name.
    legacy_download_user: Option<String>,
    /// Who may load its root file system, where that is an image.
    image_username: Option<String>,
    /// The password of that user, which is never shown.
    image_password: Option<SealedText>,
    /// Whether root in it is root on the cell.
    privileged: bool,
    /// Whom it may call.
    egress_rules: Vec<SecurityGroupRule>,
    /// What the platform's network is told of it.
    network: Vec<NetworkProperty>,
    /// Volumes that are mounted in it.
    volume_mounts: Vec<VolumeMount>,
    /// Files that are put into it.
    volume_mounted_files: Vec<File>,
    /// Where it sees the certificates that the platform trusts.
    trusted_system_certificates_path: Option<String>,
    /// The units that its identity's certificate names.
    organizational_units: Option<Vec<String>>,
    /// How many bytes a second one instance may log; -1 is without limit.
    log_bytes_per_second: Option<i64>,
    /// What its log lines belong to.
    log_guid: String,
    /// What its metrics belong to.
    metrics_guid: String,
    /// What a task's lines and samples are tagged with.
    metric_tags: Vec<MetricTag>,
    /// The file in it that holds a task's result when it has ended.
    result_file: Option<String>,
}

impl From<&definition::Definition> for Definition {
    fn from(definition: &definition::Definition) -> Self {
        let check = definition.check.as_ref();
        Self {
            rootfs: definition.rootfs.to_string(),
            env: variables(&definition.env),
            setup: definition.setup.as_ref().map(Action::from),
            action: Action::from(&definition.action),
            checks: definition.checks().iter().map(Check::from).collect(),
            readiness_checks: check
                .map(|check| check.readiness_checks.iter().map(Check::from).collect())
                .unwrap_or_default(),
            check_log_source: check.and_then(|check| check.log_source.clone()),
            monitor: definition.monitor.as_deref().map(Action::from),
            start_timeout_ms: BigInt(definition.start_timeout_ms.0),
            graceful_stop_ms: definition.graceful_stop_ms.map(|it| BigInt(it.0)),
            memory_mb: definition.memory_mb.0,
            disk_mb: definition.disk_mb.0,
            max_pids: definition.max_pids,
            cpu_weight: definition.cpu_weight,
            ports: definition.ports.clone(),
            log_source: definition.log_source.clone(),
            placement_tags: definition.placement_tags.clone(),
            volume_drivers: definition.volume_drivers.clone(),
            update_strategy: definition.update_strategy.into(),
            sidecars: definition.sidecars.iter().map(Sidecar::from).collect(),
            cached_dependencies: definition
                .cached_dependencies
                .iter()
                .map(CachedDependency::from)
                .collect(),
            image_layers: definition.image_layers.iter().map(ImageLayer::from).collect(),
            legacy_download_user: definition.legacy_download_user.clone(),
            image_username: definition.image_username.clone(),
            image_password: definition.image_password.as_ref().map(SealedText::from),
            privileged: definition.privileged,
            egress_rules: definition.egress_rules.iter().map(SecurityGroupRule::from).collect(),
            network: definition.network.iter().map(NetworkProperty::from).collect(),
            volume_mounts: definition.volume_mounts.iter().map(VolumeMount::from).collect(),
            volume_mounted_files: files(&definition.volume_mounted_files),
            trusted_system_certificates_path: definition.trusted_system_certificates_path.clone(),
            organizational_units: definition
                .certificate_properties
                .as_ref()
                .map(|properties| properties.organizational_unit.clone()),
            log_bytes_per_second: definition.log_rate_limit.map(|limit| limit.bytes_per_second),
            log_guid: definition.log_guid.clone(),
            metrics_guid: definition.metrics_guid.clone(),
            metric_tags: labels::shown(&definition.metric_tags),
            result_file: definition.result_file.clone(),
        }
    }
}

/// Host names that lead to one port of every running instance.
#[derive(SimpleObject)]
pub(super) struct HttpRoute {
    /// The names.
    hostnames: Vec<String>,
    /// The port inside the container.
    port: u16,
}

impl From<&routes::HttpRoute> for HttpRoute {
    fn from(route: &routes::HttpRoute) -> Self {
        Self {
            hostnames: route.hostnames.iter().map(ToString::to_string).collect(),
            port: route.port,
        }
    }
}
