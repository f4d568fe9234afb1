//! Looks into a container from the host: its counters, its traffic, its disk, its processes.
//!
//! Only reads. A file that is not there, or a process that ends meanwhile, is left out.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::depot::ContainerConfig;
use crate::garden::{Inspection, PROCESSES_MAX, ProcessInfo};

/// How many files of a container are counted at most: those behind cost nobody time.
const FILES_MAX: usize = 1_000_000;
/// The kernel counts a file's blocks in these, whatever the file system's are.
const BLOCK_BYTES: u64 = 512;
/// How many bytes of a command line are told.
const COMMAND_BYTES_MAX: usize = 256;

/// Bytes that came in and went out. What the host's end of the pair sends, the container receives.
pub(super) fn traffic(config: &ContainerConfig) -> (Option<u64>, Option<u64>) {
    let folder = Path::new("/sys/class/net").join(&config.network.host_interface);
    let count = |name: &str| read_number(&folder.join("statistics").join(name));
    (count("tx_bytes"), count("rx_bytes"))
}

/// The disk that all files below a folder take. Links are not followed.
pub(super) fn disk_usage(folder: &Path) -> io::Result<u64> {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut bytes = 0_u64;
    let mut files = 0;
    // The container goes on: what goes away while it is looked at is not there.
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            files += 1;
            if files > FILES_MAX {
                return Ok(bytes);
            }
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK_BYTES));
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

/// What the container's cgroups count, and the processes in them.
pub(super) fn inspect(config: &ContainerConfig) -> Inspection {
    let folders: Vec<&Path> =
        config.cgroup.join.iter().filter_map(|tasks| tasks.parent()).collect();
    let file = |name: &str| folders.iter().map(|it| it.join(name)).find(|path| path.exists());
    let number = |name: &str| file(name).and_then(|path| read_number(&path)).unwrap_or(0);
    let field =
        |name: &str, key: &str| file(name).and_then(|path| read_field(&path, key)).unwrap_or(0);
    let pids = file("cgroup.procs").map(|path| fs::read_to_string(path).unwrap_or_default());
    let pids = pids.unwrap_or_default();
    let pids = pids.lines().filter_map(|line| line.trim().parse().ok());
    Inspection {
        memory_peak_bytes: number("memory.max_usage_in_bytes"),
        memory_refused: number("memory.failcnt"),
        memory_kills: field("memory.oom_control", "oom_kill"),
        pids_refused: field("pids.events", "max"),
        cpu_throttled_ns: field("cpu.stat", "throttled_time"),
        processes: pids.filter_map(process).take(PROCESSES_MAX).collect(),
    }
}

/// A process as `/proc` tells it; `None` if it is gone.
fn process(pid: i32) -> Option<ProcessInfo> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let field = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
    };
    let memory_kib = field("VmRSS").and_then(|text| text.split_whitespace().next()?.parse().ok());
    Some(ProcessInfo {
        pid,
        parent_pid: field("PPid").and_then(|text| text.parse().ok()).unwrap_or(0),
        state: field("State")
            .and_then(|text| text.split_whitespace().next())
            .unwrap_or("?")
            .to_owned(),
        memory_bytes: memory_kib.unwrap_or(0_u64).saturating_mul(1024),
        command: command(&folder).or_else(|| field("Name").map(|name| format!("[{name}]")))?,
    })
}

/// The command line in words; `None` where there is none, as of a process that is being reaped.
fn command(folder: &Path) -> Option<String> {
    let bytes = fs::read(folder.join("cmdline")).ok()?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    let mut line = words.join(" ");
    line.truncate(line.floor_char_boundary(COMMAND_BYTES_MAX));
    (!line.is_empty()).then_some(line)
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind a word at the beginning of a line.
fn read_field(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_takes_what_its_files_take_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), vec![7; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).unwrap();

        let bytes = disk_usage(folder.path()).unwrap();

        assert!((100_000..200_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_process_is_told_with_its_parent_and_its_command() {
        let own = i32::try_from(std::process::id()).unwrap();

        let seen = process(own).unwrap();

        assert!(seen.parent_pid > 0 && seen.memory_bytes > 0, "{seen:?}");
        assert!(!seen.command.is_empty() && seen.command.len() <= COMMAND_BYTES_MAX);
        assert_eq!(process(i32::MAX), None);
    }
}
