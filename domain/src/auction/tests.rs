//! Texts, filters, order and score; then a referee that knows the rules in another form and looks
//! at every placement of some thousand seeded rounds.

use std::collections::BTreeSet;

use super::{
    Auction, Demand, Outcome, PlacementError, Settings,
    fixture::{CellState, Input, amounts, app_demand, schedule, tags},
};
use crate::{
    bbs::definition::Rootfs,
    id::Zone,
    log::CellEpoch,
    rep::WorkKind,
    testing::{Dice, cell_id, key, task_guid},
    units::Mebibytes,
};

fn cell(name: &str) -> CellState {
    CellState {
        cell_id: cell_id(name),
        cell_epoch: CellEpoch(1),
        zone: Zone::new("z1").unwrap(),
        total: amounts(128, 128, 16),
        free: amounts(128, 128, 16),
        starting_container_count: 0,
        instances: Vec::new(),
        task_count: 0,
        preloaded_rootfses: tags(&["linux"]),
        placement_tags: BTreeSet::new(),
        optional_placement_tags: BTreeSet::new(),
    }
}

fn lrp(process: &str, index: u32, memory_mb: u32) -> Auction {
    Auction { work: WorkKind::Lrp(key(process, index)), demand: app_demand(memory_mb) }
}

fn task(task: &str, memory_mb: u32) -> Auction {
    Auction { work: WorkKind::Task(task_guid(task)), demand: app_demand(memory_mb) }
}

fn round(auctions: Vec<Auction>, cells: Vec<CellState>) -> Outcome {
    schedule(Input { auctions, cells, settings: Settings::default() })
}

/// The text with which a lone auction fails on these cells; empty when it is placed.
fn error(auction: &Auction, cells: &[CellState]) -> String {
    let outcome = round(vec![auction.clone()], cells.to_vec());
    outcome.failures.first().map(|failure| failure.error.to_string()).unwrap_or_default()
}

/// The cell that a lone auction is placed on.
fn winner(auction: Auction, cells: Vec<CellState>) -> String {
    round(vec![auction], cells).placements[0].cell_id.to_string()
}

fn tagged(wanted: &[&str]) -> Auction {
    let mut auction = lrp("a", 0, 1);
    auction.demand.constraint.placement_tags = tags(wanted);
    auction
}

#[test]
fn nothing_is_placed_without_a_cell() {
    assert_eq!(error(&task("t", 1), &[]), "unable to communicate to compatible cells");
}

#[test]
fn a_missing_rootfs_is_told_before_missing_tags() {
    let mut unknown = tagged(&["x"]);
    unknown.demand.constraint.rootfs = Rootfs::new("preloaded:other").unwrap();

    assert_eq!(error(&unknown, &[cell("a")]), "found no compatible cell for required rootfs");
}

#[test]
fn the_error_that_got_furthest_in_any_zone_is_told() {
    let without_rootfs = CellState {
        zone: Zone::new("z2").unwrap(),
        preloaded_rootfses: BTreeSet::new(),
        ..cell("b")
    };
    let text = "found no compatible cell with placement tag \"x\"";

    assert_eq!(error(&tagged(&["x"]), &[cell("a"), without_rootfs.clone()]), text);
    assert_eq!(error(&tagged(&["x"]), &[without_rootfs, cell("c")]), text);
}

#[test]
fn tags_must_be_all_that_a_cell_requires_and_none_that_it_does_not_know() {
    let tagged_cell = CellState {
        placement_tags: tags(&["iso"]),
        optional_placement_tags: tags(&["gpu"]),
        ..cell("a")
    };
    let told = |wanted: &[&str]| error(&tagged(wanted), std::slice::from_ref(&tagged_cell));

    assert_eq!(told(&["iso"]), "");
    assert_eq!(told(&["iso", "gpu"]), "");
    assert_eq!(told(&[]), "found no compatible cell with no placement tags");
    assert_eq!(told(&["gpu"]), "found no compatible cell with placement tag \"gpu\"");
    assert_eq!(
        told(&["iso", "c", "b"]),
        "found no compatible cell with placement tags \"b\", \"c\" and \"iso\""
    );
}

