//! Instances over the wire: how they stand, and what agents say of them.

use domain::bbs::{
    actual_lrp::{CrashReport, InstanceReference},
    desired_lrp,
};

use super::harness::{Served, instance, invalid, net_info, not_found, slot};
use crate::bbs::proto::{self, actual_lrp::Presence};

/// Two slots, the first placed.
async fn placed(served: &Served) -> InstanceReference {
    served.desire("web").await;
    let key = served.node.create("web", 0).await;
    served.node.create("web", 1).await;
    served.node.place(&key, "cell-1").await
}

fn claim(instance_guid: &str, index: i32) -> proto::ClaimActualLrpRequest {
    proto::ClaimActualLrpRequest {
        process_guid: "web".to_owned(),
        index,
        actual_lrp_instance_key: instance(instance_guid, "cell-1"),
    }
}

fn start(instance_guid: &str, index: i32) -> proto::StartActualLrpRequest {
    proto::StartActualLrpRequest {
        actual_lrp_key: slot("web", index),
        actual_lrp_instance_key: instance(instance_guid, "cell-1"),
        actual_lrp_net_info: net_info(),
        availability_zone: "z1".to_owned(),
        ..Default::default()
    }
}

fn crash(instance_guid: &str, index: i32) -> proto::CrashActualLrpRequest {
    proto::CrashActualLrpRequest {
        actual_lrp_key: slot("web", index),
        actual_lrp_instance_key: instance(instance_guid, "cell-1"),
        error_message: "it broke".to_owned(),
    }
}

fn remove(instance_guid: Option<&str>, index: i32) -> proto::RemoveActualLrpRequest {
    proto::RemoveActualLrpRequest {
        process_guid: "web".to_owned(),
        index,
        actual_lrp_instance_key: instance_guid.and_then(|guid| instance(guid, "cell-1")),
    }
}

fn states(rows: &[proto::ActualLrp]) -> Vec<&str> {
    rows.iter().map(|row| row.state.as_str()).collect()
}

#[tokio::test]
async fn an_instance_is_claimed_started_and_crashes() {
    let served = Served::start().await;
    let placed = placed(&served).await;
    let guid = placed.instance_guid.as_str();
    assert_eq!(states(&served.rows("web").await), ["UNCLAIMED", "UNCLAIMED"]);
    let other = served.error("/v1/actual_lrps/claim", &claim("other", 0)).await;
    assert_eq!(other, Some((15, "cannot claim actual LRP".to_owned())));

    served.done("/v1/actual_lrps/claim", &claim(guid, 0)).await;
    served.done("/v1/actual_lrps/claim", &claim(guid, 0)).await;
    assert_eq!(states(&served.rows("web").await), ["CLAIMED", "UNCLAIMED"]);
    let other = served.error("/v1/actual_lrps/start.r1", &start("other", 0)).await;
    assert_eq!(other, Some((16, "cannot start actual LRP".to_owned())));
    served.done("/v1/actual_lrps/start.r1", &start(guid, 0)).await;
    let row = served.rows("web").await.remove(0);
    assert_eq!((row.state.as_str(), row.routable), ("RUNNING", Some(true)));
    assert_eq!(row.actual_lrp_net_info.instance_address, "10.0.0.9");
    assert_eq!(row.actual_lrp_net_info.ports[0].host_port, 8080);
    assert_eq!(
        (row.availability_zone.as_str(), row.metric_tags["source_id"].as_str()),
        ("z1", "app")
    );
    assert_eq!(Some(row.actual_lrp_instance_key), instance(guid, "cell-1"));
    assert_eq!(Some(row.actual_lrp_key), slot("web", 0));
    let unready = proto::StartActualLrpRequest { routable: Some(false), ..start(guid, 0) };
    served.done("/v1/actual_lrps/start.r1", &unready).await;
    assert_eq!(served.rows("web").await[0].routable, Some(false));
    // The older path knows no readiness: what it does not say is that it is.
    served.done("/v1/actual_lrps/start", &start(guid, 0)).await;
    assert_eq!(served.rows("web").await[0].routable, Some(true));
    let other = served.error("/v1/actual_lrps/crash", &crash("other", 0)).await;
    assert_eq!(other, Some((17, "cannot crash actual LRP".to_owned())));
    served.done("/v1/actual_lrps/crash", &crash(guid, 0)).await;
    let row = served.rows("web").await.remove(0);
    assert_eq!((row.state.as_str(), row.crash_count), ("UNCLAIMED", 1));
    assert_eq!(row.crash_reason, "it broke");
    let again = served.error("/v1/actual_lrps/crash", &crash(guid, 0)).await;
    assert_eq!(again, Some((17, "cannot crash actual LRP".to_owned())));
}

