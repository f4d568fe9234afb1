//! A wish: Diego's message as ours, and ours as Diego's.

use domain::{
    bbs::{
        definition::{Definition, Sidecar, UpdateStrategy},
        desired_lrp::{ANNOTATION_BYTES_MAX, DesiredLrp, Spec},
    },
    id::{FreshnessDomainName, ProcessGuid},
    log::Owner,
    sealed::PlainText,
    units::Milliseconds,
};

use super::{
    action::{self, or_empty, some},
    check, parts, routes,
};
use crate::{
    bbs::{
        actual_lrps::rows::modification_tag,
        cells::at_most,
        error::Failure,
        invalid::Faults,
        proto::{self, desired_lrp::UpdateStrategy as Shown},
    },
    control_plane::ControlPlane,
};

/// Reads a wish.
pub(in crate::bbs) fn read(lrp: &proto::DesiredLrp) -> Result<Spec, Failure> {
    let mut faults = Faults::default();
    let spec = read_whole(lrp, &mut faults);
    faults.check()?;
    spec.ok_or_else(Failure::invalid_request)
}

fn read_whole(lrp: &proto::DesiredLrp, faults: &mut Faults) -> Option<Spec> {
    let domain = FreshnessDomainName::new(&lrp.domain).ok();
    if domain.is_none() {
        faults.field("domain");
    }
    let rootfs = parts::read_rootfs(&lrp.root_fs, faults);
    faults.not_negative("instances", lrp.instances);
    let memory_mb = parts::read_mebibytes("memory_mb", lrp.memory_mb, faults);
    let disk_mb = parts::read_mebibytes("disk_mb", lrp.disk_mb, faults);
    let name = "log_rate_limit_bytes_per_second";
    let log_rate_limit = parts::read_log_rate_limit(name, lrp.log_rate_limit.as_ref(), faults);
    if lrp.annotation.len() > ANNOTATION_BYTES_MAX {
        faults.field("annotation");
    }
    faults.not_negative("max_pids", lrp.max_pids);
    let routes = lrp.routes.as_ref().map(|it| routes::read(it, faults)).unwrap_or_default();
    if lrp.metric_tags.is_empty() && lrp.metrics_guid.is_empty() {
        // A map that is not there and one that is empty are the same on the wire.
        faults.field("metric_tags");
    }
    let metric_tags = parts::read_tags(&lrp.metric_tags, &lrp.metrics_guid, faults);
    let process_guid = ProcessGuid::new(&lrp.process_guid).ok();
    if process_guid.is_none() {
        faults.field("process_guid");
    }
    let setup = lrp.setup.as_ref();
    let setup = setup.and_then(|it| faults.within("setup", |faults| action::read(it, faults)));
    let action = match &lrp.action {
        Some(it) => faults.within("action", |faults| action::read(it, faults)),
        None => {
            faults.text("invalid action type");
            None
        }
    };
    let monitor = lrp.monitor.as_ref();
    let monitor =
        monitor.and_then(|it| faults.within("monitor", |faults| action::read(it, faults)));
    let env = parts::read_environment(&lrp.environment_variables, faults);
    let egress_rules = parts::read_rules(&lrp.egress_rules, faults);
    let cached_dependencies = parts::read_dependencies(&lrp.cached_dependencies, faults);
    #[expect(deprecated, reason = "exclusive layers still need it")]
    let legacy_download_user = &lrp.legacy_download_user;
    let image_layers = parts::read_layers(&lrp.image_layers, legacy_download_user, faults);
    let sidecars = read_sidecars(&lrp.sidecars, faults);
    let volume_mounts = parts::read_mounts(&lrp.volume_mounts, faults);
    parts::check_image_credentials(&lrp.image_username, &lrp.image_password, faults);
    let check = lrp.check_definition.as_ref();
    let check = check.map(|it| faults.within("check_definition", |faults| check::read(it, faults)));
    let ports = parts::read_ports(&lrp.ports, faults);
    Some(Spec {
        process_guid: process_guid?,
        domain: domain?,
        instances: u32::try_from(lrp.instances).ok()?,
        routes: routes.http,
        client_routes: routes.written,
        annotation: lrp.annotation.clone(),
        restart: None,
        internal_routes: routes.internal,
        metric_tags,
        definition: Definition {
            rootfs: rootfs?,
            env,
            setup,
            action: action?,
            check,
            monitor: monitor.map(Box::new),
            start_timeout_ms: start_timeout(lrp),
            graceful_stop_ms: None,
            memory_mb,
            disk_mb,
            max_pids: u32::try_from(lrp.max_pids).ok()?,
            cpu_weight: cpu_weight(lrp.cpu_weight),
            ports,
            log_source: log_source(&lrp.log_source),
            placement_tags: lrp.placement_tags.clone(),
            volume_drivers: Vec::new(),
            update_strategy: match lrp.update_strategy() {
                Shown::Rolling => UpdateStrategy::Rolling,
                Shown::Recreate => UpdateStrategy::Recreate,
            },
            sidecars,
            cached_dependencies,
            image_layers,
            legacy_download_user: some(legacy_download_user),
            image_username: some(&lrp.image_username),
            image_password: some(&lrp.image_password).map(PlainText),
            privileged: lrp.privileged,
            egress_rules,
            network: lrp.network.as_ref().map(|it| it.properties.clone()).unwrap_or_default(),
            volume_mounts,
            volume_mounted_files: parts::read_files(&lrp.volume_mounted_files),
            trusted_system_certificates_path: some(&lrp.trusted_system_certificates_path),
            certificate_properties: parts::read_certificate(lrp.certificate_properties.as_ref()),
            log_rate_limit,
            log_guid: lrp.log_guid.clone(),
            metrics_guid: lrp.metrics_guid.clone(),
            metric_tags: domain::labels::MetricTags::new(),
            result_file: None,
        },
    })
}

