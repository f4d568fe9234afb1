//! Instances that leave: which do, what they keep, and how each is done with.

use super::{
    Command, Created, EvacuationEnded, InstancePresence, LEAVING_MAX, LeavingEnd, Left, Removed,
    Retired, State, SuspectRemoved, TwinEnd,
    twins_tests::{
        TIMEOUT, evacuate, evacuate_cell, evacuating, ids, lose, on_evacuating_cell, presences,
        replaced, settle, start, twin, web,
    },
};
use crate::{
    bbs::{cell, desired_lrp, placement::Resources},
    event::Event,
    log::StreamId,
    testing::{
        Story, cell_id, crash_report, desire, instance_guid, on_desired, on_slot, place,
        process_guid, register,
    },
};

fn left(cause: LeavingEnd) -> (StreamId, Event) {
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    on_slot(&web(), Left { instance_guid, cell_id, cause })
}

/// `i-1` leaves cell-1, which is being evacuated; `i-2` is healthy on cell-2.
fn leaving() -> Story {
    let story = evacuating().after(place(&web(), "i-2", "cell-2"));
    let healthy = start(&story.instance(&web()));
    story.after(healthy)
}

fn remove_wish() -> desired_lrp::Command {
    desired_lrp::Command::Remove { process_guid: process_guid("web") }
}

fn reserved(story: &Story, cell: &str) -> u32 {
    story.aggregates.reserved_on(&cell_id(cell)).containers
}

#[test]
fn what_leaves_serves_no_more_and_reserves_until_its_cell_says_that_it_is_gone() {
    let story = leaving();
    let old = twin(&story, InstancePresence::Leaving);
    let slot = story.aggregates.slot(&web()).unwrap();
    let instance = slot.instances().nth(1).unwrap();
    assert!(instance.is_stopping && instance.running.is_none());
    assert_eq!(reserved(&story, "cell-1"), 1);

    let story = story.when(start(&old)).then_nothing();
    let story = story.when(Command::Claim { instance: old.clone() }).then_nothing();
    let crash = Command::Crash { instance: old.clone(), report: crash_report() };
    story.clone().when(crash).then([left(LeavingEnd::Gone)]);
    let remove = || Command::Remove { instance: old.clone() };
    let story = story.when(remove()).then([left(LeavingEnd::Gone)]);

    assert_eq!(presences(&story), [InstancePresence::Ordinary]);
    assert_eq!(story.aggregates.reserved_on(&cell_id("cell-1")), Resources::default());
    story.when(remove()).then_rejected("PLACEMENT_MOVED");
}

#[test]
fn what_leaves_is_given_up_with_its_cell() {
    leaving().when(settle()).then_rejected("INVALID_TRANSITION");
    leaving().after(lose("cell-1")).when(settle()).then([left(LeavingEnd::CellLost)]);

    let replaced = leaving().after(lose("cell-1")).after(register("cell-1", 7));
    replaced.when(settle()).then([left(LeavingEnd::CellLost)]);
}

/// The agent finds its containers in its book and goes on stopping them.
#[test]
fn a_cell_that_is_back_before_anybody_gave_up_still_tells_what_left() {
    let story = leaving().after(lose("cell-1")).after(register("cell-1", 1));
    let old = twin(&story, InstancePresence::Leaving);

    let story = story.when(settle()).then_rejected("INVALID_TRANSITION");
    story.when(Command::Remove { instance: old }).then([left(LeavingEnd::Gone)]);
}

#[test]
fn what_is_made_on_a_cell_under_evacuation_leaves_it() {
    let story = replaced().after(register("cell-3", 3)).after(evacuate_cell("cell-2"));

    let story = story.after(evacuate());

    let left = [InstancePresence::Suspect, InstancePresence::Leaving];
    assert_eq!(presences(&story), left);
    assert_eq!(reserved(&story, "cell-2"), 1);
    let _placed = story.after(place(&web(), "i-3", "cell-3"));
}

#[test]
fn what_ends_with_the_time_for_its_evacuation_leaves() {
    let story = evacuating().later(TIMEOUT).after(settle());
    assert_eq!(presences(&story), [InstancePresence::Leaving]);

    let end = cell::Command::EndEvacuation { cell_id: cell_id("cell-1") };
    let story = story.when(end.clone()).then_nothing();
    let gone = Command::Remove { instance: twin(&story, InstancePresence::Leaving) };
    let story = story.after(gone).after(end);
    assert!(story.cell(&cell_id("cell-1")).evacuation.unwrap().evacuated_at.is_some());
}