#[test]
fn only_what_every_compatible_cell_lacks_is_told_as_lacking() {
    let mut big = lrp("a", 0, 100);
    big.demand.resources.disk_mb = Mebibytes(100);
    let full = CellState { free: amounts(0, 0, 0), ..cell("full") };
    let without = |name, free| CellState { free, ..cell(name) };
    let other_rootfs = CellState {
        preloaded_rootfses: BTreeSet::new(),
        ..without("other", amounts(128, 128, 16))
    };

    assert_eq!(
        error(&big, &[full.clone(), other_rootfs]),
        "insufficient resources: containers, disk, memory"
    );
    assert_eq!(
        error(&big, &[full, without("a", amounts(0, 0, 16))]),
        "insufficient resources: disk, memory"
    );
    assert_eq!(
        error(&big, &[without("a", amounts(128, 0, 16)), without("b", amounts(0, 128, 16))]),
        "insufficient resources"
    );
}

#[test]
fn no_more_start_than_may_be_starting_over_all_cells() {
    let settings = Settings { starting_container_count_maximum: 4, ..Settings::default() };
    let busy = CellState { starting_container_count: 2, ..cell("a") };
    let auctions = vec![lrp("a", 1, 1), task("t", 1), lrp("a", 0, 1)];

    let outcome = schedule(Input { auctions, cells: vec![busy, cell("b")], settings });

    assert_eq!(outcome.placements.len(), 2);
    let text = "waiting to start instance: reached in-flight start limit";
    assert_eq!(outcome.failures[0].error.to_string(), text);
    assert_eq!(outcome.failures[0].work, WorkKind::Lrp(key("a", 1)));
}

#[test]
fn first_instances_then_tasks_then_the_rest_by_index_biggest_first() {
    let order = |auctions: Vec<Auction>| -> Vec<String> {
        let placements = round(auctions, vec![cell("a")]).placements;
        let name = |work: &WorkKind| match work {
            WorkKind::Lrp(key) => key.to_string(),
            WorkKind::Task(task_guid) => task_guid.to_string(),
        };
        placements.iter().map(|placement| name(&placement.work)).collect()
    };

    assert_eq!(
        order(vec![
            lrp("a", 2, 1),
            lrp("b", 1, 1),
            lrp("a", 1, 2),
            task("s", 1),
            task("t", 9),
            lrp("b", 0, 1),
            lrp("a", 0, 1),
            lrp("c", 0, 3),
        ]),
        ["c/0", "b/0", "a/0", "t", "s", "a/1", "b/1", "a/2"]
    );
    // Diego would place the task first here: its batch holds no further instance.
    assert_eq!(order(vec![task("t", 9), lrp("a", 0, 1)]), ["a/0", "t"]);
}

#[test]
fn an_instance_goes_where_its_siblings_are_not_and_a_task_where_tasks_are_not() {
    let mut crowded = cell("a");
    crowded.instances.push((key("web", 0).process_guid, 1));
    crowded.task_count = 1;
    let nearly_full = CellState { free: amounts(8, 8, 2), ..cell("b") };

    let cells = || vec![crowded.clone(), nearly_full.clone()];
    assert_eq!(winner(lrp("web", 1, 1), cells()), "b");
    assert_eq!(winner(lrp("other", 1, 1), cells()), "a");
    assert_eq!(winner(task("t", 1), cells()), "b");
}

#[test]
fn of_equal_cells_the_lowest_id_wins_in_whatever_order_they_come() {
    let in_z0 = CellState { zone: Zone::new("z0").unwrap(), ..cell("b") };

    assert_eq!(winner(lrp("a", 0, 1), vec![cell("c"), in_z0.clone(), cell("a")]), "a");
    assert_eq!(winner(task("t", 1), vec![in_z0, cell("a")]), "a");
}