/// Diego's default share is that of nothing said.
pub(super) fn cpu_weight(given: u32) -> u32 {
    if given == 0 { 1 } else { given }
}

/// Lines of what says nothing of their source are the app's.
pub(super) fn log_source(given: &str) -> String {
    if given.is_empty() { "APP".to_owned() } else { given.to_owned() }
}

fn start_timeout(lrp: &proto::DesiredLrp) -> Milliseconds {
    #[expect(deprecated, reason = "older clients say it in seconds alone")]
    let seconds = lrp.deprecated_start_timeout_s;
    match u64::try_from(lrp.start_timeout_ms) {
        Ok(0) | Err(_) => Milliseconds::from_seconds(seconds.into()),
        Ok(milliseconds) => Milliseconds(milliseconds),
    }
}

fn read_sidecars(sidecars: &[proto::Sidecar], faults: &mut Faults) -> Vec<Sidecar<PlainText>> {
    let read = |it: &proto::Sidecar, faults: &mut Faults| {
        let action = match &it.action {
            Some(action) => action::read(action, faults),
            None => {
                faults.text("invalid action type");
                None
            }
        };
        let disk_mb = parts::read_mebibytes("disk_mb", it.disk_mb, faults);
        let memory_mb = parts::read_mebibytes("memory_mb", it.memory_mb, faults);
        Some(Sidecar { action: action?, disk_mb, memory_mb })
    };
    let mut all = Vec::with_capacity(sidecars.len());
    for sidecar in sidecars {
        all.extend(faults.within("sidecars", |faults| read(sidecar, faults)));
    }
    all
}

/// A wish with its secrets in clear, as Diego shows it. Secrets that were forgotten, or whose keys
/// are not here, are shown empty.
pub(in crate::bbs) async fn write(
    control_plane: &ControlPlane,
    lrp: &DesiredLrp,
) -> proto::DesiredLrp {
    let owner = Owner::Process(lrp.process_guid.clone());
    let definition = super::open(control_plane, &owner, &lrp.definition).await;
    let written = super::open_one(control_plane, &owner, lrp.client_routes.as_deref()).await;
    let routes = routes::write(written.as_ref(), &lrp.routes, &lrp.labels.internal_routes);
    let mut metric_tags = parts::write_tags(&lrp.labels.metric_tags);
    let mut metrics_guid = definition.metrics_guid.clone();
    parts::fill_source_id(&mut metrics_guid, &mut metric_tags);
    let shown = match definition.update_strategy {
        UpdateStrategy::Rolling => Shown::Rolling,
        UpdateStrategy::Recreate => Shown::Recreate,
    };
    let tag = modification_tag(control_plane.incarnation, lrp.last_position);
    #[expect(deprecated, reason = "what older clients say is told as it was said")]
    proto::DesiredLrp {
        process_guid: lrp.process_guid.to_string(),
        domain: lrp.domain.to_string(),
        root_fs: definition.rootfs.to_string(),
        instances: at_most(lrp.instances),
        environment_variables: parts::write_environment(&definition.env),
        setup: definition.setup.as_ref().map(action::write),
        action: Some(action::write(&definition.action)),
        deprecated_start_timeout_s: 0,
        monitor: definition.monitor.as_deref().map(action::write),
        disk_mb: parts::write_mebibytes(definition.disk_mb),
        memory_mb: parts::write_mebibytes(definition.memory_mb),
        cpu_weight: definition.cpu_weight,
        privileged: definition.privileged,
        ports: definition.ports.iter().map(|port| u32::from(*port)).collect(),
        routes: Some(routes),
        log_source: definition.log_source.clone(),
        log_guid: definition.log_guid.clone(),
        metrics_guid,
        annotation: lrp.annotation.to_string(),
        egress_rules: parts::write_rules(&definition.egress_rules),
        modification_tag: Some(tag),
        cached_dependencies: parts::write_dependencies(&definition.cached_dependencies),
        legacy_download_user: or_empty(definition.legacy_download_user.as_ref()),
        trusted_system_certificates_path: or_empty(
            definition.trusted_system_certificates_path.as_ref(),
        ),
        volume_mounts: parts::write_mounts(&definition.volume_mounts),
        network: parts::write_network(&definition.network),
        start_timeout_ms: i64::try_from(definition.start_timeout_ms.0).unwrap_or(i64::MAX),
        placement_tags: definition.placement_tags.clone(),
        max_pids: at_most(definition.max_pids),
        certificate_properties: parts::write_certificate(
            definition.certificate_properties.as_ref(),
        ),
        image_username: or_empty(definition.image_username.as_ref()),
        image_password: definition.image_password.map(|it| it.0).unwrap_or_default(),
        check_definition: definition.check.as_ref().map(check::write),
        image_layers: parts::write_layers(&definition.image_layers),
        metric_tags,
        sidecars: definition.sidecars.iter().map(write_sidecar).collect(),
        log_rate_limit: parts::write_log_rate_limit(definition.log_rate_limit),
        volume_mounted_files: parts::write_files(&definition.volume_mounted_files),
        update_strategy: shown.into(),
    }
}

fn write_sidecar(sidecar: &Sidecar<PlainText>) -> proto::Sidecar {
    proto::Sidecar {
        action: Some(action::write(&sidecar.action)),
        disk_mb: parts::write_mebibytes(sidecar.disk_mb),
        memory_mb: parts::write_mebibytes(sidecar.memory_mb),
    }
}
