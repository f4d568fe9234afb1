//! What a user may command, refusals first.

use serde_json::{Value, json};

use super::{DESIRE, Harness, RUN_TASK, definition, desired_lrp};

/// A wish with one member of its definition replaced.
fn with(name: &str, value: Value) -> Value {
    let mut spec = desired_lrp("web", 1);
    spec["definition"][name] = value;
    json!({ "spec": spec })
}

/// A wish under another guid.
fn named(process_guid: &str) -> Value {
    let mut spec = desired_lrp("web", 1);
    spec["processGuid"] = json!(process_guid);
    json!({ "spec": spec })
}

#[tokio::test]
async fn a_malformed_wish_is_refused_field_by_field() {
    let harness = Harness::start().await;
    let cases = [
        (named(""), "spec.processGuid"),
        (named("a b"), "spec.processGuid"),
        (named(&"x".repeat(256)), "spec.processGuid"),
        (json!({ "spec": desired_lrp("web", 4_001) }), "spec.instances"),
        (with("memoryMb", json!(-1)), "spec.definition.memoryMb"),
        (with("memoryMb", json!(0)), "spec.definition.memoryMb"),
        (with("diskMb", json!(1_i64 << 40)), "spec.definition.diskMb"),
        (with("cpuWeight", json!(101)), "spec.definition.cpuWeight"),
        (with("ports", json!([8080, 65_536])), "spec.definition.ports[1]"),
        (with("rootfs", json!("docker:busybox")), "spec.definition.rootfs"),
        (with("checks", json!([{ "tcp": { "port": 0 } }])), "spec.definition.checks[0].port"),
        (with("env", json!([{ "name": "A=B", "value": "x" }])), "spec.definition.env[0].name"),
        (
            with("action", json!({ "serial": { "actions": [] } })),
            "spec.definition.action.serial.actions",
        ),
    ];
    for (variables, field) in cases {
        let refused = harness.refused(DESIRE, variables).await;
        assert_eq!(refused, ("INVALID".to_owned(), vec![field.to_owned()]));
    }
    let both = json!({ "run": { "path": "a", "user": "b" }, "serial": { "actions": [] } });
    let shapes = [
        with("unknown", json!(1)),
        with("action", both),
        with("action", json!({})),
        with("memoryMb", json!("64")),
        with("env", json!([{ "name": "A", "value": 5 }])),
    ];
    for variables in shapes {
        assert_eq!(harness.refused(DESIRE, variables).await.0, "GRAPHQL_VALIDATION_FAILED");
    }
    let mut checked = json!({ "taskGuid": "job", "definition": definition() });
    checked["definition"]["checks"] = json!([{ "tcp": { "port": 1 } }]);
    let refused = harness.refused(RUN_TASK, json!({ "spec": checked })).await;
    assert_eq!(refused.1, ["spec.definition.checks"]);
    assert_eq!(harness.ask("{ now { position } }").await["now"]["position"], "0");
}

