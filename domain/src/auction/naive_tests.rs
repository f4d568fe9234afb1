//! Diego's rules a second time, as plainly as they can be written, and thousands of random decisions
//! on which both must agree to the cell and to the letter.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Auction, BEST, Cells, Change, LISTED_MAX, Placement, Refusal, Score, Settings,
    fixture::{self, CellState, Input, amounts, app_demand, tags},
};
use crate::{
    bbs::rootfs::{Rootfs, RootfsProvider, RootfsProviders},
    id::Zone,
    log::{CellEpoch, Position},
    rep::WorkKind,
    testing::{Dice, cell_id, key, task_guid},
};

/// What one thing came to: its cell or its error's text.
type Verdict = (WorkKind, Result<Ranked, String>);

/// The cells that would do, best first.
type Ranked = Vec<(String, Score)>;

/// The whole auction, looking at every cell for everything.
fn naive(mut cells: Vec<CellState>, auctions: &[Auction], settings: &Settings) -> Vec<Verdict> {
    cells.sort_by_key(|cell| cell.cell_id.clone());
    let firsts = |auction: &&Auction| matches!(&auction.work, WorkKind::Lrp(k) if k.index == 0);
    let tasks = |auction: &&Auction| matches!(auction.work, WorkKind::Task(_));
    let mut queue: Vec<&Auction> = Vec::new();
    let biggest_first = |some: &mut Vec<&Auction>| {
        some.sort_by_key(|auction| u32::MAX - auction.demand.resources.memory_mb.0);
    };
    let mut first: Vec<&Auction> = auctions.iter().filter(firsts).collect();
    biggest_first(&mut first);
    queue.append(&mut first);
    let mut some_tasks: Vec<&Auction> = auctions.iter().filter(tasks).collect();
    biggest_first(&mut some_tasks);
    queue.append(&mut some_tasks);
    let last = auctions.iter().map(|auction| auction.work.index()).max().unwrap_or(0);
    for index in 1..=last {
        let at = |a: &&Auction| matches!(&a.work, WorkKind::Lrp(k) if k.index == index);
        let mut others: Vec<&Auction> = auctions.iter().filter(at).collect();
        biggest_first(&mut others);
        queue.append(&mut others);
    }
    let place = |auction: &Auction| {
        let verdict = naive_cells(&cells, auction, settings).map(|ranked| {
            let told =
                |(score, at): &(f64, usize)| (cells[*at].cell_id.to_string(), Score::of(*score));
            let named = ranked.iter().map(told).collect();
            cells[ranked[0].1].reserve(&auction.work, auction.demand.resources);
            named
        });
        (auction.work.clone(), verdict)
    };
    queue.into_iter().map(place).collect()
}

