//! What would be better elsewhere: moves of running instances, and what each gains. A plan for people
//! to look at; nothing applies it unasked.
//!
//! An instance moves in the plan where the auction, asked anew, would choose another cell by a clear
//! margin, given the moves before. Tasks never move.

use std::cmp::Reverse;

use super::{
    Auction, CellNumber, Cells, Change, Demand, Input, Score, Settings,
    order::{Order, Queue},
    schedule,
    score::LOCALITY_WEIGHT,
    search::Search,
    siblings::{Siblings, zone_of},
};
use crate::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{ActualLrp, State},
        cell::Cell,
        placement::Resources,
    },
    id::{ActualLrpKey, CellId},
    log::Position,
    rep::WorkKind,
};

/// A running instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movable {
    /// Its slot.
    pub key: ActualLrpKey,
    /// Where it is.
    pub cell_id: CellId,
    /// What it needs of its cell.
    pub demand: Demand,
}

/// How far a plan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most moves.
    pub moves_max: usize,
    /// At most so many instances are looked at, those that are placed worst.
    pub looks_max: usize,
    /// The least that a move must gain.
    pub gain_min: Score,
}

/// 100 moves of 10,000 instances, that each gain a twentieth of a cell.
impl Default for Bounds {
    fn default() -> Self {
        Self { moves_max: 100, looks_max: 10_000, gain_min: Score(50_000) }
    }
}

/// What would be better elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub moves: Vec<Move>,
    /// What all of them gain together.
    pub gain: Score,
    /// How unevenly the cells are used now: the share that the fullest of them has given away, less
    /// that of the emptiest; memory, disk and containers count alike.
    pub imbalance_before: Score,
    /// The same after all moves.
    pub imbalance_after: Score,
}

/// One instance to another cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Its slot.
    pub key: ActualLrpKey,
    /// Where it is.
    pub from: CellId,
    /// Where it would be better.
    pub to: CellId,
    /// How much lower its score is there; a zone with fewer of its process counts as a cell with
    /// one less.
    pub gain: Score,
}

/// Plans moves of the instances that are placed worst. The cells hold them now.
#[must_use]
pub fn rebalance(movable: Vec<Movable>, cells: &Cells, settings: Settings, bounds: Bounds) -> Plan {
    let mut cells = cells.clone();
    let mut plan = Plan { imbalance_before: imbalance(&cells), ..Plan::default() };
    let worst = worst_first(movable, &mut cells, &settings);
    for movable in worst.into_iter().take(bounds.looks_max) {
        if plan.moves.len() >= bounds.moves_max {
            break;
        }
        let from = cells.number(&movable.cell_id);
        let Movable { key, demand, .. } = movable;
        release(&mut cells, from, &key, demand.resources);
        let found = better(&cells, &key, &demand, from, &settings);
        let Some((to, gain)) = found.filter(|(_, gain)| *gain >= bounds.gain_min) else {
            hold(&mut cells, from, &key, demand.resources);
            continue;
        };
        plan.gain = Score(plan.gain.0.saturating_add(gain.0));
        let to_number = cells.number(&to);
        hold(&mut cells, to_number, &key, demand.resources);
        plan.moves.push(Move { key, from: movable.cell_id, to, gain });
    }
    plan.imbalance_after = imbalance(&cells);
    plan
}

/// The instances that a plan may move: healthy, wanted, alone in their slots, on cells that take
/// work. The rest moves already, or is about to end.
#[must_use]
pub fn movable(aggregates: &Aggregates) -> Vec<Movable> {
    let movable = |slot: &ActualLrp| {
        let State::Running(running) = &slot.state else { return None };
        let lrp = aggregates.desired_lrp(&slot.key.process_guid)?;
        let is_wanted = slot.key.index < lrp.instances && !slot.is_stopping;
        let cell_id = &running.placement.cell_id;
        let takes_work = aggregates.cell(cell_id).is_some_and(Cell::takes_work);
        (is_wanted && takes_work && !slot.has_twin()).then(|| Movable {
            key: slot.key.clone(),
            cell_id: cell_id.clone(),
            demand: Demand::of(lrp.definition.shared().as_ref()),
        })
    };
    aggregates.slots().filter_map(movable).collect()
}

fn imbalance(cells: &Cells) -> Score {
    let shares = cells.present().into_iter().map(|(_, _, cell)| used_share(cell.total, cell.free));
    let (least, most) = shares
        .fold((f64::INFINITY, 0.0_f64), |(least, most), share| (least.min(share), most.max(share)));
    Score::of((most - least).max(0.0))
}

