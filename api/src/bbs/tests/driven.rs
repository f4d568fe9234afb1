//! Which test drives which path: every path of the edge, and no other.

use std::collections::BTreeSet;

use super::harness::{Served, invalid};
use crate::bbs::{
    paths::{PATHS, STREAMS},
    proto,
};

/// The files of the tests that are named here.
const FILES: [&str; 6] = [
    include_str!("actual_lrps.rs"),
    include_str!("connections.rs"),
    include_str!("desired_lrps.rs"),
    include_str!("driven.rs"),
    include_str!("events.rs"),
    include_str!("tasks.rs"),
];

const LIFE: &str = "an_instance_is_claimed_started_and_crashes";
const LISTED: &str = "instances_are_listed_by_process_index_domain_and_cell_also_as_groups";
const KEPT: &str = "a_running_instance_is_kept_until_its_replacement_runs";
const LEAVES: &str = "what_is_claimed_stopped_or_crashed_leaves_a_cell_at_once";
const CHANGED: &str = "a_wish_is_changed_and_taken_back";
const PARTS: &str = "who_places_and_who_routes_sees_what_it_needs";
const WHOLE: &str = "a_wish_comes_back_as_it_was_sent_with_all_that_it_can_say";
const OLDER: &str = "older_clients_see_layers_as_downloads_and_dependencies";
const TASK: &str = "a_task_runs_once_and_its_end_is_dealt_with_once";
const TASKS: &str = "tasks_are_listed_by_domain_and_cell_and_older_clients_know_no_layers";
const ENDED: &str = "a_task_is_cancelled_or_failed_while_it_has_not_ended";

const DRIVEN: [(&str, &str); 50] = [
    ("/v1/ping", "in_the_clear_everybody_on_this_machine_is_served_when_it_is_wanted"),
    ("/v1/domains/list", "domains_are_fresh_for_as_long_as_was_said"),
    ("/v1/domains/upsert", "domains_are_fresh_for_as_long_as_was_said"),
    ("/v1/cells/list.r1", "cells_are_shown_with_what_they_offer"),
    ("/v1/actual_lrps/list", LISTED),
    ("/v1/actual_lrps/list_by_process_guids", LISTED),
    ("/v1/actual_lrp_groups/list", LISTED),
    ("/v1/actual_lrp_groups/list_by_process_guid", LISTED),
    ("/v1/actual_lrp_groups/get_by_process_guid_and_index", LISTED),
    ("/v1/actual_lrps/claim", LIFE),
    ("/v1/actual_lrps/start.r1", LIFE),
    ("/v1/actual_lrps/start", LIFE),
    ("/v1/actual_lrps/crash", LIFE),
    ("/v1/actual_lrps/fail", "a_placement_that_failed_is_noted_while_a_slot_waits"),
    ("/v1/actual_lrps/remove", "instances_are_removed_by_their_key_or_by_their_slot"),
    ("/v1/actual_lrps/retire", "the_third_crash_in_a_row_leaves_a_slot_crashed"),
    (
        "/v1/actual_lrps/remove_evacuating",
        "an_evacuating_instance_is_removed_when_its_agent_says_that_it_is_gone",
    ),
    ("/v1/actual_lrps/evacuate_claimed", LEAVES),
    ("/v1/actual_lrps/evacuate_crashed", LEAVES),
    ("/v1/actual_lrps/evacuate_stopped", LEAVES),
    ("/v1/actual_lrps/evacuate_running.r1", KEPT),
    ("/v1/actual_lrps/evacuate_running", KEPT),
    ("/v1/desired_lrp_scheduling_infos/list", PARTS),
    ("/v1/desired_lrp_scheduling_infos/get_by_process_guid", PARTS),
    ("/v1/desired_lrp_routing_infos/list", PARTS),
    ("/v1/desired_lrps/list.r3", WHOLE),
    ("/v1/desired_lrps/list.r2", OLDER),
    ("/v1/desired_lrps/get_by_process_guid.r3", WHOLE),
    ("/v1/desired_lrps/get_by_process_guid.r2", OLDER),
    ("/v1/desired_lrp/desire.r2", WHOLE),
    ("/v1/desired_lrp/update", CHANGED),
    ("/v1/desired_lrp/remove", CHANGED),
    ("/v1/tasks/list.r3", TASKS),
    ("/v1/tasks/list.r2", TASKS),
    ("/v1/tasks/get_by_task_guid.r3", TASK),
    ("/v1/tasks/get_by_task_guid.r2", TASKS),
    ("/v1/tasks/desire.r2", TASK),
    ("/v1/tasks/start", TASK),
    ("/v1/tasks/cancel", ENDED),
    ("/v1/tasks/fail", ENDED),
    ("/v1/tasks/reject", "the_fourth_rejection_fails_a_task_and_one_that_runs_is_not_rejected"),
    ("/v1/tasks/complete", TASK),
    ("/v1/tasks/resolving", TASK),
    ("/v1/tasks/delete", TASK),
    ("/v1/events", "the_older_streams_tell_of_groups"),
    ("/v1/events.r1", "the_older_streams_tell_of_groups"),
    ("/v1/events/lrp_instances", "of_one_cell_only_its_instances_are_told_and_wishes_all"),
    ("/v1/events/lrp_instances.r1", "the_life_of_an_instance_is_told_in_order"),
    ("/v1/events/tasks", "the_life_of_a_task_is_told_on_its_own_streams"),
    ("/v1/events/tasks.r1", "the_life_of_a_task_is_told_on_its_own_streams"),
];

