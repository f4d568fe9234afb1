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
    /// Whether it is one of many: see [`ProcessSpec::is_fleeting`](super::ProcessSpec).
    #[serde(default)]
    pub is_fleeting: bool,
}

/// The most exit records that are kept of a container.
const EXITS_MAX: usize = 128;

/// The record to forget when there are too many: the oldest, those of fleeting processes first.
pub(crate) fn surplus(exits: &BTreeMap<ProcessId, ExitRecord>) -> Option<ProcessId> {
    if exits.len() <= EXITS_MAX {
        return None;
    }
    let oldest = exits.values().min_by_key(|exit| (!exit.is_fleeting, exit.ended_at_ns));
    oldest.map(|exit| exit.process.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_records_the_oldest_fleeting_one_goes_first() {
        let mut exits = BTreeMap::new();
        let mut keep = |name: String, ended_at_ns, is_fleeting| {
            let process = ProcessId::parse(&name).unwrap();
            let status = ExitStatus::Exited { code: 0 };
            let output_end = OutputCursor::default();
            let record = ExitRecord {
                process: process.clone(),
                status,
                out_of_memory: None,
                started_at_ns: 0,
                ended_at_ns,
                output_end,
                is_fleeting,
            };
            exits.insert(process, record);
            surplus(&exits).map(|id| id.to_string())
        };

        for number in 0..126 {
            assert_eq!(keep(format!("run-{number}"), number, false), None);
        }
        assert_eq!(keep("check-1".to_owned(), 500, true), None);
        assert_eq!(keep("check-2".to_owned(), 400, true), None);
        assert_eq!(keep("run-200".to_owned(), 900, false).as_deref(), Some("check-2"));
    }
}