#[test]
fn a_suspect_leaves_only_what_is_there() {
    let story = replaced();
    let healthy = start(&story.instance(&web()));
    let ended = story.after(healthy);
    assert_eq!(presences(&ended), [InstancePresence::Ordinary], "its cell is lost");

    let story = replaced().after(register("cell-1", 1));
    let healthy = start(&story.instance(&web()));
    let story = story.after(healthy);
    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Leaving]);
}

#[test]
fn what_leaves_blocks_no_new_evacuation_of_its_slot() {
    let story = leaving().after(register("cell-3", 3)).after(evacuate_cell("cell-2"));

    let story = story.after(evacuate()).after(place(&web(), "i-3", "cell-3"));
    assert_eq!(
        presences(&story),
        [InstancePresence::Ordinary, InstancePresence::Evacuating, InstancePresence::Leaving]
    );
    let healthy = start(&story.instance(&web()));
    let story = story.after(healthy);

    let both = [InstancePresence::Ordinary, InstancePresence::Leaving, InstancePresence::Leaving];
    assert_eq!(presences(&story), both);
    assert_eq!((reserved(&story, "cell-1"), reserved(&story, "cell-2")), (1, 1));
}

#[test]
fn a_wish_that_goes_does_not_lose_what_leaves() {
    let story = leaving()
        .when(remove_wish())
        .then([on_desired("web", desired_lrp::Removed {}), on_slot(&web(), Retired {})]);
    let old = twin(&story, InstancePresence::Leaving);
    let gone = Command::Remove { instance: story.instance(&web()) };
    let story = story.when(gone).then([on_slot(&web(), Removed {})]);
    assert_eq!(story.aggregates.slot(&web()).unwrap().state, State::Removed);
    assert_eq!(reserved(&story, "cell-1"), 1);
    let story = story.when(Command::Retire { key: web() }).then_rejected("NOT_FOUND");

    let story = story.when(Command::Remove { instance: old }).then([left(LeavingEnd::Gone)]);

    assert!(story.aggregates.slot(&web()).is_none());
    assert_eq!(story.aggregates.reserved_on(&cell_id("cell-1")), Resources::default());
}

#[test]
fn a_wish_that_goes_lets_what_is_evacuating_leave() {
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    let (cause, is_leaving) = (TwinEnd::Undesired, true);
    let ended = EvacuationEnded { instance_guid, cell_id, cause, is_leaving };

    let story = evacuating().when(remove_wish()).then([
        on_desired("web", desired_lrp::Removed {}),
        on_slot(&web(), ended),
        on_slot(&web(), Removed {}),
    ]);

    let story = story.after(lose("cell-1")).when(settle()).then([left(LeavingEnd::CellLost)]);
    assert!(story.aggregates.slot(&web()).is_none());
}

#[test]
fn a_slot_is_created_anew_while_instances_of_it_still_leave() {
    let story = evacuating().after(remove_wish()).after(desire("web", 1));
    let failed =
        Command::FailPlacement { key: web(), error: "no cell".to_owned(), candidates: None };
    let story = story.when(failed).then_rejected("NOT_FOUND");
    let created_in = story.aggregates.slot(&web()).unwrap().domain.clone();
    let story = story
        .when(Command::Create { key: web() })
        .then([on_slot(&web(), Created { domain: created_in })]);

    let slot = story.aggregates.slot(&web()).unwrap();
    assert_eq!((&slot.state, slot.is_stopping), (&State::Unclaimed, false));
    let story = story.after(place(&web(), "i-2", "cell-2"));
    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Leaving]);
    let old = Command::Remove { instance: twin(&story, InstancePresence::Leaving) };
    story.when(old).then([left(LeavingEnd::Gone)]);
}

#[test]
fn of_many_that_leave_one_slot_the_oldest_is_let_go() {
    let mut story = on_evacuating_cell().after(evacuate());
    for number in 0..=LEAVING_MAX {
        let instance = instance_guid(&format!("n-{number}"));
        let here = cell_id("cell-2");
        story = story.after(place(&web(), instance.as_str(), "cell-2"));
        let suspected = super::Suspected { instance_guid: instance.clone(), cell_id: here.clone() };
        let (instance_guid, cell_id, cause, is_leaving) =
            (instance, here, TwinEnd::Evacuated, true);
        let removed = SuspectRemoved { instance_guid, cell_id, cause, is_leaving };
        story = story.and(on_slot(&web(), suspected)).and(on_slot(&web(), removed));
    }

    let slot = story.aggregates.slot(&web()).unwrap();
    let leaving: Vec<_> =
        slot.leaving.iter().map(|it| it.placement.instance_guid.as_str()).collect();
    assert_eq!(leaving.len(), LEAVING_MAX);
    assert_eq!(leaving.first(), Some(&"n-1"));
    assert_eq!(reserved(&story, "cell-2"), u32::try_from(LEAVING_MAX).unwrap());
}