#[test]
fn a_cell_that_has_none_of_an_amount_still_takes_what_needs_none_of_it() {
    let diskless = CellState { total: amounts(128, 0, 16), free: amounts(128, 0, 16), ..cell("a") };
    let mut auction = lrp("a", 0, 1);
    auction.demand.resources.disk_mb = Mebibytes(0);

    assert_eq!(error(&auction, &[diskless]), "");
}

#[test]
fn every_placement_of_seeded_rounds_stands_before_a_referee() {
    let (mut placed, mut failed) = (0, 0);
    for seed in 0..3000 {
        let input = random_input(&mut Dice::new(seed));
        let outcome = schedule(input.clone());
        assert_eq!(outcome, schedule(input.clone()), "seed {seed}: not repeatable");
        placed += outcome.placements.len();
        failed += outcome.failures.len();
        referee(input, outcome, seed);
    }
    assert!(placed > 10_000 && failed > 10_000, "{placed} placed, {failed} failed");
}

fn random_input(dice: &mut Dice) -> Input {
    let cells = (0..dice.below(7)).map(|number| random_cell(dice, number)).collect();
    let auctions = (0..1 + dice.below(25))
        .map(|number| {
            let mut auction = match dice.below(4) {
                0 => task(&format!("t-{number}"), 0),
                _ => lrp(["a", "b", "c"][usize::try_from(number % 3).unwrap()], number / 3, 0),
            };
            let resources = amounts(1 + dice.below(60), dice.below(40), 1);
            let placement_tags =
                if dice.one_in(6) { tags(&[dice.pick(&["x", "y"])]) } else { tags(&[]) };
            auction.demand = Demand { resources, ..app_demand(1) };
            auction.demand.constraint.placement_tags = placement_tags;
            if dice.one_in(15) {
                auction.demand.constraint.rootfs = Rootfs::new("preloaded:other").unwrap();
            }
            auction
        })
        .collect();
    let settings = Settings {
        starting_container_weight: dice.pick(&[0.0, 0.25, 0.5]),
        starting_container_count_maximum: dice.pick(&[0, 0, 0, 9]),
        bin_pack_first_fit_weight: dice.pick(&[0.0, 0.0, 0.5]),
    };
    Input { auctions, cells, settings }
}

fn random_cell(dice: &mut Dice, number: u32) -> CellState {
    let mut random = CellState {
        zone: Zone::new(dice.pick(&["z1", "z2", "z3"])).unwrap(),
        free: amounts(dice.below(129), dice.below(129), dice.below(17)),
        starting_container_count: dice.below(3),
        task_count: dice.below(2),
        ..cell(&format!("cell-{number}"))
    };
    if dice.one_in(3) {
        random.instances.push((key("a", 0).process_guid, 1 + dice.below(2)));
    }
    if dice.one_in(4) {
        random.placement_tags = tags(&["x"]);
    }
    if dice.one_in(4) {
        random.optional_placement_tags = tags(&["x", "y"]);
    }
    if dice.one_in(5) {
        random.preloaded_rootfses = tags(&["other", "linux"]);
    }
    random
}

