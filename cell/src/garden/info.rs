//! What Garden tells about containers, processes and the machine.
//!
//! Plain data. Times are nanoseconds since the Unix epoch on this cell's clock.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Handle, Limits, OutputCursor, ProcessId, RootfsName};

/// One container, and all that an agent needs to take it up again after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its name on this cell.
    pub handle: Handle,
    /// What its root is made of.
    pub rootfs: RootfsName,
    /// Its address on the cell's bridge, reachable from the host.
    pub address: Ipv4Addr,
    /// Its cgroup, below each controller's mount point.
    pub cgroup: String,
    /// When it was asked for.
    pub created_at_ns: u64,
    /// What it may use.
    pub limits: Limits,
    /// The caller's own notes.
    pub properties: BTreeMap<String, String>,
    /// Whether processes can be run in it.
    pub state: ContainerState,
    /// Its processes, running and ended.
    pub processes: BTreeMap<ProcessId, ProcessState>,
    /// Where its output ends now.
    pub output_end: OutputCursor,
}

/// Whether processes can be run in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Its init runs.
    Running,
    /// Its init or its shim is gone (killed, or the machine was restarted): it can only be
    /// asked for what it left behind, and destroyed.
    Stopped,
}

/// Where a process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessState {
    /// It was exec'd and has not ended.
    Running {
        /// Its number on the host.
        pid: i32,
        /// When it was exec'd.
        started_at_ns: u64,
    },
    /// It ended.
    Ended(ExitRecord),
}

/// How a process ended; kept on disk until the container is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Its name.
    pub process: ProcessId,
    /// Exit status or signal.
    pub status: ExitStatus,
    /// Present when the kernel killed anything in the container for want of memory during this
    /// process's life, be it this process or another.
    pub out_of_memory: Option<OomReport>,
    /// When it was exec'd.
    pub started_at_ns: u64,
    /// When its end was seen.
    pub ended_at_ns: u64,
    /// All that it had written when it ended lies before this cursor.
    pub output_end: OutputCursor,
}

/// Exit status or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It ended by itself.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number on this machine.
        signal: i32,
    },
}

/// A death for want of memory, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomReport {
    /// The container's limit.
    pub limit_bytes: u64,
    /// The most that it ever used.
    pub peak_bytes: u64,
    /// Processes killed for it during this process's life.
    pub kills: u64,
}

/// What a container uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Memory in use, without the file cache that could be dropped at once.
    pub memory_bytes: u64,
    /// The most that it ever used, file cache included.
    pub memory_peak_bytes: u64,
    /// Processor time used since it was made.
    pub cpu_ns: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes that came in over its network; absent where the machine does not tell.
    pub received_bytes: Option<u64>,
    /// Bytes that went out over its network; absent where the machine does not tell.
    pub sent_bytes: Option<u64>,
}

/// What a container's cgroups count over its whole life, and what is still in it: for whoever
/// wants to know why it ended. What the machine does not tell is zero or left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// The most memory that it ever used, file cache included.
    pub memory_peak_bytes: u64,
    /// How often memory was asked for beyond the limit.
    pub memory_refused: u64,
    /// Processes killed for want of memory.
    pub memory_kills: u64,
    /// How often a process was not made because there were too many.
    pub pids_refused: u64,
    /// How long its processes were held back by a limit of processor time.
    pub cpu_throttled_ns: u64,
    /// The processes in it, its init too, at most [`PROCESSES_MAX`].
    pub processes: Vec<ProcessInfo>,
}

/// The most processes that an inspection tells of.
pub const PROCESSES_MAX: usize = 100;

/// A process in a container, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number on the host.
    pub pid: i32,
    /// Its parent's.
    pub parent_pid: i32,
    /// What it does: `R`, `S`, `D`, `Z`...
    pub state: String,
    /// Memory in use.
    pub memory_bytes: u64,
    /// What runs, with its arguments, at most 256 bytes.
    pub command: String,
}

/// What the machine could give to containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// All of its memory.
    pub memory_bytes: u64,
    /// The size of the disk that holds the containers.
    pub disk_bytes: u64,
    /// The most containers at a time.
    pub containers_max: u32,
}
