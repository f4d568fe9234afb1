//! Events, changes and views as lines for people and as JSON for programs. Pure.

use chrono::{DateTime, SecondsFormat};
use domain::{log::ActorKind, units::Timestamp};
use projections::history::{
    Step,
    changes::{Change, ChangeKind},
};
use serde_json::{Value, json};

use crate::cli::table;

fn time(instant: Timestamp) -> String {
    DateTime::from_timestamp_nanos(instant.0).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// An event and what it changed, as JSON.
pub(super) fn step_json(step: &Step) -> Value {
    let recorded = &step.recorded;
    json!({
        "position": recorded.position.to_string(),
        "recordedAt": time(recorded.recorded_at),
        "type": recorded.event.type_name(),
        "stream": recorded.stream.to_string(),
        "owner": recorded.stream.owner().to_string(),
        "actor": { "kind": kind(recorded.actor.kind), "name": recorded.actor.name,
            "via": recorded.actor.via },
        "commandId": recorded.command_id.as_str(),
        "changes": step.changes.iter().map(change_json).collect::<Vec<_>>(),
    })
}

fn kind(kind: ActorKind) -> &'static str {
    match kind {
        ActorKind::User => "user",
        ActorKind::Loop => "loop",
        ActorKind::Cell => "cell",
    }
}

fn change_json(change: &Change) -> Value {
    let how = match change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
    };
    let fields = change.fields.iter();
    let fields: Vec<Value> = fields
        .map(|field| json!({ "name": field.name, "from": field.from, "to": field.to }))
        .collect();
    json!({ "kind": how, "thing": change.thing, "fields": fields })
}

/// An event and what it changed, as lines.
pub(super) fn step_lines(step: &Step) -> Vec<String> {
    let recorded = &step.recorded;
    let mut lines = vec![format!(
        "@{} {} {} {} by {} via {}",
        recorded.position,
        time(recorded.recorded_at),
        recorded.event.type_name(),
        recorded.stream,
        recorded.actor.name,
        recorded.actor.via
    )];
    lines.extend(change_lines(step));
    lines
}

/// What an event changed, as lines.
pub(super) fn change_lines(step: &Step) -> Vec<String> {
    step.changes.iter().flat_map(one_change).collect()
}

fn one_change(change: &Change) -> Vec<String> {
    let sign = match change.kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Changed => '~',
    };
    let mut lines = vec![format!("  {sign} {}", change.thing)];
    // The fields of what came or went are all of them: --json and the views tell them.
    if change.kind == ChangeKind::Changed {
        lines.extend(change.fields.iter().map(|field| {
            let shown = |value: &Option<String>| table::or_dash(value.as_deref());
            format!("      {}: {} -> {}", field.name, shown(&field.from), shown(&field.to))
        }));
    }
    lines
}

/// A view's content as lines.
pub(super) fn value_lines(value: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    add(&mut lines, 0, "", value);
    if lines.is_empty() {
        lines.push("  (empty)".to_owned());
    }
    lines
}

fn add(lines: &mut Vec<String>, depth: usize, name: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    let plain = match value {
        Value::Object(members) => {
            if depth > 0 {
                lines.push(format!("{indent}{name}"));
            }
            for (name, member) in members {
                add(lines, depth + 1, name, member);
            }
            return;
        }
        Value::Array(items) => {
            lines.push(format!("{indent}{name}: {}", items.len()));
            for item in items {
                add(lines, depth + 1, "-", item);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
    lines.push(format!("{indent}{name}{plain}"));
}
