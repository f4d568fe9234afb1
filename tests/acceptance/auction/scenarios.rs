//! The scenarios, with tolerances at most Diego's.
//!
//! Where the cells of unique apps must be even, reports are held while they are placed: a cell that
//! has started what it was given is a better one than a cell that has not, on purpose, and which
//! one is faster is not to be tested. One app's instances are even however the reports come in.

use std::collections::BTreeMap;

use domain::workload::Dice;

use super::{
    cluster::{App, Cluster, Fate, Strategy},
    fleet::Line,
    is_whole, lines, of_sizes, seed,
    spread_over::Won,
};

/// Apps and cells of Diego's small cold starts.
const SMALL: [(u32, u32); 4] = [(8, 4), (40, 10), (200, 20), (800, 40)];
/// How many of them are tried within a few seconds.
const SHARE: usize = 2;
const WEIGHTS: [f64; 3] = [0.5, 0.25, 0.75];

/// Places all of some apps before any of them counts as running, and runs them.
fn placed_at_once(mut cluster: Cluster, apps: &[App]) -> Won {
    cluster.hold_reports();
    cluster.wish(apps);
    let won = cluster.won();
    cluster.end();
    won
}

/// The same, but that the cells report meanwhile.
fn placed_meanwhile(mut cluster: Cluster, apps: &[App]) -> Won {
    cluster.wish(apps);
    cluster.end();
    cluster.won()
}

#[test]
fn small_cold_starts_are_even() {
    for line in lines() {
        for (apps, cells) in of_sizes(&SMALL, SHARE) {
            let cluster = Cluster::start(*cells, Strategy::Spread, line);

            placed_at_once(cluster, &App::unique("app", *apps)).assert_even(*cells, 1.0);
        }
    }
}

#[test]
fn bin_packing_fills_each_zone_from_its_first_cell_and_keeps_zones_even() {
    for line in lines() {
        for weight in of_sizes(&WEIGHTS, 1) {
            for (apps, cells) in of_sizes(&SMALL, SHARE) {
                let cluster = Cluster::start(*cells, Strategy::BinPack(*weight), line);

                let won = placed_at_once(cluster, &App::unique("app", *apps));

                won.assert_filled_from_the_first(*cells);
                let zones = won.zones(*cells);
                assert!(zones[0].abs_diff(zones[1]) <= 1, "weight {weight}: {zones:?}");
            }
        }
    }
}

#[test]
fn bin_packing_still_spreads_the_instances_of_one_app() {
    for line in lines() {
        for weight in of_sizes(&WEIGHTS, 1) {
            for (apps, cells) in of_sizes(&SMALL, SHARE) {
                let cluster = Cluster::start(*cells, Strategy::BinPack(*weight), line);

                placed_meanwhile(cluster, &[App::new("yellow", *apps)]).assert_even(*cells, 1.0);
            }
        }
    }
}

/// Half of each size are apps of their own, half are instances of one of four: the biggest first, of
/// one size in any order.
fn mixed(factor: u32, dice: &mut Dice) -> Vec<Vec<App>> {
    let mut sizes = Vec::new();
    for (count, memory) in [(50, 4), (200, 2), (1800, 1)] {
        let half = factor * count / 2;
        let unique = App::unique(&format!("unique-{memory}"), half);
        let mut apps: Vec<App> = unique.into_iter().map(|app| app.of_memory(memory)).collect();
        let mut colors: BTreeMap<u32, u32> = BTreeMap::new();
        for _ in 0..half {
            *colors.entry(dice.below(4)).or_default() += 1;
        }
        for (color, instances) in colors {
            apps.push(App::new(&format!("color-{memory}-{color}"), instances).of_memory(memory));
        }
        dice.shuffle(&mut apps);
        sizes.push(apps);
    }
    sizes
}

