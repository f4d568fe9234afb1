//! `diario bench cell` measures every row on a small scale, and leaves nothing behind.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::harness::{diario, told};

#[test]
fn every_row_of_machines_is_measured_and_nothing_is_left() {
    let output = diario().args(["bench", "cell", "--smoke", "--json"]).output().unwrap();

    assert!(output.status.success(), "{}", told(&output));
    let rows: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: BTreeSet<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let expected = [
        "idle/agent/memory",
        "idle/agent/processor",
        "idle/control-plane/processor",
        "idle/shim/memory",
        "killed/p50",
        "killed/p99",
        "lost",
        "start/one/p50",
        "start/one/p99",
        "start/together",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    assert!(rows.iter().all(|row| row["ours"].as_f64().is_some_and(|ours| ours >= 0.0)));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/diario-bench-"), "{mounts}");
}