#[tokio::test]
async fn the_third_crash_in_a_row_leaves_a_slot_crashed() {
    let served = Served::start().await;
    let first = placed(&served).await;
    let key = first.key.clone();
    served.done("/v1/actual_lrps/crash", &crash(first.instance_guid.as_str(), 0)).await;
    for _ in 0..2 {
        let next = served.node.place(&key, "cell-1").await;
        served.done("/v1/actual_lrps/crash", &crash(next.instance_guid.as_str(), 0)).await;
    }

    let row = served.rows("web").await.remove(0);
    assert_eq!((row.state.as_str(), row.crash_count), ("CRASHED", 3));
    assert_eq!(row.actual_lrp_instance_key, proto::ActualLrpInstanceKey::default());
    served
        .done(
            "/v1/actual_lrps/retire",
            &proto::RetireActualLrpRequest { actual_lrp_key: slot("web", 0) },
        )
        .await;
    assert_eq!(states(&served.rows("web").await), ["UNCLAIMED"]);
}

#[tokio::test]
async fn a_placement_that_failed_is_noted_while_a_slot_waits() {
    let served = Served::start().await;
    let placed = placed(&served).await;
    served.node.run(&placed).await;
    let fail = |index, text: &str| proto::FailActualLrpRequest {
        actual_lrp_key: slot("web", index),
        error_message: text.to_owned(),
    };
    let path = "/v1/actual_lrps/fail";

    served.done(path, &fail(1, "insufficient resources")).await;
    assert_eq!(served.rows("web").await[1].placement_error, "insufficient resources");
    let running = served.error(path, &fail(0, "x")).await;
    assert_eq!(running, Some((18, "cannot fail actual LRP".to_owned())));
    assert_eq!(served.error(path, &fail(1, "")).await, invalid("error_message"));
    served.done(path, &fail(7, "of nobody")).await;
}

#[tokio::test]
async fn instances_are_removed_by_their_key_or_by_their_slot() {
    let served = Served::start().await;
    let placed = placed(&served).await;
    served.node.run(&placed).await;
    let path = "/v1/actual_lrps/remove";

    assert_eq!(served.error(path, &remove(Some("other"), 0)).await, not_found());
    assert_eq!(served.error(path, &remove(None, 7)).await, not_found());
    served.done(path, &remove(Some(placed.instance_guid.as_str()), 0)).await;
    served.done(path, &remove(None, 1)).await;
    assert!(served.rows("web").await.is_empty());
    let retire = proto::RetireActualLrpRequest { actual_lrp_key: slot("web", 0) };
    assert_eq!(served.error("/v1/actual_lrps/retire", &retire).await, not_found());
}

#[tokio::test]
async fn lifecycle_calls_say_which_fields_are_missing() {
    let served = Served::start().await;
    let client = &served;
    let none = proto::ClaimActualLrpRequest::default();
    let told = client.error("/v1/actual_lrps/claim", &none).await;
    assert_eq!(told, invalid("process_guid actual_lrp_instance_key"));
    for path in ["start", "start.r1"] {
        let none = proto::StartActualLrpRequest::default();
        let told = client.error(&format!("/v1/actual_lrps/{path}"), &none).await;
        assert_eq!(told, invalid("actual_lrp_key actual_lrp_instance_key actual_lrp_net_info"));
    }
    let empty = proto::CrashActualLrpRequest {
        actual_lrp_key: Some(proto::ActualLrpKey { index: -1, ..Default::default() }),
        actual_lrp_instance_key: Some(proto::ActualLrpInstanceKey::default()),
        ..Default::default()
    };
    let told = client.error("/v1/actual_lrps/crash", &empty).await;
    assert_eq!(told, invalid("process_guid index domain instance_guid cell_id"));
    let unknown = client.error("/v1/actual_lrps/claim", &claim("i", 0)).await;
    assert_eq!(unknown, not_found());
    assert_eq!(client.error("/v1/actual_lrps/crash", &crash("i", 0)).await, not_found());
}

