//! The fold as a whole, over seeded walks: reservations, undo, replay, reports of cells.

use std::collections::BTreeMap;

use crate::{
    aggregates::{Aggregate, Aggregates},
    bbs::{actual_lrp, placement::Resources},
    command::{Envelope, ReportNumber, Seen},
    decide::decide,
    id::CellId,
    log::{CellEpoch, LeaseEpoch, Position},
    rejection::Rejection,
    testing::{Dice, Story, cell_id, given, key, placed_story, random_command, register},
    units::Milliseconds,
};

const SEEDS: u64 = 60;

fn walked(seed: u64) -> Story {
    given([]).walk(&mut Dice::new(seed), 500)
}

/// What each cell must have reserved, added up from the placements themselves.
fn sums(aggregates: &Aggregates) -> BTreeMap<CellId, Resources> {
    let instances = aggregates.slots().flat_map(|slot| slot.instances());
    let of_slots = instances.map(|instance| instance.placement);
    let of_tasks = aggregates.tasks().filter_map(|task| task.placement());
    let mut sums: BTreeMap<CellId, Resources> = BTreeMap::new();
    for placement in of_slots.chain(of_tasks) {
        let sum = sums.entry(placement.cell_id.clone()).or_default();
        *sum = sum.plus(placement.resources);
    }
    sums
}

fn assert_reservations(aggregates: &Aggregates) {
    let sums = sums(aggregates);
    for cell in aggregates.cells() {
        let reserved = aggregates.reserved_on(&cell.cell_id);
        assert_eq!(reserved, sums.get(&cell.cell_id).copied().unwrap_or_default());
        assert_eq!(cell.registration.capacity.lacking(reserved), [""; 0], "over-committed");
    }
}

#[test]
fn a_walk_goes_everywhere() {
    let stories: Vec<Story> = (0..3 * SEEDS).map(walked).collect();
    let seen: std::collections::BTreeSet<&str> = stories
        .iter()
        .flat_map(|story| story.recorded.iter().map(|recorded| recorded.event.type_name()))
        .collect();

    let unseen: Vec<_> =
        crate::event::Event::type_names().into_iter().filter(|name| !seen.contains(name)).collect();
    assert_eq!(
        unseen,
        ["desired_lrp.routes_changed", "desired_lrp.annotation_changed"],
        "a walk must reach every rule that moves a placement"
    );
}

#[test]
fn reservations_are_the_sum_of_the_placements_and_never_more_than_a_cell_holds() {
    for seed in 0..SEEDS {
        let mut aggregates = Aggregates::default();
        for recorded in &walked(seed).recorded {
            aggregates.apply(recorded);
            assert_reservations(&aggregates);
        }
    }
}

#[test]
fn an_undone_batch_leaves_no_trace() {
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let before = given([]).walk(&mut dice, 200);
        let mut after = before.clone();
        let mut undo = Vec::new();
        for _ in 0..40 {
            after.now = after.now.plus(Milliseconds(u64::from(dice.below(20_000))));
            let command = random_command(&mut dice, &after);
            let mut tentative = after.clone();
            let Ok(decision) = tentative.submit(command) else { continue };
            for (offset, (stream, _)) in decision.events.iter().enumerate() {
                let recorded = &tentative.recorded[after.recorded.len() + offset];
                undo.push((stream.clone(), after.aggregates.get(stream)));
                after.aggregates.apply(recorded);
            }
            after = tentative;
        }
        for (stream, aggregate) in undo.into_iter().rev() {
            after.aggregates.put(&stream, aggregate);
            assert_reservations(&after.aggregates);
        }

        assert_eq!(after.aggregates, before.aggregates, "seed {seed}");
    }
}

#[test]
fn a_replayed_log_and_a_loaded_snapshot_equal_the_live_state() {
    for seed in 0..SEEDS {
        let story = walked(seed);
        let mut replayed = Aggregates::default();
        for recorded in &story.recorded {
            replayed.apply(recorded);
        }
        let mut loaded = Aggregates::default();
        for aggregate in story.aggregates.all() {
            let json = serde_json::to_vec(&aggregate).unwrap();
            let read: Aggregate = serde_json::from_slice(&json).unwrap();
            loaded.put(&aggregate.stream(), Some(read));
        }

        assert_eq!(replayed, story.aggregates, "seed {seed}");
        assert_eq!(loaded, story.aggregates, "seed {seed}");
    }
}

#[test]
fn the_highest_report_of_a_registration_is_remembered() {
    let reports_seen = |story: &Story| story.cell(&cell_id("cell-1")).reports_seen;
    let mut story = placed_story();
    let instance = story.instance(&key("web", 0));
    let number = |cell_epoch, sequence| {
        let number = ReportNumber { cell_epoch: CellEpoch(cell_epoch), sequence };
        number.command_id(&cell_id("cell-1")).unwrap()
    };
    let claimed = story.clone().after(actual_lrp::Command::Claim { instance });
    let mut recorded = claimed.recorded.last().unwrap().clone();

    recorded.command_id = number(1, 7);
    story.aggregates.apply(&recorded);
    assert_eq!(reports_seen(&story), 7);
    recorded.command_id = number(1, 3);
    story.aggregates.apply(&recorded);
    assert_eq!(reports_seen(&story), 7);
    recorded.command_id = number(2, 9);
    story.aggregates.apply(&recorded);
    assert_eq!(reports_seen(&story), 7);
    let story = story.after(register("cell-1", 1));
    assert_eq!(reports_seen(&story), 7);
}

#[test]
fn a_loop_that_looked_before_its_stream_moved_is_refused() {
    let story = placed_story();
    let claim = actual_lrp::Command::Claim { instance: story.instance(&key("web", 0)) };
    let last = story.recorded.last().unwrap();
    let judged = |position| {
        let envelope = Envelope {
            command_id: last.command_id.clone(),
            actor: last.actor.clone(),
            seen: Some(Seen { position, lease_epoch: LeaseEpoch(1) }),
            causation: None,
            correlation: last.command_id.clone(),
            command: claim.clone().into(),
        };
        decide(&story.aggregates, &envelope, story.now).map(|decision| decision.events.len())
    };

    let stream = last.stream.clone();
    assert_eq!(judged(Position(last.position.0 - 1)), Err(Rejection::Moved { stream }));
    assert_eq!(judged(last.position), Ok(1));
}
