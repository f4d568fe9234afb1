//! `diario task`: what runs once, at most.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::{
    bbs::task::Spec,
    id::{FreshnessDomainName, TaskGuid},
    log::Position,
    sealed::PlainText,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    instant::Instant,
    lrp_file,
    spec_options::DefinitionOptions,
    subscription::{Step, follow},
    table::{self, Table, or_dash},
    target::Session,
    why,
    wish::{self, Wish, WishOptions},
};

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a task, by a file or by flags.
    #[command(after_help = format!(
        "Examples:\n  \
         diario task run migrate.yaml --wait\n  \
         diario task run --guid migrate --wait -- /bin/diario --version\n\n{}",
        lrp_file::TASK_FORM
    ))]
    Run(Box<Run>),
    /// Shows one task, also one that ended long ago.
    #[command(after_help = "Example: diario task show migrate")]
    Show {
        /// Which.
        guid: TaskGuid,
    },
    /// Says why it is where it is, or nowhere: what each cell came to.
    #[command(after_help = "Example: diario task why migrate")]
    Why {
        /// Which; it waits, runs or has ended lately.
        guid: TaskGuid,
    },
    /// Stops a task, or never starts it.
    #[command(after_help = "Example: diario task cancel migrate")]
    Cancel {
        /// Which.
        guid: TaskGuid,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Takes a task for failed; its container is stopped.
    #[command(after_help = "Example: diario task fail migrate --reason \"wrong version\"")]
    Fail {
        /// Which.
        guid: TaskGuid,
        /// Why.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Takes it on to deal with an ended task's result: only the first who asks may, for 30 seconds.
    #[command(after_help = "Example: diario task resolve migrate")]
    Resolve {
        /// Which.
        guid: TaskGuid,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Forgets a task that was resolved; its history stays in the log.
    #[command(after_help = "Example: diario task delete migrate")]
    Delete {
        /// Which.
        guid: TaskGuid,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Lists the tasks that wait, run, or ended lately.
    #[command(after_help = "Example: diario task list\nOf the past: diario at -1h tasks")]
    List,
}

/// What to run.
#[derive(Debug, Args)]
pub struct Run {
    /// A file in YAML or JSON; `-` is standard input.
    #[arg(required_unless_present = "guid", conflicts_with_all = ["guid", "command", "env", "env_file"])]
    file: Option<PathBuf>,
    /// Its guid, to run by flags: letters, digits, `-` and `_`.
    #[arg(long)]
    guid: Option<TaskGuid>,
    /// Who asks.
    #[arg(long, default_value = "default", conflicts_with = "file")]
    domain: FreshnessDomainName,
    /// Any text.
    #[arg(long, default_value = "", conflicts_with = "file")]
    annotation: String,
    /// A file that holds the URL to tell its end to, by a POST of JSON. The URL is sealed.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    callback_url_file: Option<PathBuf>,
    /// Wait for its end, and show it; the exit code is 0 only when it succeeded.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    definition: DefinitionOptions,
    #[command(flatten)]
    wish: WishOptions,
}

pub(super) async fn run(command: Command, session: &Session) -> Result<Outcome, Error> {
    match command {
        Command::Run(run) => return run_task(*run, session).await,
        Command::Show { guid } => {
            let (shown, task) = find(session, &guid).await?;
            session.show(&shown, || show_lines(&task))?;
        }
        Command::Why { guid } => why::task(session, &guid).await?,
        Command::Cancel { guid, wish } => {
            let done = format!("task {guid} is cancelled");
            ask(session, &wish, "cancelTask", &guid, &done).await?;
        }
        Command::Fail { guid, reason, wish } => {
            let arguments =
                [("taskGuid", "String!", json!(guid)), ("reason", "String!", json!(reason))];
            let fail = Wish { mutation: "failTask", arguments };
            let done = format!("task {guid} counts as failed");
            wish::send(session, &wish, fail).await?.show(session, &done)?;
        }
        Command::Resolve { guid, wish } => {
            let done =
                format!("task {guid} is yours for 30 s: `diario task delete {guid}` ends it");
            ask(session, &wish, "resolveTask", &guid, &done).await?;
        }
        Command::Delete { guid, wish } => {
            let done =
                format!("task {guid} is forgotten; `diario task show {guid}` still shows it");
            ask(session, &wish, "deleteTask", &guid, &done).await?;
        }
        Command::List => list(session, Instant::Now).await?,
    }
    Ok(Outcome::Done)
}

/// Sends a wish that says no more than which task it is about.
async fn ask(
    session: &Session,
    wish: &WishOptions,
    mutation: &'static str,
    guid: &TaskGuid,
    done: &str,
) -> Result<(), Error> {
    let arguments = [("taskGuid", "String!", json!(guid))];
    wish::send(session, wish, Wish { mutation, arguments }).await?.show(session, done)
}

async fn run_task(run: Run, session: &Session) -> Result<Outcome, Error> {
    let (wish, is_waiting) = (run.wish.clone(), run.wait);
    let spec = run.spec()?;
    let task_guid = spec.task_guid.clone();
    let arguments = [("spec", "TaskInput!", lrp_file::input(&spec))];
    let accepted = wish::send(session, &wish, Wish { mutation: "runTask", arguments }).await?;
    if !is_waiting {
        accepted.show(session, &format!("task {task_guid} is to run"))?;
        return Ok(Outcome::Done);
    }
    wait(session, &task_guid, accepted.cursor).await?;
    let (shown, task) = find(session, &task_guid).await?;
    session.show(&shown, || show_lines(&task))?;
    let has_succeeded = task.failed == Some(false);
    Ok(if has_succeeded { Outcome::Done } else { Outcome::Failed })
}

impl Run {
    fn spec(self) -> Result<Spec, Error> {
        match (self.file, self.guid) {
            (Some(file), _) => Ok(lrp_file::read(&file)?),
            (None, Some(task_guid)) => Ok(Spec {
                task_guid,
                domain: self.domain,
                annotation: self.annotation,
                completion_callback_url: match &self.callback_url_file {
                    Some(path) => Some(PlainText(lrp_file::read_text(path)?.trim().to_owned())),
                    None => None,
                },
                definition: self.definition.definition()?,
            }),
            (None, None) => Err(Error::Usage("name a file, or --guid".to_owned())),
        }
    }
}

/// Waits for the end of a task that was asked for at a cursor.
async fn wait(session: &Session, task_guid: &TaskGuid, cursor: String) -> Result<(), Error> {
    let document = "subscription($after: Cursor, $filter: LogFilter) \
        { log(after: $after, filter: $filter) { cursor } }";
    let types = ["task.completed", "task.cancelled", "task.failed"];
    let filter = json!({ "owner": format!("task/{task_guid}"), "types": types });
    let variables = |after: Option<&str>| json!({ "after": after, "filter": filter });
    let take = |data: &Value| {
        // The log tells of it before the view shows it.
        session.client.read_at_least(session.client.part(data, "/log/cursor")?);
        Ok(Step::Stop)
    };
    follow(&session.client, document, Some(cursor), variables, take).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task_guid: String,
    state: String,
    cell_id: Option<String>,
    created_at: String,
    updated_at: String,
    rejection_reason: Option<String>,
    failed: Option<bool>,
    failure_reason: Option<String>,
    exit_status: Option<i32>,
    signal: Option<i32>,
    result: Option<String>,
    first_completed_at: Option<String>,
    callback: Option<Callback>,
}

#[derive(Debug, Deserialize)]
struct Callback {
    attempts: u32,
    status: Option<u16>,
    failure: Option<String>,
}

const TASK: &str = "taskGuid domain state annotation cellId instanceGuid createdAt updatedAt \
    rejectionCount rejectionReason failed failureReason exitStatus signal result \
    firstCompletedAt callback { attempts status failure } \
    outOfMemory { limitBytes peakBytes kills } position";

/// One task as it is, or as it was before it was no longer shown.
async fn find(session: &Session, guid: &TaskGuid) -> Result<(Value, Task), Error> {
    if let Some(found) = find_at(session, guid, Instant::Now).await? {
        return Ok(found);
    }
    let no_such = || Error::NoSuch { what: "task", id: guid.to_string(), list: "diario task list" };
    let document =
        "query($filter: LogFilter) { log(last: 1, filter: $filter) { events { position } } }";
    let filter = json!({ "owner": format!("task/{guid}"), "types": ["task.deleted"] });
    let answer = session.client.query(document, json!({ "filter": filter })).await?;
    let Some(position) = answer.pointer("/log/events/0/position").and_then(Value::as_str) else {
        return Err(no_such());
    };
    let deleted: u64 = position.parse().map_err(|_| session.client.unexpected("no position"))?;
    let before = Instant::Position(Position(deleted.saturating_sub(1)));
    find_at(session, guid, before).await?.ok_or_else(no_such)
}

async fn find_at(
    session: &Session,
    guid: &TaskGuid,
    instant: Instant,
) -> Result<Option<(Value, Task)>, Error> {
    let selection =
        format!("task(taskGuid: $guid) {{ {TASK} definition {{ rootfs memoryMb diskMb }} }}");
    let variables = json!({ "guid": guid });
    let mut answer = instant.world(session, "$guid: String!", &selection, variables).await?;
    let task: Option<Task> = session.client.part(&answer, "/world/task")?;
    Ok(task.map(|task| (answer["world"]["task"].take(), task)))
}

fn show_lines(task: &Task) -> Vec<String> {
    let mut lines = vec![
        format!("guid     {}", task.task_guid),
        format!("state    {}", table::lower(&task.state)),
        format!("result   {}", result(task)),
        format!("cell     {}", or_dash(task.cell_id.as_deref())),
        format!("created  {}", table::time(&task.created_at)),
        format!("changed  {}", table::time(&task.updated_at)),
    ];
    lines.extend(
        task.first_completed_at.as_deref().map(|at| format!("ended    {}", table::time(at))),
    );
    lines.extend(task.callback.as_ref().map(|callback| format!("callback {}", told(callback))));
    let left = task.result.as_deref().filter(|text| !text.is_empty());
    lines.extend(left.map(|text| format!("left     {text}")));
    lines
}

/// How far a client was told of a task's end.
fn told(callback: &Callback) -> String {
    let calls = format!("after {} calls", callback.attempts);
    match (&callback.failure, callback.status) {
        (Some(failure), _) => format!("not delivered {calls}: {failure}"),
        (None, Some(status)) => format!("delivered {calls}: HTTP status {status}"),
        (None, None) => "not sent yet".to_owned(),
    }
}

/// How a task ended, or why it waits.
fn result(task: &Task) -> String {
    match (task.failed, &task.failure_reason, task.exit_status, task.signal) {
        (Some(false), _, _, _) => "succeeded".to_owned(),
        (Some(true), Some(reason), _, _) => format!("failed: {reason}"),
        (Some(true), None, Some(status), _) => format!("failed: exit status {status}"),
        (Some(true), None, None, Some(signal)) => format!("failed: signal {signal}"),
        (Some(true), None, None, None) => "failed".to_owned(),
        (None, _, _, _) => or_dash(task.rejection_reason.as_deref()),
    }
}

/// Lists the tasks at an instant.
pub(super) async fn list(session: &Session, instant: Instant) -> Result<(), Error> {
    let selection = format!("tasks {{ {TASK} }}");
    let answer = instant.world(session, "", &selection, json!({})).await?;
    let tasks: Vec<Task> = session.client.part(&answer, "/world/tasks")?;
    session.show(&answer["world"], || {
        let mut table = Table::new(&["GUID", "STATE", "RESULT", "CELL", "CREATED", "CHANGED"]);
        for task in &tasks {
            table.row([
                task.task_guid.clone(),
                table::lower(&task.state),
                result(task),
                or_dash(task.cell_id.as_deref()),
                table::time(&task.created_at),
                table::time(&task.updated_at),
            ]);
        }
        table.lines("no tasks that wait, run, or ended lately; `diario log tail --type task.desired` shows older ones")
    })
}