fn used_share(total: Resources, free: Resources) -> f64 {
    let of = |free: u32, total: u32| match total {
        0 => 0.0,
        _ => 1.0 - f64::from(free) / f64::from(total),
    };
    let memory = of(free.memory_mb.0, total.memory_mb.0);
    let disk = of(free.disk_mb.0, total.disk_mb.0);
    (memory + disk + of(free.containers, total.containers)) / 3.0
}

/// By what each adds to its cell's score where it is; of equals, by slot.
fn worst_first(movable: Vec<Movable>, cells: &mut Cells, settings: &Settings) -> Vec<Movable> {
    let numbered: Vec<(CellNumber, Movable)> =
        movable.into_iter().map(|it| (cells.number(&it.cell_id), it)).collect();
    let order = cells.order(settings);
    let scored = numbered.into_iter().filter_map(|(number, it)| {
        let score = score_on(cells, &order, number, &it.key, &it.demand, settings)?;
        Some((Score::of(score), it))
    });
    let mut scored: Vec<(Score, Movable)> = scored.collect();
    scored.sort_by_cached_key(|(score, it)| (Reverse(*score), it.key.clone()));
    scored.into_iter().map(|(_, movable)| movable).collect()
}

/// The cell that the auction chooses, and what is gained there; none when it chooses the same.
fn better(
    cells: &Cells,
    key: &ActualLrpKey,
    demand: &Demand,
    from: CellNumber,
    settings: &Settings,
) -> Option<(CellId, Score)> {
    // A move starts nothing more than it stops.
    let settings = Settings { starting_container_count_maximum: 0, ..*settings };
    let auctions = vec![Auction { work: WorkKind::Lrp(key.clone()), demand: demand.clone() }];
    let outcome = schedule(Input { auctions, cells, settings, seen: Position(0) });
    let placement = outcome.placements.into_iter().next()?;
    if cells.cell_id(from) == Some(&placement.cell_id) {
        return None;
    }
    let order = cells.order(&settings);
    let here = score_on(cells, &order, from, key, demand, &settings)?;
    let to = cells.known(&placement.cell_id)?;
    let there = score_on(cells, &order, to, key, demand, &settings)?;
    let siblings = Siblings::new(cells.instances_of(&key.process_guid), &order);
    let in_zone_of = |number| Some(siblings.in_zone(zone_of(order.place(number)?, &order)));
    let evens_zones = in_zone_of(to)? < in_zone_of(from)?;
    let by_zone = if evens_zones { LOCALITY_WEIGHT } else { 0.0 };
    Some((placement.cell_id, Score::of((here - there).max(0.0) + by_zone)))
}

/// The score of a cell for an instance, whether or not it has room.
fn score_on(
    cells: &Cells,
    order: &Order,
    number: CellNumber,
    key: &ActualLrpKey,
    demand: &Demand,
    settings: &Settings,
) -> Option<f64> {
    let siblings = Siblings::new(cells.instances_of(&key.process_guid), order);
    let search = Search::new(demand.resources, Queue::Lrps, Some(&siblings), settings);
    let place = order.place(number)?;
    let state = order.cell(place)?.state;
    Some(search.score(&order.key(place, state, Queue::Lrps)?))
}

fn release(cells: &mut Cells, on: CellNumber, key: &ActualLrpKey, resources: Resources) {
    if let Some(free) = cells.free(on) {
        cells.set_free(on, free.plus(resources));
    }
    cells.count_instance(on, &key.process_guid, Change::OneLess);
}

