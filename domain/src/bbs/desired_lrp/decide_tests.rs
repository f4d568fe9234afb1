//! The rules of the wish, refusals first.

use super::{
    AnnotationChanged, Command, Desired, InternalRoutesChanged, MetricTagsChanged, Removed,
    RestartChanged, RestartSource, RoutesChanged, Scaled, Update,
};
use crate::{
    bbs::{
        actual_lrp,
        restart_policy::{RestartPolicy, RestartWhen},
    },
    labels::{MetricTag, MetricTags},
    routes::{Hostname, HttpRoute},
    testing::{
        cell_id, desire, given, key, on_desired, on_slot, placed_story, process_guid, running_story,
    },
};

fn remove() -> Command {
    Command::Remove { process_guid: process_guid("web") }
}

fn update(update: Update) -> Command {
    Command::Update { process_guid: process_guid("web"), update }
}

fn scale(instances: u32) -> Command {
    update(Update { instances: Some(instances), ..Update::default() })
}

#[test]
fn an_unknown_wish_is_neither_changed_nor_removed() {
    given([]).when(scale(2)).then_rejected("NOT_FOUND");
    given([]).when(remove()).then_rejected("NOT_FOUND");
}

#[test]
fn a_wish_is_made_once() {
    let Command::Desire { domain, instances, definition, routes, annotation, labels, .. } =
        desire("web", 2)
    else {
        unreachable!("a wish")
    };
    let (annotation, labels) = (annotation.into(), labels.into());
    let desired = Desired {
        domain,
        instances,
        definition,
        routes,
        annotation,
        restart: None,
        labels,
        client_routes: None,
    };

    given([])
        .when(desire("web", 2))
        .then([on_desired("web", desired)])
        .when(desire("web", 2))
        .then_rejected("ALREADY_EXISTS");
}

#[test]
fn only_what_changes_is_an_event() {
    let routes = vec![HttpRoute { hostnames: vec![Hostname::new("a.b").unwrap()], port: 80 }];
    let change = || {
        update(Update {
            instances: Some(3),
            routes: Some(routes.clone()),
            annotation: Some("new".to_owned()),
            ..Update::default()
        })
    };

    given([])
        .after(desire("web", 2))
        .when(scale(2))
        .then_nothing()
        .when(change())
        .then([
            on_desired("web", RoutesChanged { routes: routes.clone(), client_routes: None }),
            on_desired("web", AnnotationChanged { annotation: "new".into() }),
            on_desired("web", Scaled { from: 2, to: 3 }),
        ])
        .when(change())
        .then_nothing();
}

#[test]
fn scaling_down_stops_the_highest_indices_in_the_same_batch() {
    let story = running_story()
        .after(scale(3))
        .after(actual_lrp::Command::Create { key: key("web", 1) })
        .after(actual_lrp::Command::Create { key: key("web", 2) });

    story
        .when(scale(1))
        .then([
            on_desired("web", Scaled { from: 3, to: 1 }),
            on_slot(&key("web", 1), actual_lrp::Removed {}),
            on_slot(&key("web", 2), actual_lrp::Removed {}),
        ])
        .when(scale(0))
        .then([
            on_desired("web", Scaled { from: 1, to: 0 }),
            on_slot(&key("web", 0), actual_lrp::Retired {}),
        ]);
}

#[test]
fn removing_stops_every_slot_and_touches_no_other_process() {
    let story = placed_story()
        .after(desire("web-2", 1))
        .after(actual_lrp::Command::Create { key: key("web-2", 0) })
        .when(remove())
        .then([on_desired("web", Removed {}), on_slot(&key("web", 0), actual_lrp::Retired {})]);

    assert!(story.aggregates.slot(&key("web", 0)).unwrap().is_stopping);
    assert_ne!(story.aggregates.reserved_on(&cell_id("cell-1")), Default::default());
}

#[test]
fn a_guid_may_be_desired_again_while_its_old_instance_stops() {
    let story = running_story().after(remove()).after(desire("web", 1));

    story.when(actual_lrp::Command::Create { key: key("web", 0) }).then_nothing();
}

#[test]
fn a_policy_of_its_own_can_be_taken_back_once() {
    let with = |restart| update(Update { restart: Some(restart), ..Update::default() });
    let policy = RestartPolicy { when: RestartWhen::Never, ..RestartPolicy::default() };

    given([])
        .after(desire("web", 1))
        .when(with(RestartSource::Domain))
        .then_nothing()
        .when(with(RestartSource::Own(policy)))
        .then([on_desired("web", RestartChanged { restart: Some(policy) })])
        .when(with(RestartSource::Own(policy)))
        .then_nothing()
        .when(with(RestartSource::Domain))
        .then([on_desired("web", RestartChanged { restart: None })])
        .when(with(RestartSource::Domain))
        .then_nothing();
}

#[test]
fn internal_routes_and_metric_tags_change_once_and_touch_no_slot() {
    let story = running_story();
    let internal_routes = vec![Hostname::new("web.apps.internal").unwrap()];
    let metric_tags: MetricTags =
        [("source_id".to_owned(), MetricTag::Static("web".to_owned()))].into();
    let change = update(Update {
        internal_routes: Some(internal_routes.clone()),
        metric_tags: Some(metric_tags.clone()),
        ..Update::default()
    });

    story
        .when(change.clone())
        .then([
            on_desired("web", InternalRoutesChanged { internal_routes }),
            on_desired("web", MetricTagsChanged { metric_tags }),
        ])
        .when(change)
        .then_nothing();
}
