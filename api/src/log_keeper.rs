//! The loop of a node that keeps its log: it signs checkpoints, and moves what is old to the
//! archive. It decides nothing about what the log says.

use std::{path::Path, sync::Arc, time::Duration};

use clap::Args;
use projections::{
    archive::{Archive, Keeper},
    checkpoint::{self, CheckpointKey, KEY_FILE, last::LastFile},
    event_store::keys::OsEntropy,
    storage::Storage,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{cli::archive::PlaceOptions, clock::Clock};

/// How often it looks whether something is due.
const PERIOD: Duration = Duration::from_secs(10);

/// Where the older part of a node's log goes.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
#[command(next_help_heading = "Archive")]
pub struct Options {
    /// Where.
    #[command(flatten)]
    pub place: PlaceOptions,
    /// With --archive: how many of the newest events stay in the database.
    #[arg(long, default_value_t = 1_000_000, requires = "location")]
    pub archive_keep_events: u64,
}

/// Opens what the loop needs. Moves nothing unless an archive was named.
///
/// # Errors
/// When the checkpoint key cannot be used, or is not the one that signed before.
pub fn open(
    storage: &Storage,
    archive: Option<Arc<Archive>>,
    options: &Options,
    keys_folder: &Path,
) -> Result<Keeper, checkpoint::Error> {
    let key_file = keys_folder.join(KEY_FILE);
    let key = CheckpointKey::create_or_open(&key_file, &OsEntropy)?;
    let last = LastFile::in_folder(keys_folder);
    last.check_key(key.public_key(), &key_file)?;
    let archive = archive
        .filter(|_| options.place.location().is_some())
        .map(|archive| (archive, options.archive_keep_events));
    let (hot, tables) = (Arc::clone(&storage.store), Arc::clone(&storage.tables));
    Ok(Keeper::new(hot, tables, key, archive).remembering(last))
}

/// Keeps the log until the node stops, and signs its end then.
pub async fn run(mut keeper: Keeper, clock: Arc<Clock>, shutdown: CancellationToken) {
    loop {
        if let Err(failure) = keeper.step(clock.now()).await {
            warn!(error = %failure, cause = ?std::error::Error::source(&failure),
                "The log could not be kept; it is tried again.");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    if let Err(failure) = keeper.sign(clock.now()).await {
        warn!(error = %failure, "The end of the log could not be signed.");
    }
}
