//! Tasks over the wire: every transition of Diego's table, and every refusal of one.

use domain::{
    bbs::task::{Command, TaskResult},
    units::Milliseconds,
};

use super::harness::{Served, invalid, not_found, run, task};
use crate::bbs::proto::{self, task::State};

fn guid(task_guid: &str) -> proto::TaskGuidRequest {
    proto::TaskGuidRequest { task_guid: task_guid.to_owned() }
}

fn start(task_guid: &str, cell_id: &str) -> proto::StartTaskRequest {
    proto::StartTaskRequest { task_guid: task_guid.to_owned(), cell_id: cell_id.to_owned() }
}

fn complete(task_guid: &str, cell_id: &str) -> proto::CompleteTaskRequest {
    proto::CompleteTaskRequest {
        task_guid: task_guid.to_owned(),
        cell_id: cell_id.to_owned(),
        failed: false,
        failure_reason: String::new(),
        result: "42".to_owned(),
    }
}

fn reject(task_guid: &str, reason: &str) -> proto::RejectTaskRequest {
    proto::RejectTaskRequest {
        task_guid: task_guid.to_owned(),
        rejection_reason: reason.to_owned(),
    }
}

fn fail(task_guid: &str, reason: &str) -> proto::FailTaskRequest {
    proto::FailTaskRequest { task_guid: task_guid.to_owned(), failure_reason: reason.to_owned() }
}

fn transition(from: &str, to: &str) -> Option<(i32, String)> {
    Some((9, format!("Cannot transition from {from} to {to}")))
}

async fn look(served: &Served, task_guid: &str) -> proto::Task {
    let request = proto::TaskByGuidRequest { task_guid: task_guid.to_owned() };
    let answer: proto::TaskResponse =
        served.client.call("/v1/tasks/get_by_task_guid.r3", &request).await;
    assert_eq!(answer.error, None);
    answer.task.unwrap()
}

#[tokio::test]
async fn a_task_runs_once_and_its_end_is_dealt_with_once() {
    let served = Served::start().await;
    served.desire_task("t").await;
    assert_eq!(look(&served, "t").await.state(), State::Pending);
    let again = served.error("/v1/tasks/desire.r2", &task("t")).await;
    assert_eq!(again, Some((12, "the requested resource already exists".to_owned())));
    let early = served.error("/v1/tasks/complete", &complete("t", "cell-1")).await;
    assert_eq!(early, transition("Pending", "Completed"));
    let unplaced = served.error("/v1/tasks/start", &start("t", "cell-1")).await;
    assert_eq!(unplaced, transition("Pending", "Running"));

    served.node.start_task("t", "cell-1").await;

    let repeated: proto::StartTaskResponse =
        served.client.call("/v1/tasks/start", &start("t", "cell-1")).await;
    assert_eq!((repeated.error, repeated.should_start), (None, false));
    let elsewhere = served.error("/v1/tasks/start", &start("t", "cell-2")).await;
    assert_eq!(elsewhere, transition("Running", "Running"));
    let running = look(&served, "t").await;
    assert_eq!((running.state(), running.cell_id.as_str()), (State::Running, "cell-1"));
    let elsewhere = served.error("/v1/tasks/complete", &complete("t", "cell-2")).await;
    assert_eq!(elsewhere, Some((24, "Running on cell cell-1 not cell-2".to_owned())));
    let resolving = served.error("/v1/tasks/resolving", &guid("t")).await;
    assert_eq!(resolving, transition("Running", "Resolving"));
    served.done("/v1/tasks/complete", &complete("t", "cell-1")).await;
    let ended = look(&served, "t").await;
    assert_eq!((ended.state(), ended.cell_id.as_str()), (State::Completed, ""));
    assert_eq!((ended.failed, ended.result.as_str()), (false, "42"));
    assert!(ended.first_completed_at > 0 && ended.created_at > 0);
    let again = served.error("/v1/tasks/complete", &complete("t", "cell-1")).await;
    assert_eq!(again, transition("Completed", "Completed"));
    let unresolved = served.error("/v1/tasks/delete", &guid("t")).await;
    assert_eq!(unresolved, transition("Completed", "Resolving"));
    served.done("/v1/tasks/resolving", &guid("t")).await;
    let second = served.error("/v1/tasks/resolving", &guid("t")).await;
    assert_eq!(second, transition("Resolving", "Resolving"));
    served.done("/v1/tasks/delete", &guid("t")).await;
    let gone = served.error("/v1/tasks/get_by_task_guid.r3", &guid("t")).await;
    assert_eq!(gone, not_found());
}

