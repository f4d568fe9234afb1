//! GraphQL over one kept connection, as a light client speaks it, and what an answer to a command
//! means: an answer that does not say what to do next is a defect.

use std::{io, time::Duration};

use serde_json::{Value, json};

use crate::connection::Connection;

/// Longer than a node may take for any answer.
const ANSWER_MAX: Duration = Duration::from_secs(45);

/// What a node said to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is durable.
    Accepted { position: u64, events: u64 },
    /// It was judged and refused.
    Refused,
    /// Nothing was changed; it may be tried again.
    TryAgain,
    /// Perhaps it was written: it is to be repeated under the same id.
    Unknown,
}

/// Reads the answer to a command; `Err` when it does not tell a client what to do.
pub(super) fn judged(answer: &Value) -> Result<(Answer, String), String> {
    if let Some(accepted) = answer["data"].get("it") {
        let number = |value: &Value| match value.as_str() {
            Some(text) => text.parse().ok(),
            None => value.as_u64(),
        };
        let (position, events) = (number(&accepted["position"]), number(&accepted["events"]));
        let (Some(position), Some(events)) = (position, events) else {
            return Err(format!("an acceptance without a place: {answer}"));
        };
        return Ok((Answer::Accepted { position, events }, String::new()));
    }
    let (code, message) = told(answer);
    let (meaning, is_told) = match code.as_str() {
        "NOT_FOUND" => (Answer::Refused, true),
        "UNAVAILABLE" | "BUSY" => (Answer::TryAgain, message.contains("try again")),
        "OUTCOME_UNKNOWN" | "TIMEOUT" => (Answer::Unknown, message.contains("same command")),
        _ => (Answer::Refused, false),
    };
    if !is_told {
        return Err(format!("it does not say retry or unknown: {answer}"));
    }
    Ok((meaning, format!("{code}: {message}")))
}

/// Whether a question was answered, or its error says to try again; `Err` when it does neither.
pub(super) fn read_judged(answer: &Value) -> Result<Option<String>, String> {
    if answer["errors"].is_null() && answer["data"].is_object() {
        return Ok(None);
    }
    let (code, message) = told(answer);
    let is_told = message.contains("try again")
        || message.contains("ask again")
        || (code == "TIMEOUT" && message.contains("repeat"));
    if is_told { Ok(Some(format!("{code}: {message}"))) } else { Err(answer.to_string()) }
}

fn told(answer: &Value) -> (String, String) {
    let text = |pointer| answer.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    (text("/errors/0/extensions/code"), text("/errors/0/message"))
}

/// A connection to one node, made when it is needed.
pub(super) struct Wire {
    api: String,
    open: Option<Connection>,
}

impl Wire {
    /// To a node's API, `http://host:port`.
    pub(super) fn to(api: &str) -> Self {
        Self { api: api.to_owned(), open: None }
    }

    /// Asks once. An error means that there was no whole answer.
    pub(super) fn ask(&mut self, query: &str, variables: &Value) -> io::Result<Value> {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let mut connection = match self.open.take() {
            Some(open) => open,
            None => Connection::open(&self.api, ANSWER_MAX)?,
        };
        let answer = connection.ask(&body)?;
        self.open = Some(connection);
        Ok(answer)
    }
}