/// One batch of Diego's is placed biggest first. Wishes come one by one, and are placed as they come:
/// so they come in that order. In any other the last big ones go where they still fit.
#[test]
fn large_cold_starts_of_mixed_sizes_are_nearly_even() {
    // Both lines take too long for every day.
    let lines = if is_whole() { lines().to_vec() } else { vec![lines()[1]] };
    for line in lines {
        for (factor, cells) in of_sizes(&[(1, 25), (4, 100)], 1) {
            let mut cluster = Cluster::start(*cells, Strategy::Spread, line);
            cluster.hold_reports();
            for apps in mixed(*factor, &mut Dice::new(seed())) {
                cluster.wish(&apps);
                cluster.won();
            }

            cluster.won().assert_even(*cells, 6.0);
            cluster.end();
        }
    }
}

#[test]
fn a_deploy_does_not_overload_its_empty_cells() {
    // Cells, how many of them are empty, and new apps; the last ones are Diego's.
    let sizes = [(10, 1, 10), (100, 5, 500), (100, 1, 100)];
    for line in lines() {
        for (cells, empty, apps) in of_sizes(&sizes, 1) {
            let mut cluster = Cluster::start(*cells, Strategy::Spread, line);
            cluster.fill((0..cells - empty).map(|number| (number, 50)));

            let won = placed_at_once(cluster, &App::unique("new", *apps));
            won.assert_not_overloaded(cells - empty..*cells, apps / cells);
        }
    }
}

#[test]
fn zones_get_the_same_number_of_instances_however_full_they_are() {
    for line in lines() {
        for strategy in [Strategy::Spread, Strategy::BinPack(0.5)] {
            let mut cluster = Cluster::start(3, strategy, line);
            cluster.fill([(1, 50)]);

            let won = placed_meanwhile(cluster, &[App::new("red", 40)]);

            assert_eq!(won.zones(3), [20, 20], "{strategy:?}");
        }
    }
}

#[test]
fn the_watters_demo_is_even_on_nearly_full_cells() {
    for line in lines() {
        for strategy in [Strategy::Spread, Strategy::BinPack(0.25)] {
            for (cells, instances) in of_sizes(&[(10, 80), (30, 200), (100, 400)], 1) {
                let mut dice = Dice::new(seed());
                let mut cluster = Cluster::start(*cells, strategy, line);
                cluster.fill((0..*cells).map(|number| (number, 78 + dice.below(3))));

                placed_meanwhile(cluster, &[App::new("red", *instances)]).assert_even(*cells, 1.0);
            }
        }
    }
}

#[test]
fn the_first_boulder_comes_before_the_pebbles_and_the_second_after() {
    for line in lines() {
        for strategy in [Strategy::Spread, Strategy::BinPack(0.5)] {
            let fates = boulder_and_pebbles(strategy, line);

            let is_placed = |fate: &Fate| match fate {
                Fate::On(_) => true,
                Fate::Unplaced(reason) => {
                    assert_eq!(reason, "insufficient resources: memory");
                    false
                }
            };
            let placed = fates.values().filter(|fate| is_placed(fate)).count();
            assert_eq!((placed, fates.len() - placed), (51, 31));
            let red = |index| is_placed(&fates[&("red".to_owned(), index)]);
            assert_eq!((red(0), red(1)), (true, false));
        }
    }
}

/// All is wished for before the only cell is there, so that its first round is of all.
fn boulder_and_pebbles(strategy: Strategy, line: Line) -> BTreeMap<(String, u32), Fate> {
    let mut cluster = Cluster::start(0, strategy, line);
    cluster.wish(&App::unique("pebble", 80));
    cluster.wish(&[App::new("red", 2).of_memory(50)]);
    let nowhere = Fate::Unplaced("unable to communicate to compatible cells".to_owned());
    assert!(cluster.fates().values().all(|fate| *fate == nowhere));

    cluster.start_cells(1);

    cluster.wait_for_another_fate(&nowhere);
    cluster.end();
    cluster.fates()
}

#[test]
fn tasks_are_even_and_each_runs_to_its_end() {
    for line in lines() {
        for strategy in [Strategy::Spread, Strategy::BinPack(0.5)] {
            for (tasks, cells) in of_sizes(&SMALL[1..], 1) {
                let cluster = Cluster::start(*cells, strategy, line);
                cluster.hold_reports();
                cluster.run_tasks(*tasks);

                cluster.tasks_won(*tasks).assert_even(*cells, 1.0);
                cluster.end_of_tasks(*tasks);
            }
        }
    }
}
