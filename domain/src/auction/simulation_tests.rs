//! Diego's own simulation suite, at its sizes, spread and bin-packed alike, with tolerances at most
//! Diego's: where mixed sizes are placed 10 off the mean are allowed there, and 6 here.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Auction, Outcome, Settings,
    fixture::{CellState, Input, amounts, app_demand, schedule},
};
use crate::{
    bbs::rootfs::RootfsProviders,
    id::{CellId, Zone},
    log::CellEpoch,
    rep::WorkKind,
    testing::{Dice, cell_id, key},
};

const SMALL: [(u32, u32); 4] = [(8, 4), (40, 10), (200, 20), (800, 40)];

/// Cells of 100 MiB, 100 MiB and 100 containers, in two zones by turns.
fn cells(count: u32) -> Vec<CellState> {
    let cell = |number: u32| CellState {
        cell_id: cell_id(&format!("cell-{number:03}")),
        cell_epoch: CellEpoch(1),
        zone: Zone::new(&format!("z{}", number % 2)).unwrap(),
        total: amounts(100, 100, 100),
        free: amounts(100, 100, 100),
        starting_container_count: 0,
        instances: Vec::new(),
        task_count: 0,
        rootfs_providers: RootfsProviders::preloaded(["linux"]),
        volume_drivers: BTreeSet::from(["my-driver".to_owned()]),
        placement_tags: BTreeSet::new(),
        optional_placement_tags: BTreeSet::new(),
    };
    (0..count).map(cell).collect()
}

/// Instances that run already: they use room and are not starting.
fn fill(cell: &mut CellState, count: u32) {
    cell.free = cell.free.minus(amounts(count, count, count));
}

fn app(process: &str, index: u32, memory_mb: u32) -> Auction {
    Auction { work: WorkKind::Lrp(key(process, index)), demand: app_demand(memory_mb) }
}

fn unique(prefix: &str, count: u32, memory_mb: u32) -> Vec<Auction> {
    (0..count).map(|number| app(&format!("{prefix}-{number:04}"), 0, memory_mb)).collect()
}

fn instances(process: &str, count: u32) -> Vec<Auction> {
    (0..count).map(|index| app(process, index, 1)).collect()
}

fn bin_pack(bin_pack_first_fit_weight: f64) -> Settings {
    Settings { starting_container_weight: 0.5, bin_pack_first_fit_weight, ..Settings::default() }
}

/// How many each cell won; all must have been placed.
fn won(auctions: Vec<Auction>, cells: Vec<CellState>, settings: Settings) -> BTreeMap<CellId, u32> {
    let Outcome { placements, failures } = schedule(Input { auctions, cells, settings });
    assert_eq!(failures, []);
    let mut won = BTreeMap::new();
    for placement in placements {
        *won.entry(placement.cell_id).or_default() += 1;
    }
    won
}

/// The same in many small rounds, each decided on what was heard by then: that something runs is
/// heard some rounds late, as a seed draws it.
fn won_late(
    auctions: &[Auction],
    mut cells: Vec<CellState>,
    settings: Settings,
    seed: u64,
) -> BTreeMap<CellId, u32> {
    let mut dice = Dice::new(seed);
    let mut won = BTreeMap::new();
    let mut unheard: Vec<(u32, CellId)> = Vec::new();
    let mut waiting = auctions.iter().cloned().peekable();
    for round in 0.. {
        if waiting.peek().is_none() {
            break;
        }
        for (_, cell_id) in unheard.extract_if(.., |(heard_in, _)| *heard_in <= round) {
            let cell = cells.iter_mut().find(|cell| cell.cell_id == cell_id).unwrap();
            cell.starting_container_count -= 1;
        }
        let some = waiting.by_ref().take(1 + usize::try_from(dice.below(8)).unwrap());
        let auctions = some.collect::<Vec<_>>();
        let demands = auctions.iter().map(|it| (it.work.clone(), it.demand.resources));
        let demands: BTreeMap<WorkKind, _> = demands.collect();
        let outcome = schedule(Input { auctions, cells: cells.clone(), settings });
        assert_eq!(outcome.failures, []);
        for placement in outcome.placements {
            let cell = cells.iter_mut().find(|cell| cell.cell_id == placement.cell_id).unwrap();
            cell.reserve(&placement.work, demands[&placement.work]);
            unheard.push((round + 1 + dice.below(10), placement.cell_id.clone()));
            *won.entry(placement.cell_id).or_default() += 1;
        }
    }
    won
}

