//! What is decided step by step is what a round of all that waits would decide, however few a step
//! decides, and while things come, go and change.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Auction, Demand, Failure, Lane, Outcome, PlacementError, Shown, Step, Waiting,
    fixture::{self, CellState, Input},
    naive_tests::random_input,
};
use crate::{
    bbs::actual_lrp,
    log::Position,
    rep::WorkKind,
    testing::{Dice, Story, desire, given, key},
    units::{Milliseconds, Timestamp},
};

/// For how long a task pauses after a rejection.
const PAUSE: Milliseconds = Milliseconds::from_seconds(30);
const STEPS_MAX: usize = 2_000;
const SEEDS: u64 = 80;

/// What waits, once plainly and once as a view keeps it.
#[derive(Default)]
struct Both {
    plain: BTreeMap<WorkKind, Lane>,
    kept: Waiting,
}

impl Both {
    fn put(&mut self, work: &WorkKind, lane: Lane) {
        self.kept.put(work, Some(lane.clone()));
        self.plain.insert(work.clone(), lane);
    }

    fn remove(&mut self, work: &WorkKind) {
        self.kept.remove(work);
        self.plain.remove(work);
    }

    fn add(&mut self, auction: Auction) {
        let shown = match &auction.work {
            WorkKind::Lrp(_) => Shown::Slot(None),
            WorkKind::Task(_) => Shown::Task,
        };
        let demand = Arc::new(auction.demand);
        self.put(&auction.work, Lane { not_before: None, demand, shown });
    }

    /// A failure is seen by all who ask from now on.
    fn note(&mut self, failure: &Failure, now: Timestamp) {
        let mut lane = self.plain[&failure.work].clone();
        match &mut lane.shown {
            Shown::Slot(said) => *said = Some(failure.error.to_string()),
            Shown::Task => lane.not_before = Some(now.plus(PAUSE)),
        }
        self.put(&failure.work, lane);
    }

    /// A round of all that may be auctioned; of its failures those that are news.
    fn whole(&self, cells: &[CellState], input: &Input, now: Timestamp) -> Outcome {
        let may = self.plain.iter().filter(|(_, lane)| lane.not_before <= Some(now));
        let demand = |lane: &Lane| Demand::clone(&lane.demand);
        let auctions =
            may.map(|(work, lane)| Auction { work: work.clone(), demand: demand(lane) }).collect();
        let settings = input.settings;
        let mut outcome = fixture::schedule(Input { auctions, cells: cells.to_vec(), settings });
        outcome.failures.retain(|failure| self.plain[&failure.work].is_news(&failure.error));
        outcome
    }

    fn step(&self, cells: &[CellState], input: &Input, now: Timestamp, most: usize) -> Outcome {
        super::step(Step {
            waiting: &self.kept,
            now,
            decisions_max: most,
            cells: &fixture::kept(cells),
            settings: input.settings,
            seen: Position(7),
        })
    }

    fn assert_as_if_made_anew(&self, seed: u64) {
        let mut anew = Waiting::default();
        for (work, lane) in &self.plain {
            anew.put(work, Some(lane.clone()));
        }
        assert_eq!(self.kept, anew, "seed {seed}");
    }
}

/// Compares each step with a round of the whole, and gives how many placements that were.
fn compare(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let mut input = random_input(&mut dice);
    let mut cells = input.cells.clone();
    let most = usize::try_from(dice.pick(&[1, 2, 7, 100])).unwrap();
    let mut both = Both::default();
    let mut later = input.auctions.split_off(input.auctions.len() / 2);
    for auction in std::mem::take(&mut input.auctions) {
        both.add(auction);
    }
    let mut now = Timestamp(0);
    let mut placed = 0;
    for _ in 0..STEPS_MAX {
        let whole = both.whole(&cells, &input, now);
        let step = both.step(&cells, &input, now, most);
        check(&whole, &step, most, seed);
        both.assert_as_if_made_anew(seed);
        let is_idle = step == Outcome::default();
        if is_idle && later.is_empty() {
            return placed;
        }
        placed += step.placements.len();
        apply(&step, &mut both, &mut cells, now);
        if is_idle || dice.one_in(3) {
            now = now.plus(Milliseconds(u64::from(dice.below(40_000))));
            later.pop().into_iter().for_each(|auction| both.add(auction));
            change_one(&mut both, &mut dice);
        }
    }
    panic!("seed {seed}: never at rest");
}

