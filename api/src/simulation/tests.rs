//! The simulation itself: the same seed gives the same run, and its invariants can fail.

use super::{Config, Defect, Faults, simulate};

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        assert_eq!(simulate(&Config::new(seed)), simulate(&Config::new(seed)));
    }
}

#[test]
fn a_quiet_cluster_does_its_work() {
    let summary = simulate(&Config { faults: Faults::none(), ..Config::new(7) }).unwrap();

    assert!(summary.events.0 > 50, "{summary:?}");
    assert!(summary.promises > 10, "{summary:?}");
}

#[test]
fn every_defect_of_a_cell_is_seen() {
    for (defect, invariants) in [
        (Defect::ExecsWithoutAsking, &["a task asks before it runs"][..]),
        (Defect::ExecsTwice, &["a task runs at most once"]),
        (Defect::ForgetsStarts, &["a task runs at most once"]),
        (Defect::NeverStops, &["all settles in time"]),
        (Defect::HidesEnds, &["all settles in time"]),
        (Defect::SharesAnAddress, &["no two containers share a routed address"]),
        (Defect::ForgetsItsBook, &["all settles in time", "a task runs at most once"]),
    ] {
        let seen = (0..40).find_map(|seed| {
            let seen = simulate(&Config { defect: Some(defect), ..Config::new(seed) }).err();
            // Most defects are also seen by what they lead to later.
            seen.filter(|seen| invariants.contains(&seen.invariant))
        });
        let seen = seen.unwrap_or_else(|| panic!("nothing sees that a cell {defect:?}"));
        assert!(!seen.trace.is_empty());
    }
}
