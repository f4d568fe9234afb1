//! Files of wishes: a desired LRP or a task in YAML or JSON, in the domain's own words.
//!
//! What is wrong is told with its place, and without the line itself: it may hold a secret.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The largest file in bytes: what a control plane takes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The form of a desired LRP's file, for help texts.
pub(super) const LRP_FORM: &str = "\
The file, in YAML or JSON (- is standard input); only the fields marked * must be there:
  process_guid: web                  # *
  instances: 3                       # 1 when absent
  domain: default                    # who vouches for it
  annotation: any text
  restart:                           # what follows an instance's end; this is Diego's rule
    when: always                     # or on_failure: not after exit status 0; or never
    immediate_restarts: 2
    back_off_first_ms: 30000         # doubles with each crash
    back_off_max_ms: 960000
    crashes_max: 200
  internal_routes: [web.apps.internal]
  metric_tags:                       # of its lines and samples
    source_id: {static: web}
    slot: {dynamic: index}           # or instance_guid
  routes:
    - {hostnames: [web.example.com], port: 8080}
  definition:                        # *
    rootfs: preloaded:diario         # *
    memory_mb: 64                    # * its limit
    disk_mb: 64                      # *
    ports: [8080]
    env: [{name: GREETING, value: hello}]    # values are sealed
    action:                          # * exactly one of these
      run: {path: /bin/diario, args: [sample-app], user: vcap}   # also dir, env, nofile, log_source,
                                     # suppress_log_output, volume_mounted_files
      # download: {from: URL, to: FOLDER, user, artifact, cache_key, checksum: {algorithm, value}}
      # upload: {from: FILE, to: URL, user, artifact}
      # serial, parallel or codependent: {actions: [...]}
      # timeout: {action, timeout_ms}    try: {action}
      # emit_progress: {action, start_message, success_message, failure_message_prefix}
    check:                           # none: a living process is healthy
      checks:
        - http:                      # or tcp, without a path
            port: 8080
            path: /health
            timeout_ms: 1000
            interval_ms: 30000       # once it is healthy
            unhealthy_interval_ms: 2000
            failure_threshold: 1     # how many failed probes in a row end it
      readiness_checks: []           # the same; one that fails takes its routes, and ends nothing
    monitor:                         # or an action that must succeed; without check
    start_timeout_ms: 60000
    graceful_stop_ms: 10000          # from SIGTERM to SIGKILL; the cell's default when absent
    cpu_weight: 100                  # from 1 to 100
    max_pids: 0                      # 0 is the cell's default
    setup:                           # an action that runs first
    placement_tags: []
    volume_drivers: []               # that a cell must have
    update_strategy: rolling         # or recreate: an evacuated instance is stopped first
    sidecars: [{action: {run: {path: /bin/proxy, user: vcap}}, memory_mb: 16}]
    cached_dependencies: [{from: URL, to: /tmp/lifecycle, cache_key: lifecycle, checksum}]
    image_layers: [{url: URL, destination_path: /app, layer_type: shared, media_type: tgz, digest}]
    legacy_download_user: vcap       # whose the files of exclusive layers are
    egress_rules: [{protocol: tcp, destinations: [10.0.0.0/8], ports: [443]}]
    volume_mounts:
      - {driver: nfs, container_dir: /data, mode: rw, shared: {volume_id: v, mount_config: '{}'}}
    volume_mounted_files: [{path: a/b, content: text}]
    network: {app_id: web}
    image_username: ann              # with image_password
    privileged: false
    trusted_system_certificates_path: /etc/cf-system-certificates
    certificate_properties: {organizational_unit: [app:web]}
    log_rate_limit: {bytes_per_second: -1}
    log_guid: web
    metrics_guid: web
    log_source: APP";

