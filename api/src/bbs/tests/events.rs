//! Streams of events: their framing, their order, and that nothing of them is missed.

use domain::bbs::{actual_lrp::CrashReport, desired_lrp};
use hyper::{Method, StatusCode};

use super::harness::{Served, instance, lrp, slot};
use crate::bbs::{hub::PENDING_MAX, proto};

const INSTANCES: &str = "/v1/events/lrp_instances.r1";

fn report() -> CrashReport {
    CrashReport { reason: "it broke".to_owned(), exit: None, evidence: None }
}

#[tokio::test]
async fn the_life_of_an_instance_is_told_in_order() {
    let served = Served::start().await;
    let mut stream = served.client.follow(INSTANCES, &[], "").await;
    let headers = &stream.headers;
    assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-cache, no-store, must-revalidate");

    served.desire("web").await;
    let created = stream.next().await.unwrap();
    assert_eq!(created.name, "desired_lrp_created");
    let created: proto::DesiredLrpCreatedEvent = created.message();
    let mut shown = created.desired_lrp.unwrap();
    shown.modification_tag = None;
    assert_eq!(shown, lrp("web"));
    assert!(!created.trace_id.is_empty());
    let key = served.node.create("web", 0).await;
    let placed = served.node.place(&key, "cell-1").await;
    served.node.run(&placed).await;
    assert_eq!(
        stream.names(2).await,
        ["actual_lrp_instance_created", "actual_lrp_instance_changed"],
        "a cell that was chosen is nobody's business"
    );
    let running: proto::ActualLrpInstanceChangedEvent = stream.next().await.unwrap().message();
    assert_eq!(Some(running.actual_lrp_key), slot("web", 0));
    let states = [running.before, running.after].map(|it| it.unwrap().state);
    assert_eq!(states, ["CLAIMED", "RUNNING"]);

    served.node.crash(&placed, report()).await;
    let crashed: proto::ActualLrpCrashedEvent = stream.next().await.unwrap().message();
    let own = instance(placed.instance_guid.as_str(), "cell-1");
    assert_eq!(Some(crashed.actual_lrp_instance_key), own);
    assert_eq!((crashed.crash_count, crashed.crash_reason.as_str()), (1, "it broke"));
    assert_eq!(
        stream.names(2).await,
        ["actual_lrp_instance_created", "actual_lrp_instance_removed"]
    );
    let process_guid = key.process_guid.clone();
    served.node.command(desired_lrp::Command::Remove { process_guid }).await;
    assert_eq!(stream.names(2).await, ["desired_lrp_removed", "actual_lrp_instance_removed"]);
}

#[tokio::test]
async fn the_older_streams_tell_of_groups() {
    let served = Served::start().await;
    let mut older = served.client.follow("/v1/events", &[], "").await;
    let mut newer = served.client.follow("/v1/events.r1", &[], "").await;
    served.desire("web").await;
    let key = served.node.create("web", 0).await;
    let placed = served.node.place(&key, "cell-1").await;
    served.node.run(&placed).await;
    served.node.crash(&placed, report()).await;

    let expected = [
        "desired_lrp_created",
        "actual_lrp_created",
        "actual_lrp_changed",
        "actual_lrp_changed",
        "actual_lrp_crashed",
        "actual_lrp_changed",
    ];
    let first = older.next().await.unwrap();
    #[expect(deprecated, reason = "the oldest clients know nothing else")]
    let seconds = first
        .message::<proto::DesiredLrpCreatedEvent>()
        .desired_lrp
        .unwrap()
        .deprecated_start_timeout_s;
    assert_eq!(seconds, 60);
    assert_eq!(older.names(5).await, expected[1..]);
    assert_eq!(newer.names(6).await, expected);
}

#[tokio::test]
async fn the_life_of_a_task_is_told_on_its_own_streams() {
    let served = Served::start().await;
    let mut streams = [
        served.client.follow("/v1/events/tasks", &[], "").await,
        served.client.follow("/v1/events/tasks.r1", &[], "").await,
    ];
    served.desire("web").await;
    served.desire_task("t").await;
    let guid = proto::TaskGuidRequest { task_guid: "t".to_owned() };
    for path in ["/v1/tasks/cancel", "/v1/tasks/resolving", "/v1/tasks/delete"] {
        served.done(path, &guid).await;
    }

    for stream in &mut streams {
        let created: proto::TaskCreatedEvent = stream.next().await.unwrap().message();
        assert_eq!(created.task.unwrap().task_guid, "t");
        assert_eq!(stream.names(3).await, ["task_changed", "task_changed", "task_removed"]);
    }
}

