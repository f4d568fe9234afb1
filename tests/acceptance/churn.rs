//! Many instances on one machine, started and stopped without a pause: nothing may be left behind.
//!
//! Here a few; `tests/run --long cell-churn` holds 250 and restarts 100 a minute for ten minutes.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Cell, Server, folder, left_on_machine, tell, until_within, write_private},
    lrps::desire,
    pg_faults::setting,
};

/// Between two restarts: 100 in a minute.
const RESTART_EVERY: Duration = Duration::from_millis(600);
/// How long all of them may take to run.
const START_MAX: Duration = Duration::from_secs(300);

/// What the cell and its containers hold of this machine.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// Mounts, shims, interfaces and cgroups.
    things: BTreeMap<String, usize>,
    containers: usize,
}

fn held(cell_folder: &Path) -> Held {
    let mut things = BTreeMap::new();
    for thing in left_on_machine(cell_folder) {
        let kind = thing.split(' ').next().unwrap_or_default();
        // A mount's line begins with its number.
        let kind = if kind.parse::<u32>().is_ok() { "mount" } else { kind };
        *things.entry(kind.to_owned()).or_default() += 1;
    }
    Held { things, containers: files(cell_folder, "containers") }
}

fn files(cell_folder: &Path, name: &str) -> usize {
    fs::read_dir(cell_folder.join(name)).into_iter().flatten().count()
}

/// The open descriptors and the memory in KiB of a process.
fn of_process(pid: u32) -> (usize, u64) {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    (descriptors, resident.unwrap_or_default())
}

fn are_running(server: &Server, instances: usize) -> bool {
    let shown = server.json(&["lrp", "show", "many"]);
    let slots = shown["actualLrps"].as_array().unwrap();
    slots.len() == instances && slots.iter().all(|slot| slot["state"] == "RUNNING")
}

#[test]
fn many_instances_started_and_stopped_without_a_pause_leave_nothing_behind() {
    let instances = usize::try_from(setting("DIARIO_CHURN_INSTANCES", 4)).unwrap();
    let time = Duration::from_secs(setting("DIARIO_CHURN_SECONDS", 5));
    let folder = folder();
    let (tokens, token) = (folder.path().join("cells.json"), folder.path().join("cell.token"));
    write_private(&tokens, "{\"cell-1\": \"0123456789abcdef\"}");
    write_private(&token, "0123456789abcdef");
    let serve = ["serve", "--cell-tokens", tokens.to_str().unwrap()];
    let server = Server::start(&serve, &folder.path().join("control-plane"));
    let data = folder.path().join("cell");
    // More than the machine has: the app needs little of it.
    let offers = "--memory-mb 65536 --disk-mb 65536 --containers 300 --remove-on-stop";
    let offers: Vec<&str> = offers.split(' ').collect();
    let cell = Cell::start(&server.api, &token, &data, &offers);
    let begun = Instant::now();
    desire(&server, "many", u32::try_from(instances).unwrap(), &["--graceful-stop-ms", "1000"]);
    until_within(START_MAX, "all to run", || are_running(&server, instances).then_some(()));
    let took = begun.elapsed();
    // Each has been stopped once, so that all there is to hold is held.
    for index in 0..instances.min(10) {
        server.text(&["lrp", "restart", "many", &index.to_string()]);
    }
    until_within(START_MAX, "all to run again", || are_running(&server, instances).then_some(()));
    let at_rest = || {
        until_within(START_MAX, "as many containers as instances", || {
            let now = held(&data);
            (are_running(&server, instances) && now.containers == instances).then_some(now)
        })
    };
    let before = at_rest();
    let (descriptors_before, memory_before) = of_process(cell.pid());

    let begun = Instant::now();
    let mut restarts: u32 = 0;
    while begun.elapsed() < time {
        let next = begun + RESTART_EVERY * (restarts + 1);
        let index = usize::try_from(restarts).unwrap() % instances;
        server.text(&["lrp", "restart", "many", &index.to_string()]);
        restarts += 1;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }

    let after = at_rest();
    let (descriptors_after, memory_after) = of_process(cell.pid());
    tell(&format!(
        "{instances} running after {:.1} s; {restarts} restarts in {:.0} s; the agent: \
         {descriptors_before} descriptors and {memory_before} KiB before, {descriptors_after} and \
         {memory_after} KiB after",
        took.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    ));
    assert_eq!(after, before, "what the cell holds of the machine");
    assert!(files(&data, "output") <= instances, "places in outputs are left");
    assert!(descriptors_after <= descriptors_before + 16, "descriptors leak");
    assert!(memory_after <= memory_before + memory_before / 2, "memory leaks");
    cell.terminate();
    assert_eq!(left_on_machine(&data), Vec::<String>::new());
}