#[test]
fn every_path_is_driven_by_a_test_that_there_is() {
    let driven: BTreeSet<&str> = DRIVEN.iter().map(|(path, _)| *path).collect();
    let streams = STREAMS.iter().map(|(path, _)| *path);
    let served: BTreeSet<&str> = PATHS.iter().copied().chain(streams).collect();
    assert_eq!(driven, served);
    assert_eq!(driven.len(), DRIVEN.len(), "each once");
    for (path, test) in DRIVEN {
        let declared = format!("async fn {test}()");
        assert!(FILES.iter().any(|file| file.contains(&declared)), "{path}: {test}");
    }
}

#[tokio::test]
async fn domains_are_fresh_for_as_long_as_was_said() {
    let served = Served::start().await;
    let upsert = |domain: &str, ttl| proto::UpsertDomainRequest { domain: domain.to_owned(), ttl };
    let list = async || {
        let answer: proto::DomainsResponse = served.client.call("/v1/domains/list", &()).await;
        answer.domains
    };

    served.done("/v1/domains/upsert", &upsert("for-ever", 0)).await;
    served.done("/v1/domains/upsert", &upsert("cf-apps", 120)).await;
    assert_eq!(served.error("/v1/domains/upsert", &upsert("", 1)).await, invalid("domain"));
    assert_eq!(list().await, ["cf-apps", "for-ever"]);
    served.node.control_plane.clock.pass(domain::units::Milliseconds::from_seconds(121));
    assert_eq!(list().await, ["for-ever"]);
}

#[tokio::test]
async fn cells_are_shown_with_what_they_offer() {
    let served = Served::start().await;

    let answer: proto::CellsResponse = served.client.call("/v1/cells/list.r1", &()).await;

    let cell = &answer.cells[0];
    assert_eq!((cell.cell_id.as_str(), cell.zone.as_str()), ("cell-1", "z1"));
    let capacity = proto::CellCapacity { memory_mb: 1024, disk_mb: 2048, containers: 10 };
    assert_eq!(cell.capacity, Some(capacity));
    let provider =
        proto::Provider { name: "preloaded".to_owned(), properties: vec!["diario".to_owned()] };
    assert_eq!(cell.rootfs_providers, [provider]);
}