/// Walks the work in order; judges each placement by looking at every cell.
fn referee(input: Input, outcome: Outcome, seed: u64) {
    let Input { mut auctions, mut cells, settings } = input;
    cells.sort_by_key(|cell| cell.cell_id.clone());
    auctions.sort_by_key(|auction| {
        (class(&auction.work), u32::MAX - auction.demand.resources.memory_mb.0)
    });
    let (mut placements, mut failures) = (outcome.placements.iter(), outcome.failures.iter());
    for auction in auctions {
        let starting: u32 = cells.iter().map(|cell| cell.starting_container_count).sum();
        let is_limited = settings.starting_container_count_maximum > 0
            && starting >= settings.starting_container_count_maximum;
        let mut candidates: Vec<(u64, f64, usize)> = (0..cells.len())
            .filter(|index| !is_limited && may_take(&cells[*index], &auction.demand))
            .map(|index| {
                let (group, score) = weigh(&cells, index, &auction, &settings);
                (group, score, index)
            })
            .collect();
        candidates.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let Some(&(group, score, _)) = candidates.first() else {
            assert_eq!(failures.next().map(|f| &f.work), Some(&auction.work), "seed {seed}");
            continue;
        };
        let placement = placements.next().unwrap();
        assert_eq!(placement.work, auction.work, "seed {seed}");
        let chosen = candidates.iter().find(|c| cells[c.2].cell_id == placement.cell_id).unwrap();
        assert_eq!(chosen.0, group, "seed {seed}: a fuller zone");
        assert!(chosen.1 <= score + 1e-9, "seed {seed}: a worse cell");
        cells[chosen.2].reserve(&auction.work, auction.demand.resources);
    }
    assert_eq!((placements.count(), failures.count()), (0, 0), "seed {seed}");
}

fn class(work: &WorkKind) -> u32 {
    match work {
        WorkKind::Lrp(key) if key.index == 0 => 0,
        WorkKind::Task(_) => 1,
        WorkKind::Lrp(key) => 1 + key.index,
    }
}

fn may_take(cell: &CellState, demand: &Demand) -> bool {
    let known: BTreeSet<String> =
        cell.placement_tags.union(&cell.optional_placement_tags).cloned().collect();
    let wanted = &demand.constraint.placement_tags;
    cell.preloaded_rootfses.contains(demand.constraint.rootfs.preloaded_name())
        && wanted.difference(&known).next().is_none()
        && cell.placement_tags.difference(wanted).next().is_none()
        && cell.free.memory_mb >= demand.resources.memory_mb
        && cell.free.disk_mb >= demand.resources.disk_mb
        && cell.free.containers >= demand.resources.containers
}

/// The instances in the cell's zone, and its score, as fractions of what is used.
fn weigh(cells: &[CellState], index: usize, auction: &Auction, settings: &Settings) -> (u64, f64) {
    let cell = &cells[index];
    let wanted = auction.demand.resources;
    let used =
        |total: u32, free: u32, wanted: u32| f64::from(total - free + wanted) / f64::from(total);
    let mean = (used(cell.total.memory_mb.0, cell.free.memory_mb.0, wanted.memory_mb.0)
        + used(cell.total.disk_mb.0, cell.free.disk_mb.0, wanted.disk_mb.0)
        + used(cell.total.containers, cell.free.containers, wanted.containers))
        / 3.0;
    let starting = f64::from(cell.starting_container_count) * settings.starting_container_weight;
    match &auction.work {
        WorkKind::Task(_) => (0, mean + starting + 1000.0 * f64::from(cell.task_count)),
        WorkKind::Lrp(key) => {
            let zone = || cells.iter().filter(|other| other.zone == cell.zone);
            let instances = |cell: &CellState| cell.instances_of(&key.process_guid);
            let group = zone().map(|other| u64::from(instances(other))).sum();
            let rank = zone().take_while(|other| other.cell_id != cell.cell_id).count();
            let rank = f64::from(u32::try_from(rank).unwrap());
            let bin_pack = rank * settings.bin_pack_first_fit_weight;
            (group, mean + starting + 1000.0 * f64::from(instances(cell)) + bin_pack)
        }
    }
}

#[test]
fn a_task_is_rejected_by_cells_and_never_by_their_absence() {
    let note = |work, error| super::Failure { work, error, candidates: None }.into_command();
    let task = WorkKind::Task(task_guid("t"));
    let slot = WorkKind::Lrp(key("web", 0));

    assert_eq!(note(task.clone(), PlacementError::NoCells), None);
    assert!(note(task, PlacementError::Rootfs).is_some());
    assert!(note(slot, PlacementError::NoCells).is_some());
}
