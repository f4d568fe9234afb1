//! `diario replay`: folds the log again, offline and only reading: what changed, when something
//! held first, what a view held then, and whether the views that run are the fold of the log.
//!
//! - `run`: over a span; `step`: event by event, both ways; `verify`: the running views
//! - `show`: events, changes and views in lines
//!
//! Decides nothing: what a predicate means and what changed is `projections::history`'s to say.

mod run;
mod show;
mod step;
#[cfg(test)]
mod tests;
mod verify;

use std::{str::FromStr as _, sync::Arc};

use clap::Args;
use domain::{
    event::Event,
    log::{Incarnation, Owner, Position, Recorded},
};
use indicatif::{ProgressBar, ProgressStyle};
use projections::{
    archive,
    event_store::{self, EventStore},
    history::{self, Stepper, predicate, predicate::Predicate, views},
    snapshot::SnapshotStore,
};

use super::{
    Error as CommandError, Outcome, archive::PlaceOptions, instant::Instant,
    storage::StorageOptions, target::Session,
};

/// Examples and the predicates, for the help text.
pub(super) const EXAMPLES: &str = "\
Examples:
  diario replay --from @40 --to @52
  diario replay --until 'lrp.demo.running < 3 && position > 100'
  diario replay --until 'event.type == actual_lrp.crashed && event.owner == process/demo' --step
  diario replay --to @1000 --view auction_queue
  diario replay --verify-views

Works on the log itself (--data-dir or --database-url), only reads, and may run beside a node.
--verify-views asks the running node at --api for digests of its views, folds the log to that
very position, and compares; --offline compares the newest snapshot instead.
Exit code: 0 done, 1 failed, never held, or differing, 2 wrong options.";

/// How many events pass between two looks of the progress bar.
const PROGRESS_EVERY_EVENTS: u64 = 1_000;
/// Fewer events than this are folded before anybody would read a bar.
const PROGRESS_FROM_EVENTS: u64 = 20_000;

/// Options of `diario replay`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    archive: PlaceOptions,
    /// Begin behind this instant; by default with the log's first event.
    #[arg(long, allow_hyphen_values = true, default_value = "@0")]
    from: Instant,
    /// End with this instant.
    #[arg(long, allow_hyphen_values = true, default_value = "now")]
    to: Instant,
    /// Stop where this holds first; see below.
    #[arg(long, value_name = "PREDICATE", value_parser = parse_predicate)]
    until: Option<Predicate>,
    /// Show only the events of this owner: process/GUID, task/GUID, cell/ID or freshness/NAME.
    #[arg(long, value_parser = Owner::from_str)]
    owner: Option<Owner>,
    /// Go event by event, both ways: at a terminal, or by commands from standard input.
    #[arg(long)]
    step: bool,
    /// Show a view where the replay ends: position, aggregates, auction_queue, cell_capacity,
    /// cell_assignments, route_table or desired_vs_actual.
    #[arg(long, value_name = "NAME", value_parser = views::NAMES)]
    view: Option<String>,
    /// Fold all views afresh, and compare them with the running node's, byte for byte.
    #[arg(long, conflicts_with_all = ["from", "to", "until", "owner", "step", "view"])]
    verify_views: bool,
    /// With --verify-views: ask no node; compare with what the newest snapshot leads to.
    #[arg(long, requires = "verify_views")]
    offline: bool,
}

/// The refusal with the place marked under the text.
fn parse_predicate(text: &str) -> Result<Predicate, String> {
    text.parse().map_err(|refusal: predicate::InvalidPredicate| {
        let marker = " ".repeat(refusal.column.saturating_sub(1));
        format!("{refusal}\n  {text}\n  {marker}^\n{}", predicate::LANGUAGE)
    })
}