/// So many cells won something, and none of them is further off their mean than this.
fn assert_even(won: &BTreeMap<CellId, u32>, winners: u32, tolerance: f64) {
    assert_eq!(won.len(), usize::try_from(winners).unwrap(), "{won:?}");
    let mean = f64::from(won.values().sum::<u32>()) / f64::from(winners);
    let off = won.values().map(|count| (f64::from(*count) - mean).abs()).fold(0.0, f64::max);
    assert!(off <= tolerance, "{off} off the mean {mean}: {won:?}");
}

/// A zone is filled from its first cell: plain spreading would not. Two cells are too few to show it.
fn assert_filled(counts: &[u32], weight: f64, cell_count: u32) {
    assert!(counts.is_sorted_by(|a, b| a >= b), "weight {weight}: {counts:?}");
    assert!(cell_count < 10 || counts.first() > counts.last(), "weight {weight}: {counts:?}");
}

fn by_zone(won: &BTreeMap<CellId, u32>, cells: &[CellState]) -> BTreeMap<Zone, Vec<u32>> {
    let mut zones: BTreeMap<Zone, Vec<u32>> = BTreeMap::new();
    for cell in cells {
        let count = won.get(&cell.cell_id).copied().unwrap_or(0);
        zones.entry(cell.zone.clone()).or_default().push(count);
    }
    zones
}

#[test]
fn small_cold_starts_are_even() {
    for (apps, cell_count) in SMALL {
        let won = won(unique("app", apps, 1), cells(cell_count), Settings::default());
        assert_even(&won, cell_count, 1.0);
    }
}

#[test]
fn bin_packing_fills_each_zone_from_its_first_cell_and_keeps_zones_even() {
    for weight in [0.25, 0.5, 0.75] {
        for (apps, cell_count) in SMALL {
            let cells = cells(cell_count);
            let won = won(unique("app", apps, 1), cells.clone(), bin_pack(weight));
            let zones = by_zone(&won, &cells);
            for counts in zones.values() {
                assert_filled(counts, weight, cell_count);
            }
            let sums: Vec<u32> = zones.values().map(|counts| counts.iter().sum()).collect();
            assert!(sums[0].abs_diff(sums[1]) <= 1, "weight {weight}: {sums:?}");
        }
    }
}

#[test]
fn bin_packing_still_spreads_the_instances_of_one_app() {
    for weight in [0.25, 0.5, 0.75] {
        for (apps, cell_count) in SMALL {
            let won = won(instances("yellow", apps), cells(cell_count), bin_pack(weight));
            assert_even(&won, cell_count, 1.0);
        }
    }
}

#[test]
fn large_cold_starts_of_mixed_sizes_are_nearly_even() {
    for (factor, cell_count) in [(1, 25), (4, 100)] {
        for seed in 0..3 {
            let mut dice = Dice::new(seed);
            let mut auctions = Vec::new();
            for (count, memory_mb) in [(1800, 1), (200, 2), (50, 4)] {
                let half = factor * count / 2;
                auctions.extend(unique(&format!("unique-{memory_mb}"), half, memory_mb));
                let mut indices = [0; 4];
                for _ in 0..half {
                    let color = usize::try_from(dice.below(4)).unwrap();
                    let process = format!("color-{memory_mb}-{color}");
                    auctions.push(app(&process, indices[color], memory_mb));
                    indices[color] += 1;
                }
            }
            dice.shuffle(&mut auctions);

            let won = won(auctions, cells(cell_count), Settings::default());
            assert_even(&won, cell_count, 6.0);
        }
    }
}

/// Bin packing fills cell by cell, so that what is even is each zone, not each cell.
#[test]
fn large_cold_starts_fill_each_zone_from_its_first_cell_when_bin_packed() {
    for (factor, cell_count) in [(1, 25), (4, 100)] {
        for weight in [0.25, 0.5, 0.75] {
            let cells = cells(cell_count);
            let auctions = unique("unique", factor * 1800, 1);

            let won = won(auctions, cells.clone(), bin_pack(weight));

            for counts in by_zone(&won, &cells).values() {
                assert_filled(counts, weight, cell_count);
            }
        }
    }
}

