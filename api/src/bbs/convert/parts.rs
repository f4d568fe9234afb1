//! The parts of a definition that a wish and a task have in common.

use std::collections::BTreeMap;

use domain::{
    action::{Checksum, ChecksumAlgorithm, EnvironmentVariable, File},
    bbs::definition::{
        CachedDependency, CertificateProperties, DedicatedDevice, IcmpInfo, ImageLayer, LayerType,
        LogRateLimit, MediaType, PortRange, Protocol, Rootfs, SecurityGroupRule, SharedDevice,
        VolumeMode, VolumeMount,
    },
    labels::{DynamicValue, MetricTag, MetricTags},
    sealed::PlainText,
    units::Mebibytes,
};

use super::action::{or_empty, read_checksum, some, write_checksum};
use crate::bbs::{
    invalid::Faults,
    proto::{self, image_layer, metric_tag_value},
};

/// The tag that says what metrics belong to, beside Diego's older field for the same.
pub(super) const SOURCE_ID: &str = "source_id";

/// Diego asks for any scheme; we know three.
pub(super) fn read_rootfs(text: &str, faults: &mut Faults) -> Option<Rootfs> {
    let rootfs = Rootfs::new(text).ok();
    if rootfs.is_none() {
        faults.field("rootfs");
    }
    rootfs
}

pub(super) fn read_mebibytes(name: &str, number: i32, faults: &mut Faults) -> Mebibytes {
    faults.not_negative(name, number);
    Mebibytes(u32::try_from(number).unwrap_or_default())
}

pub(super) fn write_mebibytes(amount: Mebibytes) -> i32 {
    i32::try_from(amount.0).unwrap_or(i32::MAX)
}

pub(super) fn read_ports(ports: &[u32], faults: &mut Faults) -> Vec<u16> {
    let read: Option<Vec<u16>> = ports.iter().map(|port| u16::try_from(*port).ok()).collect();
    read.unwrap_or_else(|| {
        faults.field("ports");
        Vec::new()
    })
}

pub(super) fn read_environment(
    variables: &[proto::EnvironmentVariable],
    faults: &mut Faults,
) -> Vec<EnvironmentVariable<PlainText>> {
    if variables.iter().any(|variable| variable.name.is_empty()) {
        faults.text("invalid field: name cannot be blank");
    }
    let variable = |it: &proto::EnvironmentVariable| EnvironmentVariable {
        name: it.name.clone(),
        value: PlainText(it.value.clone()),
    };
    variables.iter().map(variable).collect()
}

pub(super) fn write_environment(
    variables: &[EnvironmentVariable<PlainText>],
) -> Vec<proto::EnvironmentVariable> {
    let variable = |it: &EnvironmentVariable<PlainText>| proto::EnvironmentVariable {
        name: it.name.clone(),
        value: it.value.0.clone(),
    };
    variables.iter().map(variable).collect()
}

pub(super) fn read_files(files: &[proto::File]) -> Vec<File<PlainText>> {
    let file =
        |it: &proto::File| File { path: it.path.clone(), content: PlainText(it.content.clone()) };
    files.iter().map(file).collect()
}

pub(super) fn write_files(files: &[File<PlainText>]) -> Vec<proto::File> {
    let file =
        |it: &File<PlainText>| proto::File { path: it.path.clone(), content: it.content.0.clone() };
    files.iter().map(file).collect()
}

pub(super) fn read_rules(
    rules: &[proto::SecurityGroupRule],
    faults: &mut Faults,
) -> Vec<SecurityGroupRule> {
    let mut read = Vec::with_capacity(rules.len());
    for rule in rules {
        read.extend(faults.within("egress_rules", |faults| read_rule(rule, faults)));
    }
    read
}