/// The cells that would do in one auction, best first.
fn naive_cells(
    cells: &[CellState],
    auction: &Auction,
    settings: &Settings,
) -> Result<Vec<(f64, usize)>, String> {
    if cells.is_empty() {
        return Err("unable to communicate to compatible cells".to_owned());
    }
    let starting: u32 = cells.iter().map(|cell| cell.starting_container_count).sum();
    let maximum = settings.starting_container_count_maximum;
    if maximum > 0 && starting >= maximum {
        return Err("waiting to start instance: reached in-flight start limit".to_owned());
    }
    let wanted = &auction.demand.constraint;
    let rootfs = wanted.rootfs.to_string();
    let has_rootfs = |at: &usize| {
        let texts = cells[*at].rootfs_providers.texts();
        let takes_images = texts.contains(&"docker:*".to_owned());
        texts.contains(&rootfs) || (takes_images && rootfs.starts_with("docker:"))
    };
    let all: Vec<usize> = (0..cells.len()).collect();
    let with_rootfs: Vec<usize> = all.iter().copied().filter(has_rootfs).collect();
    if with_rootfs.is_empty() {
        return Err("found no compatible cell for required rootfs".to_owned());
    }
    let has_drivers = |at: &usize| {
        wanted.volume_drivers.iter().all(|driver| cells[*at].volume_drivers.contains(driver))
    };
    let with_drivers: Vec<usize> = with_rootfs.into_iter().filter(has_drivers).collect();
    if with_drivers.is_empty() {
        return Err("found no compatible cell with required volume drivers".to_owned());
    }
    let tagged = |at: &usize| {
        let (required, optional) =
            (&cells[*at].placement_tags, &cells[*at].optional_placement_tags);
        required.iter().all(|tag| wanted.placement_tags.contains(tag))
            && wanted.placement_tags.iter().all(|t| required.contains(t) || optional.contains(t))
    };
    let compatible: Vec<usize> = with_drivers.into_iter().filter(tagged).collect();
    if compatible.is_empty() {
        return Err(naive_tags(&wanted.placement_tags));
    }
    let mut zones: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for at in &compatible {
        let beside: u64 = match &auction.work {
            WorkKind::Task(_) => 0,
            WorkKind::Lrp(key) => cells
                .iter()
                .filter(|cell| cell.zone == cells[*at].zone)
                .map(|cell| u64::from(cell.instances_of(&key.process_guid)))
                .sum(),
        };
        zones.entry(beside).or_default().push(*at);
    }
    let mut lacking: BTreeSet<&str> = ["memory", "disk", "containers"].into();
    for same in zones.values() {
        let mut ranked: Vec<(f64, usize)> = Vec::new();
        for at in same {
            let lacks = cells[*at].free.lacking(auction.demand.resources);
            if !lacks.is_empty() {
                lacking.retain(|amount| lacks.contains(amount));
                continue;
            }
            ranked.push((naive_score(cells, *at, auction, settings), *at));
        }
        // Cells come by id: of equal scores the first one stays first.
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !ranked.is_empty() {
            return Ok(ranked);
        }
    }
    let names: Vec<&str> = lacking.into_iter().collect();
    if names.is_empty() {
        return Err("insufficient resources".to_owned());
    }
    Err(format!("insufficient resources: {}", names.join(", ")))
}

fn naive_tags(tags: &BTreeSet<String>) -> String {
    let tags: Vec<String> = tags.iter().map(|tag| format!("{tag:?}")).collect();
    let told = match tags.len() {
        0 => "no placement tags".to_owned(),
        1 => format!("placement tag {}", tags[0]),
        many => format!("placement tags {} and {}", tags[..many - 1].join(", "), tags[many - 1]),
    };
    format!("found no compatible cell with {told}")
}

fn naive_score(cells: &[CellState], at: usize, auction: &Auction, settings: &Settings) -> f64 {
    let (cell, wanted) = (&cells[at], auction.demand.resources);
    let fraction = |free: u32, wanted: u32, total: u32| {
        if total == 0 { 0.0 } else { 1.0 - f64::from(free - wanted) / f64::from(total) }
    };
    let memory = fraction(cell.free.memory_mb.0, wanted.memory_mb.0, cell.total.memory_mb.0);
    let disk = fraction(cell.free.disk_mb.0, wanted.disk_mb.0, cell.total.disk_mb.0);
    let containers = fraction(cell.free.containers, wanted.containers, cell.total.containers);
    let resources = (memory + disk + containers) / 3.0
        + f64::from(cell.starting_container_count) * settings.starting_container_weight;
    match &auction.work {
        WorkKind::Task(_) => resources + 1000.0 * f64::from(cell.task_count),
        WorkKind::Lrp(key) => {
            let before = cells[..at].iter().filter(|other| other.zone == cell.zone).count();
            let index = f64::from(u32::try_from(before).unwrap());
            resources
                + 1000.0 * f64::from(cell.instances_of(&key.process_guid))
                + index * settings.bin_pack_first_fit_weight
        }
    }
}

/// Compares both on one seed's round, and says how many decisions that were.
fn compare(seed: u64) -> usize {
    let input = random_input(&mut Dice::new(seed));
    let expected = naive(input.cells.clone(), &input.auctions, &input.settings);
    let outcome = fixture::schedule(input.clone());
    let is_listed = input.cells.len() <= LISTED_MAX;
    let cut = |ranked: &Ranked| {
        let told = if is_listed { ranked.len() } else { ranked.len().min(BEST) };
        ranked[..told].to_vec()
    };
    let best = |placement: &Placement| -> Ranked {
        let best = placement.candidates.best.iter();
        best.map(|(cell_id, score)| (cell_id.to_string(), *score)).collect()
    };
    let placed = outcome.placements.iter().map(|p| (&p.work, Ok(best(p))));
    let failed = outcome.failures.iter().map(|f| (&f.work, Err(f.error.to_string())));
    let ours: BTreeMap<&WorkKind, Result<Ranked, String>> = placed.chain(failed).collect();
    for (work, verdict) in &expected {
        let verdict = verdict.as_ref().map(cut).map_err(Clone::clone);
        assert_eq!(ours.get(work), Some(&verdict), "seed {seed}: {work:?}");
    }
    assert_eq!(ours.len(), expected.len(), "seed {seed}");
    for placement in &outcome.placements {
        check_candidates(&input, placement, seed);
    }
    expected.len()
}

