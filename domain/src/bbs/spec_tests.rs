//! What clients may write, field by field: every refusal with its text, and nothing unknown.

use serde_json::{Value, json};

use super::{
    desired_lrp::{self, Update},
    task,
};
use crate::{
    check::Check,
    invalid::Invalid,
    sealed::{PlainText, Sealed},
    testing::{process_guid, sealed},
    units::Milliseconds,
};

fn web() -> Value {
    json!({
        "process_guid": "web",
        "domain": "cf-apps",
        "instances": 2,
        "routes": [{ "hostnames": ["web.example.com"], "port": 8080 }],
        "annotation": "v1",
        "internal_routes": ["web.apps.internal"],
        "metric_tags": { "source_id": { "static": "web" }, "slot": { "dynamic": "index" } },
        "definition": {
            "rootfs": "preloaded:diario",
            "env": [{ "name": "TOKEN", "value": "s3cret" }],
            "setup": { "serial": { "actions": [run()] } },
            "action": { "timeout": { "action": run(), "timeout_ms": 1000 } },
            "check": { "checks": [
                { "tcp": { "port": 8080 } },
                { "http": { "port": 8080, "path": "/health" } },
            ] },
            "memory_mb": 64,
            "disk_mb": 64,
            "ports": [8080],
            "placement_tags": ["iso"],
        },
    })
}

fn run() -> Value {
    let env = json!([{ "name": "A", "value": "1" }]);
    json!({ "run": { "path": "/bin/diario", "args": ["x"], "dir": "/", "env": env, "user": "vcap" } })
}

fn minimal_task() -> Value {
    json!({
        "task_guid": "t",
        "definition": {
            "rootfs": "preloaded:diario", "action": run(), "memory_mb": 1, "disk_mb": 0,
        },
    })
}

fn seal(_: &PlainText) -> Result<Sealed, Invalid> {
    Ok(sealed())
}

fn with(mut spec: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.insert(name.to_owned(), value)),
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            panic!("{parent} holds nothing")
        }
    }
    spec
}

/// Everything that is wrong with a wish, in words.
fn refused(spec: Value) -> String {
    match serde_json::from_value::<desired_lrp::Spec>(spec) {
        Err(error) => error.to_string(),
        Ok(spec) => spec.into_command(seal).unwrap_err().to_string(),
    }
}

