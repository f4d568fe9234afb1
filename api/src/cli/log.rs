//! `diario log`: the event log, page by page, one event, or as it grows.

use std::str::FromStr as _;

use clap::Subcommand;
use domain::{
    event::Event,
    log::{Cursor, Owner, Position},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    client::Client,
    instant::parse_position,
    stats,
    subscription::{Step, follow},
    table,
    target::Session,
    transfer,
};
use crate::output;

/// What can be done with the log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows the newest events, or those behind a place, and goes on with -f.
    #[command(after_help = "Examples:\n  \
        diario log tail -f\n  \
        diario log tail --owner process/web --limit 50\n  \
        diario log tail --after @100 --type actual_lrp.crashed")]
    Tail {
        /// Go on with what happens from now on, until Ctrl-C.
        #[arg(short = 'f', long)]
        follow: bool,
        /// Only behind this place: a cursor that was given earlier, or a position such as @42.
        #[arg(long, value_parser = Place::parse)]
        after: Option<Place>,
        /// Only of this owner: process/GUID, task/GUID, cell/ID or freshness/NAME.
        #[arg(long, value_parser = Owner::from_str)]
        owner: Option<Owner>,
        /// Only events of this name, such as actual_lrp.crashed; may be given several times.
        #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
        types: Vec<String>,
        /// The most events to show (to begin with, with -f).
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Writes the log into a file, as it is in the database.
    #[command(after_help = transfer::EXPORT_EXAMPLES)]
    Export(transfer::ExportOptions),
    /// Takes an export into a new log, with the same positions and hashes.
    #[command(after_help = transfer::IMPORT_EXAMPLES)]
    Import(transfer::ImportOptions),
    /// Counts the log: events by type and owner, batches, sizes, and how fast it grows.
    #[command(after_help = stats::EXAMPLES)]
    Stats(stats::Options),
    /// Shows one event with its payload.
    #[command(after_help = "Example: diario log show @42")]
    Show {
        /// Its position.
        #[arg(value_parser = parse_position)]
        position: Position,
    },
}

/// Where to go on in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind a cursor.
    Cursor(Cursor),
    /// Behind a position of the log as it is now.
    Position(Position),
}

impl Place {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Ok(cursor) = text.parse() {
            return Ok(Self::Cursor(cursor));
        }
        let position = parse_position(text).map(Self::Position);
        position.map_err(|_| "must be a cursor, or a position such as @42")
    }

    async fn cursor(self, session: &Session) -> Result<Cursor, Error> {
        match self {
            Self::Cursor(cursor) => Ok(cursor),
            Self::Position(position) => {
                // Which life of the log the position belongs to is known from any cursor of it.
                let head =
                    session.client.query("{ log(last: 1) { endCursor } }", json!({})).await?;
                let head: String = session.client.part(&head, "/log/endCursor")?;
                let head: Cursor = head
                    .parse()
                    .map_err(|_| session.client.unexpected("a cursor of another form"))?;
                Ok(Cursor { position, ..head })
            }
        }
    }
}

fn parse_type(text: &str) -> Result<String, String> {
    let known = Event::type_names();
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("must be one of {}", known.join(", ")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEvent {
    cursor: String,
    position: String,
    stream: String,
    #[serde(rename = "type")]
    type_name: String,
    recorded_at: String,
    actor: Actor,
    command_id: String,
    causation: Option<String>,
    payload: String,
}

#[derive(Deserialize)]
struct Actor {
    kind: String,
    name: String,
    via: String,
}

const EVENT: &str = "cursor position stream version owner type schemaVersion recordedAt \
    actor { kind name via } commandId causation correlation payload";

pub(super) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Tail { follow: is_following, after, owner, types, limit } => {
            let owner = owner.map(|owner| owner.to_string());
            let filter = json!({ "owner": owner, "types": types });
            let after = match after {
                Some(place) => Some(place.cursor(session).await?.to_string()),
                None => None,
            };
            // Behind a place, following shows what is there by itself.
            let after = match after {
                Some(after) if is_following => after,
                after => page(session, after, limit, &filter, is_following).await?,
            };
            if is_following { tail(session, after, filter).await } else { Ok(()) }
        }
        Command::Show { position } => show(session, position).await,
        Command::Export(options) => transfer::export(options, &session.answer).await,
        Command::Import(options) => transfer::import(options, &session.answer).await,
        Command::Stats(options) => stats::run(options, &session.answer).await,
    }
}

