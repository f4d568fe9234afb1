//! What can be asked of the present, the past and the log.

use domain::{
    auction,
    bbs::{
        actual_lrp::{self, CrashReport},
        cell,
        task::{self, TaskResult},
    },
    exit::{ExitStatus, OutOfMemory, ProcessExit},
    id::{CellId, ProcessGuid},
    log::{CellEpoch, Owner, Position},
    observation::{LogLine, MetricsSample, Observation, ObservationRecord, OutputStream},
    rep::Evidence,
    units::Timestamp,
};
use projections::observations::Push;
use serde_json::{Value, json};

use super::{Harness, RUN_TASK, definition};

/// Everything that a World shows.
const WORLD: &str = "
    position recordedAt
    desiredLrps {
        processGuid domain instances annotation desiredAt position definitionDigest
        routes { hostnames port }
        definition {
            rootfs env { name sealed fingerprint } memoryMb diskMb maxPids cpuWeight ports logSource
            startTimeoutMs placementTags setup { __typename }
            checks { __typename ... on HttpCheck { port path timeoutMs } ... on TcpCheck { port } }
            action { __typename ... on TimeoutAction { timeoutMs action {
                ... on RunAction { path args dir user nofile env { name sealed fingerprint } }
            } } }
        }
    }
    actualLrps {
        processGuid index domain state since instanceGuid cellId placementEpoch address ports
        crashCount restart { kind notBefore } placementError isStopping appState details position
        lastCrash { reason at position }
    }
    tasks {
        taskGuid state cellId failed failureReason exitStatus signal outOfMemory { kills }
        annotation createdAt updatedAt rejectionCount position
    }
    cells {
        cellId epoch zone presence since instances tasks rootfses address
        capacity { memoryMb diskMb containers } free { memoryMb diskMb containers }
    }
    routes { hostname endpoints { address processGuid index instanceGuid cellId } }
    crashes {
        id processGuid index cellId instanceGuid reason exitStatus signal crashCount at position
        outOfMemory { limitBytes peakBytes kills } restart { kind }
        evidence { logLines { at source stream text } metrics { memoryBytes cpuNanoseconds pids } }
    }
    convergence {
        isSettled missing { key why } extra { key why } crashed { key why }
        unplaced { key why processGuid index taskGuid } lost { key why }
    }
    appStatus(processGuid: \"web\") { index state since details }
    freshnessDomains { name isFresh freshUntil }
";

/// A process with a running, a crashed, an unplaced and a missing slot; a task that failed and one
/// that waits; a cell that is lost.
async fn eventful() -> Harness {
    let harness = Harness::start().await;
    let inner = &harness.inner;
    inner.register("cell-1").await;
    harness.desire("web", 4).await;
    let running = inner.create("web", 0).await;
    inner.run(&inner.place(&running, "cell-1").await).await;
    let crashed = inner.create("web", 1).await;
    inner.crash(&inner.place(&crashed, "cell-1").await, crash_report(&harness).await).await;
    let unplaced = inner.create("web", 2).await;
    let error = "insufficient resources: memory".to_owned();
    inner
        .command(actual_lrp::Command::FailPlacement { key: unplaced, error, candidates: None })
        .await;
    for task_guid in ["job", "waiting"] {
        let spec = json!({ "taskGuid": task_guid, "definition": definition() });
        harness.ask_with(RUN_TASK, json!({ "spec": spec })).await;
    }
    let task = inner.start_task("job", "cell-1").await;
    let exit = ProcessExit { status: ExitStatus::Exited(3), out_of_memory: None };
    let failure_reason = Some("exited with status 3".to_owned());
    let (evidence, result) = (None, "{}".to_owned());
    let result = TaskResult { failure_reason, exit: Some(exit), evidence, result };
    inner.command(task::Command::Complete { task, result }).await;
    inner.register("cell-2").await;
    let cell_id = CellId::new("cell-2").unwrap();
    let (last_heard_at, heard_by) = (Timestamp(1), "node".to_owned());
    inner.command(cell::Command::Lose { cell_id, last_heard_at, heard_by }).await;
    harness
        .ask(r#"mutation { upsertFreshnessDomain(name: "apps", ttlSeconds: 0) { events } }"#)
        .await;
    harness
}

async fn crash_report(harness: &Harness) -> CrashReport {
    let evidence = Evidence {
        log_lines: vec![line("out of memory")],
        metrics: vec![MetricsSample {
            at: Timestamp(5),
            memory_bytes: 1 << 26,
            cpu_nanoseconds: 1 << 40,
            pids: 2,
            ..MetricsSample::default()
        }],
        ..Evidence::default()
    };
    let owner = Owner::Process(ProcessGuid::new("web").unwrap());
    let bytes = serde_json::to_vec(&evidence).unwrap();
    let digest = harness.inner.control_plane.keyring.put_sealed_blob(&owner, &bytes).await.unwrap();
    let word = OutOfMemory { limit_bytes: 1 << 26, peak_bytes: 1 << 26, kills: 1 };
    CrashReport {
        reason: "killed".to_owned(),
        exit: Some(ProcessExit { status: ExitStatus::Signalled(9), out_of_memory: Some(word) }),
        evidence: Some(digest),
    }
}

fn line(text: &str) -> LogLine {
    LogLine::new(Timestamp(4), "APP", OutputStream::Err, text.to_owned())
}

#[tokio::test]
async fn crashes_beside_the_ordinary_instance_are_found_with_their_evidence() {
    let harness = Harness::start().await;
    let inner = &harness.inner;
    inner.register("cell-1").await;
    harness.desire("web", 2).await;
    let cell_id = CellId::new("cell-1").unwrap();
    let evacuated = inner.create("web", 0).await;
    let evacuating = inner.place(&evacuated, "cell-1").await;
    inner.run(&evacuating).await;
    let key = inner.create("web", 1).await;
    let suspect = inner.place(&key, "cell-1").await;
    inner.run(&suspect).await;
    let (timeout, instances_away_max) = (cell::EVACUATION_TIMEOUT, 1);
    let evacuate =
        cell::Command::Evacuate { cell_id: cell_id.clone(), timeout, instances_away_max };
    inner.command(evacuate).await;
    inner.command(actual_lrp::Command::Evacuate { key: evacuated }).await;
    inner.crash(&evacuating, crash_report(&harness).await).await;
    let (last_heard_at, heard_by) = (Timestamp(1), "node".to_owned());
    inner.command(cell::Command::Lose { cell_id, last_heard_at, heard_by }).await;
    let reason = actual_lrp::UnclaimReason::CellLost;
    inner.command(actual_lrp::Command::Unclaim { key, reason }).await;
    inner.crash(&suspect, crash_report(&harness).await).await;

    let fields = "id presence index instanceGuid reason signal crashCount restart { kind }
        evidence { logLines { text } }";
    let now = harness.ask(&format!("{{ now {{ crashes {{ {fields} }} }} }}")).await;

    let crashes = now["now"]["crashes"].as_array().unwrap();
    let told: Vec<_> = crashes.iter().map(|it| (it["presence"].as_str(), &it["index"])).collect();
    assert_eq!(told, [(Some("SUSPECT"), &json!(1)), (Some("EVACUATING"), &json!(0))]);
    for crash in crashes {
        assert_eq!((&crash["reason"], &crash["signal"]), (&json!("killed"), &json!(9)));
        assert_eq!((&crash["crashCount"], &crash["restart"]), (&Value::Null, &Value::Null));
        assert_eq!(crash["evidence"]["logLines"][0]["text"], "out of memory");
        let id = crash["id"].as_str().unwrap();
        let same = harness.ask(&format!("{{ crash(id: \"{id}\") {{ {fields} }} }}")).await;
        assert_eq!(same["crash"], *crash);
    }
}

#[tokio::test]
async fn the_present_and_the_same_instant_of_the_past_show_the_same() {
    let harness = eventful().await;

    let now = harness.ask(&format!("{{ now {{ {WORLD} }} }}")).await["now"].clone();

    let position = now["position"].as_str().unwrap();
    let past = harness.ask(&format!("{{ at(position: \"{position}\") {{ {WORLD} }} }}")).await;
    assert_eq!(past["at"], now);
    let time = now["recordedAt"].as_str().unwrap();
    let past = harness.ask(&format!("{{ at(time: \"{time}\") {{ {WORLD} }} }}")).await;
    assert_eq!(past["at"], now);
}

#[tokio::test]
async fn the_world_shows_what_is_there_under_the_fields_own_words() {
    let harness = eventful().await;

    let now = harness.ask(&format!("{{ now {{ {WORLD} }} }}")).await["now"].clone();

    let lrp = &now["desiredLrps"][0];
    assert_eq!(lrp["definition"]["env"][0]["name"], "PASSWORD");
    assert_eq!(lrp["definition"]["env"][0]["sealed"], true);
    assert_eq!(lrp["definition"]["env"][0]["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(lrp["definition"]["action"]["action"]["path"], "/diario");
    let states: Vec<&Value> =
        now["actualLrps"].as_array().unwrap().iter().map(|slot| &slot["state"]).collect();
    assert_eq!(states, ["RUNNING", "UNCLAIMED", "UNCLAIMED"]);
    assert_eq!(now["actualLrps"][0]["address"], "10.0.0.2");
    assert_eq!(now["actualLrps"][1]["lastCrash"]["reason"], "killed");
    assert_eq!(now["actualLrps"][2]["placementError"], "insufficient resources: memory");
    let shown: Vec<&Value> =
        now["appStatus"].as_array().unwrap().iter().map(|status| &status["state"]).collect();
    assert_eq!(shown, ["RUNNING", "STARTING", "DOWN", "DOWN"]);
    assert_eq!(now["tasks"][0]["exitStatus"], 3);
    assert_eq!(now["tasks"][0]["cellId"], "cell-1");
    assert_eq!(now["tasks"][1]["state"], "PENDING");
    assert_eq!(now["cells"][0]["instances"], 1);
    assert_eq!(now["cells"][0]["free"]["memoryMb"], 960);
    assert_eq!(now["cells"][1]["presence"], "LOST");
    assert_eq!(now["routes"][0]["endpoints"][0]["address"], "10.0.0.2:8080");
    assert_eq!(now["convergence"]["missing"][0]["key"], "web/3");
    let unplaced: Vec<&Value> =
        now["convergence"]["unplaced"].as_array().unwrap().iter().map(|it| &it["key"]).collect();
    assert_eq!(unplaced, ["web/1", "web/2", "waiting"]);
    let crash = &now["crashes"][0];
    assert_eq!(crash["signal"], 9);
    assert_eq!(crash["outOfMemory"]["limitBytes"], 67_108_864);
    assert_eq!(crash["evidence"]["logLines"][0]["text"], "out of memory");

    let id = crash["id"].as_str().unwrap();
    let same = harness
        .ask(&format!("{{ crash(id: \"{id}\") {{ id reason }} other: crash(id: \"1\") {{ id }} }}"))
        .await;
    assert_eq!(same, json!({ "crash": { "id": id, "reason": "killed" }, "other": null }));
}

#[tokio::test]
async fn a_question_about_one_thing_is_answered_as_a_question_about_all() {
    let harness = eventful().await;

    let one = harness
        .ask(
            r#"{ now {
                ...part
                desiredLrp(processGuid: "web") { processGuid position }
                task(taskGuid: "job") { taskGuid state }
            } }
            fragment part on World {
                position
                actualLrps(processGuid: "web", state: RUNNING) { index appState }
                appStatus(processGuid: "web") { index state }
                crashes(processGuid: "web", first: 1) { id }
                none: desiredLrp(processGuid: "other") { processGuid }
            }"#,
        )
        .await["now"]
        .clone();

    let all = harness.ask(&format!("{{ now {{ {WORLD} }} }}")).await["now"].clone();
    assert_eq!(one["position"], all["position"]);
    assert_eq!(one["actualLrps"], json!([{ "index": 0, "appState": "RUNNING" }]));
    assert_eq!(one["appStatus"].as_array().unwrap().len(), 4);
    assert_eq!(one["desiredLrp"]["position"], all["desiredLrps"][0]["position"]);
    assert_eq!(one["task"]["state"], "COMPLETED");
    assert_eq!(one["crashes"][0]["id"], all["crashes"][0]["id"]);
    assert_eq!(one["none"], Value::Null);
}

#[tokio::test]
async fn questions_about_no_instant_and_malformed_ones_are_refused() {
    let harness = eventful().await;
    let cases = [
        ("{ at { position } }", "INVALID"),
        (r#"{ at(position: "1", time: "2026-01-01T00:00:00Z") { position } }"#, "INVALID"),
        (r#"{ at(position: "999999") { position } }"#, "AHEAD_OF_HEAD"),
        (
            r#"{ diff(from: { position: "0" }, to: { position: "999999" }) { isTruncated } }"#,
            "AHEAD_OF_HEAD",
        ),
        (
            r#"{ diff(from: {}, to: { position: "1" }) { isTruncated } }"#,
            "GRAPHQL_VALIDATION_FAILED",
        ),
        ("{ log(first: 501) { hasMore } }", "INVALID"),
        ("{ log(first: -1) { hasMore } }", "INVALID"),
        (r#"{ log(filter: { owner: "web" }) { hasMore } }"#, "INVALID"),
        (r#"{ log(filter: { types: ["crashed"] }) { hasMore } }"#, "INVALID"),
        (
            r#"{ log(after: "00000000000000000000000000000008.1") { hasMore } }"#,
            "CURSOR_OF_ANOTHER_LOG",
        ),
        (r#"{ log(after: "00000000000000000000000000000007.999") { hasMore } }"#, "AHEAD_OF_HEAD"),
        (r#"{ now { desiredLrp(processGuid: "a b") { processGuid } } }"#, "INVALID"),
        ("{ logs { hasMore } }", "INVALID"),
        (r#"{ logs(processGuid: "web", taskGuid: "job") { hasMore } }"#, "INVALID"),
        (r#"{ logs(processGuid: "web", after: "x") { hasMore } }"#, "INVALID"),
    ];
    for (query, code) in cases {
        assert_eq!(harness.refused(query, json!({})).await.0, code, "{query}");
    }
}

#[tokio::test]
async fn what_each_candidate_came_to_is_told_with_the_event() {
    let harness = eventful().await;
    let slot = harness.inner.create("web", 3).await;
    let lacks = auction::Lacking { containers: false, disk: true, memory: true };
    let candidates = auction::Candidates {
        seen: Position(2),
        best: vec![(CellId::new("cell-9").unwrap(), auction::Score(1_250_000))],
        refused: vec![(CellId::new("cell-1").unwrap(), auction::Refusal::Lacks(lacks))],
        counts: vec![(auction::Refusal::HigherScore, 40)],
    };
    let error = "insufficient resources".to_owned();
    let candidates = Some(Box::new(candidates));
    let command = actual_lrp::Command::FailPlacement { key: slot, error, candidates };
    harness.inner.command(command).await;

    let told = harness
        .ask(
            r#"{ log(last: 2, filter: { types: ["actual_lrp.placement_failed"] }) { events {
                candidates {
                    seen best { cellId score } refused { cellId reason } counts { reason cells }
                }
            } } }"#,
        )
        .await;

    assert_eq!(
        told["log"]["events"],
        json!([
            { "candidates": null },
            { "candidates": {
                "seen": "2",
                "best": [{ "cellId": "cell-9", "score": "1.250000" }],
                "refused": [{ "cellId": "cell-1", "reason": "lacks disk, memory" }],
                "counts": [{ "reason": "higher score", "cells": 40 }],
            } },
        ])
    );
}

#[tokio::test]
async fn what_each_candidate_came_to_is_told_of_a_slot_or_a_task_as_it_is() {
    let harness = Harness::start().await;
    harness.inner.register("cell-1").await;
    harness.desire("web", 2).await;
    let candidates = |cell: &str| {
        let best = vec![(CellId::new(cell).unwrap(), auction::Score(1))];
        let (refused, counts) = (Vec::new(), Vec::new());
        Some(Box::new(auction::Candidates { seen: Position(1), best, refused, counts }))
    };
    let key = harness.inner.create("web", 0).await;
    let other = harness.inner.create("web", 1).await;
    let fail = |key, told| actual_lrp::Command::FailPlacement {
        key,
        error: "insufficient resources".to_owned(),
        candidates: candidates(told),
    };
    harness.inner.command(fail(key.clone(), "cell-8")).await;
    harness.inner.command(fail(other, "cell-9")).await;
    let told = async || {
        let best = "{ best { cellId } }";
        let query = format!(
            r#"{{ now {{
                first: candidates(processGuid: "web") {best}
                second: candidates(processGuid: "web", index: 1) {best}
                missing: candidates(processGuid: "web", index: 7) {best}
                nobody: candidates(taskGuid: "job") {best}
            }} }}"#
        );
        let told = harness.ask(&query).await["now"].clone();
        let cell = |name: &str| told[name]["best"][0]["cellId"].as_str().map(str::to_owned);
        ["first", "second", "missing", "nobody"].map(cell)
    };
    let some = |cell: &str| Some(cell.to_owned());
    assert_eq!(told().await, [some("cell-8"), some("cell-9"), None, None]);

    // Placed where nothing was judged: what was told before is no answer any more.
    harness.inner.place(&key, "cell-1").await;
    assert_eq!(told().await, [None, some("cell-9"), None, None]);

    for (arguments, field) in [
        ("", "processGuid"),
        (r#"(processGuid: "web", taskGuid: "job")"#, "processGuid"),
        (r#"(taskGuid: "job", index: 1)"#, "index"),
        (r#"(processGuid: "web", index: -1)"#, "index"),
    ] {
        let query = format!("{{ now {{ candidates{arguments} {{ seen }} }} }}");
        let (code, fields) = harness.refused(&query, json!({})).await;
        assert_eq!((code.as_str(), fields), ("INVALID", vec![field.to_owned()]), "{arguments}");
    }
}

#[tokio::test]
async fn a_rebalance_plan_is_told_and_nothing_is_moved() {
    let harness = Harness::start().await;
    harness.inner.register("cell-1").await;
    harness.desire("web", 2).await;
    for index in [0, 1] {
        let key = harness.inner.create("web", index).await;
        harness.inner.run(&harness.inner.place(&key, "cell-1").await).await;
    }
    harness.inner.register("cell-2").await;
    let before = harness.inner.control_plane.now.read(|world| world.position());

    let plan = "moves { processGuid index from to } imbalanceBefore imbalanceAfter";
    let told = harness.ask(&format!("{{ now {{ rebalancePlan {{ {plan} }} }} }}")).await;
    let none = harness.ask("{ now { rebalancePlan(movesMax: 0) { moves { gain } gain } } }").await;

    let told = &told["now"]["rebalancePlan"];
    let [only] = &told["moves"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&only["from"], &only["to"]), (&json!("cell-1"), &json!("cell-2")));
    assert!(told["imbalanceBefore"].as_str() > told["imbalanceAfter"].as_str(), "{told}");
    assert_eq!(none["now"]["rebalancePlan"], json!({ "moves": [], "gain": "0.000000" }));
    assert_eq!(harness.inner.control_plane.now.read(|world| world.position()), before);
    let too_many = "{ now { rebalancePlan(movesMax: 501) { gain } } }";
    assert_eq!(harness.refused(too_many, json!({})).await.1, ["movesMax"]);
}

#[tokio::test]
async fn the_log_is_read_page_by_page_and_by_owner_type_and_actor() {
    let harness = eventful().await;
    let page = "events { position cursor stream version owner type schemaVersion recordedAt
        actor { kind name via } commandId causation correlation payload } endCursor hasMore";
    let all = harness.ask(&format!("{{ log(first: 500) {{ {page} }} }}")).await["log"].clone();
    let events = all["events"].as_array().unwrap();
    assert_eq!(all["hasMore"], false);

    let mut read = Vec::new();
    let mut after = harness.ask("{ log(first: 0) { endCursor hasMore } }").await["log"].clone();
    while after["hasMore"] == json!(true) {
        let cursor = &after["endCursor"];
        after =
            harness.ask(&format!("{{ log(after: {cursor}, first: 4) {{ {page} }} }}")).await["log"]
                .clone();
        read.extend(after["events"].as_array().unwrap().clone());
    }
    assert_eq!(&read, events);
    let last = harness.ask(&format!("{{ log(last: 2) {{ {page} }} }}")).await["log"].clone();
    assert_eq!(last["events"].as_array().unwrap()[..], events[events.len() - 2..]);
    assert_eq!(last["endCursor"], all["endCursor"]);

    let filtered = harness
        .ask(
            r#"{
                job: log(filter: { owner: "task/job" }) { events { type } }
                crashes: log(filter: { types: ["actual_lrp.crashed"] }) { events { stream } endCursor }
                mine: log(filter: { actor: { kind: USER, name: "local", via: "graphql" } }) {
                    events { type }
                }
            }"#,
        )
        .await;
    let types = |name: &str| -> Vec<String> {
        let events = filtered[name]["events"].as_array().unwrap();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types("job"), ["task.desired", "task.placed", "task.started", "task.completed"]);
    assert_eq!(
        types("mine"),
        ["desired_lrp.desired", "task.desired", "task.desired", "freshness_domain.upserted"]
    );
    assert_eq!(filtered["crashes"]["events"], json!([{ "stream": "actual/web/1" }]));
    assert_eq!(filtered["crashes"]["endCursor"], all["endCursor"]);
}

#[tokio::test]
async fn a_diff_names_what_changed_and_the_events_that_did_it() {
    let harness = eventful().await;
    let from = harness.ask("{ now { position } }").await["now"]["position"].clone();
    let scale = r#"mutation { updateDesiredLrp(processGuid: "web", instances: 1) { position } }"#;
    harness.ask(scale).await;
    harness.ask(r#"mutation { retireActualLrp(processGuid: "web", index: 0) { position } }"#).await;
    harness.desire("other", 1).await;
    let to = harness.ask("{ now { position } }").await["now"]["position"].clone();

    let change = "kind key fields { name from to } events { type position }";
    let diff = |from: &Value, to: &Value| {
        format!(
            "{{ diff(from: {{ position: {from} }}, to: {{ position: {to} }}) {{ isTruncated
                desiredLrps {{ {change} }} actualLrps {{ {change} }} routes {{ {change} }} }} }}"
        )
    };
    let told = harness.ask(&diff(&from, &to)).await["diff"].clone();

    let keys = |kind: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let changes = told[kind].as_array().unwrap();
        changes.iter().map(|change| (text(&change["kind"]), text(&change["key"]))).collect()
    };
    let pair = |kind: &str, key: &str| (kind.to_owned(), key.to_owned());
    assert_eq!(keys("desiredLrps"), [pair("ADDED", "other"), pair("CHANGED", "web")]);
    assert_eq!(
        keys("actualLrps"),
        [pair("CHANGED", "web/0"), pair("REMOVED", "web/1"), pair("REMOVED", "web/2")]
    );
    let hosts = [pair("ADDED", "other.example.com"), pair("CHANGED", "web.example.com")];
    assert_eq!(keys("routes"), hosts);
    let scaled = &told["desiredLrps"][1];
    assert_eq!(scaled["fields"], json!([{ "name": "instances", "from": "4", "to": "1" }]));
    assert_eq!(scaled["events"][0]["type"], "desired_lrp.scaled");
    assert_eq!(told["actualLrps"][1]["events"][0]["type"], "actual_lrp.removed");
    assert_eq!(told["routes"][1]["events"][0]["type"], "actual_lrp.retired");
    let sealed = told["desiredLrps"][0]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == "definition.env[0].value");
    assert!(sealed.unwrap()["to"].as_str().unwrap().starts_with("sealed "));
    let nothing = harness.ask(&diff(&to, &to)).await["diff"].clone();
    assert_eq!(nothing["desiredLrps"], json!([]));
}