#[tokio::test]
async fn instances_are_listed_by_process_index_domain_and_cell_also_as_groups() {
    let served = Served::start().await;
    let placed = placed(&served).await;
    served.node.run(&placed).await;
    let list = async |request: proto::ActualLrpsRequest| {
        let answer: proto::ActualLrpsResponse =
            served.client.call("/v1/actual_lrps/list", &request).await;
        let index = |row: proto::ActualLrp| row.actual_lrp_key.index;
        answer.actual_lrps.into_iter().map(index).collect::<Vec<_>>()
    };
    let asked = proto::ActualLrpsRequest::default;
    let text = str::to_owned;
    assert_eq!(list(asked()).await, [0, 1]);
    assert_eq!(list(proto::ActualLrpsRequest { index: Some(0), ..asked() }).await, [0]);
    assert_eq!(list(proto::ActualLrpsRequest { cell_id: text("cell-1"), ..asked() }).await, [0]);
    assert!(list(proto::ActualLrpsRequest { cell_id: text("a\nb"), ..asked() }).await.is_empty());
    assert!(list(proto::ActualLrpsRequest { domain: text("x"), ..asked() }).await.is_empty());
    assert!(list(proto::ActualLrpsRequest { process_guid: text("x"), ..asked() }).await.is_empty());

    let request = proto::ActualLrpsByProcessGuidsRequest { process_guids: vec![text("web")] };
    let path = "/v1/actual_lrps/list_by_process_guids";
    let answer: proto::ActualLrpsByProcessGuidsResponse = served.client.call(path, &request).await;
    assert_eq!(answer.actual_lrps.len(), 2);
    let none = served.error(path, &proto::ActualLrpsByProcessGuidsRequest::default()).await;
    assert_eq!(none, Some((4, "process_guids must not be empty".to_owned())));

    let groups: proto::ActualLrpGroupsResponse = served
        .client
        .call("/v1/actual_lrp_groups/list", &proto::ActualLrpGroupsRequest::default())
        .await;
    assert_eq!(groups.actual_lrp_groups.len(), 2);
    let request = proto::ActualLrpGroupsByProcessGuidRequest { process_guid: text("web") };
    let groups: proto::ActualLrpGroupsResponse =
        served.client.call("/v1/actual_lrp_groups/list_by_process_guid", &request).await;
    assert_eq!(groups.actual_lrp_groups[0].instance.as_ref().unwrap().state, "RUNNING");
    let path = "/v1/actual_lrp_groups/get_by_process_guid_and_index";
    let of = |index| proto::ActualLrpGroupByProcessGuidAndIndexRequest {
        process_guid: text("web"),
        index,
    };
    let group: proto::ActualLrpGroupResponse = served.client.call(path, &of(1)).await;
    assert_eq!(group.actual_lrp_group.unwrap().instance.unwrap().state, "UNCLAIMED");
    assert_eq!(served.error(path, &of(7)).await, not_found());
}

