//! `diario diff`: what changed between two instants, and the events that did it.

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    client::{self, Client},
    instant::Instant,
    table,
    target::Session,
};

/// Examples, for the help text.
pub(super) const EXAMPLES: &str = "Examples:\n  diario diff -10m now\n  diario diff @40 @52";

/// Options of `diario diff`.
#[derive(Debug, Args)]
pub struct Options {
    /// The first instant.
    #[arg(allow_hyphen_values = true)]
    from: Instant,
    /// The second instant.
    #[arg(allow_hyphen_values = true, default_value = "now")]
    to: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Diff {
    from: String,
    to: String,
    desired_lrps: Vec<Change>,
    actual_lrps: Vec<Change>,
    routes: Vec<Change>,
    is_truncated: bool,
}

#[derive(Deserialize)]
struct Change {
    kind: Kind,
    key: String,
    fields: Vec<FieldChange>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    Added,
    Removed,
    Changed,
}

#[derive(Deserialize)]
struct FieldChange {
    name: String,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    position: String,
    #[serde(rename = "type")]
    type_name: String,
}

const DOCUMENT: &str = "query($from: InstantInput!, $to: InstantInput!) { \
    diff(from: $from, to: $to) { from to fromRecordedAt toRecordedAt isTruncated \
    desiredLrps { ...change } actualLrps { ...change } routes { ...change } } } \
    fragment change on Change { kind key fields { name from to } \
    events { position type stream recordedAt actor { kind name via } commandId } }";

pub(super) async fn run(options: &Options, session: &Session) -> Result<(), Error> {
    let from = options.from.input(session).await?;
    let to = options.to.input(session).await?;
    let variables = json!({ "from": from, "to": to });
    let answer = session.client.query(DOCUMENT, variables).await?;
    let value: &Value = &answer["diff"];
    let diff: Diff = Client::part(&session.client, value, "")?;
    session.show(value, || {
        let mut lines = vec![format!("from @{} to @{}", diff.from, diff.to)];
        lines.extend(diff_lines(&diff));
        if lines.len() == 1 {
            lines.push("nothing changed".to_owned());
        }
        lines
    })
}

/// What changed between two positions, in digits, as lines for people; none when nothing did.
///
/// # Errors
/// When there is no answer, or a refusal.
pub async fn lines(client: &Client, from: &str, to: &str) -> Result<Vec<String>, client::Error> {
    let variables = json!({ "from": { "position": from }, "to": { "position": to } });
    let answer = client.query(DOCUMENT, variables).await?;
    Ok(diff_lines(&client.part(&answer, "/diff")?))
}

fn diff_lines(diff: &Diff) -> Vec<String> {
    let kinds =
        [("lrp", &diff.desired_lrps), ("instance", &diff.actual_lrps), ("route", &diff.routes)];
    let of_kind = |(what, changes): (&'static str, &Vec<Change>)| {
        changes.iter().flat_map(|change| change_lines(what, change)).collect::<Vec<_>>()
    };
    let mut lines: Vec<String> = kinds.into_iter().flat_map(of_kind).collect();
    if diff.is_truncated {
        lines.push("... and more; take two instants that are nearer to each other".to_owned());
    }
    lines
}

fn change_lines(what: &str, change: &Change) -> Vec<String> {
    let Change { kind, key, fields, events } = change;
    let sign = match kind {
        Kind::Added => '+',
        Kind::Removed => '-',
        Kind::Changed => '~',
    };
    let events: Vec<String> = events.iter().map(event_text).collect();
    let by = if events.is_empty() { String::new() } else { format!("  ({})", events.join(", ")) };
    let mut lines = vec![format!("{sign} {what} {key}{by}")];
    // The fields of what came or went are all of them: --json tells them.
    if *kind == Kind::Changed {
        lines.extend(fields.iter().map(field_text));
    }
    lines
}

/// `@12 scaled`: the aggregate is told by the line already.
fn event_text(event: &Event) -> String {
    let name = event.type_name.rsplit('.').next().unwrap_or_default();
    format!("@{} {name}", event.position)
}

fn field_text(field: &FieldChange) -> String {
    let shown = |value: &Option<String>| table::or_dash(value.as_deref());
    format!("    {}: {} -> {}", field.name, shown(&field.from), shown(&field.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_tells_what_came_went_and_changed_and_by_which_events() {
        let event = |position: &str, name: &str| json!({ "position": position, "type": name });
        let diff = json!({
            "from": "40", "to": "52", "isTruncated": true,
            "desiredLrps": [{
                "kind": "CHANGED", "key": "web",
                "fields": [{ "name": "instances", "from": "3", "to": "5" }],
                "events": [event("41", "desired_lrp.scaled")],
            }],
            "actualLrps": [{
                "kind": "ADDED", "key": "web/3",
                "fields": [{ "name": "key.index", "from": null, "to": "3" }],
                "events": [event("42", "actual_lrp.created"), event("43", "actual_lrp.placed")],
            }],
            "routes": [{ "kind": "REMOVED", "key": "old.example", "fields": [], "events": [] }],
        });

        let lines = diff_lines(&serde_json::from_value(diff).unwrap());

        assert_eq!(
            lines,
            [
                "~ lrp web  (@41 scaled)",
                "    instances: 3 -> 5",
                "+ instance web/3  (@42 created, @43 placed)",
                "- route old.example",
                "... and more; take two instants that are nearer to each other",
            ]
        );
    }
}