#[test]
fn every_field_that_is_wrong_is_named_with_what_it_must_be() {
    let long = "x".repeat(128 * 1024 + 1);
    let run = "/definition/setup/serial/actions/0/run";
    let run_field = |name: &str| format!("{run}/{name}");
    let check = "/definition/check/checks/1/http";
    let cases: Vec<(String, Value, String)> = [
        ("/instances", json!(4001), "instances must be from 0 to 4000, but is 4001"),
        ("/routes/0/port", json!(0), "routes[0].port must be from 1 to 65535"),
        ("/routes/0/hostnames", json!([]), "routes[0].hostnames must hold at least one host name"),
        ("/annotation", json!("a\0b"), "annotation must not hold a NUL byte"),
        ("/definition/memory_mb", json!(0), "memory_mb must be from 1 to 4194304, but is 0"),
        (
            "/definition/disk_mb",
            json!(4_194_305),
            "disk_mb must be from 0 to 4194304, but is 4194305",
        ),
        (
            "/definition/max_pids",
            json!(4_194_305),
            "max_pids must be from 0 to 4194304, but is 4194305",
        ),
        ("/definition/cpu_weight", json!(0), "cpu_weight must be from 1 to 100, but is 0"),
        (
            "/definition/start_timeout_ms",
            json!(86_400_001),
            "start_timeout_ms must be from 0 to 86400000, but is 86400001",
        ),
        (
            "/definition/graceful_stop_ms",
            json!(3_600_001),
            "graceful_stop_ms must be from 0 to 3600000, but is 3600001",
        ),
        (
            "/internal_routes",
            json!(vec!["a.internal"; 101]),
            "internal_routes must not have more than 100 entries, but has 101",
        ),
        (
            "/metric_tags",
            json!({ "": { "static": "x" } }),
            "metric_tags must have names of 1 to 255 bytes",
        ),
        (
            "/metric_tags",
            json!({ "a": { "static": "x".repeat(1025) } }),
            "metric_tags must have values of at most 1024 bytes",
        ),
        ("/definition/ports", json!([0]), "ports must each be from 1 to 65535"),
        (
            "/definition/ports",
            json!(vec![1; 1001]),
            "ports must not have more than 1000 entries, but has 1001",
        ),
        ("/definition/log_source", json!(""), "log_source must not be empty"),
        ("/definition/placement_tags", json!([""]), "placement_tags[0] must not be empty"),
        ("/definition/env/0/name", json!(""), "env[0].name must not be empty"),
        ("/definition/env/0/name", json!("A=B"), "env[0].name must not hold '='"),
        ("/definition/env/0/value", json!("\0"), "env[0].value must not hold a NUL byte"),
        (
            "/definition/action/timeout/timeout_ms",
            json!(0),
            "action.timeout.timeout_ms must be more than 0",
        ),
        (
            "/definition/setup/serial/actions",
            json!([]),
            "setup.serial.actions must hold at least one action",
        ),
        (
            "/definition/check/checks/0/tcp/port",
            json!(0),
            "check.checks[0].port must be from 1 to 65535",
        ),
    ]
    .map(|(pointer, value, text)| (pointer.to_owned(), value, text.to_owned()))
    .into_iter()
    .chain(
        [
            ("path", json!(""), "path must not be empty".to_owned()),
            ("user", json!(""), "user must not be empty".to_owned()),
            ("dir", json!(""), "dir must not be empty".to_owned()),
            ("nofile", json!(0), "nofile must be more than 0".to_owned()),
            ("log_source", json!(""), "log_source must not be empty".to_owned()),
            (
                "args",
                json!([long]),
                "args[0] must not be longer than 131072 bytes, but has 131073".to_owned(),
            ),
        ]
        .map(|(name, value, text)| {
            (run_field(name), value, format!("setup.serial.actions[0].run.{text}"))
        }),
    )
    .chain(
        [
            ("path", json!("health"), "path must begin with '/' and hold no white space"),
            ("timeout_ms", json!(600_001), "timeout_ms must be from 1 to 600000, but is 600001"),
            (
                "interval_ms",
                json!(3_600_001),
                "interval_ms must be from 1 to 3600000, but is 3600001",
            ),
            (
                "unhealthy_interval_ms",
                json!(3_600_001),
                "unhealthy_interval_ms must be from 1 to 3600000, but is 3600001",
            ),
            (
                "failure_threshold",
                json!(1_001),
                "failure_threshold must be from 1 to 1000, but is 1001",
            ),
        ]
        .map(|(name, value, text)| {
            (format!("{check}/{name}"), value, format!("check.checks[1].{text}"))
        }),
    )
    .collect();

    for (pointer, value, text) in cases {
        assert_eq!(refused(with(web(), &pointer, value)), text, "{pointer}");
    }
}

#[test]
fn values_that_are_not_of_their_type_are_refused_while_reading() {
    for (pointer, value, text) in [
        ("/process_guid", json!(""), "must not be empty"),
        ("/process_guid", json!("x".repeat(256)), "must not be longer than 255 bytes, but has 256"),
        ("/process_guid", json!("a/b"), "may hold only letters, digits, '-' and '_'"),
        ("/instances", json!(-1), "invalid value: integer `-1`"),
        ("/routes/0/hostnames", json!(["a b"]), "must be a host name"),
        ("/routes/0/port", json!(70_000), "invalid value: integer `70000`"),
        ("/definition/rootfs", json!("docker:busybox"), "must be preloaded:<name>"),
        ("/definition/rootfs", json!("preloaded:../etc"), "must be preloaded:<name>"),
        ("/definition/memory_mb", json!(-64), "invalid value: integer `-64`"),
        ("/definition/action", json!({ "walk": {} }), "unknown variant `walk`"),
    ] {
        let told = refused(with(web(), pointer, value));
        assert!(told.contains(text), "{pointer}: {told}");
    }
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    for parent in [
        "",
        "/routes/0",
        "/definition",
        "/definition/env/0",
        "/definition/setup/serial",
        "/definition/setup/serial/actions/0/run",
        "/definition/action/timeout",
        "/definition/check",
        "/definition/check/checks/0/tcp",
        "/definition/check/checks/1/http",
    ] {
        let told = refused(with(web(), &format!("{parent}/memoryMb"), json!(1)));
        assert!(told.contains("unknown field `memoryMb`"), "{parent}: {told}");
    }
    let task = with(minimal_task(), "/instances", json!(1));
    let told = serde_json::from_value::<task::Spec>(task).unwrap_err().to_string();
    assert!(told.contains("unknown field `instances`"), "{told}");
}

