//! Reads what the container's memory cgroup tells: kills for want of memory, limit, peak.
//!
//! A few short files, read when a process starts and ends; never watched in between.

use std::fs;
use std::path::Path;

use crate::garden::OomReport;
use crate::garden::linux::depot::ContainerConfig;

/// How many processes the kernel killed so far; 0 where it does not tell.
pub(super) fn kills(config: &ContainerConfig) -> u64 {
    let text = fs::read_to_string(&config.cgroup.oom_events).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// A report, if there were kills since a process started.
pub(super) fn report(config: &ContainerConfig, kills_at_start: u64) -> Option<OomReport> {
    let kills = kills(config).saturating_sub(kills_at_start);
    let limit_bytes = config.limits.memory_bytes?;
    (kills > 0).then(|| OomReport {
        limit_bytes,
        peak_bytes: read_number(&config.cgroup.memory_peak),
        kills,
    })
}

fn read_number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