#[tokio::test]
async fn a_placed_task_is_started_once_by_the_cell_that_it_was_given_to() {
    let served = Served::start().await;
    served.desire_task("t").await;
    let task_guid = domain::id::TaskGuid::new("t").unwrap();
    let place = Command::Place {
        task_guid,
        instance_guid: crate::clock::new_instance_guid(),
        cell_id: domain::id::CellId::new("cell-1").unwrap(),
        cell_epoch: domain::log::CellEpoch(1),
        candidates: None,
    };
    served.node.command(place).await;
    assert_eq!(look(&served, "t").await.state(), State::Pending);

    let elsewhere = served.error("/v1/tasks/start", &start("t", "cell-2")).await;
    assert_eq!(elsewhere, transition("Pending", "Running"));
    let first: proto::StartTaskResponse =
        served.client.call("/v1/tasks/start", &start("t", "cell-1")).await;
    assert_eq!((first.error, first.should_start), (None, true));
}

#[tokio::test]
async fn a_task_is_cancelled_or_failed_while_it_has_not_ended() {
    let served = Served::start().await;
    for task_guid in ["a", "b"] {
        served.desire_task(task_guid).await;
    }
    served.node.start_task("b", "cell-1").await;

    for task_guid in ["a", "b"] {
        served.done("/v1/tasks/cancel", &guid(task_guid)).await;
        let ended = look(&served, task_guid).await;
        assert_eq!(ended.failure_reason, "task was cancelled");
        assert!(ended.failed && ended.result.is_empty());
        let again = served.error("/v1/tasks/cancel", &guid(task_guid)).await;
        assert_eq!(again, transition("Completed", "Completed"));
    }
    served.desire_task("c").await;
    assert_eq!(served.error("/v1/tasks/fail", &fail("c", "")).await, invalid("failure_reason"));
    served.done("/v1/tasks/fail", &fail("c", "no reason")).await;
    assert_eq!(look(&served, "c").await.failure_reason, "no reason");
    let again = served.error("/v1/tasks/fail", &fail("c", "x")).await;
    assert_eq!(again, transition("Completed", "Completed"));
}

#[tokio::test]
async fn the_fourth_rejection_fails_a_task_and_one_that_runs_is_not_rejected() {
    let served = Served::start().await;
    served.desire_task("t").await;
    assert_eq!(served.error("/v1/tasks/reject", &reject("t", "")).await, invalid("failure_reason"));

    for count in 1..=4 {
        assert_eq!(look(&served, "t").await.state(), State::Pending);
        served.done("/v1/tasks/reject", &reject("t", "no room")).await;
        let task = look(&served, "t").await;
        assert_eq!((task.rejection_count, task.rejection_reason.as_str()), (count, "no room"));
    }
    let failed = look(&served, "t").await;
    assert_eq!((failed.state(), failed.failure_reason.as_str()), (State::Completed, "no room"));
    let ended = served.error("/v1/tasks/reject", &reject("t", "again")).await;
    assert_eq!(ended, Some((4, "the request received is invalid".to_owned())));
    served.desire_task("r").await;
    served.node.start_task("r", "cell-1").await;
    let running = served.error("/v1/tasks/reject", &reject("r", "again")).await;
    assert_eq!(running, Some((4, "the request received is invalid".to_owned())));
}

#[tokio::test]
async fn of_an_unknown_task_nothing_is_found() {
    let served = Served::start().await;
    for path in ["cancel", "resolving", "delete"] {
        let path = format!("/v1/tasks/{path}");
        assert_eq!(served.error(&path, &guid("x")).await, not_found(), "{path}");
        assert_eq!(served.error(&path, &guid("a\nb")).await, invalid("task_guid"), "{path}");
    }
    assert_eq!(served.error("/v1/tasks/start", &start("x", "c")).await, not_found());
    assert_eq!(served.error("/v1/tasks/start", &start("x", "")).await, invalid("cell_id"));
    assert_eq!(served.error("/v1/tasks/complete", &complete("x", "c")).await, not_found());
    assert_eq!(
        served.error("/v1/tasks/complete", &complete("", "")).await,
        invalid("task_guid cell_id")
    );
    assert_eq!(served.error("/v1/tasks/fail", &fail("x", "r")).await, not_found());
    assert_eq!(served.error("/v1/tasks/reject", &reject("x", "r")).await, not_found());
}

