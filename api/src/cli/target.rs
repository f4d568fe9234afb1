//! Which control plane a command asks, as whom, and how its answer is shown.

use std::{fs, io, path::PathBuf};

use clap::Args;
use serde_json::Value;

use super::{Error, client::Client};

/// Options of every command that asks a control plane.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Control plane")]
pub struct Target {
    /// The control plane's address.
    #[arg(long, global = true, env = "DIARIO_API", default_value = "http://127.0.0.1:7400")]
    api: String,
    /// The token to ask with; `diario dev` needs none.
    #[arg(long, global = true, env = "DIARIO_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The file that holds the token; it goes before --token.
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
    /// The certificates to trust, in PEM; those of this machine when absent.
    #[arg(long, global = true)]
    ca_file: Option<PathBuf>,
    /// Answer only what shows the log up to this position or cursor, as an earlier answer told it,
    /// also by another node; waits up to 2 s for that.
    #[arg(long, global = true, value_name = "POSITION")]
    at_least: Option<String>,
    /// Answer in JSON, for programs: one document, or one object a line where it streams.
    #[arg(long, global = true)]
    json: bool,
}

impl Target {
    /// Prepares the way there; nothing is sent yet.
    pub(super) fn open(self, print: Print) -> Result<Session, Error> {
        let token = match self.token_file {
            Some(path) => {
                let text = fs::read_to_string(&path);
                Some(text.map_err(|source| Error::TokenFile { path, source })?.trim().to_owned())
            }
            None => self.token,
        };
        let client = Client::new(&self.api, token.as_deref(), self.ca_file.as_deref())?;
        if let Some(at_least) = self.at_least {
            client.read_at_least(at_least.trim_start_matches('@').to_owned());
        }
        Ok(Session { client, answer: Answer::new(self.json, print) })
    }
}

/// Prints a line of a result.
pub(super) type Print = Box<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

/// A way to a control plane, and the form of answers.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) answer: Answer,
}

impl Session {
    /// See [`Answer::show`].
    pub(super) fn show(
        &self,
        answer: &Value,
        lines: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Error> {
        self.answer.show(answer, lines)
    }

    /// See [`Answer::show_item`].
    pub(super) fn show_item(
        &self,
        item: &Value,
        line: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.answer.show_item(item, line)
    }
}

/// The form of answers, and where they go.
pub(super) struct Answer {
    is_json: bool,
    print: Print,
}

impl Answer {
    pub(super) fn new(is_json: bool, print: Print) -> Self {
        Self { is_json, print }
    }

    /// Shows an answer: the JSON as it is, or the lines for people.
    pub(super) fn show(
        &self,
        answer: &Value,
        lines: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Error> {
        if self.is_json {
            // `#` is serde_json's indented form.
            return self.print(&format!("{answer:#}"));
        }
        lines().iter().try_for_each(|line| self.print(line))
    }

    /// Shows one item of a stream: the JSON in one line, or a line for people.
    pub(super) fn show_item(
        &self,
        item: &Value,
        line: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.print(&if self.is_json { item.to_string() } else { line() })
    }

    fn print(&self, line: &str) -> Result<(), Error> {
        (self.print)(line).map_err(Error::Output)
    }
}