/// The first of the best is the winner, and every cell is told or counted.
fn check_candidates(input: &Input, placement: &Placement, seed: u64) {
    let candidates = &placement.candidates;
    assert_eq!(candidates.best[0].0, placement.cell_id, "seed {seed}");
    let counted: u32 = candidates.counts.iter().map(|(_, cells)| cells).sum();
    let told = candidates.best.len() + candidates.refused.len();
    assert_eq!(told + usize::try_from(counted).unwrap(), input.cells.len(), "seed {seed}");
    assert_eq!(input.cells.len() <= LISTED_MAX, candidates.counts.is_empty(), "seed {seed}");
}

pub(super) fn random_input(dice: &mut Dice) -> Input {
    let cell_count = dice.pick(&[0, 1, 2, 5, 12, 20, 21, 40, 70]);
    let is_uniform = dice.one_in(3);
    let cells: Vec<CellState> =
        (0..cell_count).map(|number| random_cell(dice, number, is_uniform)).collect();
    let processes = dice.pick(&[1, 3, 12]);
    let mut next = BTreeMap::new();
    let sizes = if dice.one_in(2) { vec![4] } else { vec![1, 2, 4, 7, 30] };
    let auctions = (0..1 + dice.below(60)).map(|number| {
        let mut demand = app_demand(dice.pick(&sizes));
        demand.resources.disk_mb.0 = dice.pick(&[0, 1, 1, 5]);
        demand.constraint.placement_tags = dice.pick(&[
            tags(&[]),
            tags(&[]),
            tags(&["x"]),
            tags(&["x", "y"]),
            tags(&["x", "y", "z"]),
        ]);
        if dice.one_in(9) {
            let texts = ["preloaded:other", "preloaded:none", "docker:///a"];
            demand.constraint.rootfs = Rootfs::new(dice.pick(&texts)).unwrap();
        }
        if dice.one_in(9) {
            demand.constraint.volume_drivers = dice.pick(&[tags(&["nfs"]), tags(&["nfs", "smb"])]);
        }
        let work = if dice.one_in(5) {
            WorkKind::Task(task_guid(&format!("task-{number}")))
        } else {
            let process = format!("app-{}", dice.below(processes));
            let index = next.entry(process.clone()).or_insert(0);
            *index += 1;
            WorkKind::Lrp(key(&process, *index - 1))
        };
        Auction { work, demand }
    });
    let auctions = auctions.collect();
    let settings = Settings {
        starting_container_weight: dice.pick(&[0.25, 0.25, 0.0, 0.5, 0.1]),
        starting_container_count_maximum: dice.pick(&[0, 0, 0, 0, 40]),
        bin_pack_first_fit_weight: dice.pick(&[0.0, 0.0, 0.25, 0.75, 0.1]),
    };
    Input { auctions, cells, settings }
}