#[tokio::test]
async fn tasks_are_listed_by_domain_and_cell_and_older_clients_know_no_layers() {
    let served = Served::start().await;
    served.desire_task("a").await;
    let layer = proto::ImageLayer {
        url: "https://blobs.test/layer.tgz".to_owned(),
        destination_path: "/layer".to_owned(),
        layer_type: proto::image_layer::Type::Shared.into(),
        media_type: proto::image_layer::MediaType::Tgz.into(),
        ..Default::default()
    };
    let mut other = task("b");
    other.domain = "elsewhere".to_owned();
    other.task_definition.as_mut().unwrap().image_layers = vec![layer.clone()];
    served.done("/v1/tasks/desire.r2", &other).await;
    served.node.start_task("b", "cell-1").await;

    let list = async |path: &str, domain: &str, cell_id: &str| {
        let request =
            proto::TasksRequest { domain: domain.to_owned(), cell_id: cell_id.to_owned() };
        let answer: proto::TasksResponse = served.client.call(path, &request).await;
        answer.tasks
    };
    let guids = |tasks: Vec<proto::Task>| -> Vec<String> {
        tasks.into_iter().map(|task| task.task_guid).collect()
    };
    let newest = "/v1/tasks/list.r3";
    assert_eq!(guids(list(newest, "", "").await), ["a", "b"]);
    assert_eq!(guids(list(newest, "cf-tasks", "").await), ["a"]);
    assert_eq!(guids(list(newest, "", "cell-1").await), ["b"]);
    assert!(list(newest, "", "cell-2").await.is_empty());
    let shown = list(newest, "elsewhere", "").await.remove(0).task_definition.unwrap();
    assert_eq!(shown.image_layers, std::slice::from_ref(&layer));
    let older = list("/v1/tasks/list.r2", "elsewhere", "").await.remove(0);
    let older = older.task_definition.unwrap();
    assert!(older.image_layers.is_empty());
    assert_eq!(older.cached_dependencies[0].cache_key, layer.url);
    let request = proto::TaskByGuidRequest { task_guid: "b".to_owned() };
    let one: proto::TaskResponse =
        served.client.call("/v1/tasks/get_by_task_guid.r2", &request).await;
    assert_eq!(one.task.unwrap().task_definition.unwrap(), older);
}

#[tokio::test]
async fn what_is_wrong_with_a_task_is_told_by_diegos_names() {
    let served = Served::start().await;
    let path = "/v1/tasks/desire.r2";
    let none = proto::DesireTaskRequest::default();
    assert_eq!(served.error(path, &none).await, invalid("task_guid domain task_definition"));

    let mut wrong = task("t");
    let definition = wrong.task_definition.as_mut().unwrap();
    definition.root_fs = String::new();
    definition.memory_mb = -1;
    definition.image_password = "x".to_owned();
    definition.annotation = "a".repeat(10 * 1024 + 1);
    let told = served.error(path, &wrong).await;
    assert_eq!(told, invalid("rootfs memory_mb annotation image_username"));
    let mut wrong = task("t");
    wrong.task_definition.as_mut().unwrap().action = None;
    assert_eq!(served.error(path, &wrong).await, Some((4, "invalid action type".to_owned())));
    let mut wrong = task("t");
    wrong.task_definition.as_mut().unwrap().action = Some(run(""));
    assert_eq!(served.error(path, &wrong).await, invalid("action path"));
}

#[tokio::test]
async fn what_a_long_reason_says_is_cut_as_diego_cuts_it() {
    let served = Served::start().await;
    served.desire_task("t").await;
    let reference = served.node.start_task("t", "cell-1").await;
    let result = TaskResult {
        failure_reason: Some("x".repeat(2000)),
        exit: None,
        evidence: None,
        result: String::new(),
    };
    served.node.command(Command::Complete { task: reference, result }).await;
    served.node.control_plane.clock.pass(Milliseconds(1));

    let reason = look(&served, "t").await.failure_reason;
    assert_eq!(reason.len(), 1024);
    assert!(reason.ends_with("(truncated)"));
}
