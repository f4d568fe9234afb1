//! A container's cgroups: made, limited, read and removed through `cgroups-rs`, version 1.
//!
//! Joining is not done here: a process joins by itself, through `tasks`, because writing its
//! number to `cgroup.procs` waits 10 ms for a global lock of the kernel. Killing is not either
//! in that crate's power on version 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cgroups_rs::fs::cgroup::Cgroup;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::devices::{DevicePermissions, DeviceType};
use cgroups_rs::fs::hierarchies::{V1, is_cgroup2_unified_mode};
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Controllers, DeviceResource, MaxValue, Resources};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::depot::CgroupFiles;
use super::poll_until;
use crate::garden::{Error, Handle, Limits, Metrics};

const CONTROLLERS: [(&str, Controllers); 6] = [
    ("memory", Controllers::Mem),
    ("cpu", Controllers::Cpu),
    ("cpuacct", Controllers::CpuAcct),
    ("pids", Controllers::Pids),
    ("devices", Controllers::Devices),
    ("freezer", Controllers::Freezer),
];
/// Processor time is limited per this period.
const QUOTA_PERIOD_US: u64 = 100_000;
/// How long killed processes may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The character devices that may be used; any node may be made. Not tun, not fuse.
const DEVICES: [(i64, i64); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
/// Terminals of a devpts.
const TERMINALS_MAJOR: i64 = 136;
const ANY: i64 = -1;

/// The cgroups of one cell: `diario/<prefix>/<container>` below each controller.
#[derive(Debug)]
pub(super) struct Cgroups {
    hierarchy: V1,
    parent: String,
}

impl Cgroups {
    /// Looks at what the machine has.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names the missing controllers.
    pub(super) fn probe(prefix: &str) -> Result<Self, Error> {
        let hierarchy = V1::new();
        let missing: Vec<_> = CONTROLLERS
            .into_iter()
            .filter_map(|(name, controller)| {
                hierarchy.get_mount_point(controller).is_none().then_some(name)
            })
            .collect();
        if missing.is_empty() {
            tracing::info!("Containers use cgroup version 1.");
            return Ok(Self { hierarchy, parent: format!("diario/{prefix}") });
        }
        let hint = if is_cgroup2_unified_mode() {
            " (this host has cgroup version 2 only; boot it with systemd.unified_cgroup_hierarchy=0)"
        } else {
            ""
        };
        Err(Error::Unsupported {
            reason: format!("cgroup version 1 lacks {}{hint}", missing.join(", ")),
        })
    }

    /// Makes a container's cgroups with its limits; the caller removes them after an error.
    pub(super) fn create(&self, handle: &Handle, limits: &Limits) -> Result<CgroupFiles, String> {
        let name = self.name(handle);
        let cgroup = self.load(&name);
        let failed = |error| format!("cannot make cgroup {name}: {}", chain(&error));
        cgroup.create().map_err(failed)?;
        let memory = directory(&cgroup, &Controllers::Mem).ok_or("no memory cgroup")?;
        cgroup.apply(&resources(limits, &memory)).map_err(failed)?;
        let join = cgroup
            .subsystems()
            .iter()
            .map(|subsystem| subsystem.to_controller().path().join("tasks"))
            .collect();
        Ok(CgroupFiles {
            join,
            oom_events: memory.join("memory.oom_control"),
            memory_peak: memory.join("memory.max_usage_in_bytes"),
            name,
        })
    }

    /// What a container uses now.
    pub(super) fn metrics(&self, handle: &Handle) -> Option<Metrics> {
        let cgroup = self.load(&self.name(handle));
        let memory: &MemController = cgroup.controller_of()?;
        let cpu: &CpuAcctController = cgroup.controller_of()?;
        let pids: &PidController = cgroup.controller_of()?;
        let pids = pids.get_pid_current().ok()?;
        let memory = memory.memory_stat();
        // What the kernel could take back at once is not held against an app.
        let reclaimable = memory.stat.total_inactive_file;
        Some(Metrics {
            memory_bytes: memory.usage_in_bytes.saturating_sub(reclaimable),
            memory_peak_bytes: memory.max_usage_in_bytes,
            cpu_ns: cpu.cpuacct().usage,
            pids,
            received_bytes: None,
            sent_bytes: None,
        })
    }

    /// Kills whatever is left in a cgroup and removes it; fine if it is not there.
    pub(super) fn remove(&self, name: &str) -> Result<(), String> {
        let cgroup = self.load(name);
        if !cgroup.exists() {
            return Ok(());
        }
        let is_empty = || {
            let pids = cgroup.procs();
            for pid in &pids {
                if let Ok(pid) = i32::try_from(pid.pid)
                    && let Err(errno) = kill(Pid::from_raw(pid), Signal::SIGKILL)
                    && errno != Errno::ESRCH
                {
                    tracing::warn!(pid, %errno, "Cannot kill a process left in a cgroup.");
                }
            }
            pids.is_empty()
        };
        if !poll_until(KILL_TIMEOUT, is_empty) {
            return Err(format!("processes in cgroup {name} do not die"));
        }
        cgroup.delete().map_err(|error| format!("cannot remove cgroup {name}: {}", chain(&error)))
    }

    /// The names of all cgroups of this cell's containers.
    pub(super) fn list(&self) -> Vec<String> {
        let parent = self.load(&self.parent);
        let folders = parent.subsystems().iter().flat_map(|subsystem| {
            fs::read_dir(subsystem.to_controller().path()).into_iter().flatten().flatten()
        });
        let mut names: Vec<_> = folders
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| format!("{}/{}", self.parent, entry.file_name().to_string_lossy()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Removes the cell's own cgroup, when no container is left in it.
    pub(super) fn remove_parent(&self) -> Result<(), String> {
        self.remove(&self.parent)
    }

    /// The cgroup of a container, below each controller's mount point.
    pub(super) fn name(&self, handle: &Handle) -> String {
        format!("{}/{handle}", self.parent)
    }

    fn load(&self, name: &str) -> Cgroup {
        let controllers = CONTROLLERS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let hierarchy = Box::new(self.hierarchy.clone());
        Cgroup::load_with_specified_controllers(hierarchy, name, controllers)
    }
}

fn directory(cgroup: &Cgroup, wanted: &Controllers) -> Option<PathBuf> {
    cgroup
        .subsystems()
        .iter()
        .map(|subsystem| subsystem.to_controller())
        .find(|controller| controller.control_type() == *wanted)
        .map(|controller| controller.path().to_owned())
}

fn resources(limits: &Limits, memory: &Path) -> Resources {
    let mut resources = Resources::default();
    // Validated to fit.
    let memory_bytes = limits.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    resources.memory.memory_hard_limit = memory_bytes;
    // Equal, so that swap does not stretch the limit; a kernel may not account for swap.
    if memory.join("memory.memsw.limit_in_bytes").exists() {
        resources.memory.memory_swap_limit = memory_bytes;
    }
    resources.cpu.shares = limits.cpu_shares;
    resources.cpu.period = limits.cpu_quota_us.map(|_| QUOTA_PERIOD_US);
    resources.cpu.quota = limits.cpu_quota_us.and_then(|quota| i64::try_from(quota).ok());
    resources.pid.maximum_number_of_processes =
        limits.pids_max.map(|pids| MaxValue::Value(i64::from(pids)));
    resources.devices.devices = device_rules();
    resources
}

/// Denies all, then allows, in this order.
fn device_rules() -> Vec<DeviceResource> {
    let rule = |allow, devtype, major, minor, access| DeviceResource {
        allow,
        devtype,
        major,
        minor,
        access,
    };
    let mut rules = vec![
        rule(false, DeviceType::All, ANY, ANY, DevicePermissions::all()),
        rule(true, DeviceType::Char, ANY, ANY, vec![DevicePermissions::MkNod]),
        rule(true, DeviceType::Block, ANY, ANY, vec![DevicePermissions::MkNod]),
        rule(true, DeviceType::Char, TERMINALS_MAJOR, ANY, DevicePermissions::all()),
    ];
    for (major, minor) in DEVICES {
        rules.push(rule(true, DeviceType::Char, major, minor, DevicePermissions::all()));
    }
    rules
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
