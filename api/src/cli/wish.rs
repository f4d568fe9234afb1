//! Sending a wish: a mutation with an id of its own, so that it can be repeated safely.

use clap::Args;
use domain::id::CommandId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Error, target::Session};
use crate::clock;

/// The id of a wish.
#[derive(Debug, Clone, Args)]
pub struct WishOptions {
    /// The command's id: a command with an id that was seen before is not done again. Drawn when
    /// absent; --json tells it.
    #[arg(long, value_parser = CommandId::new)]
    command_id: Option<CommandId>,
}

impl WishOptions {
    /// The id, where one was given.
    pub(super) fn command_id(self) -> Option<CommandId> {
        self.command_id
    }
}

/// A mutation of the schema with its arguments: each its name, its type and its value.
#[derive(Debug)]
pub(super) struct Wish<const N: usize> {
    pub(super) mutation: &'static str,
    pub(super) arguments: [(&'static str, &'static str, Value); N],
}

/// What the control plane said to a wish.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Accepted {
    position: String,
    events: u32,
    /// Where a reader of the log is that has read all that the wish caused at once.
    pub(super) cursor: String,
    /// The answer as it came.
    #[serde(skip)]
    answer: Value,
}

/// Sends a wish.
pub(super) async fn send<const N: usize>(
    session: &Session,
    options: &WishOptions,
    wish: Wish<N>,
) -> Result<Accepted, Error> {
    let command_id = options.command_id.clone().unwrap_or_else(clock::new_command_id).to_string();
    let (mut declared, mut given) = (String::new(), String::new());
    let mut variables = Map::new();
    for (name, type_name, value) in wish.arguments {
        declared.push_str(&format!("${name}: {type_name}, "));
        given.push_str(&format!("{name}: ${name}, "));
        variables.insert(name.to_owned(), value);
    }
    variables.insert("commandId".to_owned(), json!(command_id));
    let mutation = wish.mutation;
    let document = format!(
        "mutation({declared}$commandId: String) {{ accepted: {mutation}({given}commandId: $commandId) \
         {{ position cursor commandId events }} }}"
    );
    let answer = session.client.query(&document, Value::Object(variables)).await;
    let answer = answer.map_err(|source| {
        if source.is_uncertain() {
            Error::Uncertain { command_id, source }
        } else {
            Error::Client(source)
        }
    })?;
    let accepted: Accepted = session.client.part(&answer, "/accepted")?;
    // What is asked next may be answered by another node.
    session.client.read_at_least(accepted.cursor.clone());
    Ok(Accepted { answer: answer["accepted"].clone(), ..accepted })
}

impl Accepted {
    /// Shows the answer; `done` says for people what was asked for.
    pub(super) fn show(&self, session: &Session, done: &str) -> Result<(), Error> {
        session.show(&self.answer, || {
            let at = &self.position;
            vec![match self.events {
                0 => format!("nothing to change: {done} already (@{at})"),
                _ => format!("{done} (@{at})"),
            }]
        })
    }
}
