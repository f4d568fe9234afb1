//! The parts of a definition beside its actions, as clients write them.

use async_graphql::InputObject;
use domain::{
    bbs::definition::{
        CachedDependency, DedicatedDevice, IcmpInfo, ImageLayer, PortRange, SecurityGroupRule,
        SharedDevice, Sidecar, VolumeMount,
    },
    sealed::PlainText,
    units::Mebibytes,
};

use super::{
    Faults,
    action::{ActionInput, ChecksumInput},
};
use crate::graphql::kinds::{LayerType, MediaType, Protocol, VolumeMode};

/// A process beside the action: its end ends the instance.
#[derive(InputObject)]
pub(super) struct SidecarInput {
    /// What it runs.
    action: ActionInput,
    /// The part of the container's disk that it is meant to have, in mebibytes.
    #[graphql(default)]
    disk_mb: i64,
    /// The part of the container's memory that it is meant to have, in mebibytes.
    #[graphql(default)]
    memory_mb: i64,
}

/// An archive that a cell unpacks once, and mounts read-only in every container that names it.
#[derive(InputObject)]
pub(super) struct CachedDependencyInput {
    /// What it is called in the log; empty: nothing is told of it.
    #[graphql(default)]
    name: String,
    /// Its URL: http or https. It is sealed, and never shown again.
    #[graphql(secret)]
    from: String,
    /// The folder inside the container: absolute.
    to: String,
    /// By what the cell knows it again.
    cache_key: String,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// What it must be.
    checksum: Option<ChecksumInput>,
}

/// An archive that is a layer of a container's files.
#[derive(InputObject)]
pub(super) struct ImageLayerInput {
    /// What it is called in the log; empty: nothing is told of it.
    #[graphql(default)]
    name: String,
    /// Its URL: http or https. It is sealed, and never shown again.
    #[graphql(secret)]
    url: String,
    /// The folder inside the container.
    destination_path: String,
    /// Whether others have it too.
    layer_type: LayerType,
    /// What kind of archive it is.
    media_type: MediaType,
    /// What it must be; an exclusive layer must say so.
    digest: Option<ChecksumInput>,
}

/// What a container may call.
#[derive(InputObject)]
pub(super) struct SecurityGroupRuleInput {
    /// Of which protocol.
    protocol: Protocol,
    /// Addresses, ranges of them (`1.2.3.4-1.2.3.9`) or networks (`1.2.3.0/24`).
    destinations: Vec<String>,
    /// Single ports. Of tcp and udp alone, which need these or a range.
    #[graphql(default)]
    ports: Vec<i64>,
    /// A range of ports.
    port_range: Option<PortRangeInput>,
    /// What of icmp, which needs it.
    icmp_info: Option<IcmpInfoInput>,
    /// Whether its use is told in the machine's log.
    #[graphql(default)]
    log: bool,
    /// Notes of the client's.
    #[graphql(default)]
    annotations: Vec<String>,
}

/// Ports from one to another, both among them.
#[derive(InputObject)]
pub(super) struct PortRangeInput {
    /// The first.
    start: i64,
    /// The last.
    end: i64,
}

/// What of ICMP; -1 is all.
#[derive(InputObject)]
pub(super) struct IcmpInfoInput {
    /// The type of the message, or -1.
    r#type: i32,
    /// Its code, or -1.
    code: i32,
}

