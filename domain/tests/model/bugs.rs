//! Bugs that are planted in the rules: a model that finds none of them proves nothing.

use domain::{
    bbs::{actual_lrp, task},
    decide::Decision,
    event::Event,
    testing::{cell_id, instance_guid},
};

use crate::{
    lrp,
    search::{Broken, Model, search},
    task as tasks,
};

fn found<M: Model>(first: &M) -> Broken<M::Action> {
    search(first).expect_err("the bug is found")
}

/// A healthy replacement does not end what stands beside it.
fn forgets_the_twin(decision: &mut Decision) {
    let is_start = |event: &Event| matches!(event, Event::ActualLrp(actual_lrp::Event::Started(_)));
    let is_end = |event: &Event| {
        matches!(
            event,
            Event::ActualLrp(
                actual_lrp::Event::SuspectRemoved(_) | actual_lrp::Event::EvacuationEnded(_)
            )
        )
    };
    if decision.events.iter().any(|(_, event)| is_start(event)) {
        decision.events.retain(|(_, event)| !is_end(event));
    }
}

/// What ends as a twin is struck off its cell's list at once.
fn forgets_what_leaves(decision: &mut Decision) {
    for (_, event) in &mut decision.events {
        if let Event::ActualLrp(actual_lrp::Event::EvacuationEnded(ended)) = event {
            ended.is_leaving = false;
        }
    }
}

/// A slot that goes is not made anew, but said to be.
fn forgets_to_create(decision: &mut Decision) {
    let is_create =
        |event: &Event| matches!(event, Event::ActualLrp(actual_lrp::Event::Created(_)));
    decision.events.retain(|(_, event)| !is_create(event));
}

/// A task whose cell is lost is placed again, whether or not it was started.
fn starts_again(decision: &mut Decision) {
    for (_, event) in &mut decision.events {
        let Event::Task(task::Event::Completed(completed)) = event else { continue };
        if completed.failure_reason.as_deref() == Some("cell disappeared before completion") {
            let (instance_guid, cell_id) = (instance_guid("i-1"), cell_id("cell-0"));
            *event = Event::Task(task::PlacementLost { instance_guid, cell_id }.into());
        }
    }
}

#[test]
fn a_twin_that_is_forgotten_is_found() {
    let broken = found(&lrp::Cluster::new(2, 1, Some(forgets_the_twin)));

    assert!(broken.what.contains("something stands beside a healthy instance"), "{broken:#?}");
}

#[test]
fn a_container_that_is_struck_off_its_list_while_it_runs_is_found() {
    let broken = found(&lrp::Cluster::new(2, 1, Some(forgets_what_leaves)));

    assert!(broken.what.contains("on its cell and on no list"), "{broken:#?}");
}

#[test]
fn a_command_that_is_planned_in_vain_is_found() {
    let broken = found(&lrp::Cluster::new(2, 1, Some(forgets_to_create)));

    assert!(broken.what.contains("planned in vain"), "{broken:#?}");
    assert!(broken.way.is_empty(), "a shortest way: {broken:#?}");
}

#[test]
fn a_task_that_is_run_twice_is_found() {
    let broken = found(&tasks::Cluster::new(1, Some(starts_again)));

    assert!(broken.what.contains("was run 2 times"), "{broken:#?}");
}
