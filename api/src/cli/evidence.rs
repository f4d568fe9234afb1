//! What a cell saw of a container before its end, as lines for people.

use serde::Deserialize;

use super::{
    metrics::{self, Sample},
    table::{self, Table},
};

/// What is asked for of a crash's evidence.
pub(super) const EVIDENCE: &str = "evidence { logLines { at source stream text raw } \
    metrics { at ageNanoseconds memoryBytes memoryLimitBytes cpuNanoseconds \
    cpuEntitlementNanoseconds cpuPercent diskBytes diskLimitBytes pids pidsLimit receivedBytes \
    sentBytes logBytes } probes { name at output } peaks { memoryBytes memoryRefused memoryKills \
    pidsRefused cpuThrottledNanoseconds } processes { pid parentPid state memoryBytes command } }";

/// What a cell saw of a container.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Evidence {
    log_lines: Vec<Line>,
    metrics: Vec<Sample>,
    probes: Vec<Probe>,
    peaks: Option<Peaks>,
    processes: Vec<Process>,
}

#[derive(Deserialize)]
struct Line {
    at: String,
    source: String,
    stream: String,
    text: String,
}

#[derive(Deserialize)]
struct Probe {
    name: String,
    at: String,
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peaks {
    memory_bytes: u64,
    memory_refused: u64,
    memory_kills: u64,
    pids_refused: u64,
    cpu_throttled_nanoseconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    pid: i32,
    parent_pid: i32,
    state: String,
    memory_bytes: u64,
    command: String,
}

impl Evidence {
    /// All of it, under headings; what there is none of has none.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.log_lines.iter().map(|line| {
            let Line { source, stream, text, .. } = line;
            format!("{} [{source}] {stream} {}", table::time(&line.at), table::printable(text))
        });
        let probes = self.probes.iter().flat_map(|probe| {
            let head = format!("{} {}", table::time(&probe.at), probe.name);
            let said = probe.output.lines().map(|line| format!("  {}", table::printable(line)));
            std::iter::once(head).chain(said)
        });
        let parts = [
            ("Last lines:", lines.collect()),
            ("Last health checks:", probes.collect()),
            ("Over its whole life:", self.peaks.as_ref().map(Peaks::lines).unwrap_or_default()),
            ("Processes that were still there:", self.process_lines()),
            ("Last metrics:", metrics::lines(&self.metrics)),
        ];
        let parts = parts.into_iter().filter(|(_, lines)| !lines.is_empty());
        let parts = parts.flat_map(|(heading, lines): (&str, Vec<String>)| {
            let lines = lines.into_iter().map(|line| format!("  {line}"));
            [String::new(), heading.to_owned()].into_iter().chain(lines)
        });
        parts.collect()
    }

    fn process_lines(&self) -> Vec<String> {
        if self.processes.is_empty() {
            return Vec::new();
        }
        let mut table = Table::new(&["PID", "PARENT", "STATE", "MEMORY BYTES", "COMMAND"]);
        for process in &self.processes {
            table.row([
                process.pid.to_string(),
                process.parent_pid.to_string(),
                process.state.clone(),
                process.memory_bytes.to_string(),
                table::printable(&process.command).into_owned(),
            ]);
        }
        table.lines("")
    }
}

impl Peaks {
    fn lines(&self) -> Vec<String> {
        let Self { memory_bytes, memory_refused, memory_kills, pids_refused, .. } = self;
        vec![
            format!(
                "memory     peak {memory_bytes} bytes, over its limit {memory_refused} times, \
                 {memory_kills} killed"
            ),
            format!("processes  not made {pids_refused} times: too many"),
            format!("processor  held back for {} ms", self.cpu_throttled_nanoseconds / 1_000_000),
        ]
    }
}