fn random_cell(dice: &mut Dice, number: u32, is_uniform: bool) -> CellState {
    let total = if is_uniform {
        amounts(100, 100, 100)
    } else {
        amounts(
            dice.pick(&[64, 100, 101, 128]),
            dice.pick(&[0, 100, 333]),
            dice.pick(&[9, 50, 250]),
        )
    };
    let free = if is_uniform && dice.one_in(2) {
        total
    } else {
        amounts(
            dice.below(total.memory_mb.0 + 1),
            dice.below(total.disk_mb.0 + 1),
            dice.below(total.containers + 1),
        )
    };
    let mut instances = Vec::new();
    for process in 0..3 {
        if dice.one_in(4) {
            let guid = key(&format!("app-{process}"), 0).process_guid;
            instances.push((guid, 1 + dice.below(3)));
        }
    }
    let rarely = |dice: &mut Dice, some: &[&str]| {
        if dice.one_in(5) { tags(some) } else { tags(&[]) }
    };
    let linux = RootfsProviders::preloaded(["linux"]);
    let rootfs_providers = dice.pick(&[
        linux.clone(),
        linux.clone(),
        linux.and("docker", RootfsProvider::Arbitrary),
        RootfsProviders::preloaded(["linux", "other"]),
        RootfsProviders::preloaded(["other"]),
    ]);
    CellState {
        // By number the ids are not in order: "cell-10" is before "cell-9".
        cell_id: cell_id(&format!("cell-{number}")),
        cell_epoch: CellEpoch(1),
        zone: Zone::new(&format!("z{}", dice.below(4))).unwrap(),
        total,
        free,
        starting_container_count: if is_uniform { 0 } else { dice.below(3) },
        instances,
        task_count: if is_uniform { 0 } else { dice.below(3) },
        rootfs_providers,
        volume_drivers: rarely(dice, &["nfs"]),
        placement_tags: rarely(dice, &["x"]),
        optional_placement_tags: rarely(dice, &["x", "y"]),
    }
}

fn number(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the long run names its size")]
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn thousands_of_random_decisions_are_those_of_the_naive_auction() {
    let wanted = usize::try_from(number("DIARIO_DECISIONS", 20_000)).unwrap();
    let mut seed = number("DIARIO_SEED", 1);
    let mut compared = 0;
    while compared < wanted {
        compared += compare(seed);
        seed += 1;
    }
}

/// Kept up change by change, the order is the one made from nothing.
#[test]
fn an_order_that_was_kept_up_decides_as_one_made_anew() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut input = random_input(&mut dice);
        let mut cells = fixture::kept(&input.cells);
        let decide = |cells: &Cells, input: &Input| {
            let Input { auctions, settings, .. } = input.clone();
            super::schedule(super::Input { auctions, cells, settings, seen: Position(1) })
        };
        decide(&cells, &input);
        for _ in 0..30 {
            change_one(&mut cells, &mut input, &mut dice);
        }

        let made_anew = fixture::kept(&input.cells);

        assert_eq!(decide(&cells, &input), decide(&made_anew, &input), "seed {seed}");
        assert_eq!(format!("{cells:?}"), format!("{made_anew:?}"), "seed {seed}");
    }
}

fn change_one(cells: &mut Cells, input: &mut Input, dice: &mut Dice) {
    if input.cells.is_empty() {
        return;
    }
    let count = u32::try_from(input.cells.len()).unwrap();
    let at = usize::try_from(dice.below(count)).unwrap();
    let state = &mut input.cells[at];
    let number = cells.number(&state.cell_id);
    match dice.below(5) {
        0 => {
            state.free = amounts(
                dice.below(state.total.memory_mb.0 + 1),
                dice.below(state.total.disk_mb.0 + 1),
                dice.below(state.total.containers + 1),
            );
            cells.set_free(number, state.free);
        }
        1 => {
            state.starting_container_count += 1;
            cells.count_starting(number, Change::OneMore);
        }
        2 if state.task_count > 0 => {
            state.task_count -= 1;
            cells.count_task(number, Change::OneLess);
        }
        3 => {
            let guid = key("app-1", 0).process_guid;
            state.instances.push((guid.clone(), 1));
            cells.count_instance(number, &guid, Change::OneMore);
        }
        4 if dice.one_in(8) => {
            cells.put(number, None);
            let gone = input.cells.remove(at);
            for (guid, instances) in gone.instances {
                for _ in 0..instances {
                    cells.count_instance(number, &guid, Change::OneLess);
                }
            }
            for _ in 0..gone.starting_container_count {
                cells.count_starting(number, Change::OneLess);
            }
            for _ in 0..gone.task_count {
                cells.count_task(number, Change::OneLess);
            }
        }
        _ => {
            state.task_count += 1;
            cells.count_task(number, Change::OneMore);
        }
    }
}

#[test]
fn a_refusal_is_read_as_it_was_written() {
    for number in 0..8 {
        let lacks = Refusal::Lacks(super::Lacking::of_number(number));
        for refusal in Refusal::PLAIN {
            assert_eq!(refusal.to_string().parse(), Ok(refusal));
        }
        if number > 0 {
            assert_eq!(lacks.to_string().parse(), Ok(lacks));
        }
    }
    assert!("lacks time".parse::<Refusal>().is_err());
}