#[tokio::test]
async fn of_one_cell_only_its_instances_are_told_and_wishes_all() {
    let served = Served::start().await;
    served.node.register("cell-2").await;
    let mut other = served.client.follow("/v1/events/lrp_instances", &[], "cell-2").await;
    let mut own = served.client.follow(INSTANCES, &[], "cell-1").await;
    served.desire("web").await;
    let key = served.node.create("web", 0).await;
    let placed = served.node.place(&key, "cell-1").await;
    served.node.run(&placed).await;
    served.desire("last").await;

    assert_eq!(other.names(2).await, ["desired_lrp_created", "desired_lrp_created"]);
    let changed = "actual_lrp_instance_changed";
    let expected = ["desired_lrp_created", changed, changed, "desired_lrp_created"];
    assert_eq!(own.names(4).await, expected);
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let served = Served::start().await;
    let from_now = served.node.control_plane.now.read(projections::world::World::position);
    let mut whole = served.client.follow(INSTANCES, &[], "").await;
    served.desire("web").await;
    let key = served.node.create("web", 0).await;
    let placed = served.node.place(&key, "cell-1").await;
    served.node.run(&placed).await;
    served.node.crash(&placed, report()).await;
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(whole.next().await.unwrap());
    }
    assert!(all.is_sorted_by(|one, next| one.id < next.id));
    drop(whole);

    // Behind each event the rest follows, also in the middle of what one change told.
    for read in 1..=all.len() {
        let last = all[read - 1].id.to_string();
        let mut rest = served.client.follow(INSTANCES, &[("last-event-id", &last)], "").await;
        for expected in &all[read..] {
            assert_eq!(rest.next().await.as_ref(), Some(expected));
        }
    }
    let path = format!("{INSTANCES}?after={}", from_now.0);
    let mut again = served.client.follow(&path, &[], "").await;
    for expected in &all {
        assert_eq!(again.next().await.as_ref(), Some(expected));
    }
    served.desire("later").await;
    assert_eq!(again.names(1).await, ["desired_lrp_created"], "and goes on with what comes");
}

#[tokio::test]
async fn a_request_for_a_stream_that_is_rubbish_is_refused() {
    let served = Served::start().await;
    let ask = async |path: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        served.client.raw(Method::GET, path, headers, body).await.unwrap().status
    };
    let after = |text: &str| format!("{INSTANCES}?after={text}");

    assert_eq!(ask(&after("x"), &[], vec![]).await, StatusCode::BAD_REQUEST);
    let both = ask(&after("1"), &[("last-event-id", "1")], vec![]).await;
    assert_eq!(both, StatusCode::BAD_REQUEST);
    let header = ask(INSTANCES, &[("last-event-id", "-1")], vec![]).await;
    assert_eq!(header, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&after("999999"), &[], vec![]).await, StatusCode::GONE);
    let body = ask(INSTANCES, &[], vec![0xff]).await;
    assert_eq!(body, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_and_others_are_not() {
    let served = Served::start().await;
    let mut stalled = served.client.follow(INSTANCES, &[], "").await;
    let mut quick = served.client.follow(INSTANCES, &[], "").await;
    served.desire("web").await;
    assert_eq!(quick.names(1).await, ["desired_lrp_created"]);

    // More than a socket and the ring hold together.
    let annotation = "x".repeat(10 * 1024);
    let process_guid = domain::id::ProcessGuid::new("web").unwrap();
    for number in 0..PENDING_MAX * 3 {
        let text = Some(format!("{number}{}", &annotation[..10_000]));
        let update = desired_lrp::Update { annotation: text, ..Default::default() };
        let process_guid = process_guid.clone();
        served.node.command(desired_lrp::Command::Update { process_guid, update }).await;
        assert_eq!(quick.names(1).await, ["desired_lrp_changed"]);
    }

    let mut told = 0;
    while stalled.next().await.is_some() {
        told += 1;
    }
    assert!(told < PENDING_MAX * 3, "the stream has ended early: {told}");
}

#[tokio::test]
async fn two_hundred_readers_hear_the_same() {
    let served = Served::start().await;
    let mut readers = Vec::new();
    for _ in 0..200 {
        readers.push(served.client.follow(INSTANCES, &[], "").await);
    }

    served.desire("web").await;

    for reader in &mut readers {
        assert_eq!(reader.names(1).await, ["desired_lrp_created"]);
    }
}