#[test]
fn a_deploy_does_not_overload_its_empty_cells() {
    for (empty, apps) in [(5, 500), (1, 100)] {
        let mut cells = cells(100);
        let filled = cells.len() - empty;
        for cell in &mut cells[..filled] {
            fill(cell, 50);
        }
        let empty: Vec<CellId> = cells[filled..].iter().map(|it| it.cell_id.clone()).collect();

        let won = won(unique("new", apps, 1), cells, Settings::default());

        // What starts weighs against an empty cell before its emptiness is used up.
        let share = apps / 100;
        for cell_id in empty {
            let count = won[&cell_id];
            assert!((share..=share + 1).contains(&count), "{cell_id} won {count} of {apps}");
        }
    }
}

#[test]
fn zones_get_the_same_number_of_instances_when_bin_packed_too() {
    let mut cells = cells(3);
    fill(&mut cells[1], 50);

    let won = won(instances("red", 40), cells.clone(), bin_pack(0.5));

    let zones = by_zone(&won, &cells);
    let sums: Vec<u32> = zones.values().map(|counts| counts.iter().sum()).collect();
    assert_eq!(sums, [20, 20]);
}

#[test]
fn the_watters_demo_is_even_when_bin_packed_too() {
    for (cell_count, apps) in [(10, 80), (30, 200), (100, 400)] {
        let mut dice = Dice::new(u64::from(apps));
        let mut cells = cells(cell_count);
        for cell in &mut cells {
            fill(cell, 78 + dice.below(3));
        }

        assert_even(&won(instances("red", apps), cells, bin_pack(0.25)), cell_count, 1.0);
    }
}

#[test]
fn zones_get_the_same_number_of_instances_however_full_they_are() {
    let mut cells = cells(3);
    fill(&mut cells[1], 50);

    let won = won(instances("red", 40), cells.clone(), Settings::default());

    let zones = by_zone(&won, &cells);
    let sums: Vec<u32> = zones.values().map(|counts| counts.iter().sum()).collect();
    assert_eq!(sums, [20, 20]);
}

#[test]
fn the_watters_demo_is_even_on_nearly_full_cells() {
    for (cell_count, apps) in [(10, 80), (30, 200), (100, 400)] {
        let mut dice = Dice::new(u64::from(apps));
        let mut cells = cells(cell_count);
        for cell in &mut cells {
            fill(cell, 78 + dice.below(3));
        }

        assert_even(&won(instances("red", apps), cells, Settings::default()), cell_count, 1.0);
    }
}

#[test]
fn one_apps_instances_are_even_however_late_it_is_heard_that_they_run() {
    for seed in 0..3 {
        for settings in [Settings::default(), bin_pack(0.25), bin_pack(0.75)] {
            for (apps, cell_count) in SMALL {
                let won = won_late(&instances("yellow", apps), cells(cell_count), settings, seed);
                assert_even(&won, cell_count, 1.0);
            }

            let mut three = cells(3);
            fill(&mut three[1], 50);
            let won = won_late(&instances("red", 40), three.clone(), settings, seed);
            let sums: Vec<u32> =
                by_zone(&won, &three).values().map(|counts| counts.iter().sum()).collect();
            assert_eq!(sums, [20, 20], "seed {seed}");

            let mut full = cells(10);
            full.iter_mut().for_each(|cell| fill(cell, 78));
            assert_even(&won_late(&instances("red", 80), full, settings, seed), 10, 1.0);
        }
    }
}

#[test]
fn the_first_boulder_comes_before_the_pebbles_and_the_second_after() {
    let mut auctions = unique("pebble", 80, 1);
    auctions.extend([app("red", 0, 50), app("red", 1, 50)]);

    let outcome = schedule(Input { auctions, cells: cells(1), settings: Settings::default() });

    let has = |index| outcome.placements.iter().any(|p| p.work == WorkKind::Lrp(key("red", index)));
    assert_eq!((outcome.placements.len(), outcome.failures.len()), (51, 31));
    assert_eq!((has(0), has(1)), (true, false));
}