/// Shows a page and gives the cursor behind it.
async fn page(
    session: &Session,
    after: Option<String>,
    limit: u32,
    filter: &Value,
    is_following: bool,
) -> Result<String, Error> {
    let (declared, arguments, bound) = match after {
        Some(_) => ("$after: Cursor, $first: Int!,", "after: $after, first: $first,", "first"),
        None => ("$last: Int!,", "last: $last,", "last"),
    };
    let document = format!(
        "query({declared} $filter: LogFilter) {{ log({arguments} filter: $filter) \
         {{ events {{ {EVENT} }} endCursor hasMore }} }}"
    );
    let mut variables = json!({ "filter": filter });
    variables[bound] = json!(limit);
    if let Some(after) = after {
        variables["after"] = json!(after);
    }
    let answer = session.client.query(&document, variables).await?;
    let events: Vec<Value> = session.client.part(&answer, "/log/events")?;
    for event in &events {
        show_event(session, event)?;
    }
    let end: String = session.client.part(&answer, "/log/endCursor")?;
    if events.is_empty() && !is_following {
        output::progress("no such events");
    }
    if answer["log"]["hasMore"] == json!(true) {
        output::progress(format!("there are more: --after {end}"));
    }
    Ok(end)
}

async fn tail(session: &Session, after: String, filter: Value) -> Result<(), Error> {
    let document = format!(
        "subscription($after: Cursor, $filter: LogFilter) \
         {{ log(after: $after, filter: $filter) {{ {EVENT} }} }}"
    );
    let variables = |after: Option<&str>| json!({ "after": after, "filter": filter });
    let take = |data: &Value| show_event(session, &data["log"]).map(Step::GoOn);
    follow(&session.client, &document, Some(after), variables, take).await
}

/// Shows an event in a line and gives its cursor.
fn show_event(session: &Session, value: &Value) -> Result<String, Error> {
    let event: LogEvent = Client::part(&session.client, value, "")?;
    session.show_item(value, || {
        let LogEvent { position, stream, type_name, .. } = &event;
        let position = format!("@{position}");
        let (time, by) = (table::time(&event.recorded_at), actor(&event.actor));
        format!("{position:<7}  {time}  {type_name:<27}  {stream}  by {by}")
    })?;
    Ok(event.cursor)
}

fn actor(actor: &Actor) -> String {
    format!("{} {}", table::lower(&actor.kind), actor.name)
}

async fn show(session: &Session, position: Position) -> Result<(), Error> {
    let no_such =
        || Error::NoSuch { what: "event", id: format!("@{position}"), list: "diario log tail" };
    let before = Position(position.0.checked_sub(1).ok_or_else(no_such)?);
    let after = Place::Position(before).cursor(session).await?.to_string();
    let document = format!(
        "query($after: Cursor) {{ log(after: $after, first: 1) {{ events {{ {EVENT} }} }} }}"
    );
    let answer = session.client.query(&document, json!({ "after": after })).await?;
    let Some(value) = answer.pointer("/log/events/0") else { return Err(no_such()) };
    let event: LogEvent = Client::part(&session.client, value, "")?;
    session.show(value, || {
        let causation = event.causation.as_ref().map(|position| format!("@{position}"));
        let mut lines = vec![
            format!("position  @{}", event.position),
            format!("recorded  {}", event.recorded_at),
            format!("stream    {}", event.stream),
            format!("type      {}", event.type_name),
            format!("by        {} via {}", actor(&event.actor), event.actor.via),
            format!("command   {}", event.command_id),
            format!("because   {}", table::or_dash(causation.as_deref())),
            String::new(),
        ];
        let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
        lines.extend(format!("{payload:#}").lines().map(str::to_owned));
        lines
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_cursor_or_a_position() {
        let cursor = "00000000000000000000000000000007.42";
        assert_eq!(Place::parse(cursor), Ok(Place::Cursor(cursor.parse().unwrap())));
        assert_eq!(Place::parse("@42"), Ok(Place::Position(Position(42))));
        assert!(Place::parse("yesterday").is_err());
        assert!(parse_type("actual_lrp.crashed").is_ok());
        assert!(parse_type("crashed").unwrap_err().contains("actual_lrp.crashed"));
    }
}