#[tokio::test]
async fn a_refused_command_says_why_and_changes_nothing() {
    let harness = Harness::start().await;
    harness.desire("web", 1).await;
    let cases = [
        (r#"removeDesiredLrp(processGuid: "other")"#, "NOT_FOUND"),
        (r#"removeDesiredLrp(processGuid: "a b")"#, "INVALID"),
        (r#"updateDesiredLrp(processGuid: "web")"#, "INVALID"),
        (r#"updateDesiredLrp(processGuid: "web", instances: -1)"#, "INVALID"),
        (
            r#"updateDesiredLrp(processGuid: "web", routes: [{ hostnames: ["-"], port: 1 }])"#,
            "INVALID",
        ),
        (r#"retireActualLrp(processGuid: "web", index: 0)"#, "NOT_FOUND"),
        (r#"cancelTask(taskGuid: "job")"#, "NOT_FOUND"),
        (r#"upsertFreshnessDomain(name: "apps", ttlSeconds: -1)"#, "INVALID"),
        (
            r#"upsertFreshnessDomain(name: "apps", ttlSeconds: 0, commandId: "report/c/1/2")"#,
            "INVALID",
        ),
        (r#"upsertFreshnessDomain(name: "apps", ttlSeconds: 0, commandId: "a b")"#, "INVALID"),
    ];
    for (field, code) in cases {
        let refused =
            harness.refused(&format!("mutation {{ {field} {{ position }} }}"), json!({})).await;
        assert_eq!(refused.0, code, "{field}");
    }
    let refused = harness.refused(DESIRE, json!({ "spec": desired_lrp("web", 2) })).await;
    assert_eq!(refused.0, "ALREADY_EXISTS");

    assert_eq!(harness.ask("{ now { position } }").await["now"]["position"], "1");
}

#[tokio::test]
async fn a_repeated_command_id_changes_nothing_and_is_answered_as_the_first() {
    let harness = Harness::start().await;
    let once = json!({ "spec": desired_lrp("web", 1), "id": "mine" });

    let first = harness.ask_with(DESIRE, once.clone()).await;
    let second = harness.ask_with(DESIRE, once).await;

    assert_eq!(first, second);
    assert_eq!(first["data"]["desireLrp"]["commandId"], "mine");
    assert_eq!(first["data"]["desireLrp"]["events"], 1);
    assert_eq!(harness.ask("{ now { position } }").await["now"]["position"], "1");
    let reused = json!({ "spec": desired_lrp("other", 1), "id": "mine" });
    assert_eq!(harness.refused(DESIRE, reused).await.0, "COMMAND_ID_REUSED");
}

#[tokio::test]
async fn every_command_of_a_user_does_what_it_says() {
    let harness = Harness::start().await;
    harness.inner.register("cell-1").await;
    harness.desire("web", 2).await;
    for index in 0..2 {
        let key = harness.inner.create("web", index).await;
        let instance = harness.inner.place(&key, "cell-1").await;
        harness.inner.run(&instance).await;
    }
    let task = json!({ "spec": { "taskGuid": "job", "definition": definition() } });
    harness.ask_with(RUN_TASK, task).await;

    let changed = harness
        .ask(
            r#"mutation {
                scale: updateDesiredLrp(processGuid: "web", instances: 1, annotation: "new") { events }
                move: updateDesiredLrp(processGuid: "web", routes: []) { events }
                retire: retireActualLrp(processGuid: "web", index: 0) { events }
                cancel: cancelTask(taskGuid: "job") { events }
                always: upsertFreshnessDomain(name: "apps", ttlSeconds: 0) { events }
                while: upsertFreshnessDomain(name: "jobs", ttlSeconds: 600) { events }
            }"#,
        )
        .await;
    // The routes of the slot that goes too many go first.
    assert_eq!(changed["scale"]["events"], 4);
    let seen = harness
        .ask(
            r#"{ now {
                desiredLrp(processGuid: "web") { instances annotation routes { port } }
                actualLrps(processGuid: "web") { index isStopping }
                task(taskGuid: "job") { state failed failureReason }
                freshnessDomains { name isFresh freshUntil }
            } }"#,
        )
        .await;
    assert_eq!(
        seen["now"]["desiredLrp"],
        json!({ "instances": 1, "annotation": "new", "routes": [] })
    );
    assert_eq!(
        seen["now"]["actualLrps"],
        json!([{ "index": 0, "isStopping": true }, { "index": 1, "isStopping": true }])
    );
    assert_eq!(
        seen["now"]["task"],
        json!({ "state": "COMPLETED", "failed": true, "failureReason": "task was cancelled" })
    );
    let domains = &seen["now"]["freshnessDomains"];
    assert_eq!(domains[0], json!({ "name": "apps", "isFresh": true, "freshUntil": null }));
    assert_eq!(domains[1]["isFresh"], true);

    harness.ask(r#"mutation { removeDesiredLrp(processGuid: "web") { events } }"#).await;
    let seen = harness.ask("{ now { desiredLrps { processGuid } } }").await;
    assert_eq!(seen["now"]["desiredLrps"], json!([]));
}

#[tokio::test]
async fn an_ended_task_is_resolved_by_one_client_and_deleted_and_refusals_say_what_diego_says() {
    let harness = Harness::start().await;
    let url = "https://user:pass@example.com/done";
    let spec =
        json!({ "taskGuid": "job", "completionCallbackUrl": url, "definition": definition() });
    harness.ask_with(RUN_TASK, json!({ "spec": spec })).await;
    let resolve = "mutation { resolveTask(taskGuid: \"job\") { events } }";
    let delete = "mutation { deleteTask(taskGuid: \"job\") { events } }";
    let fail = "mutation { failTask(taskGuid: \"job\", reason: \"by hand\") { events } }";

    let early = harness.ask_with(resolve, json!({})).await;
    assert_eq!(
        early["errors"][0]["extensions"],
        json!({
            "code": "INVALID_TRANSITION",
            "diego": {
                "type": "InvalidStateTransition",
                "message": "Cannot transition from Pending to Resolving",
            },
        })
    );
    harness.ask(fail).await;
    harness.ask(resolve).await;
    let seen = harness
        .ask(
            r#"{ now { task(taskGuid: "job") {
                state failed failureReason result callback { attempts status failure }
            } } }"#,
        )
        .await;
    let callback = json!({ "attempts": 0, "status": null, "failure": null });
    assert_eq!(
        seen["now"]["task"],
        json!({
            "state": "RESOLVING", "failed": true, "failureReason": "by hand", "result": "",
            "callback": callback,
        })
    );
    assert_eq!(harness.refused(resolve, json!({})).await.0, "INVALID_TRANSITION");
    harness.ask(delete).await;
    assert_eq!(harness.refused(delete, json!({})).await.0, "NOT_FOUND");
}

#[tokio::test]
async fn a_callback_url_that_is_none_is_refused_by_name_and_never_repeated() {
    let harness = Harness::start().await;
    for url in
        ["", "example.com", "ftp://h/x", "http://", "http://:80/", "http://h/a b", "file:///x"]
    {
        let spec =
            json!({ "taskGuid": "job", "completionCallbackUrl": url, "definition": definition() });
        let (code, fields) = harness.refused(RUN_TASK, json!({ "spec": spec })).await;
        assert_eq!((code.as_str(), fields), ("INVALID", vec!["spec.completionCallbackUrl".into()]));
    }
}

#[tokio::test]
async fn a_restart_policy_is_a_wishs_own_or_its_domains_and_is_bounded() {
    let harness = Harness::start().await;
    harness.desire("web", 1).await;
    harness
        .ask(
            r#"mutation {
                own: updateDesiredLrp(processGuid: "web", restart: { when: ON_FAILURE }) { events }
                there: upsertFreshnessDomain(name: "jobs", ttlSeconds: 0) { events }
                domain: setRestartPolicy(domain: "jobs", restart: { when: NEVER }) { events }
            }"#,
        )
        .await;

    let query = "{ now { desiredLrp(processGuid: \"web\") { restart { when immediateRestarts \
        backOffFirstMs backOffMaxMs crashesMax } } freshnessDomains { restart { when } } } }";
    let seen = harness.ask(query).await;
    let restart = json!({
        "when": "ON_FAILURE", "immediateRestarts": 2, "backOffFirstMs": 30_000,
        "backOffMaxMs": 960_000, "crashesMax": 200,
    });
    assert_eq!(seen["now"]["desiredLrp"]["restart"], restart);
    assert_eq!(seen["now"]["freshnessDomains"][0]["restart"], json!({ "when": "NEVER" }));

    let both = r#"mutation { updateDesiredLrp(processGuid: "web", restart: {},
        inheritRestart: true) { events } }"#;
    let (code, fields) = harness.refused(both, json!({})).await;
    assert_eq!((code.as_str(), fields), ("INVALID", vec!["inheritRestart".to_owned()]));
    let inherit = r#"mutation { updateDesiredLrp(processGuid: "web", inheritRestart: true) {
        events } }"#;
    assert_eq!(harness.ask(inherit).await["updateDesiredLrp"]["events"], 1);
    assert_eq!(harness.ask(inherit).await["updateDesiredLrp"]["events"], 0);
    assert_eq!(harness.ask(query).await["now"]["desiredLrp"]["restart"], json!(null));

    let cleared = r#"mutation { setRestartPolicy(domain: "jobs") { events } }"#;
    assert_eq!(harness.ask(cleared).await["setRestartPolicy"]["events"], 1);
    assert_eq!(harness.ask(query).await["now"]["freshnessDomains"][0]["restart"], json!(null));
    for (bad, field) in [
        ("immediateRestarts: 101", "immediateRestarts"),
        ("backOffFirstMs: 0", "backOffFirstMs"),
        ("backOffFirstMs: 2000, backOffMaxMs: 1000", "backOffMaxMs"),
        ("crashesMax: 0", "crashesMax"),
        ("crashesMax: -1", "crashesMax"),
    ] {
        for mutation in [
            format!(
                "mutation {{ setRestartPolicy(domain: \"jobs\", restart: {{ {bad} }}) {{ events }} }}"
            ),
            format!(
                "mutation {{ updateDesiredLrp(processGuid: \"web\", restart: {{ {bad} }}) {{ events }} }}"
            ),
        ] {
            let (code, fields) = harness.refused(&mutation, json!({})).await;
            assert_eq!((code.as_str(), fields), ("INVALID", vec![format!("restart.{field}")]));
        }
    }
    let unknown = r#"mutation { setRestartPolicy(domain: "nobody") { events } }"#;
    assert_eq!(harness.refused(unknown, json!({})).await.0, "NOT_FOUND");
}