fn evacuate_running(instance_guid: &str) -> proto::EvacuateRunningActualLrpRequest {
    proto::EvacuateRunningActualLrpRequest {
        actual_lrp_key: slot("web", 0),
        actual_lrp_instance_key: instance(instance_guid, "cell-1"),
        actual_lrp_net_info: net_info(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_running_instance_is_kept_until_its_replacement_runs() {
    let served = Served::start().await;
    served.node.register("cell-2").await;
    let old = placed(&served).await;
    served.node.run(&old).await;
    // The other slot would be away too, and only one of a process may be.
    let update = desired_lrp::Update { instances: Some(1), ..Default::default() };
    let process_guid = old.key.process_guid.clone();
    served.node.command(desired_lrp::Command::Update { process_guid, update }).await;
    let guid = old.instance_guid.as_str();
    let running = async |path: &str, guid: &str| {
        let answer: proto::EvacuationResponse =
            served.client.call(path, &evacuate_running(guid)).await;
        (answer.error, answer.keep_container)
    };
    let (newer, older) =
        ("/v1/actual_lrps/evacuate_running.r1", "/v1/actual_lrps/evacuate_running");

    assert_eq!(running(newer, "other").await, (None, false));
    assert_eq!(running(newer, guid).await, (None, true));
    assert_eq!(running(older, guid).await, (None, true));
    let rows = served.rows("web").await;
    assert_eq!(states(&rows), ["UNCLAIMED", "RUNNING"]);
    assert_eq!(rows[1].presence(), Presence::Evacuating);
    let next = served.node.place(&old.key, "cell-2").await;
    served.node.run(&next).await;
    assert_eq!(running(newer, guid).await, (None, false));
    let gone = proto::RemoveEvacuatingActualLrpRequest {
        actual_lrp_key: slot("web", 0),
        actual_lrp_instance_key: instance(guid, "cell-1"),
    };
    let path = "/v1/actual_lrps/remove_evacuating";
    assert_eq!(served.error(path, &gone).await, not_found());
}

#[tokio::test]
async fn an_evacuating_instance_is_removed_when_its_agent_says_that_it_is_gone() {
    let served = Served::start().await;
    let old = placed(&served).await;
    served.node.run(&old).await;
    let update = desired_lrp::Update { instances: Some(1), ..Default::default() };
    let process_guid = old.key.process_guid.clone();
    served.node.command(desired_lrp::Command::Update { process_guid, update }).await;
    let guid = old.instance_guid.as_str();
    served.done("/v1/actual_lrps/evacuate_running.r1", &evacuate_running(guid)).await;

    let gone = proto::RemoveEvacuatingActualLrpRequest {
        actual_lrp_key: slot("web", 0),
        actual_lrp_instance_key: instance(guid, "cell-1"),
    };
    served.done("/v1/actual_lrps/remove_evacuating", &gone).await;
    assert_eq!(states(&served.rows("web").await), ["UNCLAIMED"]);
}

#[tokio::test]
async fn what_is_claimed_stopped_or_crashed_leaves_a_cell_at_once() {
    let served = Served::start().await;
    let old = placed(&served).await;
    let guid = old.instance_guid.as_str();
    let (key, own) = (slot("web", 0), instance(guid, "cell-1"));
    served.done("/v1/actual_lrps/claim", &claim(guid, 0)).await;
    let claimed = |own| proto::EvacuateClaimedActualLrpRequest {
        actual_lrp_key: slot("web", 0),
        actual_lrp_instance_key: own,
    };
    let path = "/v1/actual_lrps/evacuate_claimed";
    assert_eq!(served.error(path, &claimed(instance("x", "cell-1"))).await, not_found());
    let answer: proto::EvacuationResponse = served.client.call(path, &claimed(own.clone())).await;
    assert_eq!((answer.error, answer.keep_container), (None, false));
    assert_eq!(states(&served.rows("web").await), ["UNCLAIMED", "UNCLAIMED"]);

    let path = "/v1/actual_lrps/evacuate_crashed";
    let crashed = |text: &str| proto::EvacuateCrashedActualLrpRequest {
        actual_lrp_key: key.clone(),
        actual_lrp_instance_key: own.clone(),
        error_message: text.to_owned(),
    };
    assert_eq!(served.error(path, &crashed("")).await, invalid("error_message"));
    assert_eq!(served.error(path, &crashed("x")).await, not_found());
    served.node.register("cell-2").await;
    let next = served.node.place(&old.key, "cell-2").await;
    let crashed = proto::EvacuateCrashedActualLrpRequest {
        actual_lrp_key: key.clone(),
        actual_lrp_instance_key: instance(next.instance_guid.as_str(), "cell-2"),
        error_message: "it broke".to_owned(),
    };
    served.done(path, &crashed).await;
    assert_eq!(served.rows("web").await[0].crash_count, 1);

    let next = served.node.place(&old.key, "cell-2").await;
    let stopped = proto::EvacuateStoppedActualLrpRequest {
        actual_lrp_key: key,
        actual_lrp_instance_key: instance(next.instance_guid.as_str(), "cell-2"),
    };
    let path = "/v1/actual_lrps/evacuate_stopped";
    served.done(path, &stopped).await;
    assert_eq!(served.error(path, &stopped).await, not_found());
}

#[tokio::test]
async fn an_instance_that_its_own_cell_ended_is_told_with_its_reason() {
    let served = Served::start().await;
    let placed = placed(&served).await;
    served.node.run(&placed).await;
    let report = CrashReport { reason: "APP: gone".to_owned(), exit: None, evidence: None };

    served.node.crash(&placed, report).await;

    assert_eq!(served.rows("web").await[0].crash_reason, "APP: gone");
}
