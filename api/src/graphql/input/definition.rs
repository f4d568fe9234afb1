//! A definition as clients write it.

use async_graphql::InputObject;
use domain::{
    bbs::definition::{CertificateProperties, Definition, LogRateLimit, Rootfs},
    check::CheckDefinition,
    sealed::PlainText,
    units::{Mebibytes, Milliseconds},
};

use super::{
    Faults,
    action::{ActionInput, EnvironmentVariableInput, FileInput, files, variables},
    check::CheckInput,
    parts::{
        CachedDependencyInput, ImageLayerInput, NetworkPropertyInput, SecurityGroupRuleInput,
        SidecarInput, VolumeMountInput,
    },
};
use crate::graphql::{
    kinds::UpdateStrategy,
    labels::{MetricTagInput, tags_of},
};

/// What a container is made of and runs.
#[derive(InputObject)]
pub(super) struct DefinitionInput {
    /// Its root file system, such as `preloaded:<name>`.
    rootfs: String,
    /// Variables of every process in it.
    #[graphql(default)]
    env: Vec<EnvironmentVariableInput>,
    /// Runs to its end before the action.
    setup: Option<ActionInput>,
    /// What it is there for.
    action: ActionInput,
    /// What makes it healthy: all of these. Without any, and without a monitor, a living process is
    /// healthy. An empty list takes its say from the monitor.
    checks: Option<Vec<CheckInput>>,
    /// While all of these pass it takes requests; one that fails never ends it.
    #[graphql(default)]
    readiness_checks: Vec<CheckInput>,
    /// The source that the checks' lines carry; `HEALTH` when absent.
    check_log_source: Option<String>,
    /// What makes it healthy, by any command: an action that must succeed. Only where there are no
    /// checks.
    monitor: Option<ActionInput>,
    /// How long it may take to become healthy, in milliseconds; 0 is for ever.
    #[graphql(default = 60_000)]
    start_timeout_ms: i64,
    /// How long it may take to end by itself after SIGTERM, in milliseconds, at most an hour; then
    /// comes SIGKILL. Absent: the cell's default.
    graceful_stop_ms: Option<i64>,
    /// Its memory limit in mebibytes; also what is reserved on the cell.
    memory_mb: i64,
    /// What is reserved of the cell's disk, in mebibytes.
    disk_mb: i64,
    /// The most processes and threads in it; 0 is the cell's default.
    #[graphql(default)]
    max_pids: i64,
    /// Its share of the processor against other containers, from 1 to 100.
    #[graphql(default = 100)]
    cpu_weight: i64,
    /// The ports it listens on.
    #[graphql(default)]
    ports: Vec<i64>,
    /// The source that its log lines carry.
    #[graphql(default = "APP")]
    log_source: String,
    /// The tags that a cell must carry to hold it.
    #[graphql(default)]
    placement_tags: Vec<String>,
    /// The drivers of the volumes that are mounted in it: a cell must have all of them.
    #[graphql(default)]
    volume_drivers: Vec<String>,
    /// How an instance leaves a cell that is being evacuated.
    #[graphql(default)]
    update_strategy: UpdateStrategy,
    /// Processes beside the action: the end of one ends the instance.
    #[graphql(default)]
    sidecars: Vec<SidecarInput>,
    /// Archives that the cell unpacks once for all containers that share them, read-only.
    #[graphql(default)]
    cached_dependencies: Vec<CachedDependencyInput>,
    /// Archives that make up its files; another way to say cached dependencies and downloads.
    #[graphql(default)]
    image_layers: Vec<ImageLayerInput>,
    /// As whom exclusive image layers are unpacked, by name.
    legacy_download_user: Option<String>,
    /// Who may load its root file system, where that is an image.
    image_username: Option<String>,
    /// The password of that user. It is sealed, and never shown again.
    #[graphql(secret)]
    image_password: Option<String>,
    /// Whether root in it is root on the cell.
    #[graphql(default)]
    privileged: bool,
    /// Whom it may call.
    #[graphql(default)]
    egress_rules: Vec<SecurityGroupRuleInput>,
    /// What the platform's network is told of it.
    #[graphql(default)]
    network: Vec<NetworkPropertyInput>,
    /// Volumes that are mounted in it.
    #[graphql(default)]
    volume_mounts: Vec<VolumeMountInput>,
    /// Files that are put into it.
    #[graphql(default)]
    volume_mounted_files: Vec<FileInput>,
    /// Where it sees the certificates that the platform trusts.
    trusted_system_certificates_path: Option<String>,
    /// The units that its identity's certificate names.
    organizational_units: Option<Vec<String>>,
    /// How many bytes a second one instance may log; -1 is without limit, and 0 nothing.
    log_bytes_per_second: Option<i64>,
    /// What its log lines belong to.
    #[graphql(default)]
    log_guid: String,
    /// What its metrics belong to.
    #[graphql(default)]
    metrics_guid: String,
    /// What a task's lines and samples are tagged with; those of an LRP stand beside its definition.
    #[graphql(default)]
    metric_tags: Vec<MetricTagInput>,
    /// The file in it that holds a task's result when it has ended.
    result_file: Option<String>,
}

