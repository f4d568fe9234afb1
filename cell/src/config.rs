//! Every setting of a cell, with its unit and its default.
//!
//! Plain data: the command line fills it in. Nothing here reads the environment or the machine.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use domain::id::{CellId, Zone};
use domain::sealed::PlainText;
use domain::units::{Mebibytes, Milliseconds};

/// How many containers a cell holds at most, unless configured (Diego's default).
pub const CONTAINERS_MAX: u32 = 250;
/// What is left of the machine's memory for all that is not a container, unless configured.
pub const MEMORY_RESERVE: Mebibytes = Mebibytes(512);

/// Every setting of a cell.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cell's name, unique among the cells of a control plane.
    pub cell_id: CellId,
    /// Where the cell keeps all it must not forget. One agent at a time may use it.
    pub folder: PathBuf,
    /// Where and how the control plane is reached.
    pub control_plane: ControlPlaneConfig,
    /// The availability zone; `z1` by default.
    pub zone: Zone,
    /// The cell's address as the router sees it; 127.0.0.1 by default.
    pub address: IpAddr,
    /// What it offers.
    pub capacity: CapacityConfig,
    /// The names behind `preloaded:` that the garden knows; none by default.
    pub preloaded_rootfses: BTreeSet<String>,
    /// Tags that a definition must carry to be placed here; none by default.
    pub placement_tags: BTreeSet<String>,
    /// Tags that a definition may carry to be placed here; none by default.
    pub optional_placement_tags: BTreeSet<String>,
    /// How containers are run.
    pub containers: ContainerConfig,
    /// How many bytes of observations wait on disk for the control plane; 16 MiB by default.
    pub observation_spool_bytes_max: u64,
    /// How often the cell looks whether it can make containers; every 10 minutes by default, and
    /// never when absent.
    pub self_check_every: Option<Milliseconds>,
    /// What becomes of the containers when the agent is asked to end.
    pub on_shutdown: OnShutdown,
}

/// Where and how the control plane is reached.
#[derive(Clone)]
pub struct ControlPlaneConfig {
    /// The addresses of its nodes, such as `http://127.0.0.1:7400`: when one does not answer, the
    /// next is asked.
    pub urls: Vec<String>,
    /// The certificates to trust, in PEM; those of the machine when absent.
    pub ca_file: Option<PathBuf>,
    /// The cell's own token.
    pub token: PlainText,
    /// How long one request may take, the long poll excepted; 10 s by default.
    pub request_timeout: Milliseconds,
}

impl fmt::Debug for ControlPlaneConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("ControlPlaneConfig");
        shown.field("urls", &self.urls).field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

/// What a cell offers. What is absent is found out from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityConfig {
    /// Memory for containers; by default the machine's less [`Self::memory_reserve_mb`].
    pub memory_mb: Option<Mebibytes>,
    /// What is left for all else when the memory is found out; 512 MiB by default.
    pub memory_reserve_mb: Mebibytes,
    /// Disk for containers; by default the size of the disk that holds them.
    pub disk_mb: Option<Mebibytes>,
    /// Containers; 250 by default, and never more than the garden can hold.
    pub containers: u32,
}

impl Default for CapacityConfig {
    fn default() -> Self {
        Self {
            memory_mb: None,
            memory_reserve_mb: MEMORY_RESERVE,
            disk_mb: None,
            containers: CONTAINERS_MAX,
        }
    }
}

/// How containers are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerConfig {
    /// The static binary that probes inside containers; this very program by default.
    pub healthcheck_binary: Option<PathBuf>,
    /// From SIGTERM to SIGKILL where a definition does not say; 10 s by default.
    pub graceful_stop: Milliseconds,
    /// The most open files of a process that says nothing; 16,384 by default.
    pub nofile: u64,
    /// How many containers are made at a time; 16 by default.
    pub creates_max: usize,
    /// How many containers are destroyed at a time; 16 by default.
    pub destroys_max: usize,
    /// How long a start waits for room that is being freed; 10 s by default.
    pub room_wait: Milliseconds,
    /// The most lines a second that are taken of one container; all by default.
    pub log_lines_per_second: Option<u64>,
    /// What containers are given an identity with; none by default.
    pub instance_identity: Option<InstanceIdentityConfig>,
    /// How much of the disk downloads may take, those kept and those under way together; a tenth of
    /// the disk by default.
    pub downloads_mb: Option<Mebibytes>,
}

impl Default for ContainerConfig {
    fn default() -> Self {
        Self {
            healthcheck_binary: None,
            graceful_stop: Milliseconds::from_seconds(10),
            nofile: 16_384,
            creates_max: 16,
            destroys_max: 16,
            room_wait: Milliseconds::from_seconds(10),
            log_lines_per_second: None,
            instance_identity: None,
            downloads_mb: None,
        }
    }
}

/// The authority that issues a certificate to each container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceIdentityConfig {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM (PKCS #8).
    pub key: PlainText,
    /// How long what it issues holds: 24 h in Diego.
    pub validity: Milliseconds,
}

/// How a cell looks whether it can make containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SelfCheckConfig {
    /// How often.
    pub(crate) every: Milliseconds,
    /// How long one look may take.
    pub(crate) timeout: Milliseconds,
    /// The static binary that is run.
    pub(crate) binary: PathBuf,
}

/// What becomes of the containers when the agent is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShutdown {
    /// They run on, and the next agent takes them up.
    LeaveRunning,
    /// They are stopped gracefully and removed.
    DestroyAll,
}

impl Config {
    /// The defaults around what has none.
    ///
    /// # Panics
    /// Never: the built-in zone is a valid one.
    #[must_use]
    pub fn new(cell_id: CellId, folder: PathBuf, urls: Vec<String>, token: PlainText) -> Self {
        Self {
            cell_id,
            folder,
            control_plane: ControlPlaneConfig {
                urls,
                ca_file: None,
                token,
                request_timeout: Milliseconds::from_seconds(10),
            },
            zone: Zone::new("z1").expect("`z1` is made of letters and digits"),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            capacity: CapacityConfig::default(),
            preloaded_rootfses: BTreeSet::new(),
            placement_tags: BTreeSet::new(),
            optional_placement_tags: BTreeSet::new(),
            containers: ContainerConfig::default(),
            observation_spool_bytes_max: 16 << 20,
            self_check_every: Some(Milliseconds::from_seconds(600)),
            on_shutdown: OnShutdown::LeaveRunning,
        }
    }
}
