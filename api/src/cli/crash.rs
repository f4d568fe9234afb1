//! `diario crash`: instances that ended without being asked to, and what their cells saw last.

use clap::Subcommand;
use domain::{id::ProcessGuid, log::Position};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    client::Client,
    evidence::{EVIDENCE, Evidence},
    instant::{Instant, parse_position},
    table::{self, Table},
    target::Session,
};

/// What can be done with crashes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the newest crashes, newest first.
    #[command(after_help = "Examples:\n  diario crash list\n  diario crash list web --limit 5")]
    List {
        /// Only of this process.
        guid: Option<ProcessGuid>,
        /// The most crashes to show.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Shows one crash with all that its cell saw last: lines, metrics, health checks, the peaks
    /// of its cgroups, the processes in it. Also of an instance that was killed after its grace.
    #[command(after_help = "Example: diario crash show @42")]
    Show {
        /// Its id: the position of its event.
        #[arg(value_parser = parse_position)]
        id: Position,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Crash {
    id: String,
    process_guid: String,
    index: u32,
    cell_id: String,
    instance_guid: String,
    reason: String,
    exit_status: Option<i32>,
    signal: Option<i32>,
    meaning: Option<String>,
    out_of_memory: Option<OutOfMemory>,
    presence: String,
    crash_count: Option<u32>,
    restart: Option<Restart>,
    at: String,
    evidence: Option<Evidence>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutOfMemory {
    limit_bytes: u64,
    peak_bytes: u64,
    kills: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Restart {
    kind: String,
    not_before: Option<String>,
}

const CRASH: &str = "id processGuid index cellId instanceGuid reason exitStatus signal meaning \
    outOfMemory { limitBytes peakBytes kills } presence crashCount restart { kind notBefore } at position";
/// What follows the end of an instance that had its replacement already.
const NO_RESTART: &str = "none: it stood beside the slot's ordinary instance";

pub(super) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::List { guid, limit } => list(session, guid, limit).await,
        Command::Show { id } => show(session, id).await,
    }
}

async fn list(session: &Session, guid: Option<ProcessGuid>, limit: u32) -> Result<(), Error> {
    let selection = format!("crashes(processGuid: $guid, first: $first) {{ {CRASH} }}");
    let declared = "$guid: String, $first: Int!";
    let variables = json!({ "guid": guid, "first": limit });
    let answer = Instant::Now.world(session, declared, &selection, variables).await?;
    let crashes: Vec<Crash> = session.client.part(&answer, "/world/crashes")?;
    session.show(&answer["world"]["crashes"], || {
        let mut table = Table::new(&["ID", "AT", "INSTANCE", "CELL", "IN A ROW", "REASON"]);
        for crash in &crashes {
            table.row([
                format!("@{}", crash.id),
                table::time(&crash.at),
                format!("{}/{}", crash.process_guid, crash.index),
                crash.cell_id.clone(),
                in_a_row(crash),
                crash.reason.clone(),
            ]);
        }
        table.lines("no crashes")
    })
}

async fn show(session: &Session, id: Position) -> Result<(), Error> {
    let document = format!("query($id: Position!) {{ crash(id: $id) {{ {CRASH} {EVIDENCE} }} }}");
    let answer = session.client.query(&document, json!({ "id": id.to_string() })).await?;
    let value: &Value = &answer["crash"];
    let crash: Option<Crash> = Client::part(&session.client, value, "")?;
    let Some(crash) = crash else {
        let list = "diario crash list";
        return Err(Error::NoSuch { what: "crash", id: format!("@{id}"), list });
    };
    session.show(value, || show_lines(&crash))
}

fn show_lines(crash: &Crash) -> Vec<String> {
    let mut lines = vec![
        format!("crash     @{}", crash.id),
        format!("at        {}", table::time(&crash.at)),
        format!("instance  {}/{} ({})", crash.process_guid, crash.index, crash.instance_guid),
        format!("cell      {}", crash.cell_id),
        format!("reason    {}", crash.reason),
        format!("exit      {}", exit(crash)),
        format!("meaning   {}", table::or_dash(crash.meaning.as_deref())),
        format!("presence  {}", table::lower(&crash.presence)),
        format!("in a row  {}", in_a_row(crash)),
        format!(
            "restart   {}",
            crash.restart.as_ref().map_or_else(|| NO_RESTART.to_owned(), restart)
        ),
    ];
    if let Some(word) = &crash.out_of_memory {
        let OutOfMemory { limit_bytes, peak_bytes, kills } = word;
        lines.push(format!(
            "memory    ran out: limit {limit_bytes} bytes, peak {peak_bytes} bytes, {kills} killed"
        ));
    }
    let Some(evidence) = &crash.evidence else {
        lines.push("evidence  none was kept".to_owned());
        return lines;
    };
    lines.extend(evidence.lines());
    lines
}

fn exit(crash: &Crash) -> String {
    match (crash.exit_status, crash.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(status), None) => format!("status {status}"),
        (None, None) => table::NOTHING.to_owned(),
    }
}

fn in_a_row(crash: &Crash) -> String {
    crash.crash_count.map_or_else(|| table::NOTHING.to_owned(), |count| count.to_string())
}

fn restart(restart: &Restart) -> String {
    match &restart.not_before {
        Some(time) => format!("not before {}", table::time(time)),
        None => table::lower(&restart.kind),
    }
}
