//! `diario logs`: what a process or a task wrote.

use clap::Args;
use domain::id::{ProcessGuid, TaskGuid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    client::Client,
    subscription::{Step, follow},
    table,
    target::Session,
};
use crate::output;

/// Examples, for the help text.
pub(super) const EXAMPLES: &str = "Examples:\n  diario logs web -f\n  \
    diario logs web --instance 0 --recent 20\n  diario logs migrate --task";

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
    /// How many lines to begin with: the newest ones.
    #[arg(long, default_value_t = 100)]
    recent: u32,
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

const DECLARED: &str = "$process: String, $task: String, $index: Int, $after: String, $last: Int";
const ARGUMENTS: &str =
    "processGuid: $process, taskGuid: $task, index: $index, after: $after, last: $last";
const LINE: &str = "cursor at source stream text index instanceGuid cellId logPosition \
    tags { name value }";

pub(super) async fn run(options: Options, session: &Session) -> Result<(), Error> {
    let Options { guid, task, instance, recent, follow: is_following } = options;
    // Guids of processes and tasks have the same alphabet.
    let task_guid: Option<TaskGuid> = if task { guid.as_str().parse().ok() } else { None };
    let process_guid = if task { None } else { Some(&guid) };
    let variables = |after: Option<&str>| {
        let last = after.is_none().then_some(recent);
        json!({ "process": process_guid, "task": task_guid, "index": instance, "after": after, "last": last })
    };
    if is_following {
        let document = format!("subscription({DECLARED}) {{ logs({ARGUMENTS}) {{ {LINE} }} }}");
        let take = |data: &Value| take_line(session, data);
        return follow(&session.client, &document, None, variables, take).await;
    }
    let document =
        format!("query({DECLARED}) {{ logs({ARGUMENTS}) {{ lines {{ {LINE} }} dropped }} }}");
    let answer = session.client.query(&document, variables(None)).await?;
    let lines: Vec<Value> = session.client.part(&answer, "/logs/lines")?;
    if lines.is_empty() {
        output::progress(format!("{guid} has written nothing yet"));
    }
    for line in &lines {
        show_line(session, line)?;
    }
    Ok(())
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
    format!("{} [{source}{index}] {mark} {text}", table::time(&line.at))
}
