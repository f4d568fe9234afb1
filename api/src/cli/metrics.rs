//! `diario metrics`: what the containers of a process or a task use, or used.

use clap::Args;
use domain::id::{ProcessGuid, TaskGuid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    instant::Instant,
    logs::input,
    table::{self, Table},
    target::Session,
};

/// Examples, for the help text.
pub(super) const EXAMPLES: &str = "Examples:\n  diario metrics web\n  \
    diario metrics web --instance 0 --last 100 --since -1h\n  diario metrics web --at @120";

/// Options of `diario metrics`.
#[derive(Debug, Args)]
pub struct Options {
    /// Whose containers: a process's guid, or a task's with --task.
    guid: ProcessGuid,
    /// The guid is a task's.
    #[arg(long)]
    task: bool,
    /// Only of this instance, from 0.
    #[arg(long, conflicts_with = "task")]
    instance: Option<u32>,
    /// How many samples to show: the newest, of which there is one every 15 s and instance.
    #[arg(long, value_name = "SAMPLES", default_value_t = 20)]
    last: u32,
    /// Only what was seen then or later.
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    since: Option<Instant>,
    /// As it was then.
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    at: Option<Instant>,
}

/// What a container used at one instant.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    at: String,
    index: Option<u32>,
    age_nanoseconds: u64,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
    cpu_nanoseconds: u64,
    cpu_entitlement_nanoseconds: Option<u64>,
    cpu_percent: Option<f64>,
    disk_bytes: Option<u64>,
    disk_limit_bytes: Option<u64>,
    pids: u64,
    pids_limit: Option<u64>,
    received_bytes: Option<u64>,
    sent_bytes: Option<u64>,
    log_bytes: u64,
}

const DOCUMENT: &str = "query($process: String, $task: String, $index: Int, $last: Int!, \
    $since: InstantInput, $until: InstantInput) { metrics(processGuid: $process, taskGuid: $task, \
    index: $index, last: $last, since: $since, until: $until) { index instanceGuid cellId at \
    ageNanoseconds memoryBytes memoryLimitBytes cpuNanoseconds cpuEntitlementNanoseconds \
    cpuPercent diskBytes diskLimitBytes pids pidsLimit receivedBytes sentBytes logBytes } }";

pub(super) async fn run(options: Options, session: &Session) -> Result<(), Error> {
    let Options { guid, task, instance, last, since, at } = options;
    let since = input(since, session).await?;
    let until = input(at, session).await?;
    // Guids of processes and tasks have the same alphabet.
    let task_guid: Option<TaskGuid> = if task { guid.as_str().parse().ok() } else { None };
    let process_guid = if task { None } else { Some(&guid) };
    let variables = json!({
        "process": process_guid, "task": task_guid, "index": instance, "last": last,
        "since": since, "until": until,
    });
    let answer: Value = session.client.query(DOCUMENT, variables).await?;
    let samples: Vec<Sample> = session.client.part(&answer, "/metrics")?;
    session.show(&answer["metrics"], || match lines(&samples) {
        none if none.is_empty() => vec![format!("no samples of {guid}: they come every 15 s")],
        lines => lines,
    })
}

/// Samples under headings; nothing when there are none.
pub(super) fn lines(samples: &[Sample]) -> Vec<String> {
    if samples.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(&[
        "AT",
        "INDEX",
        "MEMORY",
        "CPU %",
        "OF ITS SHARE %",
        "DISK",
        "PROCESSES",
        "RECEIVED",
        "SENT",
        "LOGGED",
    ]);
    for sample in samples {
        table.row([
            table::time(&sample.at),
            sample.index.map_or_else(|| table::NOTHING.to_owned(), |index| index.to_string()),
            of(Some(sample.memory_bytes), sample.memory_limit_bytes, bytes),
            sample.cpu_percent.map_or_else(|| table::NOTHING.to_owned(), |cpu| format!("{cpu:.1}")),
            share(sample),
            of(sample.disk_bytes, sample.disk_limit_bytes, bytes),
            of(Some(sample.pids), sample.pids_limit, |count| count.to_string()),
            of(sample.received_bytes, None, bytes),
            of(sample.sent_bytes, None, bytes),
            bytes(sample.log_bytes),
        ]);
    }
    table.lines("")
}

/// What was used of the processor time that could be counted on, since the container's start.
fn share(sample: &Sample) -> String {
    let entitled = sample.cpu_entitlement_nanoseconds.filter(|entitled| *entitled > 0);
    let known = entitled.filter(|_| sample.age_nanoseconds > 0);
    known.map_or_else(
        || table::NOTHING.to_owned(),
        |entitled| {
            let percent = u128::from(sample.cpu_nanoseconds) * 100 / u128::from(entitled);
            percent.to_string()
        },
    )
}

fn of(used: Option<u64>, limit: Option<u64>, show: impl Fn(u64) -> String) -> String {
    match (used, limit) {
        (Some(used), Some(limit)) => format!("{} of {}", show(used), show(limit)),
        (Some(used), None) => show(used),
        (None, _) => table::NOTHING.to_owned(),
    }
}

/// Bytes in the largest unit of which there is one.
fn bytes(count: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = u128::from(count) * 10 / u128::from(unit);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", tenths(1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", tenths(1 << 20)),
        1_073_741_824.. => format!("{} GiB", tenths(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_largest_unit_of_which_there_is_one() {
        let told = [0, 1023, 1536, 3 << 20, (5 << 30) + (1 << 29)].map(bytes);

        assert_eq!(told, ["0 B", "1023 B", "1.5 KiB", "3.0 MiB", "5.5 GiB"]);
    }
}
