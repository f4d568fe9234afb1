//! A task: Diego's message as ours, and ours as Diego's.

use domain::{
    bbs::{
        definition::{Definition, UpdateStrategy},
        desired_lrp::ANNOTATION_BYTES_MAX,
        task::{Spec, Task},
    },
    id::{FreshnessDomainName, TaskGuid},
    log::Owner,
    sealed::PlainText,
    units::Milliseconds,
};

use super::{
    action::{self, or_empty, some},
    desired_lrp::{cpu_weight, log_source},
    parts,
};
use crate::{
    bbs::{cells::at_most, error::Failure, invalid::Faults, proto},
    control_plane::ControlPlane,
};

/// Reads a task.
pub(in crate::bbs) fn read(request: proto::DesireTaskRequest) -> Result<Spec, Failure> {
    let mut faults = Faults::default();
    let spec = read_whole(&request, &mut faults);
    faults.check()?;
    spec.ok_or_else(Failure::invalid_request)
}

fn read_whole(request: &proto::DesireTaskRequest, faults: &mut Faults) -> Option<Spec> {
    let task_guid = TaskGuid::new(&request.task_guid).ok();
    if task_guid.is_none() {
        faults.field("task_guid");
    }
    let domain = FreshnessDomainName::new(&request.domain).ok();
    if domain.is_none() {
        faults.field("domain");
    }
    let Some(task) = &request.task_definition else {
        faults.field("task_definition");
        return None;
    };
    let definition = read_definition(task, faults);
    let url = &task.completion_callback_url;
    Some(Spec {
        task_guid: task_guid?,
        domain: domain?,
        annotation: task.annotation.clone(),
        completion_callback_url: some(url).map(PlainText),
        definition: definition?,
    })
}

fn read_definition(
    task: &proto::TaskDefinition,
    faults: &mut Faults,
) -> Option<Definition<PlainText>> {
    let rootfs = parts::read_rootfs(&task.root_fs, faults);
    let action = match &task.action {
        Some(it) => faults.within("action", |faults| action::read(it, faults)),
        None => {
            faults.text("invalid action type");
            None
        }
    };
    let memory_mb = parts::read_mebibytes("memory_mb", task.memory_mb, faults);
    let disk_mb = parts::read_mebibytes("disk_mb", task.disk_mb, faults);
    let limit = task.log_rate_limit.as_ref();
    let log_rate_limit = parts::read_log_rate_limit("log_rate_limit", limit, faults);
    faults.not_negative("max_pids", task.max_pids);
    if task.annotation.len() > ANNOTATION_BYTES_MAX {
        faults.field("annotation");
    }
    let env = parts::read_environment(&task.environment_variables, faults);
    let egress_rules = parts::read_rules(&task.egress_rules, faults);
    parts::check_image_credentials(&task.image_username, &task.image_password, faults);
    let cached_dependencies = parts::read_dependencies(&task.cached_dependencies, faults);
    #[expect(deprecated, reason = "exclusive layers still need it")]
    let legacy_download_user = &task.legacy_download_user;
    let image_layers = parts::read_layers(&task.image_layers, legacy_download_user, faults);
    let volume_mounts = parts::read_mounts(&task.volume_mounts, faults);
    let metric_tags = parts::read_tags(&task.metric_tags, &task.metrics_guid, faults);
    Some(Definition {
        rootfs: rootfs?,
        env,
        setup: None,
        action: action?,
        check: None,
        monitor: None,
        start_timeout_ms: Milliseconds(0),
        graceful_stop_ms: None,
        memory_mb,
        disk_mb,
        max_pids: u32::try_from(task.max_pids).ok()?,
        cpu_weight: cpu_weight(task.cpu_weight),
        ports: Vec::new(),
        log_source: log_source(&task.log_source),
        placement_tags: task.placement_tags.clone(),
        volume_drivers: Vec::new(),
        update_strategy: UpdateStrategy::default(),
        sidecars: Vec::new(),
        cached_dependencies,
        image_layers,
        legacy_download_user: some(legacy_download_user),
        image_username: some(&task.image_username),
        image_password: some(&task.image_password).map(PlainText),
        privileged: task.privileged,
        egress_rules,
        network: task.network.as_ref().map(|it| it.properties.clone()).unwrap_or_default(),
        volume_mounts,
        volume_mounted_files: parts::read_files(&task.volume_mounted_files),
        trusted_system_certificates_path: some(&task.trusted_system_certificates_path),
        certificate_properties: parts::read_certificate(task.certificate_properties.as_ref()),
        log_rate_limit,
        log_guid: task.log_guid.clone(),
        metrics_guid: task.metrics_guid.clone(),
        metric_tags,
        result_file: some(&task.result_file),
    })
}

/// What a task runs, with its secrets in clear, as Diego shows it. Secrets that were forgotten, or
/// whose keys are not here, are shown empty.
pub(in crate::bbs) async fn write(
    control_plane: &ControlPlane,
    task: &Task,
) -> proto::TaskDefinition {
    let owner = Owner::Task(task.task_guid.clone());
    let definition = super::open(control_plane, &owner, &task.definition).await;
    let url = task.callback.as_ref().map(|callback| &callback.url);
    let url = super::open_one(control_plane, &owner, url).await;
    #[expect(deprecated, reason = "what older clients say is told as it was said")]
    proto::TaskDefinition {
        root_fs: definition.rootfs.to_string(),
        environment_variables: parts::write_environment(&definition.env),
        action: Some(action::write(&definition.action)),
        disk_mb: parts::write_mebibytes(definition.disk_mb),
        memory_mb: parts::write_mebibytes(definition.memory_mb),
        cpu_weight: definition.cpu_weight,
        privileged: definition.privileged,
        log_source: definition.log_source.clone(),
        log_guid: definition.log_guid.clone(),
        metrics_guid: definition.metrics_guid.clone(),
        result_file: or_empty(definition.result_file.as_ref()),
        completion_callback_url: url.map(|it| it.0).unwrap_or_default(),
        annotation: task.annotation.clone(),
        egress_rules: parts::write_rules(&definition.egress_rules),
        cached_dependencies: parts::write_dependencies(&definition.cached_dependencies),
        legacy_download_user: or_empty(definition.legacy_download_user.as_ref()),
        trusted_system_certificates_path: or_empty(
            definition.trusted_system_certificates_path.as_ref(),
        ),
        volume_mounts: parts::write_mounts(&definition.volume_mounts),
        network: parts::write_network(&definition.network),
        placement_tags: definition.placement_tags.clone(),
        max_pids: at_most(definition.max_pids),
        certificate_properties: parts::write_certificate(
            definition.certificate_properties.as_ref(),
        ),
        image_username: or_empty(definition.image_username.as_ref()),
        image_password: definition.image_password.map(|it| it.0).unwrap_or_default(),
        image_layers: parts::write_layers(&definition.image_layers),
        log_rate_limit: parts::write_log_rate_limit(definition.log_rate_limit),
        metric_tags: parts::write_tags(&definition.metric_tags),
        volume_mounted_files: parts::write_files(&definition.volume_mounted_files),
    }
}
