//! A definition in which everything is said that can be said: what must survive every way to write
//! one down.

use super::build::{plain_definition, sealed};
use crate::{
    action::{
        Action, Checksum, ChecksumAlgorithm, Codependent, Download, EmitProgress,
        EnvironmentVariable, File, Parallel, Run, Serial, Timeout, Try, Upload,
    },
    bbs::definition::{
        CachedDependency, CertificateProperties, DedicatedDevice, Definition, IcmpInfo, ImageLayer,
        LayerType, LogRateLimit, MediaType, PortRange, Protocol, SecurityGroupRule, SharedDevice,
        Sidecar, VolumeMode, VolumeMount,
    },
    check::{Check, CheckDefinition, HttpCheck, TcpCheck},
    sealed::PlainText,
    units::{Mebibytes, Milliseconds},
};

/// [`plain_rich_definition`] with its secrets sealed.
#[must_use]
pub fn rich_definition() -> Definition {
    let sealing = plain_rich_definition().try_map(&mut |_: &PlainText| Ok::<_, ()>(sealed()));
    sealing.unwrap_or_else(|()| unreachable!("the mapping never fails"))
}

/// A definition with every kind of action and check in it, and every field filled.
#[must_use]
pub fn plain_rich_definition() -> Definition<PlainText> {
    let plain = plain_definition();
    Definition {
        setup: Some(Action::Serial(Serial {
            actions: vec![timed(plain.action.clone()), Action::Run(rich_run()), staging()],
            log_source: Some("SETUP".to_owned()),
        })),
        check: Some(checks()),
        monitor: Some(Box::new(timed(Action::Run(Run::new("/bin/healthy", "vcap"))))),
        graceful_stop_ms: Some(Milliseconds(30_000)),
        placement_tags: vec!["iso".to_owned()],
        volume_drivers: vec!["nfs".to_owned()],
        sidecars: vec![Sidecar {
            action: Action::Codependent(Codependent {
                actions: vec![Action::Run(Run::new("/bin/diario", "vcap"))],
                log_source: Some("APP/PROC/WEB/SIDECAR/PROXY".to_owned()),
            }),
            disk_mb: Mebibytes(16),
            memory_mb: Mebibytes(32),
        }],
        cached_dependencies: vec![dependency()],
        image_layers: vec![layer()],
        legacy_download_user: Some("vcap".to_owned()),
        image_username: Some("ann".to_owned()),
        image_password: Some(secret("s3cret password")),
        privileged: true,
        egress_rules: rules(),
        network: [("app_id".to_owned(), "1".to_owned())].into(),
        volume_mounts: volumes(),
        volume_mounted_files: vec![File {
            path: "a/b".to_owned(),
            content: secret("s3cret content"),
        }],
        trusted_system_certificates_path: Some("/etc/cf-system-certificates".to_owned()),
        certificate_properties: Some(CertificateProperties {
            organizational_unit: vec!["app:1".to_owned()],
        }),
        log_rate_limit: Some(LogRateLimit { bytes_per_second: -1 }),
        log_guid: "log".to_owned(),
        metrics_guid: "metrics".to_owned(),
        ..plain
    }
}

fn secret(text: &str) -> PlainText {
    PlainText(text.to_owned())
}

fn timed(action: Action<PlainText>) -> Action<PlainText> {
    let timeout_ms = Milliseconds(5000);
    Action::Timeout(Timeout { action: Box::new(action), timeout_ms, log_source: None })
}

fn rich_run() -> Run<PlainText> {
    let token = EnvironmentVariable { name: "TOKEN".to_owned(), value: secret("s3cret token") };
    Run {
        args: vec!["sample-app".to_owned()],
        dir: Some("/home/vcap".to_owned()),
        env: vec![token],
        log_source: Some("SETUP".to_owned()),
        nofile: Some(16_384),
        nproc: Some(100),
        suppress_log_output: true,
        volume_mounted_files: vec![File {
            path: "c".to_owned(),
            content: secret("s3cret content"),
        }],
        ..Run::new("/bin/diario", "vcap")
    }
}