fn read_rule(rule: &proto::SecurityGroupRule, faults: &mut Faults) -> Option<SecurityGroupRule> {
    let protocol = match rule.protocol.as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "icmp" => Some(Protocol::Icmp),
        "icmpv6" => Some(Protocol::Icmpv6),
        "all" => Some(Protocol::All),
        _ => {
            faults.field("protocol");
            None
        }
    };
    let port = |name, port: u32, faults: &mut Faults| {
        let read = u16::try_from(port).ok();
        if read.is_none() {
            faults.field(name);
        }
        read.unwrap_or_default()
    };
    let port_range = rule.port_range.as_ref().map(|range| PortRange {
        start: port("port_range", range.start, faults),
        end: port("port_range", range.end, faults),
    });
    let icmp = rule.icmp_info.as_ref();
    Some(SecurityGroupRule {
        protocol: protocol?,
        destinations: rule.destinations.clone(),
        ports: read_ports(&rule.ports, faults),
        port_range,
        icmp_info: icmp.map(|info| IcmpInfo { kind: info.r#type, code: info.code }),
        log: rule.log,
        annotations: rule.annotations.clone(),
    })
}

pub(super) fn write_rules(rules: &[SecurityGroupRule]) -> Vec<proto::SecurityGroupRule> {
    let rule = |rule: &SecurityGroupRule| proto::SecurityGroupRule {
        protocol: match rule.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
            Protocol::Icmpv6 => "icmpv6",
            Protocol::All => "all",
        }
        .to_owned(),
        destinations: rule.destinations.clone(),
        ports: rule.ports.iter().map(|port| u32::from(*port)).collect(),
        port_range: rule
            .port_range
            .map(|range| proto::PortRange { start: range.start.into(), end: range.end.into() }),
        icmp_info: rule
            .icmp_info
            .map(|info| proto::IcmpInfo { r#type: info.kind, code: info.code }),
        log: rule.log,
        annotations: rule.annotations.clone(),
    };
    rules.iter().map(rule).collect()
}

pub(super) fn read_dependencies(
    dependencies: &[proto::CachedDependency],
    faults: &mut Faults,
) -> Vec<CachedDependency<PlainText>> {
    let mut read = |it: &proto::CachedDependency| {
        let is_named = [("to", &it.to), ("from", &it.from), ("cache_key", &it.cache_key)];
        let checksum = faults.within("cached_dependency", |faults| {
            for (name, text) in is_named {
                faults.not_empty(name, text);
            }
            read_checksum(&it.checksum_algorithm, &it.checksum_value, faults)
        });
        CachedDependency {
            name: it.name.clone(),
            from: PlainText(it.from.clone()),
            to: it.to.clone(),
            cache_key: it.cache_key.clone(),
            log_source: some(&it.log_source),
            checksum,
        }
    };
    dependencies.iter().map(&mut read).collect()
}

pub(super) fn write_dependencies(
    dependencies: &[CachedDependency<PlainText>],
) -> Vec<proto::CachedDependency> {
    let write = |it: &CachedDependency<PlainText>| {
        let (checksum_algorithm, checksum_value) = write_checksum(it.checksum.as_ref());
        proto::CachedDependency {
            name: it.name.clone(),
            from: it.from.0.clone(),
            to: it.to.clone(),
            cache_key: it.cache_key.clone(),
            log_source: or_empty(it.log_source.as_ref()),
            checksum_algorithm,
            checksum_value,
        }
    };
    dependencies.iter().map(write).collect()
}

pub(super) fn read_layers(
    layers: &[proto::ImageLayer],
    legacy_download_user: &str,
    faults: &mut Faults,
) -> Vec<ImageLayer<PlainText>> {
    let mut read = Vec::with_capacity(layers.len());
    let mut has_exclusive = false;
    for layer in layers {
        has_exclusive |= layer.layer_type() == image_layer::Type::Exclusive;
        read.extend(faults.within("image_layer", |faults| read_layer(layer, faults)));
    }
    if has_exclusive && legacy_download_user.is_empty() {
        faults.field("legacy_download_user");
    }
    read
}

fn read_layer(layer: &proto::ImageLayer, faults: &mut Faults) -> Option<ImageLayer<PlainText>> {
    faults.not_empty("url", &layer.url);
    faults.not_empty("destination_path", &layer.destination_path);
    let layer_type = match layer.layer_type() {
        image_layer::Type::Shared => Some(LayerType::Shared),
        image_layer::Type::Exclusive => Some(LayerType::Exclusive),
        image_layer::Type::LayerTypeInvalid => {
            faults.field("layer_type");
            None
        }
    };
    let media_type = match layer.media_type() {
        image_layer::MediaType::Tgz => Some(MediaType::Tgz),
        image_layer::MediaType::Tar => Some(MediaType::Tar),
        image_layer::MediaType::Zip => Some(MediaType::Zip),
        image_layer::MediaType::Invalid => {
            faults.field("media_type");
            None
        }
    };
    let digest = read_digest(layer, faults);
    Some(ImageLayer {
        name: layer.name.clone(),
        url: PlainText(layer.url.clone()),
        destination_path: layer.destination_path.clone(),
        layer_type: layer_type?,
        media_type: media_type?,
        digest,
    })
}

fn read_digest(layer: &proto::ImageLayer, faults: &mut Faults) -> Option<Checksum> {
    #[expect(deprecated, reason = "older clients name it")]
    let algorithm = match layer.digest_algorithm() {
        image_layer::DigestAlgorithm::Sha256 => Some(ChecksumAlgorithm::Sha256),
        image_layer::DigestAlgorithm::Sha512 => Some(ChecksumAlgorithm::Sha512),
        image_layer::DigestAlgorithm::Invalid => None,
    };
    let is_needed = layer.layer_type() == image_layer::Type::Exclusive;
    match (algorithm, layer.digest_value.as_str()) {
        (None, "") if !is_needed => None,
        (Some(algorithm), value) if !value.is_empty() => {
            let digest = Checksum::new(algorithm, value).ok();
            if digest.is_none() {
                faults.field("digest_value");
            }
            digest
        }
        (algorithm, value) => {
            if algorithm.is_none() {
                faults.field("digest_algorithm");
            }
            faults.not_empty("digest_value", value);
            None
        }
    }
}

pub(super) fn write_layers(layers: &[ImageLayer<PlainText>]) -> Vec<proto::ImageLayer> {
    let write = |it: &ImageLayer<PlainText>| {
        #[expect(deprecated, reason = "older clients name it")]
        let algorithm = match it.digest.as_ref().map(|digest| digest.algorithm) {
            Some(ChecksumAlgorithm::Sha256) => image_layer::DigestAlgorithm::Sha256,
            Some(ChecksumAlgorithm::Sha512) => image_layer::DigestAlgorithm::Sha512,
            Some(ChecksumAlgorithm::Md5 | ChecksumAlgorithm::Sha1) | None => {
                image_layer::DigestAlgorithm::Invalid
            }
        };
        let layer_type = match it.layer_type {
            LayerType::Shared => image_layer::Type::Shared,
            LayerType::Exclusive => image_layer::Type::Exclusive,
        };
        let media_type = match it.media_type {
            MediaType::Tgz => image_layer::MediaType::Tgz,
            MediaType::Tar => image_layer::MediaType::Tar,
            MediaType::Zip => image_layer::MediaType::Zip,
        };
        proto::ImageLayer {
            name: it.name.clone(),
            url: it.url.0.clone(),
            destination_path: it.destination_path.clone(),
            layer_type: layer_type.into(),
            media_type: media_type.into(),
            digest_algorithm: algorithm.into(),
            digest_value: it
                .digest
                .as_ref()
                .map(|digest| digest.value().to_owned())
                .unwrap_or_default(),
        }
    };
    layers.iter().map(write).collect()
}

pub(super) fn read_mounts(
    mounts: &[proto::VolumeMount],
    faults: &mut Faults,
) -> Vec<VolumeMount<PlainText>> {
    let mut read = |it: &proto::VolumeMount| {
        if it.driver.is_empty() {
            faults.text("invalid volume_mount driver");
        }
        let mode = match it.mode.as_str() {
            "r" => VolumeMode::Read,
            "rw" => VolumeMode::ReadWrite,
            _ => {
                faults.text("invalid volume_mount mode");
                VolumeMode::Read
            }
        };
        if it.shared.as_ref().is_some_and(|shared| shared.volume_id.is_empty()) {
            faults.text("invalid volume_mount volume id");
        }
        if it.dedicated.as_ref().is_some_and(|dedicated| dedicated.mounter_id.is_empty()) {
            faults.text("invalid volume_mount mounter id");
        }
        VolumeMount {
            driver: it.driver.clone(),
            container_dir: it.container_dir.clone(),
            mode,
            shared: it.shared.as_ref().map(|shared| SharedDevice {
                volume_id: shared.volume_id.clone(),
                mount_config: PlainText(shared.mount_config.clone()),
            }),
            dedicated: it.dedicated.as_ref().map(|dedicated| DedicatedDevice {
                mounter_id: dedicated.mounter_id.clone(),
                mount_config: PlainText(dedicated.mount_config.clone()),
                device_config: PlainText(dedicated.device_config.clone()),
            }),
        }
    };
    mounts.iter().map(&mut read).collect()
}

pub(super) fn write_mounts(mounts: &[VolumeMount<PlainText>]) -> Vec<proto::VolumeMount> {
    let write = |it: &VolumeMount<PlainText>| proto::VolumeMount {
        driver: it.driver.clone(),
        container_dir: it.container_dir.clone(),
        mode: match it.mode {
            VolumeMode::Read => "r",
            VolumeMode::ReadWrite => "rw",
        }
        .to_owned(),
        shared: it.shared.as_ref().map(|shared| proto::SharedDevice {
            volume_id: shared.volume_id.clone(),
            mount_config: shared.mount_config.0.clone(),
        }),
        dedicated: it.dedicated.as_ref().map(|dedicated| proto::DedicatedDevice {
            mounter_id: dedicated.mounter_id.clone(),
            mount_config: dedicated.mount_config.0.clone(),
            device_config: dedicated.device_config.0.clone(),
        }),
    };
    mounts.iter().map(write).collect()
}

/// The tags, and what metrics belong to where only the older field says so.
pub(in crate::bbs) fn read_tags(
    tags: &BTreeMap<String, proto::MetricTagValue>,
    metrics_guid: &str,
    faults: &mut Faults,
) -> MetricTags {
    faults.within("metric_tags", |faults| {
        let mut read = MetricTags::new();
        for (name, value) in tags {
            match read_tag(value) {
                Some(tag) => drop(read.insert(name.clone(), tag)),
                None => faults.field(if value.r#static.is_empty() { "static" } else { "dynamic" }),
            }
        }
        let source_id = tags.get(SOURCE_ID).map_or("", |value| value.r#static.as_str());
        let has_both = tags.contains_key(SOURCE_ID) && !metrics_guid.is_empty();
        if has_both && source_id != metrics_guid {
            faults.text("source_id should match metrics_guid");
        }
        read
    })
}

/// A tag says either its text, or whose value it takes.
fn read_tag(value: &proto::MetricTagValue) -> Option<MetricTag> {
    use metric_tag_value::DynamicValue as Shown;
    match (value.r#static.as_str(), Shown::try_from(value.dynamic).ok()?) {
        ("", Shown::Index) => Some(MetricTag::Dynamic(DynamicValue::Index)),
        ("", Shown::InstanceGuid) => Some(MetricTag::Dynamic(DynamicValue::InstanceGuid)),
        ("", Shown::Invalid) => None,
        (text, Shown::Invalid) => Some(MetricTag::Static(text.to_owned())),
        (_, Shown::Index | Shown::InstanceGuid) => None,
    }
}

pub(super) fn write_tags(tags: &MetricTags) -> BTreeMap<String, proto::MetricTagValue> {
    use metric_tag_value::DynamicValue as Shown;
    let value = |tag: &MetricTag| match tag {
        MetricTag::Static(text) => {
            proto::MetricTagValue { r#static: text.clone(), ..Default::default() }
        }
        MetricTag::Dynamic(dynamic) => {
            let dynamic = match dynamic {
                DynamicValue::Index => Shown::Index,
                DynamicValue::InstanceGuid => Shown::InstanceGuid,
            };
            proto::MetricTagValue { dynamic: dynamic.into(), ..Default::default() }
        }
    };
    tags.iter().map(|(name, tag)| (name.clone(), value(tag))).collect()
}

/// What metrics belong to, told in both places as Diego's answers do.
pub(super) fn fill_source_id(
    metrics_guid: &mut String,
    tags: &mut BTreeMap<String, proto::MetricTagValue>,
) {
    match tags.get(SOURCE_ID) {
        Some(value) if metrics_guid.is_empty() => metrics_guid.clone_from(&value.r#static),
        None if !metrics_guid.is_empty() => {
            let value =
                proto::MetricTagValue { r#static: metrics_guid.clone(), ..Default::default() };
            tags.insert(SOURCE_ID.to_owned(), value);
        }
        Some(_) | None => {}
    }
}

pub(super) fn read_log_rate_limit(
    name: &str,
    limit: Option<&proto::LogRateLimit>,
    faults: &mut Faults,
) -> Option<LogRateLimit> {
    let bytes_per_second = limit?.bytes_per_second;
    if bytes_per_second < -1 {
        faults.field(name);
    }
    Some(LogRateLimit { bytes_per_second })
}

pub(super) fn write_log_rate_limit(limit: Option<LogRateLimit>) -> Option<proto::LogRateLimit> {
    limit.map(|limit| proto::LogRateLimit { bytes_per_second: limit.bytes_per_second })
}

pub(super) fn check_image_credentials(username: &str, password: &str, faults: &mut Faults) {
    match (username.is_empty(), password.is_empty()) {
        (true, false) => faults.field("image_username"),
        (false, true) => faults.field("image_password"),
        (true, true) | (false, false) => {}
    }
}

pub(super) fn read_certificate(
    properties: Option<&proto::CertificateProperties>,
) -> Option<CertificateProperties> {
    properties
        .map(|it| CertificateProperties { organizational_unit: it.organizational_unit.clone() })
}

pub(super) fn write_certificate(
    properties: Option<&CertificateProperties>,
) -> Option<proto::CertificateProperties> {
    properties.map(|it| proto::CertificateProperties {
        organizational_unit: it.organizational_unit.clone(),
    })
}

pub(super) fn write_network(properties: &BTreeMap<String, String>) -> Option<proto::Network> {
    (!properties.is_empty()).then(|| proto::Network { properties: properties.clone() })
}
