//! Names a shim's process for certain: by its number and its start time.
//!
//! A number alone may belong to another process by now. Used only when a shim does not answer.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;

use super::kernel;

/// A process, for as long as the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimProcess {
    pid: i32,
    /// In clock ticks since the machine's start.
    start_time: u64,
}

impl ShimProcess {
    /// The process that has a number now, unless it is a zombie.
    pub(crate) fn find(pid: Pid) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, so fields are counted after its closing parenthesis.
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid: pid.as_raw(), start_time })
    }

    /// Kills the process, if it is still that one, and waits for its end; false if it does not
    /// end in time.
    pub(super) fn kill(self, timeout: Duration) -> bool {
        let pid = Pid::from_raw(self.pid);
        let Ok(pidfd) = kernel::pidfd_open(pid) else { return true };
        // Compared after opening: the descriptor is to whoever had the number then.
        if Self::find(pid) != Some(self) || kernel::pidfd_kill(&pidfd).is_err() {
            return true;
        }
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, timeout).is_ok_and(|ready| ready == 1)
    }
}

/// Every shim whose configuration lies in a folder, found by its command line.
///
/// Catches those that an agent started and did not live to write down.
pub(super) fn shims_of(folder: &Path) -> Vec<(ShimProcess, std::path::PathBuf)> {
    let own_namespace = fs::read_link("/proc/self/ns/pid").ok();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    let mut shims = Vec::new();
    for pid in numbers {
        let Ok(text) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let arguments: Vec<_> =
            text.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let Some(at) = arguments.iter().position(|argument| argument == "--config") else {
            continue;
        };
        let is_shim = at > 0 && arguments.get(at - 1).is_some_and(|argument| argument == "shim");
        let Some(config) = arguments.get(at + 1).map(|path| Path::new(path.as_ref()).to_owned())
        else {
            continue;
        };
        // A process inside a container may call itself anything.
        let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        if is_shim
            && config.starts_with(folder)
            && namespace == own_namespace
            && let Some(process) = ShimProcess::find(Pid::from_raw(pid))
        {
            shims.push((process, config));
        }
    }
    shims
}
