//! Refusals by column, then what holds in a small story.

use domain::{
    log::Position,
    testing::{Story, key, process_guid, running_story},
};

use super::{COMPARISONS_MAX, DEPTH_MAX, Predicate, TEXT_BYTES_MAX};
use crate::world::World;

fn refused(text: &str, column: usize, part: &str) {
    let refusal = text.parse::<Predicate>().expect_err(text);
    assert_eq!(refusal.column, column, "{text}: {refusal}");
    assert!(refusal.problem.contains(part), "{text}: {refusal}");
}

#[test]
fn what_is_no_predicate_is_refused_at_its_column() {
    refused("", 1, "expected what to look at, such as position");
    refused("position", 9, "expected ==");
    refused("position >=", 12, "expected a value, but found the end");
    refused("position >= -1", 13, "not a whole number");
    refused("position >= 18446744073709551616", 13, "not a whole number");
    refused("position = 1", 10, "write ==");
    refused("position == 1 position == 2", 15, "expected &&, || or the end");
    refused("position == 1 & position == 2", 15, "write &&");
    refused("(position == 1", 15, "expected \")\"");
    refused("position == 1)", 14, "expected &&");
    refused("ä == 1", 1, "double quotes only");
    refused("event.actor == \"ann", 16, "closing quote");
    refused("lrp.demo == 3", 1, "the field of \"demo\" is missing");
    refused("lrp.de/mo.running == 3", 1, "may hold only letters");
    refused("lrp.demo.walking == 3", 1, "there are exists, instances, unclaimed");
    refused("lrp.demo.running == many", 21, "whole number");
    refused("slot.demo.x.state == running", 1, "not a slot's index");
    refused("slot.demo.state == running", 1, "must be slot.GUID.INDEX.FIELD");
    refused("task.t1.state == done", 18, "must be one of pending, placed, running");
    refused("task.t1.state < running", 15, "has no order");
    refused("task.t1.exists == yes", 19, "true or false");
    refused("event.type == exploded", 15, "there are desired_lrp.desired");
    refused("event.owner == demo", 16, "is not a owner");
    refused("event.color == red", 1, "there are type, owner");
    refused("recorded_at >= yesterday", 16, "not a time such as");
    refused("weather == bad", 1, "must be position");
    refused(&"!".repeat(DEPTH_MAX + 2), DEPTH_MAX + 2, "inside each other");
    refused(&" ".repeat(TEXT_BYTES_MAX + 1), 1, "more than 2000 bytes");
    let many = vec!["position == 1"; COMPARISONS_MAX + 1].join(" || ");
    refused(&many, COMPARISONS_MAX * 17 + 1, "more than 50 comparisons");
}

const NONE: [u64; 0] = [];

/// At every position of a story: where a predicate holds.
fn holds(story: &Story, text: &str) -> Vec<u64> {
    let predicate: Predicate = text.parse().unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    let mut world = World::empty();
    let mut held = Vec::new();
    held.extend(predicate.holds(&world, None).then_some(0));
    for recorded in &story.recorded {
        world.apply(recorded);
        held.extend(predicate.holds(&world, Some(recorded)).then_some(world.position().0));
    }
    held
}

#[test]
fn a_predicate_holds_where_it_says() {
    let story = running_story();
    let head = story.head().position.0;
    let all: Vec<u64> = (0..=head).collect();
    let slot = story.aggregates.slots().next().unwrap().key.clone();
    let guid = slot.process_guid.as_str();
    let from = |first: u64| (first..=head).collect::<Vec<u64>>();
    let of_type = |name: &str| -> u64 {
        let found = story.recorded.iter().find(|it| it.event.type_name() == name);
        found.map_or(0, |recorded| recorded.position.0)
    };
    let started = of_type("actual_lrp.started");
    let desired = of_type("desired_lrp.desired");
    assert!(desired > 0 && started > desired);

    assert_eq!(holds(&story, "position >= 0"), all);
    assert_eq!(holds(&story, "position == @2 || position < 1"), [0, 2]);
    assert_eq!(holds(&story, "!(position != 2)"), [2]);
    assert_eq!(holds(&story, "position > 0 && position<=2 && !position==1"), [2]);
    assert_eq!(holds(&story, "event.type == actual_lrp_started"), [started]);
    assert_eq!(holds(&story, "event.type == actual_lrp.started"), [started]);
    let owner = format!("event.type == desired_lrp.desired && event.owner == process/{guid}");
    assert_eq!(holds(&story, &owner), [desired]);
    assert_eq!(holds(&story, "event.actor == \"test\" && event.actor_kind == user"), from(1));
    assert_eq!(holds(&story, "event.actor == nobody"), NONE);
    assert_eq!(holds(&story, &format!("lrp.{guid}.exists == true")), from(desired));
    assert_eq!(holds(&story, &format!("lrp.{guid}.running == 1")), from(started));
    assert_eq!(holds(&story, &format!("slot.{guid}.0.state == RUNNING")), from(started));
    // What is not there is neither fewer nor others.
    assert_eq!(holds(&story, "lrp.nobody.running < 3"), NONE);
    assert_eq!(holds(&story, "task.nobody.state != running"), NONE);
    assert_eq!(holds(&story, "lrp.nobody.exists == false"), all);
    let cell = story.aggregates.cells().next().unwrap().cell_id.clone();
    let registered = of_type("cell.registered");
    assert_eq!(holds(&story, &format!("cell.{cell}.state == present")), from(registered));
    let placed = of_type("actual_lrp.placed");
    assert_eq!(holds(&story, &format!("event.payload.cell_id == {cell}")), [placed]);
    assert_eq!(holds(&story, "event.payload.instances >= 1"), [desired]);
    assert_eq!(holds(&story, "recorded_at >= 2023-11-14T22:13:20Z"), from(1));
    assert_eq!(holds(&story, "recorded_at > 2200-01-01T00:00:00+01:00"), NONE);
    assert_eq!(Position(head), story.head().position);
    assert_eq!(slot, key(process_guid(guid).as_str(), 0));
}
