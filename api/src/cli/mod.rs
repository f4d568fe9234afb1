//! The commands of operators: questions and wishes to a control plane, over GraphQL alone.
//!
//! - [`client`]: the protocol; `target`: which control plane, and how answers are shown
//! - [`storage`]: which log, for the commands that work on the database itself
//! - one file per noun, each command a function from its options to lines
//!
//! Decides nothing and knows no stored form: whatever it shows, any other client could.

pub mod archive;
mod at;
mod backup;
mod cells;
mod certs;
pub mod client;
mod crash;
pub mod diff;
mod domains;
mod evidence;
mod instant;
mod keys;
mod log;
mod logs;
mod lrp;
mod lrp_file;
mod metrics;
mod progress_bar;
mod replay;
mod restart_options;
mod restore;
mod routes;
mod simulate;
mod spec_options;
mod stats;
pub mod storage;
pub(crate) mod subscription;
mod table;
mod target;
mod task;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;
mod why;
mod wish;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use domain::id::CellId;

use self::{
    instant::Instant,
    target::{Answer, Print, Target},
};
use crate::{forgetting, output};

/// The commands of operators.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Long-running processes: desire, look at, scale, remove.
    Lrp(Noun<lrp::Command>),
    /// One-off tasks: run, look at, cancel.
    Task(Noun<task::Command>),
    /// The cells: what each holds and what is left of it.
    #[command(after_help = cells::EXAMPLES)]
    Cells(cells::Options),
    /// Freshness domains: who vouches for what is desired, and their restart policies.
    #[command(after_help = domains::EXAMPLES)]
    Domains(domains::Options),
    /// The routes: which instances each host name leads to.
    #[command(after_help = "Example: diario routes\nOf the past: diario at -10m routes")]
    Routes(Target),
    /// The output of a process or a task.
    #[command(after_help = logs::EXAMPLES)]
    Logs(Question<logs::Options>),
    /// What the containers of a process or a task use, or used.
    #[command(after_help = metrics::EXAMPLES)]
    Metrics(Question<metrics::Options>),
    /// The event log: everything that happened, in order.
    Log(Noun<log::Command>),
    /// The state at an instant of the past.
    #[command(after_help = format!("{}\n\n{}", at::EXAMPLES, instant::FORMS))]
    At(Question<at::Options>),
    /// Crashes, each with what its cell saw last.
    Crash(Noun<crash::Command>),
    /// What changed between two instants, and the events that did it.
    #[command(after_help = format!("{}\n\n{}", diff::EXAMPLES, instant::FORMS))]
    Diff(Question<diff::Options>),
    /// Folds the log again: what changed, when something held first, both ways step by step, and
    /// whether the running views are what the log says.
    #[command(after_help = format!(
        "{}\n\n{}\n\n{}", replay::EXAMPLES, instant::FORMS, projections::history::predicate::LANGUAGE
    ))]
    Replay(Question<replay::Options>),
    /// Master keys, and forgetting what was sealed under them.
    Keys(Noun<keys::Command>),
    /// Certificates for a trial of the BBS, Diego's API.
    #[command(subcommand)]
    Certs(certs::Command),
    /// Proves that the log is the one that was written, or names the first place that is not.
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Options),
    /// The older part of the log, outside of the database: move, look at, drop.
    #[command(subcommand)]
    Archive(archive::Command),
    /// Copies the log and all beside it into a folder, also while a node runs on it.
    #[command(after_help = backup::EXAMPLES)]
    Backup(Local<backup::Options>),
    /// Puts a backup into a new database.
    #[command(after_help = restore::EXAMPLES)]
    Restore(Local<restore::Options>),
    /// Runs whole clusters in virtual time, in which everything breaks, and says what did not hold.
    #[command(after_help = simulate::EXAMPLES)]
    Simulate(simulate::Options),
}

/// A noun with verbs.
#[derive(Debug, Args)]
pub struct Noun<V: Subcommand> {
    #[command(subcommand)]
    verb: V,
    #[command(flatten)]
    target: Target,
}

/// One question.
#[derive(Debug, Args)]
pub struct Question<O: Args> {
    #[command(flatten)]
    options: O,
    #[command(flatten)]
    target: Target,
}