/// As Cloud Controller builds a recipe that stages.
fn staging() -> Action<PlainText> {
    let download = Download {
        artifact: "app package".to_owned(),
        from: secret("https://ann:pw@blobs.example.com/app.zip"),
        to: "/tmp/app".to_owned(),
        cache_key: "app".to_owned(),
        log_source: Some("STG".to_owned()),
        user: "vcap".to_owned(),
        checksum: checksum(ChecksumAlgorithm::Sha1),
    };
    let cache = Download { checksum: None, ..download.clone() };
    let attempt = Try { action: Box::new(Action::Download(cache)), log_source: None };
    let upload = Upload {
        artifact: "droplet".to_owned(),
        from: "/tmp/droplet".to_owned(),
        to: secret("https://ann:pw@uploader.example.com/droplet"),
        log_source: Some("STG".to_owned()),
        user: "vcap".to_owned(),
    };
    let downloads = Parallel {
        actions: vec![Action::Download(download), Action::Try(attempt)],
        log_source: None,
    };
    let uploads = Parallel { actions: vec![Action::Upload(upload)], log_source: None };
    let told = EmitProgress {
        action: Box::new(Action::Parallel(uploads)),
        start_message: "Uploading".to_owned(),
        success_message: "Uploading complete".to_owned(),
        failure_message_prefix: "Uploading failed".to_owned(),
        log_source: Some("STG".to_owned()),
    };
    let actions = vec![Action::Parallel(downloads), Action::EmitProgress(told)];
    Action::Serial(Serial { actions, log_source: None })
}

fn checksum(algorithm: ChecksumAlgorithm) -> Option<Checksum> {
    Checksum::new(algorithm, &"ab".repeat(algorithm.digits() / 2)).ok()
}

fn checks() -> CheckDefinition {
    let (timeout_ms, interval_ms) = (Milliseconds(1000), Milliseconds(30_000));
    let (unhealthy_interval_ms, failure_threshold) = (Milliseconds(500), 3);
    let path = "/health".to_owned();
    let tcp =
        TcpCheck { port: 8080, timeout_ms, interval_ms, unhealthy_interval_ms, failure_threshold };
    let http = HttpCheck {
        port: 8080,
        path,
        timeout_ms,
        interval_ms,
        unhealthy_interval_ms,
        failure_threshold,
    };
    CheckDefinition {
        checks: vec![Check::Tcp(tcp.clone()), Check::Http(http)],
        readiness_checks: vec![Check::Tcp(tcp)],
        log_source: Some("HEALTH".to_owned()),
    }
}

fn dependency() -> CachedDependency<PlainText> {
    CachedDependency {
        name: "lifecycle".to_owned(),
        from: secret("https://files.example.com/lifecycle.tgz"),
        to: "/tmp/lifecycle".to_owned(),
        cache_key: "lifecycle".to_owned(),
        log_source: Some("CELL".to_owned()),
        checksum: checksum(ChecksumAlgorithm::Sha256),
    }
}

fn layer() -> ImageLayer<PlainText> {
    ImageLayer {
        name: "droplet".to_owned(),
        url: secret("https://files.example.com/droplet.tgz"),
        destination_path: "/home/vcap".to_owned(),
        layer_type: LayerType::Exclusive,
        media_type: MediaType::Tgz,
        digest: checksum(ChecksumAlgorithm::Sha256),
    }
}

fn rules() -> Vec<SecurityGroupRule> {
    let any = SecurityGroupRule {
        protocol: Protocol::All,
        destinations: vec!["0.0.0.0/0".to_owned()],
        ports: Vec::new(),
        port_range: None,
        icmp_info: None,
        log: true,
        annotations: vec!["all".to_owned()],
    };
    let tcp = SecurityGroupRule {
        protocol: Protocol::Tcp,
        port_range: Some(PortRange { start: 80, end: 90 }),
        ..any.clone()
    };
    let udp = SecurityGroupRule { protocol: Protocol::Udp, ports: vec![53], ..any.clone() };
    let icmp_info = Some(IcmpInfo { kind: 8, code: -1 });
    let icmp = SecurityGroupRule { protocol: Protocol::Icmp, icmp_info, ..any.clone() };
    vec![any, tcp, udp, icmp]
}

fn volumes() -> Vec<VolumeMount<PlainText>> {
    let shared = VolumeMount {
        driver: "nfs".to_owned(),
        container_dir: "/var/data".to_owned(),
        mode: VolumeMode::ReadWrite,
        shared: Some(SharedDevice { volume_id: "v".to_owned(), mount_config: secret("{}") }),
        dedicated: None,
    };
    let dedicated = VolumeMount {
        mode: VolumeMode::Read,
        shared: None,
        dedicated: Some(DedicatedDevice {
            mounter_id: "m".to_owned(),
            mount_config: secret("{}"),
            device_config: secret("{}"),
        }),
        ..shared.clone()
    };
    vec![shared, dedicated]
}
