//! The simulation itself: the same seed gives the same run, and its invariants can fail.

use std::collections::BTreeSet;

use domain::event::Event;

use super::{Config, Defect, Faults, shrink, simulate};

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
fn every_type_of_event_happens_within_a_few_seeds() {
    // Users' secrets are sealed before a command is there.
    let mut missing: BTreeSet<&str> =
        Event::type_names().into_iter().filter(|name| !name.starts_with("secrets.")).collect();

    for seed in 0..300 {
        let summary = simulate(&Config::new(seed)).unwrap();
        missing.retain(|name| !summary.by_type.contains_key(name));
        if missing.is_empty() {
            return;
        }
    }

    panic!("{missing:?} never happened");
}

#[test]
fn a_run_that_was_made_small_fails_the_same_way_when_it_is_run_again() {
    let mut configs = (0..40).map(|seed| Config {
        defect: Some(Defect::ExecsTwice),
        steps: 60,
        ..Config::new(seed)
    });
    let found = configs.find_map(|config| Some((simulate(&config).err()?, config)));
    let (failure, config) = found.unwrap();

    let small = shrink(&config, &failure);

    assert_eq!(simulate(&small.config).unwrap_err().as_ref(), &small.failure);
    assert_eq!(small.failure.invariant, failure.invariant);
    assert!(small.config.steps < config.steps, "{small:?}");
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
