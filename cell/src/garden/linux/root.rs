//! Opens the root folder of a container from outside, through its init.
//!
//! Init is found in the container's cgroup and held by its folder in `/proc` before it is looked at,
//! so that a number that meanwhile belongs to another process opens nothing of it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{self, OFlag, openat};
use nix::sys::stat::Mode;

use super::depot::ContainerConfig;

/// The root as init sees it; `None` when init is gone.
pub(super) fn open(config: &ContainerConfig) -> Option<OwnedFd> {
    let tasks = config.cgroup.join.iter().find_map(|path| path.parent())?;
    let pids = fs::read_to_string(tasks.join("cgroup.procs")).ok()?;
    pids.lines().filter_map(|pid| pid.trim().parse().ok()).find_map(|pid| root_of(config, pid))
}

/// The root of a process, if it is the container's init.
fn root_of(config: &ContainerConfig, pid: u32) -> Option<OwnedFd> {
    let folder = format!("/proc/{pid}");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let process = fcntl::open(Path::new(&folder), flags, Mode::empty()).ok()?;
    let is_init = is_first(&read(&process, "status").ok()?)
        && is_in(&read(&process, "cgroup").ok()?, &config.cgroup.name);
    if !is_init {
        return None;
    }
    openat(&process, "root", flags, Mode::empty()).ok()
}

fn read(process: &OwnedFd, name: &str) -> io::Result<String> {
    let file = openat(process, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether a process is the first of the pid namespace right below this one.
fn is_first(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    matches!(numbers.as_deref(), Some([_, "1"]))
}

/// Whether a process is in a cgroup, in any hierarchy.
fn is_in(cgroups: &str, name: &str) -> bool {
    cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
        path.strip_suffix(name).is_some_and(|parent| parent.ends_with('/') || parent.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_of_the_containers_own_namespace_is_its_init() {
        assert!(is_first("Name:\tx\nNSpid:\t4711\t1\n"));
        for other in ["NSpid:\t4711\t7\n", "NSpid:\t1\n", "NSpid:\t4711\t9\t1\n", ""] {
            assert!(!is_first(other), "{other}");
        }
        let cgroups = "4:memory:/diario/a/one\n0::/\n";
        assert!(is_in(cgroups, "diario/a/one"));
        assert!(!is_in(cgroups, "a/on") && !is_in(cgroups, "ne") && !is_in("", "diario/a/one"));
    }
}