impl DefinitionInput {
    /// The same as the domain's definition; `None` when a fault was noted.
    pub(super) fn read(self, path: &str, faults: &mut Faults) -> Option<Definition<PlainText>> {
        let at = |name: &str| format!("{path}.{name}");
        let rootfs = faults.parsed(&at("rootfs"), Rootfs::new(&self.rootfs));
        let setup = faults.optional(&at("setup"), self.setup, ActionInput::read);
        let action = self.action.read(&at("action"), faults);
        let monitor = faults.optional(&at("monitor"), self.monitor, ActionInput::read);
        let checks = faults.optional(&at("checks"), self.checks, |checks, path, faults| {
            faults.each(path, checks, CheckInput::read)
        });
        let readiness_checks =
            faults.each(&at("readinessChecks"), self.readiness_checks, CheckInput::read);
        let start_timeout_ms = faults.number(&at("startTimeoutMs"), self.start_timeout_ms);
        let graceful_stop_ms =
            faults.optional(&at("gracefulStopMs"), self.graceful_stop_ms, |span, path, faults| {
                faults.number(path, span).map(Milliseconds)
            });
        let memory_mb = faults.number(&at("memoryMb"), self.memory_mb);
        let disk_mb = faults.number(&at("diskMb"), self.disk_mb);
        let max_pids = faults.number(&at("maxPids"), self.max_pids);
        let cpu_weight = faults.number(&at("cpuWeight"), self.cpu_weight);
        let ports =
            faults.each(&at("ports"), self.ports, |port, path, faults| faults.number(path, port));
        let sidecars = faults.each(&at("sidecars"), self.sidecars, SidecarInput::read);
        let dependencies = faults.each(
            &at("cachedDependencies"),
            self.cached_dependencies,
            CachedDependencyInput::read,
        );
        let layers = faults.each(&at("imageLayers"), self.image_layers, ImageLayerInput::read);
        let rules =
            faults.each(&at("egressRules"), self.egress_rules, SecurityGroupRuleInput::read);
        let metric_tags = tags_of(self.metric_tags, &at("metricTags"), faults);
        let check = check_of(checks?, readiness_checks?, self.check_log_source);
        Some(Definition {
            env: variables(self.env),
            setup: setup?,
            check,
            monitor: monitor?.map(Box::new),
            start_timeout_ms: Milliseconds(start_timeout_ms?),
            graceful_stop_ms: graceful_stop_ms?,
            max_pids: max_pids?,
            cpu_weight: cpu_weight?,
            ports: ports?,
            log_source: self.log_source,
            placement_tags: self.placement_tags,
            volume_drivers: self.volume_drivers,
            update_strategy: self.update_strategy.into(),
            sidecars: sidecars?,
            cached_dependencies: dependencies?,
            image_layers: layers?,
            legacy_download_user: self.legacy_download_user,
            image_username: self.image_username,
            image_password: self.image_password.map(PlainText),
            privileged: self.privileged,
            egress_rules: rules?,
            network: self.network.into_iter().map(NetworkPropertyInput::pair).collect(),
            volume_mounts: self.volume_mounts.into_iter().map(VolumeMountInput::read).collect(),
            volume_mounted_files: files(self.volume_mounted_files),
            trusted_system_certificates_path: self.trusted_system_certificates_path,
            certificate_properties: self
                .organizational_units
                .map(|organizational_unit| CertificateProperties { organizational_unit }),
            log_rate_limit: self
                .log_bytes_per_second
                .map(|bytes_per_second| LogRateLimit { bytes_per_second }),
            log_guid: self.log_guid,
            metrics_guid: self.metrics_guid,
            metric_tags: metric_tags?,
            result_file: self.result_file,
            ..Definition::new(rootfs?, action?, Mebibytes(memory_mb?), Mebibytes(disk_mb?))
        })
    }
}

/// A check definition where anything of one is said.
fn check_of(
    checks: Option<Vec<domain::check::Check>>,
    readiness_checks: Vec<domain::check::Check>,
    log_source: Option<String>,
) -> Option<CheckDefinition> {
    let is_absent = checks.is_none() && readiness_checks.is_empty() && log_source.is_none();
    let checks = checks.unwrap_or_default();
    (!is_absent).then_some(CheckDefinition { checks, readiness_checks, log_source })
}