/// Why a log could not be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A position cannot be reached.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// The node that answered serves another log.
    #[error(
        "the node at --api serves another log (incarnation {}) than --data-dir or --database-url \
         names (incarnation {}); name the same one",
        node.0, storage.0
    )]
    AnotherLog {
        /// The node's.
        node: Incarnation,
        /// The storage's.
        storage: Incarnation,
    },
    /// The node says what cannot be understood.
    #[error("the node at --api tells digests in a form that this version does not know")]
    Digests,
}

/// An open log, and the span to replay.
struct Replay<'a> {
    session: &'a Session,
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    owner: Option<Owner>,
    from: Position,
    to: Position,
}

pub(super) async fn run(options: Options, session: &Session) -> Result<Outcome, CommandError> {
    let open = options.storage.open_to_read().await?;
    let outcome = replay(&options, session, &open.storage).await;
    open.storage.close().await;
    outcome
}

async fn replay(
    options: &Options,
    session: &Session,
    storage: &projections::storage::Storage,
) -> Result<Outcome, CommandError> {
    let (hot, tables) = (Arc::clone(&storage.store), Arc::clone(&storage.tables));
    let (store, _) =
        archive::join(hot, tables, options.archive.named(), archive::Purpose::Read).await?;
    let snapshots = Arc::clone(&storage.snapshots);
    if options.verify_views {
        return verify::run(session, store, snapshots, options.offline).await;
    }
    let from = match position_of(options.from, store.as_ref()).await? {
        // The start of a log whose first part was pruned is where it begins now.
        Position(0) => store.pruned(),
        from => from,
    };
    let to = position_of(options.to, store.as_ref()).await?;
    if from > to {
        let told = format!("--from @{from} is behind --to @{to}");
        return Err(CommandError::Usage(told));
    }
    let owner = options.owner.clone();
    let replay = Replay { session, store, snapshots, owner, from, to };
    let mut start = from;
    if let Some(predicate) = &options.until {
        match run::until(&replay, predicate).await? {
            Some(found) => start = found,
            None => return Ok(Outcome::Failed),
        }
    }
    if options.step {
        step::run(&replay, start, step::lines_of_stdin()).await?;
        return Ok(Outcome::Done);
    }
    if options.until.is_none() && options.view.is_none() {
        run::changes(&replay).await?;
    }
    if let Some(name) = &options.view {
        let at = if options.until.is_some() { start } else { to };
        run::view(&replay, at, name).await?;
    }
    Ok(Outcome::Done)
}

impl Replay<'_> {
    async fn stepper(&self, at: Position, keeps: bool) -> Result<Stepper, Error> {
        let (store, snapshots) = (Arc::clone(&self.store), Arc::clone(&self.snapshots));
        Ok(Stepper::open(store, snapshots, at, keeps).await?)
    }

    fn shows(&self, recorded: &Recorded<Event>) -> bool {
        self.owner.as_ref().is_none_or(|owner| *owner == recorded.stream.owner())
    }
}

/// The position that an instant stands for in a log.
async fn position_of(instant: Instant, store: &dyn EventStore) -> Result<Position, Error> {
    let head = store.head().await?.position;
    let position = match instant {
        Instant::Now => head,
        Instant::Position(position) => position,
        Instant::Time(_) | Instant::Ago(_) => match instant.time() {
            Some(time) => store.position_at(time).await?,
            None => head,
        },
    };
    if position > head {
        return Err(history::Error::AheadOfHead { position, head }.into());
    }
    Ok(position)
}

/// A bar on standard error, where somebody looks at it and there is something to wait for.
fn progress(events: u64) -> ProgressBar {
    if events < PROGRESS_FROM_EVENTS {
        return ProgressBar::hidden();
    }
    let form = "{wide_bar} {human_pos}/{human_len} events, {per_sec}, {eta} left";
    // The form is a constant that is known to be well formed.
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(events).with_style(style)
}

fn note_progress(bar: &ProgressBar, from: Position, at: Position) {
    let done = at.0.saturating_sub(from.0);
    if done.is_multiple_of(PROGRESS_EVERY_EVENTS) {
        bar.set_position(done);
    }
}