/// A command that works on the database itself and asks no control plane.
#[derive(Debug, Args)]
pub struct Local<O: Args> {
    #[command(flatten)]
    options: O,
    /// Answer in JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The control plane gave no answer, or refused.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A wish was sent, and its answer did not come.
    #[error(
        "whether it was done is not known; repeat it with --command-id {command_id}: it is done once at most"
    )]
    Uncertain {
        /// The id it was sent with.
        command_id: String,
        /// Why no answer came.
        source: client::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The log could not be replayed.
    #[error(transparent)]
    Replay(#[from] replay::Error),
    /// Keys cannot be read or changed.
    #[error(transparent)]
    Keys(#[from] projections::event_store::keys::Error),
    /// Certificates cannot be made.
    #[error(transparent)]
    Certificates(#[from] crate::bbs::certificates::Error),
    /// Secrets cannot be forgotten.
    #[error(transparent)]
    Forget(#[from] forgetting::offline::Error),
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(projections::archive::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] projections::event_store::Error),
    /// The checkpoint key cannot be used.
    #[error(transparent)]
    CheckpointKey(#[from] projections::checkpoint::Error),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Failing runs cannot be kept.
    #[error("cannot write {path}")]
    KeepRuns {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A log was not exported or taken in.
    #[error(transparent)]
    Transfer(#[from] projections::transfer::Error),
    /// A backup was not made or not restored.
    #[error(transparent)]
    Backup(#[from] projections::backup::Error),
    /// The log cannot be counted.
    #[error("cannot count the log")]
    Stats(#[from] projections::log_stats::Error),
    /// The data folder of a restore holds something.
    #[error(
        "{folder} is not empty: it holds {name}; name a new folder (only its keys may be there)"
    )]
    FolderNotEmpty {
        /// The folder.
        folder: PathBuf,
        /// The first thing found.
        name: String,
    },
    /// A file of a wish cannot be used.
    #[error(transparent)]
    File(#[from] lrp_file::Error),
    /// The token cannot be read.
    #[error("cannot read --token-file {path}")]
    TokenFile {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was waited for will not come.
    #[error("the evacuation of cell {cell_id} was cancelled; `diario cells` shows how it is used")]
    EvacuationCancelled {
        /// The cell.
        cell_id: CellId,
    },
    /// There is no such thing.
    #[error("there is no {what} {id}; `{list}` shows those that there are")]
    NoSuch {
        /// A kind of thing.
        what: &'static str,
        /// The one that was asked for.
        id: String,
        /// The command that shows all.
        list: &'static str,
    },
    /// The options do not go together.
    #[error("{0}")]
    Usage(String),
    /// Standard output takes no more.
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

impl From<projections::archive::Error> for Error {
    fn from(failure: projections::archive::Error) -> Self {
        if let projections::archive::Error::Log(inner) = failure {
            return Self::Log(inner);
        }
        Self::Archive(failure)
    }
}

/// The exit code of a usage error, as clap's own.
const USAGE: u8 = 2;

/// Runs a command: 0 when it was done, 1 when it failed or was refused, 2 when its options do not
/// go together.
///
/// # Errors
/// Why it failed or was refused.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match perform(command, Box::new(|line| output::try_line(line))).await {
        Ok(Outcome::Done) => Ok(ExitCode::SUCCESS),
        Ok(Outcome::Failed) => Ok(ExitCode::FAILURE),
        Err(failure @ Error::Usage(_)) => {
            output::error(&failure.into());
            Ok(ExitCode::from(USAGE))
        }
        // Who reads has seen enough, as in `diario log tail | head`.
        Err(Error::Output(failure)) if failure.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// What came of a command that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was done.
    Done,
    /// What it waited for has failed.
    Failed,
}

async fn perform(command: Command, print: Print) -> Result<Outcome, Error> {
    match command {
        Command::Lrp(noun) => lrp::run(noun.verb, &noun.target.open(print)?).await?,
        Command::Task(noun) => return task::run(noun.verb, &noun.target.open(print)?).await,
        Command::Cells(options) => return cells::run(options, print).await,
        Command::Domains(options) => domains::run(options, print).await?,
        Command::Routes(target) => routes::list(&target.open(print)?, Instant::Now).await?,
        Command::Logs(asked) => logs::run(asked.options, &asked.target.open(print)?).await?,
        Command::Metrics(asked) => metrics::run(asked.options, &asked.target.open(print)?).await?,
        Command::Log(noun) => log::run(noun.verb, &noun.target.open(print)?).await?,
        Command::At(asked) => at::run(&asked.options, &asked.target.open(print)?).await?,
        Command::Crash(noun) => crash::run(noun.verb, &noun.target.open(print)?).await?,
        Command::Replay(asked) => {
            return replay::run(asked.options, &asked.target.open(print)?).await;
        }
        Command::Keys(noun) => keys::run(noun.verb, &noun.target.open(print)?).await?,
        Command::Certs(command) => certs::run(&command, &print)?,
        Command::Verify(options) => return verify::run(options, &print).await,
        Command::Archive(command) => return archive::run(command, &print).await,
        Command::Diff(asked) => diff::run(&asked.options, &asked.target.open(print)?).await?,
        Command::Backup(asked) => {
            backup::run(asked.options, &Answer::new(asked.json, print)).await?;
        }
        Command::Restore(asked) => {
            restore::run(asked.options, &Answer::new(asked.json, print)).await?;
        }
        Command::Simulate(options) => return simulate::run(&options, &print),
    }
    Ok(Outcome::Done)
}
