//! Recipes of every shape: what survives, what is sealed, and what is refused with which words.

use serde_json::{Value, json};

use super::{definition::Definition, desired_lrp, task};
use crate::{
    action::Action,
    invalid::Invalid,
    sealed::{PlainText, Sealed},
    testing::{plain_rich_definition, rich_definition, sealed},
};

fn spec(definition: Value) -> Value {
    json!({ "process_guid": "web", "definition": definition })
}

fn rich() -> Value {
    serde_json::to_value(plain_rich_definition()).unwrap()
}

/// Everything that is wrong with a wish of this definition, in words.
fn refused(definition: Value) -> String {
    match serde_json::from_value::<desired_lrp::Spec>(spec(definition)) {
        Err(error) => error.to_string(),
        Ok(spec) => spec.into_command(|_| Ok::<_, Invalid>(sealed())).unwrap_err().to_string(),
    }
}

fn with(mut definition: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = definition.pointer_mut(parent).unwrap();
    match name.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[name] = value,
    }
    definition
}

#[test]
fn everything_that_can_be_said_survives_the_log_and_holds_no_secret_in_clear() {
    let spec: desired_lrp::Spec = serde_json::from_value(spec(rich())).unwrap();
    assert_eq!(spec.definition, plain_rich_definition());
    let mut secrets = Vec::new();

    let command = spec
        .into_command(|PlainText(secret)| {
            secrets.push(secret.clone());
            Ok::<_, Invalid>(sealed())
        })
        .unwrap();

    let desired_lrp::Command::Desire { definition, .. } = command else { panic!() };
    let written = serde_json::to_string(&definition).unwrap();
    assert_eq!(serde_json::from_str::<Definition>(&written).unwrap(), *definition);
    assert_eq!(*definition, rich_definition());
    for secret in ["ann:pw@", "s3cret"] {
        assert!(!written.contains(secret), "{secret}");
    }
    for url in ["app.zip", "droplet", "lifecycle.tgz", "droplet.tgz"] {
        assert!(secrets.iter().any(|secret| secret.ends_with(url)), "{url}");
    }
}

#[test]
fn what_says_nothing_is_not_written() {
    let task = json!({ "rootfs": "preloaded:diario", "action": { "run": { "path": "a", "user": "b" } },
        "memory_mb": 1, "disk_mb": 1 });
    let definition: Definition = serde_json::from_value(task).unwrap();

    let written = serde_json::to_string(&definition).unwrap();

    for name in ["sidecars", "egress_rules", "check", "monitor", "image_password", "privileged"] {
        assert!(!written.contains(name), "{name}: {written}");
    }
    assert_eq!(serde_json::from_str::<Definition>(&written).unwrap(), definition);
}

#[test]
fn an_action_is_found_by_its_number_depth_first() {
    let setup = plain_rich_definition().setup.unwrap();

    let found: Vec<&str> = (0..setup.count())
        .map(|number| match setup.nth(number).unwrap() {
            Action::Run(_) => "run",
            Action::Download(_) => "download",
            Action::Upload(_) => "upload",
            Action::Serial(_) => "serial",
            Action::Parallel(_) => "parallel",
            Action::Codependent(_) => "codependent",
            Action::Timeout(_) => "timeout",
            Action::EmitProgress(_) => "emit_progress",
            Action::Try(_) => "try",
        })
        .collect();

    let staging = ["serial", "parallel", "download", "try", "download", "emit_progress"];
    let all =
        [&["serial", "timeout", "run", "run"], &staging[..], &["parallel", "upload"]].concat();
    assert_eq!(found, all);
    assert!(setup.nth(setup.count()).is_none());
}