/// One thing that the platform's network is told.
#[derive(InputObject)]
pub(super) struct NetworkPropertyInput {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

/// A volume of a driver of the cell's: one of `shared` and `dedicated` must be given.
#[derive(InputObject)]
pub(super) struct VolumeMountInput {
    /// Which driver mounts it: a cell must have it.
    driver: String,
    /// Where it is seen inside the container.
    container_dir: String,
    /// What may be done with it.
    #[graphql(default)]
    mode: VolumeMode,
    /// A volume that others may have too.
    shared: Option<SharedDeviceInput>,
    /// A volume that only one container has.
    dedicated: Option<DedicatedDeviceInput>,
}

/// A volume that others may have too.
#[derive(InputObject)]
pub(super) struct SharedDeviceInput {
    /// Which.
    volume_id: String,
    /// What its driver is told, as JSON. It is sealed, and never shown again.
    #[graphql(secret)]
    mount_config: String,
}

/// A volume that only one container has.
#[derive(InputObject)]
pub(super) struct DedicatedDeviceInput {
    /// Who mounts it.
    mounter_id: String,
    /// What its driver is told, as JSON. It is sealed, and never shown again.
    #[graphql(secret)]
    mount_config: String,
    /// What its device is told, as JSON. It is sealed, and never shown again.
    #[graphql(secret)]
    device_config: String,
}

impl SidecarInput {
    /// The same as the domain's; `None` when a fault was noted.
    pub(super) fn read(self, path: &str, faults: &mut Faults) -> Option<Sidecar<PlainText>> {
        let action = self.action.read(&format!("{path}.action"), faults);
        let disk_mb = faults.number(&format!("{path}.diskMb"), self.disk_mb);
        let memory_mb = faults.number(&format!("{path}.memoryMb"), self.memory_mb);
        Some(Sidecar {
            action: action?,
            disk_mb: Mebibytes(disk_mb?),
            memory_mb: Mebibytes(memory_mb?),
        })
    }
}

impl CachedDependencyInput {
    /// The same as the domain's; `None` when a fault was noted.
    pub(super) fn read(
        self,
        path: &str,
        faults: &mut Faults,
    ) -> Option<CachedDependency<PlainText>> {
        let path = format!("{path}.checksum");
        let checksum = faults.optional(&path, self.checksum, ChecksumInput::read);
        Some(CachedDependency {
            name: self.name,
            from: PlainText(self.from),
            to: self.to,
            cache_key: self.cache_key,
            log_source: self.log_source,
            checksum: checksum?,
        })
    }
}

impl ImageLayerInput {
    /// The same as the domain's; `None` when a fault was noted.
    pub(super) fn read(self, path: &str, faults: &mut Faults) -> Option<ImageLayer<PlainText>> {
        let path = format!("{path}.digest");
        let digest = faults.optional(&path, self.digest, ChecksumInput::read);
        Some(ImageLayer {
            name: self.name,
            url: PlainText(self.url),
            destination_path: self.destination_path,
            layer_type: self.layer_type.into(),
            media_type: self.media_type.into(),
            digest: digest?,
        })
    }
}

impl SecurityGroupRuleInput {
    /// The same as the domain's; `None` when a fault was noted.
    pub(super) fn read(self, path: &str, faults: &mut Faults) -> Option<SecurityGroupRule> {
        let ports = faults.each(&format!("{path}.ports"), self.ports, |port, path, faults| {
            faults.number(path, port)
        });
        let range = format!("{path}.portRange");
        let port_range = faults.optional(&range, self.port_range, |range, path, faults| {
            let start = faults.number(&format!("{path}.start"), range.start);
            let end = faults.number(&format!("{path}.end"), range.end);
            Some(PortRange { start: start?, end: end? })
        });
        let icmp_info = self.icmp_info.map(|icmp| IcmpInfo { kind: icmp.r#type, code: icmp.code });
        Some(SecurityGroupRule {
            protocol: self.protocol.into(),
            destinations: self.destinations,
            ports: ports?,
            port_range: port_range?,
            icmp_info,
            log: self.log,
            annotations: self.annotations,
        })
    }
}

impl NetworkPropertyInput {
    /// Name and value.
    pub(super) fn pair(self) -> (String, String) {
        (self.name, self.value)
    }
}

impl VolumeMountInput {
    /// The same as the domain's.
    pub(super) fn read(self) -> VolumeMount<PlainText> {
        let shared = self.shared.map(|shared| SharedDevice {
            volume_id: shared.volume_id,
            mount_config: PlainText(shared.mount_config),
        });
        let dedicated = self.dedicated.map(|dedicated| DedicatedDevice {
            mounter_id: dedicated.mounter_id,
            mount_config: PlainText(dedicated.mount_config),
            device_config: PlainText(dedicated.device_config),
        });
        VolumeMount {
            driver: self.driver,
            container_dir: self.container_dir,
            mode: self.mode.into(),
            shared,
            dedicated,
        }
    }
}