fn hold(cells: &mut Cells, on: CellNumber, key: &ActualLrpKey, resources: Resources) {
    if let Some(free) = cells.free(on) {
        cells.set_free(on, free.minus(resources));
    }
    cells.count_instance(on, &key.process_guid, Change::OneMore);
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{CellState, amounts, app_demand, kept, plain_cell},
        *,
    };
    use crate::{
        bbs::{actual_lrp, cell},
        id::Zone,
        testing::{Story, cell_id, key, placed_story, running_story},
        units::Milliseconds,
    };

    /// Cells of 100 with these instances of one MiB running on them.
    fn cluster(held: &[(&str, &str, &[ActualLrpKey])]) -> (Cells, Vec<Movable>) {
        let mut movable = Vec::new();
        let cells: Vec<CellState> = held
            .iter()
            .map(|(name, zone, keys)| {
                let count = u32::try_from(keys.len()).unwrap();
                let instance = |key: &ActualLrpKey| (key.process_guid.clone(), 1);
                movable.extend(keys.iter().map(|key| Movable {
                    key: key.clone(),
                    cell_id: cell_id(name),
                    demand: app_demand(10),
                }));
                CellState {
                    zone: Zone::new(zone).unwrap(),
                    total: amounts(100, 100, 100),
                    free: amounts(100 - 10 * count, 100 - count, 100 - count),
                    instances: keys.iter().map(instance).collect(),
                    ..plain_cell(name)
                }
            })
            .collect();
        (kept(&cells), movable)
    }

    fn plan(held: &[(&str, &str, &[ActualLrpKey])]) -> Plan {
        let (cells, movable) = cluster(held);
        rebalance(movable, &cells, Settings::default(), Bounds::default())
    }

    fn apps(from: u32, to: u32) -> Vec<ActualLrpKey> {
        (from..to).map(|number| key(&format!("app-{number}"), 0)).collect()
    }

    #[test]
    fn an_even_cluster_has_nothing_to_move() {
        let plan = plan(&[("a", "z1", &apps(0, 4)), ("b", "z1", &apps(4, 8))]);

        assert_eq!(plan.moves, []);
        assert_eq!((plan.imbalance_before, plan.imbalance_after), (Score(0), Score(0)));
    }

    #[test]
    fn half_of_a_full_cell_goes_to_an_empty_one() {
        let plan = plan(&[("a", "z1", &apps(0, 8)), ("b", "z1", &[])]);

        assert!((3..=4).contains(&plan.moves.len()), "{plan:?}");
        assert!(plan.moves.iter().all(|it| it.from == cell_id("a") && it.to == cell_id("b")));
        assert!(plan.imbalance_before > Score(300_000), "{plan:?}");
        assert!(plan.imbalance_after < Score(100_000), "{plan:?}");
        assert_eq!(plan.gain.0, plan.moves.iter().map(|it| it.gain.0).sum::<u64>());
        let gains: Vec<Score> = plan.moves.iter().map(|it| it.gain).collect();
        assert!(gains.is_sorted_by(|a, b| a > b), "{gains:?}");
    }

    #[test]
    fn siblings_part_and_zones_are_evened() {
        let together = [key("web", 0), key("web", 1)];
        let plan_of_cells = plan(&[("a", "z1", &together), ("b", "z1", &apps(0, 5))]);
        let first = &plan_of_cells.moves[0];
        assert_eq!((&first.key, &first.to), (&together[0], &cell_id("b")), "{plan_of_cells:?}");
        assert!(first.gain > Score(900_000_000), "{plan_of_cells:?}");

        let (one, other) = ([key("web", 0)], [key("web", 1)]);
        let zones: [(&str, &str, &[ActualLrpKey]); 3] =
            [("a", "z1", &one), ("b", "z1", &other), ("c", "z2", &apps(0, 5))];
        let plan_of_zones = plan(&zones);
        let of_web = plan_of_zones.moves.iter().filter(|it| it.key == one[0] || it.key == other[0]);
        let of_web: Vec<&Move> = of_web.collect();
        assert_eq!(of_web.len(), 1, "{plan_of_zones:?}");
        assert_eq!(of_web[0].to, cell_id("c"), "{plan_of_zones:?}");
        assert!(of_web[0].gain >= Score(1_000_000_000), "{plan_of_zones:?}");
    }

    #[test]
    fn a_plan_has_no_more_moves_than_asked_for_and_changes_nothing() {
        let (cells, movable) = cluster(&[("a", "z1", &apps(0, 8)), ("b", "z1", &[])]);
        let before = format!("{cells:?}");
        let bounds = Bounds { moves_max: 1, ..Bounds::default() };

        let plan = rebalance(movable, &cells, Settings::default(), bounds);

        assert_eq!(plan.moves.len(), 1);
        assert_eq!(format!("{cells:?}"), before);
    }

    #[test]
    fn only_what_is_healthy_wanted_and_alone_in_its_slot_may_move() {
        let web = key("web", 0);
        let movable_of = |story: &Story| movable(&story.aggregates);
        let running = running_story();

        let [only] = &movable_of(&running)[..] else { panic!("one instance runs") };
        assert_eq!((&only.key, &only.cell_id), (&web, &cell_id("cell-1")));

        let retire = actual_lrp::Command::Retire { key: web };
        let (timeout, instances_away_max) = (Milliseconds(1), 1);
        let cell_id = cell_id("cell-1");
        let evacuate = cell::Command::Evacuate { cell_id, timeout, instances_away_max };
        for story in [placed_story(), running.clone().after(retire), running.after(evacuate)] {
            assert_eq!(movable_of(&story), []);
        }
    }
}