#[test]
fn a_recipe_is_neither_too_deep_nor_too_long() {
    let mut deep = run();
    for _ in 0..16 {
        deep = json!({ "serial": { "actions": [deep] } });
    }
    let long = json!({ "serial": { "actions": vec![run(); 100] } });
    for action in [deep, long] {
        let told = refused(with(web(), "/definition/action", action));
        assert!(told.ends_with("must hold at most 100 actions, nested at most 16 deep"), "{told}");
    }
}

#[test]
fn all_faults_are_told_at_once_up_to_a_bound_and_without_the_values() {
    let bad = with(web(), "/definition/memory_mb", json!(0));
    let bad = with(bad, "/definition/env/0/value", json!("s3cret\0"));
    let told = refused(with(bad, "/instances", json!(99_999)));
    assert_eq!(told.split("; ").count(), 3, "{told}");
    assert!(!told.contains("s3cret"), "{told}");

    let many = vec![json!({ "name": "", "value": "" }); 1000];
    assert_eq!(refused(with(web(), "/definition/env", json!(many))).split("; ").count(), 20);
}

#[test]
fn a_good_wish_is_sealed_whole_and_keeps_everything_else() {
    let spec: desired_lrp::Spec = serde_json::from_value(web()).unwrap();
    let clear = spec.definition.clone();
    let mut sealed_count = 0;

    let command = spec
        .into_command(|value| {
            sealed_count += 1;
            seal(value)
        })
        .unwrap();

    let desired_lrp::Command::Desire { instances, definition, .. } = command else { panic!() };
    assert_eq!((instances, sealed_count), (2, 3));
    assert!(!serde_json::to_string(&definition).unwrap().contains("s3cret"));
    let mut cleared = 0;
    let reopened = definition.try_map(&mut |_: &Sealed| {
        cleared += 1;
        Ok::<_, ()>(PlainText(String::new()))
    });
    assert_eq!(reopened.unwrap().check, clear.check);
    assert_eq!(cleared, 3);
}

#[test]
fn what_a_wish_leaves_out_has_diegos_defaults() {
    let spec: task::Spec = serde_json::from_value(minimal_task()).unwrap();

    assert_eq!(spec.domain.as_str(), "default");
    let definition = &spec.definition;
    assert_eq!((definition.cpu_weight, definition.start_timeout_ms.0), (100, 60_000));
    assert_eq!((definition.log_source.as_str(), definition.graceful_stop_ms), ("APP", None));
    assert!(spec.into_command(seal).is_ok());
}

#[test]
fn a_check_that_says_only_its_port_has_diegos_timings() {
    let check: Check = serde_json::from_value(json!({ "tcp": { "port": 1 } })).unwrap();

    let pauses = [check.timeout(), check.interval(), check.unhealthy_interval()];
    assert_eq!(pauses, [1_000, 30_000, 2_000].map(Milliseconds));
    assert_eq!(check.failure_threshold(), 1);
}

#[test]
fn a_task_with_checks_is_refused() {
    let checks = json!({ "checks": [{ "tcp": { "port": 1 } }] });
    let task = with(minimal_task(), "/definition/check", checks);
    let spec: task::Spec = serde_json::from_value(task).unwrap();

    let told = spec.into_command(seal).unwrap_err().to_string();
    assert_eq!(told, "check must hold no checks: a task is healthy while its process lives");
}

#[test]
fn an_update_is_checked_like_a_wish_and_must_change_something() {
    let refused =
        |update: Update| update.into_command(process_guid("web")).unwrap_err().to_string();
    let changes = Update { instances: Some(20_000), ..Update::default() };

    assert_eq!(
        refused(Update::default()),
        "update must change instances, routes, annotation, restart, internal routes or metric tags"
    );
    assert_eq!(refused(changes), "instances must be from 0 to 4000, but is 20000");
    let annotation = Some("x".repeat(10_241));
    assert_eq!(
        refused(Update { annotation, ..Update::default() }),
        "annotation must not be longer than 10240 bytes, but has 10241"
    );
}