/// The form of a task's file, for help texts.
pub(super) const TASK_FORM: &str = "\
The file, in YAML or JSON (- is standard input); only the fields marked * must be there:
  task_guid: migrate                 # *
  domain: default
  annotation: any text
  completion_callback_url: https://example.com/done   # told its end by a POST of JSON; a secret
  definition:                        # * as of an LRP (`diario lrp desire --help`), without checks, monitor
                                     # and sidecars, and with metric_tags and result_file
    rootfs: preloaded:diario         # *
    memory_mb: 64                    # *
    disk_mb: 64                      # *
    action:                          # *
      run: {path: /bin/diario, args: [--version], user: vcap}";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is too large.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes, the most that a control plane takes")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// It is not of the form.
    #[error("{path}: {problem}; --help shows the form")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

/// Reads a wish out of a file; `-` is standard input.
pub(super) fn read<S: DeserializeOwned>(path: &Path) -> Result<S, Error> {
    let text = read_text(path)?;
    let named = if path.as_os_str() == "-" { Path::new("standard input") } else { path };
    parse(&text).map_err(|problem| Error::Malformed { path: named.to_owned(), problem })
}

/// Reads a small text file; `-` is standard input.
pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut text = String::new();
    source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    let is_too_large = u64::try_from(text.len()).is_ok_and(|bytes| bytes > FILE_BYTES_MAX);
    if is_too_large { Err(Error::TooLarge { path: path.to_owned() }) } else { Ok(text) }
}

/// Reads a wish out of a text: JSON when it begins as an object of JSON does, YAML otherwise.
fn parse<S: DeserializeOwned>(text: &str) -> Result<S, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|failure| without_value(&failure.to_string()));
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|failure| without_value(&failure.to_string()))
}

/// A decoder's words without the value that it met, which may be a secret in a wrong place.
fn without_value(told: &str) -> String {
    for fault in ["invalid type: ", "invalid value: ", "unknown variant "] {
        let Some((before, rest)) = told.split_once(fault) else { continue };
        let Some((met, expected)) = rest.rsplit_once(", expected ") else { continue };
        // What it is stays: `string "hunter2"` is a string.
        let kind = met.split(['"', '`']).next().unwrap_or_default();
        let fault = format!("{fault}{kind}");
        return format!("{before}{}, expected {expected}", fault.trim_end());
    }
    told.to_owned()
}

/// The same wish as the schema's input.
pub(super) fn input(spec: &impl Serialize) -> Value {
    // A wish is made of strings, numbers, lists and objects: it is always JSON.
    in_camel_case(serde_json::to_value(spec).unwrap_or_default())
}

