//! Event by event, both ways: commands from a terminal, or line by line from a pipe.

use std::io;

use domain::log::{Owner, Position};
use projections::history::{Step, Stepper, views};
use serde_json::json;
use tokio::sync::mpsc;

use super::{CommandError, Error, Replay, show};
use crate::{cli::instant::parse_position, output};

/// The commands, shown at the start and by `?`.
const HELP: &str = "\
  n, next, Enter   the next event          b, back          undo the last one
  g POSITION       go there                v VIEW           show a view (v alone: which there are)
  d                the last step again     o OWNER          only this owner's events (o alone: all)
  q                quit                    ?                this help";

/// How many lines may wait to be read.
const LINES_MAX: usize = 16;
/// The longest line that is taken for a command.
const LINE_BYTES_MAX: usize = 1_000;

/// The lines of standard input as they come.
pub(super) fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(LINES_MAX);
    // Not waited for: the process ends while it reads.
    drop(std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    }));
    lines
}

struct Walk<'a> {
    replay: &'a Replay<'a>,
    stepper: Stepper,
    owner: Option<Owner>,
    last: Option<Step>,
}

/// Walks until told to quit, or until the input ends.
pub(super) async fn run(
    replay: &Replay<'_>,
    start: Position,
    mut lines: mpsc::Receiver<String>,
) -> Result<(), CommandError> {
    let stepper = replay.stepper(start, true).await?;
    let owner = replay.owner.clone();
    let mut walk = Walk { replay, stepper, owner, last: None };
    output::progress(HELP);
    walk.tell_place()?;
    while let Some(line) = lines.recv().await {
        if !walk.obey(line.trim()).await? {
            break;
        }
    }
    Ok(())
}

impl Walk<'_> {
    /// Does what a line says; `false` to quit.
    async fn obey(&mut self, line: &str) -> Result<bool, CommandError> {
        if line.len() > LINE_BYTES_MAX {
            self.refuse("the line is too long for a command");
            return Ok(true);
        }
        let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        match command {
            "" | "n" | "next" => self.next().await?,
            "b" | "back" => self.back().await?,
            "g" | "go" => match parse_position(argument) {
                Ok(position) => self.go(position).await?,
                Err(problem) => self.refuse(&format!("g {argument:?} {problem}")),
            },
            "v" | "view" => self.view(argument)?,
            "d" | "diff" => self.diff()?,
            "o" | "owner" => self.follow(argument)?,
            "q" | "quit" => return Ok(false),
            "?" | "help" => output::progress(HELP),
            other => self.refuse(&format!("{other:?} is no command; ? tells them")),
        }
        Ok(true)
    }

    fn refuse(&self, problem: &str) {
        output::progress(problem);
    }

    fn is_followed(&self, step: &Step) -> bool {
        self.owner.as_ref().is_none_or(|owner| *owner == step.recorded.stream.owner())
    }

    async fn next(&mut self) -> Result<(), CommandError> {
        while let Some(step) = self.stepper.next().await.map_err(Error::from)? {
            if self.is_followed(&step) {
                let (item, lines) = (show::step_json(&step), show::step_lines(&step));
                self.replay.session.show_item(&item, || lines.join("\n"))?;
                self.last = Some(step);
                return Ok(());
            }
        }
        self.refuse("this is the log's end");
        self.tell_place()
    }

    async fn back(&mut self) -> Result<(), CommandError> {
        while let Some(step) = self.stepper.back().await.map_err(Error::from)? {
            if self.is_followed(&step) {
                let mut item = show::step_json(&step);
                item["undone"] = json!(true);
                let lines = show::step_lines(&step);
                self.replay.session.show_item(&item, || format!("undone: {}", lines.join("\n")))?;
                self.last = Some(step);
                return self.tell_place();
            }
        }
        self.refuse("this is the log's start");
        self.tell_place()
    }

    async fn go(&mut self, position: Position) -> Result<(), CommandError> {
        let head = self.replay.store.head().await.map_err(Error::from)?.position;
        if position > head {
            self.refuse(&format!("@{position} is behind the log's end, @{head}"));
            return Ok(());
        }
        self.stepper.go(position).await.map_err(Error::from)?;
        self.last = None;
        self.tell_place()
    }

    fn view(&self, name: &str) -> Result<(), CommandError> {
        let world = self.stepper.world();
        let Some(content) = views::dump(world, name) else {
            self.refuse(&format!("{name:?} is no view; there are {}", views::NAMES.join(", ")));
            return Ok(());
        };
        let at = world.position();
        let item = json!({ "view": name, "position": at.to_string(), "content": content });
        self.replay.session.show_item(&item, || {
            let mut lines = vec![format!("{name} at @{at}")];
            lines.extend(show::value_lines(&content));
            lines.join("\n")
        })
    }

    fn diff(&self) -> Result<(), CommandError> {
        let Some(step) = &self.last else {
            self.refuse("there was no step yet");
            return Ok(());
        };
        self.replay.session.show_item(&show::step_json(step), || show::step_lines(step).join("\n"))
    }

    fn follow(&mut self, owner: &str) -> Result<(), CommandError> {
        if owner.is_empty() {
            self.owner = None;
            return self.tell_place();
        }
        match owner.parse::<Owner>() {
            Ok(owner) => {
                self.owner = Some(owner);
                self.tell_place()
            }
            Err(problem) => {
                self.refuse(&format!("{problem}: write process/GUID, task/GUID or cell/ID"));
                Ok(())
            }
        }
    }

    fn tell_place(&self) -> Result<(), CommandError> {
        let at = self.stepper.world().position();
        let of = self.owner.as_ref().map(|owner| format!(", events of {owner} only"));
        let of = of.unwrap_or_default();
        let owner = self.owner.as_ref().map(ToString::to_string);
        let item = json!({ "position": at.to_string(), "owner": owner });
        self.replay.session.show_item(&item, || format!("at @{at}{of}"))
    }
}