#[tokio::test]
async fn the_output_of_a_process_is_read_page_by_page() {
    let harness = Harness::start().await;
    push_lines(&harness, 1, &["one", "two", "three"]).await;
    let query = |arguments: &str| {
        format!(
            "{{ logs(processGuid: \"web\"{arguments}) {{
                lines {{ cursor text source stream index instanceGuid cellId logPosition at }}
                endCursor hasMore dropped }} }}"
        )
    };
    let texts = |page: &Value| -> Vec<String> {
        let lines = page["logs"]["lines"].as_array().unwrap();
        lines.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    };

    let first = harness.ask(&query(", first: 2")).await;
    assert_eq!(texts(&first), ["one", "two"]);
    assert_eq!(first["logs"]["hasMore"], true);
    let rest = harness.ask(&query(&format!(", after: {}", first["logs"]["endCursor"]))).await;
    assert_eq!(texts(&rest), ["three"]);
    assert_eq!(texts(&harness.ask(&query(", last: 1")).await), ["three"]);
    assert_eq!(texts(&harness.ask(&query(", index: 1")).await), Vec::<String>::new());
}

/// Pushes lines of slot 0 of `web`, as its cell does.
pub(super) async fn push_lines(harness: &Harness, first_sequence: u64, texts: &[&str]) {
    let observations = texts.iter().map(|text| Observation {
        owner: Owner::Process(ProcessGuid::new("web").unwrap()),
        index: Some(0),
        instance_guid: "instance".parse().unwrap(),
        log_position: Position(0),
        tags: Default::default(),
        record: ObservationRecord::Line(line(text)),
    });
    let push = Push {
        cell_id: CellId::new("cell-1").unwrap(),
        cell_epoch: CellEpoch(1),
        first_sequence,
        observations: observations.collect(),
    };
    harness.inner.control_plane.observations.append(push).await.unwrap();
}
