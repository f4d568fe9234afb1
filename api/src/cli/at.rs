//! `diario at`: the same lists as of the present, of an instant of the past.

use clap::{Args, ValueEnum};

use super::{Error, cells, instant::Instant, lrp, routes, target::Session, task};

/// Examples, for the help text.
pub(super) const EXAMPLES: &str = "Examples:\n  diario at -10m lrps\n  diario at @42 routes";

/// Options of `diario at`.
#[derive(Debug, Args)]
pub struct Options {
    /// The instant.
    #[arg(allow_hyphen_values = true, value_name = "TIME|@POSITION")]
    instant: Instant,
    /// What to show.
    #[arg(value_enum)]
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// As `diario lrp list`.
    Lrps,
    /// As `diario cells`.
    Cells,
    /// As `diario routes`.
    Routes,
    /// As `diario task list`.
    Tasks,
}

pub(super) async fn run(options: &Options, session: &Session) -> Result<(), Error> {
    match options.what {
        What::Lrps => lrp::list(session, options.instant).await,
        What::Cells => cells::list(session, options.instant).await,
        What::Routes => routes::list(session, options.instant).await,
        What::Tasks => task::list(session, options.instant).await,
    }
}
