//! The parts of a definition beside its actions, as clients see them.

use async_graphql::SimpleObject;
use domain::bbs::definition;

use super::action::{Action, Checksum, SealedText};
use crate::graphql::kinds::{LayerType, MediaType, Protocol, VolumeMode};

/// A process beside the action: its end ends the instance.
#[derive(SimpleObject)]
pub(super) struct Sidecar {
    /// What it runs.
    action: Action,
    /// The part of the container's disk that it is meant to have, in mebibytes.
    disk_mb: u32,
    /// The part of the container's memory that it is meant to have, in mebibytes.
    memory_mb: u32,
}

/// An archive that a cell unpacks once, and mounts read-only in every container that names it.
#[derive(SimpleObject)]
pub(super) struct CachedDependency {
    /// What it is called in the log.
    name: String,
    /// Its URL, which is never shown.
    from: SealedText,
    /// The folder inside the container.
    to: String,
    /// By what the cell knows it again.
    cache_key: String,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// What it must be.
    checksum: Option<Checksum>,
}

/// An archive that is a layer of a container's files.
#[derive(SimpleObject)]
pub(super) struct ImageLayer {
    /// What it is called in the log.
    name: String,
    /// Its URL, which is never shown.
    url: SealedText,
    /// The folder inside the container.
    destination_path: String,
    /// Whether others have it too.
    layer_type: LayerType,
    /// What kind of archive it is.
    media_type: MediaType,
    /// What it must be.
    digest: Option<Checksum>,
}

/// What a container may call.
#[derive(SimpleObject)]
pub(super) struct SecurityGroupRule {
    /// Of which protocol.
    protocol: Protocol,
    /// Addresses, ranges of them or networks.
    destinations: Vec<String>,
    /// Single ports.
    ports: Vec<u16>,
    /// A range of ports.
    port_range: Option<PortRange>,
    /// What of icmp.
    icmp_info: Option<IcmpInfo>,
    /// Whether its use is told in the machine's log.
    log: bool,
    /// Notes of the client's.
    annotations: Vec<String>,
}

/// Ports from one to another, both among them.
#[derive(SimpleObject)]
pub(super) struct PortRange {
    /// The first.
    start: u16,
    /// The last.
    end: u16,
}

/// What of ICMP; -1 is all.
#[derive(SimpleObject)]
pub(super) struct IcmpInfo {
    /// The type of the message, or -1.
    r#type: i32,
    /// Its code, or -1.
    code: i32,
}

/// One thing that the platform's network is told.
#[derive(SimpleObject)]
pub(super) struct NetworkProperty {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

/// A volume of a driver of the cell's.
#[derive(SimpleObject)]
pub(super) struct VolumeMount {
    /// Which driver mounts it.
    driver: String,
    /// Where it is seen inside the container.
    container_dir: String,
    /// What may be done with it.
    mode: VolumeMode,
    /// A volume that others may have too.
    shared: Option<SharedDevice>,
    /// A volume that only one container has.
    dedicated: Option<DedicatedDevice>,
}

/// A volume that others may have too.
#[derive(SimpleObject)]
pub(super) struct SharedDevice {
    /// Which.
    volume_id: String,
    /// What its driver is told, which is never shown.
    mount_config: SealedText,
}

/// A volume that only one container has.
#[derive(SimpleObject)]
pub(super) struct DedicatedDevice {
    /// Who mounts it.
    mounter_id: String,
    /// What its driver is told, which is never shown.
    mount_config: SealedText,
    /// What its device is told, which is never shown.
    device_config: SealedText,
}

impl From<&definition::Sidecar> for Sidecar {
    fn from(sidecar: &definition::Sidecar) -> Self {
        let action = Action::from(&sidecar.action);
        Self { action, disk_mb: sidecar.disk_mb.0, memory_mb: sidecar.memory_mb.0 }
    }
}

impl From<&definition::CachedDependency> for CachedDependency {
    fn from(dependency: &definition::CachedDependency) -> Self {
        Self {
            name: dependency.name.clone(),
            from: SealedText::from(&dependency.from),
            to: dependency.to.clone(),
            cache_key: dependency.cache_key.clone(),
            log_source: dependency.log_source.clone(),
            checksum: dependency.checksum.as_ref().map(Checksum::from),
        }
    }
}

impl From<&definition::ImageLayer> for ImageLayer {
    fn from(layer: &definition::ImageLayer) -> Self {
        Self {
            name: layer.name.clone(),
            url: SealedText::from(&layer.url),
            destination_path: layer.destination_path.clone(),
            layer_type: layer.layer_type.into(),
            media_type: layer.media_type.into(),
            digest: layer.digest.as_ref().map(Checksum::from),
        }
    }
}

impl From<&definition::SecurityGroupRule> for SecurityGroupRule {
    fn from(rule: &definition::SecurityGroupRule) -> Self {
        Self {
            protocol: rule.protocol.into(),
            destinations: rule.destinations.clone(),
            ports: rule.ports.clone(),
            port_range: rule.port_range.map(|it| PortRange { start: it.start, end: it.end }),
            icmp_info: rule.icmp_info.map(|it| IcmpInfo { r#type: it.kind, code: it.code }),
            log: rule.log,
            annotations: rule.annotations.clone(),
        }
    }
}

impl From<(&String, &String)> for NetworkProperty {
    fn from((name, value): (&String, &String)) -> Self {
        Self { name: name.clone(), value: value.clone() }
    }
}

impl From<&definition::VolumeMount> for VolumeMount {
    fn from(mount: &definition::VolumeMount) -> Self {
        let shared = mount.shared.as_ref().map(|shared| SharedDevice {
            volume_id: shared.volume_id.clone(),
            mount_config: SealedText::from(&shared.mount_config),
        });
        let dedicated = mount.dedicated.as_ref().map(|dedicated| DedicatedDevice {
            mounter_id: dedicated.mounter_id.clone(),
            mount_config: SealedText::from(&dedicated.mount_config),
            device_config: SealedText::from(&dedicated.device_config),
        });
        Self {
            driver: mount.driver.clone(),
            container_dir: mount.container_dir.clone(),
            mode: mount.mode.into(),
            shared,
            dedicated,
        }
    }
}
