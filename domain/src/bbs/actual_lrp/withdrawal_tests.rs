//! Routes go first: who waits for routers, for how long, and who does not.

use super::{
    Command, EvacuationEnded, InstancePresence, MISSING_ROUTERS_MAX, Removed, Retired, TwinEnd,
    WITHDRAWAL_MAX, WithdrawalEnd, WithdrawalEnded, WithdrawalStarted,
    twins_tests::{evacuating, ids, lose, start, web},
};
use crate::{
    bbs::desired_lrp,
    routes::{Hostname, HttpRoute},
    testing::{
        Story, crash_report, instance_guid, on_desired, on_slot, place, placed_story, process_guid,
        running_story,
    },
    units::Milliseconds,
};

/// The process gets a route.
fn routed(story: Story) -> Story {
    let hostnames = vec![Hostname::new("web.test").unwrap()];
    let routes = vec![HttpRoute { hostnames, port: 8080 }];
    story.and(on_desired("web", desired_lrp::RoutesChanged { routes, client_routes: None }))
}

fn retire() -> Command {
    Command::Retire { key: web() }
}

fn started(instance: &str) -> WithdrawalStarted {
    let (instance_guid, cell_id) = ids(instance, "cell-1");
    WithdrawalStarted { instance_guid, cell_id }
}

fn end(instance: &str, cause: WithdrawalEnd) -> Command {
    Command::EndWithdrawal { key: web(), instance_guid: instance_guid(instance), cause }
}

fn ended(instance: &str, cause: WithdrawalEnd) -> WithdrawalEnded {
    WithdrawalEnded { instance_guid: instance_guid(instance), cause }
}

const SEEN: WithdrawalEnd = WithdrawalEnd::Seen { routers: 2 };

/// Whether the first instance of the slot is its cell's to stop, and whether it waits for routers.
fn stands(story: &Story) -> (bool, bool) {
    let slot = story.aggregates.slot(&web()).unwrap();
    let instance = slot.instances().last().unwrap();
    (instance.is_stopping, instance.is_withdrawing)
}

#[test]
fn an_instance_that_serves_is_stopped_only_when_every_router_has_followed() {
    let story = routed(running_story());
    let story =
        story.when(retire()).then([on_slot(&web(), started("i-1")), on_slot(&web(), Retired {})]);
    assert_eq!(stands(&story), (true, true));

    let story = story.when(end("i-1", SEEN)).then([on_slot(&web(), ended("i-1", SEEN))]);

    assert_eq!(stands(&story), (true, false));
    story.when(end("i-1", SEEN)).then_nothing();
}

#[test]
fn routers_that_do_not_follow_are_waited_for_for_a_while_and_named() {
    let story = routed(running_story()).after(retire());
    let timed_out = |count: usize| WithdrawalEnd::TimedOut {
        missing: (0..count).map(|number| format!("node-{number}")).collect(),
    };
    let early = story.clone().later(Milliseconds(WITHDRAWAL_MAX.0 - 1));
    early.when(end("i-1", timed_out(1))).then_rejected("INVALID_TRANSITION");

    let late = story.later(WITHDRAWAL_MAX);
    let told = ended("i-1", timed_out(MISSING_ROUTERS_MAX));
    late.when(end("i-1", timed_out(100))).then([on_slot(&web(), told)]);
}

#[test]
fn what_nobody_is_led_to_is_stopped_at_once() {
    let retired = || [on_slot(&web(), Retired {})];

    running_story().when(retire()).then(retired());
    routed(placed_story()).when(retire()).then(retired());
    let story = routed(running_story());
    let instance = story.instance(&web());
    let unready = story.after(Command::SetReadiness { instance, is_ready: false });
    unready.when(retire()).then(retired());
}

#[test]
fn a_wish_that_is_removed_takes_the_routes_along_first() {
    let story = routed(running_story());

    let remove = desired_lrp::Command::Remove { process_guid: process_guid("web") };
    let story = story.after(remove);

    assert_eq!(stands(&story), (true, true));
}

#[test]
fn what_was_moved_off_a_cell_loses_its_routes_before_it_leaves() {
    let story = routed(evacuating()).after(place(&web(), "i-2", "cell-2"));
    let healthy = start(&story.instance(&web()));
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    let cause = TwinEnd::Replaced { by: crate::testing::instance_guid("i-2") };
    let moved = EvacuationEnded { instance_guid, cell_id, cause, is_leaving: true };

    let story = story.after(healthy);

    let slot = story.aggregates.slot(&web()).unwrap();
    let leaving = slot.instances().last().unwrap();
    assert_eq!(leaving.presence, InstancePresence::Leaving);
    assert_eq!(stands(&story), (true, true));
    let events: Vec<_> = story.recorded.iter().map(|recorded| recorded.event.clone()).collect();
    let at = |wanted: super::Event| {
        events.iter().position(|event| *event == wanted.clone().into()).unwrap()
    };
    assert!(at(started("i-1").into()) < at(moved.into()));
    let story = story.after(end("i-1", SEEN));
    assert_eq!(stands(&story), (true, false));
}

#[test]
fn an_instance_that_ends_meanwhile_waits_for_nothing() {
    let story = routed(running_story()).after(retire());
    let instance = story.instance(&web());
    let crash = Command::Crash { instance, report: crash_report() };

    let gone = story.when(crash).then([on_slot(&web(), Removed {})]);
    assert!(gone.aggregates.slot(&web()).is_none());
    gone.when(end("i-1", SEEN)).then_rejected("NOT_FOUND");
    // A lost cell hears nothing: nobody is led there for long anyway.
    let lost = routed(running_story()).after(lose("cell-1"));
    lost.when(retire()).then([on_slot(&web(), Removed {})]);
}
