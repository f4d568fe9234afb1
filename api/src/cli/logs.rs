//! `diario logs`: what a process or a task wrote.

use clap::Args;
use domain::id::{ProcessGuid, TaskGuid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    client::Client,
    instant::Instant,
    subscription::{Step, follow},
    table,
    target::Session,
};
use crate::output;

/// Examples, for the help text.
pub(super) const EXAMPLES: &str = "Examples:\n  diario logs web -f\n  \
    diario logs web --instance 0 --recent 20\n  diario logs web --since -10m\n  \
    diario logs web --at @120 --recent 50\n  diario logs migrate --task";

/// How many lines are shown unless it is said otherwise.
const RECENT: u32 = 100;
/// How many lines one question asks for.
const PAGE: u32 = 500;

/// Options of `diario logs`.
#[derive(Debug, Args)]
pub struct Options {
    /// Whose output: a process's guid, or a task's with --task.
    guid: ProcessGuid,
    /// The guid is a task's.
    #[arg(long)]
    task: bool,
    /// Only of this instance, from 0.
    #[arg(long, conflicts_with = "task")]
    instance: Option<u32>,
    /// How many lines to begin with: the newest ones; 100, or with --since all.
    #[arg(long, value_name = "LINES", num_args = 0..=1, default_missing_value = "100")]
    recent: Option<u32>,
    /// Only what was written then or later, by the cells' clocks.
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    since: Option<Instant>,
    /// As it was then: the last lines that were written up to this instant.
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true, conflicts_with = "follow")]
    at: Option<Instant>,
    /// Go on with what is written from now on, until Ctrl-C.
    #[arg(short = 'f', long)]
    follow: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    cursor: String,
    at: String,
    source: String,
    stream: String,
    text: String,
    index: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    lines: Vec<Value>,
    end_cursor: String,
    has_more: bool,
}

const DECLARED: &str = "$process: String, $task: String, $index: Int, $after: String, $last: Int, \
    $since: InstantInput";
const ARGUMENTS: &str = "processGuid: $process, taskGuid: $task, index: $index, after: $after, \
    last: $last, since: $since";
const LINE: &str = "cursor at source stream text raw index instanceGuid cellId logPosition \
    tags { name value }";

pub(super) async fn run(options: Options, session: &Session) -> Result<(), Error> {
    let Options { guid, task, instance, recent, since, at, follow: is_following } = options;
    let last = recent.or_else(|| since.is_none().then_some(RECENT));
    let since = input(since, session).await?;
    let until = input(at, session).await?;
    // Guids of processes and tasks have the same alphabet.
    let task_guid: Option<TaskGuid> = if task { guid.as_str().parse().ok() } else { None };
    let process_guid = if task { None } else { Some(&guid) };
    let variables = |after: Option<&str>| {
        let last = last.filter(|_| after.is_none());
        json!({
            "process": process_guid, "task": task_guid, "index": instance, "after": after,
            "last": last, "since": since, "until": until,
        })
    };
    if is_following {
        let document = format!("subscription({DECLARED}) {{ logs({ARGUMENTS}) {{ {LINE} }} }}");
        let take = |data: &Value| take_line(session, data);
        // A subscription knows no end.
        let variables = |after: Option<&str>| {
            let mut variables = variables(after);
            if let Some(variables) = variables.as_object_mut() {
                variables.remove("until");
            }
            variables
        };
        return follow(&session.client, &document, None, variables, take).await;
    }
    let document = format!(
        "query({DECLARED}, $until: InstantInput) {{ logs({ARGUMENTS}, until: $until, \
         first: {PAGE}) {{ lines {{ {LINE} }} endCursor hasMore dropped }} }}"
    );
    let mut after: Option<String> = None;
    let mut is_empty = true;
    loop {
        let answer = session.client.query(&document, variables(after.as_deref())).await?;
        let page: Page = session.client.part(&answer, "/logs")?;
        for line in &page.lines {
            is_empty = false;
            show_line(session, line)?;
        }
        if !page.has_more {
            break;
        }
        after = Some(page.end_cursor);
    }
    if is_empty {
        output::progress(match (since, until) {
            (Value::Null, Value::Null) => format!("{guid} has written nothing yet"),
            _ => format!("{guid} has written nothing then"),
        });
    }
    Ok(())
}

/// The instant as the schema's `InstantInput`; nothing where there is none, or it is the present.
pub(super) async fn input(instant: Option<Instant>, session: &Session) -> Result<Value, Error> {
    match instant {
        None | Some(Instant::Now) => Ok(Value::Null),
        Some(instant @ (Instant::Position(_) | Instant::Time(_) | Instant::Ago(_))) => {
            instant.input(session).await
        }
    }
}

fn take_line(session: &Session, data: &Value) -> Result<Step, Error> {
    Ok(Step::GoOn(show_line(session, &data["logs"])?))
}

/// Shows a line and gives its cursor.
fn show_line(session: &Session, value: &Value) -> Result<String, Error> {
    let line: Line = Client::part(&session.client, value, "")?;
    session.show_item(value, || line_text(&line))?;
    Ok(line.cursor)
}

fn line_text(line: &Line) -> String {
    let Line { source, text, .. } = line;
    let index = line.index.map(|index| format!("/{index}")).unwrap_or_default();
    let mark = if line.stream == "ERR" { "ERR" } else { "OUT" };
    format!("{} [{source}{index}] {mark} {}", table::time(&line.at), table::printable(text))
}