/// The same placements in the same order; where there are none the same failures too, and else
/// some of them may be said by a later step.
fn check(whole: &Outcome, step: &Outcome, most: usize, seed: u64) {
    let placements = whole.placements.len().min(most);
    assert_eq!(step.placements, whole.placements[..placements], "seed {seed}");
    let left = most - placements;
    assert!(step.failures.len() <= left, "seed {seed}");
    if placements == 0 {
        let failures = whole.failures.len().min(left);
        assert_eq!(step.failures, whole.failures[..failures], "seed {seed}");
    }
    let mut rest = whole.failures.iter();
    for failure in &step.failures {
        assert!(rest.any(|other| other == failure), "seed {seed}: {failure:?}");
    }
}

fn apply(step: &Outcome, both: &mut Both, cells: &mut [CellState], now: Timestamp) {
    for placement in &step.placements {
        let resources = both.plain[&placement.work].demand.resources;
        let cell = cells.iter_mut().find(|cell| cell.cell_id == placement.cell_id).unwrap();
        cell.reserve(&placement.work, resources);
        both.remove(&placement.work);
    }
    for failure in &step.failures {
        both.note(failure, now);
    }
}

/// Something goes, or is refused by its cell.
fn change_one(both: &mut Both, dice: &mut Dice) {
    let works: Vec<WorkKind> = both.plain.keys().cloned().collect();
    if works.is_empty() || dice.one_in(2) {
        return;
    }
    let work = dice.pick(&works);
    if dice.one_in(2) {
        both.remove(&work);
        return;
    }
    let lane = Lane { not_before: Some(Timestamp(1_000)), ..both.plain[&work].clone() };
    both.put(&work, lane);
}

#[test]
fn steps_decide_what_a_round_of_all_that_waits_decides() {
    let placed: usize = (0..SEEDS).map(compare).sum();

    assert!(placed > 800, "{placed} placements are few to compare");
}

#[test]
fn an_error_that_a_slot_shows_is_no_news_however_long_it_is() {
    let key = key("web", 0);
    let tags = (0..100).map(|number| format!("{number}{}", "x".repeat(250))).collect();
    let error = PlacementError::PlacementTags(tags);
    let slot =
        given([]).after(desire("web", 1)).after(actual_lrp::Command::Create { key: key.clone() });
    let is_news = |story: &Story| {
        let said = story.aggregates.slot(&key).unwrap().placement_error.clone();
        let demand = Arc::new(fixture::app_demand(1));
        Lane { not_before: None, demand, shown: Shown::Slot(said) }.is_news(&error)
    };
    assert!(is_news(&slot));

    let said = slot.after(actual_lrp::Command::FailPlacement {
        key: key.clone(),
        error: error.to_string(),
        candidates: None,
    });

    assert!(!is_news(&said));
}

#[test]
fn what_nobody_knows_the_needs_of_waits_and_is_not_auctioned() {
    let mut dice = Dice::new(1);
    let input = random_input(&mut dice);
    let work = &input.auctions[0].work;
    let mut waiting = Waiting::default();

    assert!(waiting.put(work, None));
    assert!(!waiting.put(work, None), "it waited before");

    assert_eq!(waiting.works().collect::<Vec<_>>(), [work]);
    assert!(waiting.queue(Timestamp(0)).first().is_none());
    assert!(waiting.remove(work) && waiting.is_empty());
}