fn in_camel_case(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().flat_map(members_of).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(in_camel_case).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// What the schema has for a member: some without the object around them, maps whose names are the
/// user's own as lists, and the values of enumerations in its own words.
fn members_of((name, mut value): (String, Value)) -> Vec<(String, Value)> {
    let mut within = |inner: &str| in_camel_case(value[inner].take());
    let flat = |names: &[(&str, &str)], within: &mut dyn FnMut(&str) -> Value| {
        let named = names.iter().map(|(inner, outer)| ((*outer).to_owned(), within(inner)));
        named.filter(|(_, value)| !value.is_null()).collect()
    };
    match name.as_str() {
        "check" => flat(
            &[
                ("checks", "checks"),
                ("readiness_checks", "readinessChecks"),
                ("log_source", "checkLogSource"),
            ],
            &mut within,
        ),
        "certificate_properties" => {
            flat(&[("organizational_unit", "organizationalUnits")], &mut within)
        }
        "log_rate_limit" => flat(&[("bytes_per_second", "logBytesPerSecond")], &mut within),
        "metric_tags" => vec![(camel_case(&name), tags(value))],
        "network" => vec![(name, properties(value))],
        "update_strategy" | "when" | "dynamic" | "algorithm" | "layer_type" | "media_type"
        | "mode" | "protocol" => vec![(camel_case(&name), in_the_schemas_word(value))],
        _ => vec![(camel_case(&name), in_camel_case(value))],
    }
}

/// The value of an enumeration: in capitals, with its number apart.
fn in_the_schemas_word(value: Value) -> Value {
    let Some(text) = value.as_str() else { return value };
    let word = match text {
        "r" => "READ".to_owned(),
        "rw" => "READ_WRITE".to_owned(),
        _ => {
            let digits = text.find(|letter: char| letter.is_ascii_digit()).unwrap_or(text.len());
            let (letters, number) = text.split_at(digits);
            let apart = if number.is_empty() { "" } else { "_" };
            format!("{letters}{apart}{number}").to_ascii_uppercase()
        }
    };
    Value::String(word)
}

/// Properties by name, as the schema's list of them.
fn properties(by_name: Value) -> Value {
    let Value::Object(by_name) = by_name else { return by_name };
    let property =
        |(name, value)| serde_json::json!({ "name": Value::String(name), "value": value });
    Value::Array(by_name.into_iter().map(property).collect())
}

/// Tags by name, as the schema's list of them.
pub(super) fn tags(by_name: Value) -> Value {
    let Value::Object(by_name) = by_name else { return by_name };
    let tag = |(name, tag): (String, Value)| {
        let mut tag = in_camel_case(tag);
        tag["name"] = Value::String(name);
        tag
    };
    Value::Array(by_name.into_iter().map(tag).collect())
}

fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut is_word_start = false;
    for character in name.chars() {
        if character == '_' {
            is_word_start = true;
        } else if std::mem::take(&mut is_word_start) {
            camel.push(character.to_ascii_uppercase());
        } else {
            camel.push(character);
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use domain::bbs::{desired_lrp, task};
    use serde_json::json;

    use super::*;

    const DEFINITION: &str = "rootfs: preloaded:diario, memory_mb: 64, disk_mb: 64, action: {run: {path: /x, user: vcap}}";

    fn refused(text: &str) -> String {
        parse::<desired_lrp::Spec>(text).unwrap_err()
    }

    /// The example of a help text.
    fn example(form: &str) -> String {
        form.lines().skip(1).filter(|line| !line.contains("setup:")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_examples_of_the_help_texts_are_wishes() {
        let lrp: desired_lrp::Spec = parse(&example(LRP_FORM)).unwrap();
        assert_eq!(lrp.definition.checks().len(), 1);
        let told = input(&lrp)["metricTags"].clone();
        let slot = json!({ "name": "slot", "dynamic": "INDEX" });
        assert_eq!(told, json!([slot, { "name": "source_id", "static": "web" }]));
        let told = input(&lrp)["definition"].clone();
        assert_eq!(told["network"], json!([{ "name": "app_id", "value": "web" }]));
        assert_eq!(told["organizationalUnits"], json!(["app:web"]));
        assert_eq!(told["logBytesPerSecond"], json!(-1));
        assert_eq!(told["volumeMounts"][0]["mode"], json!("READ_WRITE"));
        assert_eq!(told["egressRules"][0]["protocol"], json!("TCP"));

        let task: task::Spec = parse(&example(TASK_FORM)).unwrap();
        assert_eq!(task.task_guid.as_str(), "migrate");
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = format!("process_guid: web\ninstances: 2\ndefinition: {{{DEFINITION}}}\n");
        let json = r#"{"process_guid": "web", "instances": 2, "definition": {
            "rootfs": "preloaded:diario", "memory_mb": 64, "disk_mb": 64,
            "action": {"run": {"path": "/x", "user": "vcap"}}}}"#;

        let one: desired_lrp::Spec = parse(&yaml).unwrap();

        assert_eq!(one, parse(json).unwrap());
        assert_eq!(one.domain.as_str(), "default");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field_and_line() {
        let with =
            |line: &str| format!("process_guid: web\n{line}\ndefinition: {{{DEFINITION}}}\n");
        for (text, words) in [
            (with("instanzes: 2"), &["instanzes", "line 2"][..]),
            (with("instances: -1"), &["line 2"]),
            (with("instances: 5000000000"), &["line 2"]),
            (with("routes: [{hostnames: [a b], port: 8080}]"), &["host name", "line 2"]),
            (with("routes: [{hostnames: [a], port: 65536}]"), &["line 2"]),
            ("process_guid: web\n".to_owned(), &["definition"]),
            (with("instances: 1").replace("web", "a.b"), &["letters, digits", "line 1"]),
            (with("instances: 1").replace("web", "''"), &["must not be empty", "line 1"]),
            (with("instances: 1").replace("preloaded:diario", "docker"), &["preloaded:", "line 3"]),
            (with("instances: 1").replace("{run:", "{walk:"), &["variant", "run", "line 3"]),
            (with("instances: ["), &["line"]),
            (String::new(), &[]),
            (r#"{"process_guid": "web", "instanzes": 1}"#.to_owned(), &["instanzes", "line 1"]),
            (r#"{"process_guid": "web""#.to_owned(), &["line 1"]),
        ] {
            let told = refused(&text);
            for word in words {
                assert!(told.contains(word), "{word:?} is not in {told:?} of\n{text}");
            }
        }
    }

    #[test]
    fn secrets_are_not_repeated() {
        let canary = "canary-5f3c";
        for text in [
            format!(
                "process_guid: web\ndefinition: {{env: [{{name: A, value: {canary}}}], {DEFINITION}, x: 1}}"
            ),
            format!(
                "process_guid: web\ndefinition: {{env: [{{name: A, value: [{canary}]}}], {DEFINITION}}}"
            ),
            format!("process_guid: web\ndefinition:\n  env: [{{name: A, value: \"{canary}"),
            // In the wrong place: the variable itself, a number, a list, a word out of several.
            format!("process_guid: web\ndefinition: {{env: [A={canary}], {DEFINITION}}}"),
            format!("process_guid: web\ninstances: {canary}\ndefinition: {{{DEFINITION}}}"),
            format!("process_guid: web\nroutes: {canary}\ndefinition: {{{DEFINITION}}}"),
            format!("process_guid: web\ndefinition: {{rootfs: x, action: {canary}}}"),
            format!("process_guid: web\ndefinition: {{rootfs: {canary}}}"),
            canary.to_owned(),
            format!("process_guid: web\ninstances: \"{canary} 1\"\ndefinition: {{{DEFINITION}}}"),
            format!(r#"{{"process_guid": "web", "instances": "{canary}"}}"#),
            format!(r#"{{"process_guid": "web", "definition": {{"env": ["{canary}"]}}}}"#),
            format!(r#"{{"process_guid": "web", "definition": {{"env": "{canary}, expected"}}}}"#),
            format!(r#"{{"process_guid": "web", "definition": {{"action": "{canary}"}}}}"#),
            format!(r#"{{"process_guid": "web", "domain": ["{canary}"]}}"#),
        ] {
            let told = refused(&text);
            assert!(!told.contains(canary), "{told} of {text}");
        }
    }

    #[test]
    fn the_schemas_input_has_its_names_and_leaves_values_alone() {
        let text = format!(
            "process_guid: a_b\ndefinition: {{{DEFINITION}, env: [{{name: A_B, value: c_d}}], \
             check: {{checks: [{{http: {{port: 1, timeout_ms: 5}}}}]}}}}"
        );
        let spec: desired_lrp::Spec = parse(&text).unwrap();

        let input = input(&spec);

        assert_eq!(input["processGuid"], "a_b");
        let definition = &input["definition"];
        assert_eq!(definition["env"], json!([{ "name": "A_B", "value": "c_d" }]));
        assert_eq!(definition["memoryMb"], 64);
        assert_eq!(definition["action"]["run"]["logSource"], Value::Null);
        assert_eq!(definition["checks"][0]["http"]["timeoutMs"], 5);
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let missing = read::<task::Spec>(Path::new("/missing.yaml")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /missing.yaml");
        let endless = read::<task::Spec>(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(endless, Error::TooLarge { .. }), "{endless}");
    }
}
