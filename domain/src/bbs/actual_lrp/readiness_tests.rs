//! Readiness: what may take requests, and what it ends.

use super::{
    Command, InstancePresence, ReadinessChanged, Started, TwinEnd,
    twins_tests::{evacuating, evacuation_ended, presences, web},
};
use crate::{
    event::Event,
    log::StreamId,
    testing::{Story, instance_guid, net_info, on_slot, place, running_story},
    units::Milliseconds,
};

fn set(story: &Story, is_ready: bool) -> Command {
    Command::SetReadiness { instance: story.instance(&web()), is_ready }
}

fn changed(instance: &str, is_ready: bool) -> (StreamId, Event) {
    on_slot(&web(), ReadinessChanged { instance_guid: instance_guid(instance), is_ready })
}

fn alive(story: &Story, is_ready: bool) -> Command {
    Command::Start { instance: story.instance(&web()), net_info: net_info(), is_ready }
}

#[test]
fn readiness_is_no_state_and_restarts_no_clock() {
    let story = running_story();
    let since = story.aggregates.slot(&web()).unwrap().since;

    let (ready, not_ready) = (set(&story, true), set(&story, false));
    let story = story
        .later(Milliseconds::from_seconds(10))
        .when(ready)
        .then_nothing()
        .when(not_ready.clone())
        .then([changed("i-1", false)])
        .when(not_ready)
        .then_nothing();

    assert_eq!(story.aggregates.slot(&web()).unwrap().since, since);
}

#[test]
fn an_evacuating_instance_serves_until_its_replacement_may_take_requests() {
    let story = evacuating().after(place(&web(), "i-2", "cell-2"));
    let not_ready =
        Started { instance_guid: instance_guid("i-2"), net_info: net_info(), is_ready: false };

    let healthy = alive(&story, false);
    let story = story.when(healthy.clone()).then([on_slot(&web(), not_ready)]);
    let story = story.when(healthy).then_nothing();

    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Evacuating]);
    let ready = set(&story, true);
    let replaced = TwinEnd::Replaced { by: instance_guid("i-2") };
    let story = story.when(ready).then([changed("i-2", true), evacuation_ended(replaced)]);
    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Leaving]);
}

#[test]
fn a_repeated_word_of_health_that_tells_another_readiness_is_heard_as_that() {
    let story = running_story();

    let not_ready = alive(&story, false);
    let story = story.when(not_ready).then([changed("i-1", false)]);

    let ready = alive(&story, true);
    let _story = story.when(ready).then([changed("i-1", true)]);
}
