//! Volumes that are mounted in a container.

use serde::{Deserialize, Serialize};

use crate::sealed::Sealed;

/// A volume of a driver of the cell's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount<V = Sealed> {
    /// Which driver mounts it: a cell must have it.
    pub driver: String,
    /// Where it is seen inside the container.
    pub container_dir: String,
    /// What may be done with it.
    #[serde(default)]
    pub mode: VolumeMode,
    /// A volume that others may have too.
    #[serde(default = "none")]
    pub shared: Option<SharedDevice<V>>,
    /// A volume that only one container has.
    #[serde(default = "none")]
    pub dedicated: Option<DedicatedDevice<V>>,
}

/// What may be done with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum VolumeMode {
    /// It may be read.
    #[default]
    #[serde(rename = "r")]
    Read,
    /// It may be read and written.
    #[serde(rename = "rw")]
    ReadWrite,
}

/// A volume that others may have too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedDevice<V = Sealed> {
    /// Which.
    pub volume_id: String,
    /// What its driver is told, as JSON. Treated as secret: it may hold credentials.
    pub mount_config: V,
}

/// A volume that only one container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DedicatedDevice<V = Sealed> {
    /// Who mounts it.
    pub mounter_id: String,
    /// What its driver is told, as JSON. Treated as secret: it may hold credentials.
    pub mount_config: V,
    /// What its device is told, as JSON. Treated as secret: it may hold credentials.
    pub device_config: V,
}

fn none<T>() -> Option<T> {
    None
}