#[test]
fn every_part_that_is_wrong_is_named_with_what_it_must_be() {
    let url = "must be a URL that begins with http:// or https:// and names a host, in ASCII and \
        without white space; encode other characters with %";
    let absolute = "must be an absolute path below /, without '..'";
    let download = "/setup/serial/actions/2/serial/actions/0/parallel/actions/0/download";
    let upload =
        "/setup/serial/actions/2/serial/actions/1/emit_progress/action/parallel/actions/0/upload";
    let rule = |value: Value| {
        let rule = json!({ "protocol": "tcp", "destinations": ["10.0.0.1"], "ports": [1] });
        let mut rule = rule;
        for (name, value) in value.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!([rule])
    };
    let below = |pointer: &str, name: &str| format!("{pointer}/{name}");
    let cases: Vec<(String, Value, &str)> = vec![
        (below(download, "from"), json!("ftp://x/y"), url),
        (below(download, "from"), json!("http:///y"), url),
        (below(download, "to"), json!(""), "to must not be empty"),
        (below(download, "user"), json!(""), "user must not be empty"),
        (below(upload, "to"), json!("x"), url),
        (below(upload, "from"), json!(""), "from must not be empty"),
        ("/ports".into(), json!([80, 81, 80]), "ports must not hold 80 twice"),
        ("/cached_dependencies/0/to".into(), json!("tmp"), absolute),
        ("/cached_dependencies/0/to".into(), json!("/a/../b"), absolute),
        ("/cached_dependencies/0/to".into(), json!("/"), absolute),
        ("/cached_dependencies/0/cache_key".into(), json!(""), "cache_key must not be empty"),
        (
            "/image_layers/0/digest".into(),
            json!(null),
            "digest must be there: the layer is exclusive",
        ),
        (
            "/legacy_download_user".into(),
            json!(null),
            "legacy_download_user must be there: exclusive image layers are unpacked as this user",
        ),
        (
            "/image_password".into(),
            json!(null),
            "image_username must be there with image_password, or be absent like it",
        ),
        (
            "/egress_rules".into(),
            rule(json!({ "destinations": ["10.0.0.1/33"] })),
            "egress_rules[0].destinations[0] must be an IP address, a range from-to of them, or a \
             network address/bits",
        ),
        (
            "/egress_rules".into(),
            rule(json!({ "ports": [] })),
            "egress_rules[0].ports must be there for tcp and udp, or a port_range in their place",
        ),
        (
            "/egress_rules".into(),
            rule(json!({ "protocol": "all" })),
            "egress_rules[0].ports must be absent, like port_range: only tcp and udp have ports",
        ),
        (
            "/egress_rules".into(),
            rule(json!({ "icmp_info": { "type": 1, "code": 1 } })),
            "egress_rules[0].icmp_info must be there for icmp and icmpv6, and only for these",
        ),
        (
            "/egress_rules".into(),
            rule(json!({ "ports": [], "port_range": { "start": 9, "end": 8 } })),
            "egress_rules[0].ports must be a port_range from 1 on whose start is not above its end",
        ),
        (
            "/volume_mounts/0/shared".into(),
            json!(null),
            "volume_mounts[0].shared must be there, or dedicated in its place",
        ),
        (
            "/volume_mounted_files/0/path".into(),
            json!("a/../../etc/passwd"),
            "volume_mounted_files[0].path must be relative and without '..'",
        ),
        (
            "/log_rate_limit/bytes_per_second".into(),
            json!(-2),
            "log_rate_limit.bytes_per_second must be -1 (without limit), 0 or more",
        ),
        (
            "/result_file".into(),
            json!("/r"),
            "result_file must be absent: only a task has a result",
        ),
        ("/check/readiness_checks/0/tcp/port".into(), json!(0), "must be from 1 to 65535"),
        ("/monitor/timeout/timeout_ms".into(), json!(0), "monitor.timeout.timeout_ms must be more"),
    ];
    for (pointer, value, text) in cases {
        let told = refused(with(rich(), &pointer, value));
        assert!(told.contains(text), "{pointer}: {told}");
        assert!(!told.contains("ann:pw"), "{told}");
    }
}

#[test]
fn a_checksum_of_a_wrong_length_or_an_unknown_algorithm_is_refused() {
    let pointer = "/cached_dependencies/0/checksum";
    for (checksum, text) in [
        (json!({ "algorithm": "md5", "value": "ab" }), "must be 32 hexadecimal digits, as md5 has"),
        (json!({ "algorithm": "crc32", "value": "ab" }), "unknown variant `crc32`"),
        (json!({ "algorithm": "sha1" }), "missing field `value`"),
    ] {
        let told = refused(with(rich(), pointer, checksum));
        assert!(told.contains(text), "{told}");
    }
    let pointer = "/setup/serial/actions/2/serial/actions/0/parallel/actions/0/download/checksum";
    let sha512 = json!({ "algorithm": "sha512", "value": "ab".repeat(64) });
    let told = refused(with(rich(), pointer, sha512));
    assert!(told.contains("checksum must be computed by md5, sha1 or sha256"), "{told}");
}

#[test]
fn a_recipe_that_is_a_thousand_deep_or_ten_thousand_wide_is_refused_without_harm() {
    let run = r#"{"run":{"path":"a","user":"b"}}"#;
    let deep = format!("{}{run}{}", r#"{"try":{"action":"#.repeat(1000), "}}".repeat(1000));
    let told = serde_json::from_str::<Action<PlainText>>(&deep).unwrap_err().to_string();
    assert!(told.contains("recursion limit exceeded"), "{told}");

    let wide = vec![json!({ "run": { "path": "a", "user": "b" } }); 10_000];
    for kind in ["serial", "parallel", "codependent"] {
        let told = refused(with(rich(), "/action", json!({ kind: { "actions": wide } })));
        let text = "must hold at most 100 actions, nested at most 16 deep";
        assert!(told.contains(text), "{kind}: {told}");
        assert!(told.len() < 1000, "{told}");
    }
}

#[test]
fn a_task_has_no_monitor_and_no_sidecars_but_a_result_and_tags() {
    let run = json!({ "run": { "path": "a", "user": "b" } });
    let task = |name: &str, value: Value| {
        let mut definition = json!({ "rootfs": "preloaded:diario", "action": run.clone(),
            "memory_mb": 1, "disk_mb": 1 });
        definition[name] = value;
        serde_json::from_value::<task::Spec>(json!({ "task_guid": "t", "definition": definition }))
            .unwrap()
            .into_command(|_: &PlainText| Ok::<Sealed, Invalid>(sealed()))
    };
    let told = |name, value| task(name, value).unwrap_err().to_string();

    assert!(told("monitor", run.clone()).starts_with("monitor must be absent"));
    assert!(told("sidecars", json!([{ "action": run }])).starts_with("sidecars must be empty"));
    assert!(task("result_file", json!("/tmp/result.json")).is_ok());
    assert!(task("metric_tags", json!({ "a": { "static": "b" } })).is_ok());
    assert!(task("check", json!({ "checks": [] })).is_ok());
}

#[test]
fn a_cell_must_have_the_drivers_of_all_volumes() {
    let definition = with(rich(), "/volume_mounts/0/driver", json!("smb"));
    let spec: desired_lrp::Spec = serde_json::from_value(spec(definition)).unwrap();

    let command = spec.into_command(|_| Ok::<_, Invalid>(sealed())).unwrap();

    let desired_lrp::Command::Desire { definition, .. } = command else { panic!() };
    assert_eq!(definition.volume_drivers, ["nfs", "smb"]);
}
