//! What instances cost that do nothing: the agent's processor time and memory, and each shim's.

use std::{fs, path::Path, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

use super::{
    super::{
        Error,
        measure::{self, Goal, Report, Round, Row},
        place::Place,
    },
    Effort,
    platform::Platform,
};

/// How much of a core the agent may use.
const AGENT_PERCENT: f64 = 5.0;
/// How much memory the agent may have, in megabytes.
const AGENT_MB: f64 = 150.0;
/// How much memory of its own a shim may have, in megabytes.
const SHIM_MB: f64 = 1.5;
/// So long the starts' last echoes are left to fade.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    if !report.wants("idle") {
        return Ok(());
    }
    report.progress("instances that idle");
    let platform = Platform::start(place, 1).await?;
    let (instances, watched) = effort.idle;
    platform.desire("idle", instances).await?;
    platform.until_running("idle", instances, |_| true).await?;
    tokio::time::sleep(SETTLE).await;
    let agent = platform.agent(0);
    let before = processor_time(agent)?;
    let control_plane_before = processor_time(platform.control_plane())?;
    tokio::time::sleep(watched).await;
    let percent = |used: Duration| used.as_secs_f64() * 100.0 / watched.as_secs_f64();
    let agent_percent = percent(processor_time(agent)?.saturating_sub(before));
    let control_plane_used = processor_time(platform.control_plane())?;
    let control_plane_percent = percent(control_plane_used.saturating_sub(control_plane_before));
    let agent_mb = memory_mb(&format!("/proc/{agent}/status"), &["VmRSS:"])?;
    let shims = shims_of(&platform.cell_folder(0))?;
    let mut shims_mb = Vec::new();
    for shim in &shims {
        let own = ["Private_Clean:", "Private_Dirty:"];
        shims_mb.push(memory_mb(&format!("/proc/{shim}/smaps_rollup"), &own)?);
    }
    if shims.len() < usize::try_from(instances).unwrap_or(usize::MAX) {
        return Err(Error::Unexpected(format!("only {} shims were found", shims.len())));
    }
    let size = format!("instances={instances}");
    for (name, unit, ours, goal) in [
        ("idle/agent/processor", "% of a core", agent_percent, Goal::AtMost(AGENT_PERCENT)),
        ("idle/control-plane/processor", "% of a core", control_plane_percent, Goal::None),
        ("idle/agent/memory", "MB", agent_mb, Goal::AtMost(AGENT_MB)),
        ("idle/shim/memory", "MB", measure::median(shims_mb), Goal::AtMost(SHIM_MB)),
    ] {
        let row = Row { name, size: size.clone(), unit, goal };
        report.add(row, &[Round { ours, peer: None }]);
    }
    Ok(())
}

/// What a process has used of the processor, in all its threads.
fn processor_time(pid: i32) -> Result<Duration, Error> {
    let text = read(&format!("/proc/{pid}/stat"))?;
    // The name may hold anything, so fields are counted after its closing parenthesis.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let a_second = u32::try_from(a_second).unwrap_or(100).max(1);
    Ok(Duration::from_secs(ticks.into()) / a_second)
}

/// The sum of some lines of a file of the kernel's, which counts in kB.
fn memory_mb(path: &str, names: &[&str]) -> Result<f64, Error> {
    let text = read(path)?;
    let amount = |line: &str| -> Option<u32> {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        names.contains(&name).then(|| rest.split_whitespace().next()?.parse().ok()).flatten()
    };
    let kilobytes: u32 = text.lines().filter_map(amount).sum();
    Ok(f64::from(kilobytes) / 1024.0)
}

/// The shims of a cell, by their command lines.
fn shims_of(folder: &Path) -> Result<Vec<String>, Error> {
    let folder = folder.to_string_lossy();
    let list = |source| Error::Io { what: "list processes", source };
    let mut shims = Vec::new();
    for entry in fs::read_dir("/proc").map_err(list)?.flatten() {
        // One that ended meanwhile is none.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(" shim ") && command.contains(folder.as_ref()) {
            shims.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(shims)
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path)
        .map_err(|source| Error::Io { what: "read what a process uses", source })
}
