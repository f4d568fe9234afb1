//! One container's folder on disk: where everything of it lies, and its configuration.
//!
//! The agent and the shim both read it; after a restart it is all that an agent has. Never
//! holds an environment: those are secrets, and go from memory to memory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable_file::{self, Survives};
use crate::garden::{BindMount, Handle, Limits, ProcessId, RootfsName};

/// What a container is made from, as kept in `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerConfig {
    pub(crate) handle: Handle,
    pub(crate) rootfs: RootfsName,
    /// The folder that `rootfs` named when the container was made.
    pub(crate) rootfs_folder: PathBuf,
    pub(crate) hostname: String,
    pub(crate) limits: Limits,
    pub(crate) bind_mounts: Vec<BindMount>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) created_at_ns: u64,
    pub(crate) cgroup: CgroupFiles,
    pub(crate) network: NetworkLease,
}

/// What the shim needs of the container's cgroup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CgroupFiles {
    /// The cgroup's name below each controller's mount point.
    pub(crate) name: String,
    /// A process that writes `0` to each of these joins.
    pub(crate) join: Vec<PathBuf>,
    /// Its line `oom_kill N` counts the processes killed for want of memory.
    pub(crate) oom_events: PathBuf,
    /// The most memory ever used.
    pub(crate) memory_peak: PathBuf,
}

/// A container's place on the cell's network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NetworkLease {
    pub(crate) slot: u16,
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix_length: u8,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) bridge: String,
    /// The host's end of the veth pair.
    pub(crate) host_interface: String,
}

/// The folder of one container.
#[derive(Debug, Clone)]
pub(crate) struct Depot {
    folder: PathBuf,
}

impl Depot {
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Makes the folder and those in it; fails if it is there.
    pub(crate) fn create(&self) -> io::Result<()> {
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        private.create(&self.folder)?;
        for folder in [self.output(), self.exits(), self.work(), self.root(), self.etc()] {
            private.create(folder)?;
        }
        // The upper layer's mode is that of the container's `/`.
        fs::DirBuilder::new().mode(0o755).create(self.upper())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("config.json")
    }
    /// There once the container is whole; without it, a new agent removes what there is.
    pub(crate) fn created_marker(&self) -> PathBuf {
        self.folder.join("created")
    }
    pub(crate) fn shim_pid(&self) -> PathBuf {
        self.folder.join("shim.pid")
    }
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.folder.join("shim.log")
    }
    pub(crate) fn output(&self) -> PathBuf {
        self.folder.join("output")
    }
    pub(crate) fn exits(&self) -> PathBuf {
        self.folder.join("exits")
    }
    pub(crate) fn exit(&self, process: &ProcessId) -> PathBuf {
        self.exits().join(format!("{process}.json"))
    }
    pub(crate) fn upper(&self) -> PathBuf {
        self.folder.join("upper")
    }
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.join("work")
    }
    /// Where the overlay is mounted, in the container's own mount namespace only.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("rootfs")
    }
    /// The generated `hosts`, `hostname` and `resolv.conf`.
    pub(crate) fn etc(&self) -> PathBuf {
        self.folder.join("etc")
    }

    pub(crate) fn read_config(&self) -> io::Result<ContainerConfig> {
        serde_json::from_slice(&fs::read(self.config())?).map_err(io::Error::other)
    }

    pub(crate) fn write_config(&self, config: &ContainerConfig) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(config).map_err(io::Error::other)?;
        durable_file::write(&self.config(), &text, Survives::Agent)
    }
}

/// The name of the socket in a container's folder.
pub(crate) const SHIM_SOCKET: &str = "shim.sock";
