//! The loop that keeps the log: it signs checkpoints, and moves what is old to the archive. Of
//! several nodes the one that has the lease does so. It decides nothing about what the log says.
//!
//! A node that has lost the lease without noticing does no harm: a checkpoint is true whoever signs
//! it, and an archive takes the list of one writer at a time.

use std::{path::Path, sync::Arc, time::Duration};

use clap::Args;
use projections::{
    archive::{Archive, Keeper, Policy, SEGMENT_EVENTS, ShortSegments},
    checkpoint::{self, CheckpointKey, KEY_FILE, last::LastFile},
    event_store::keys::OsEntropy,
    storage::Storage,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{cli::archive::PlaceOptions, clock::Clock, lease::Lease};

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
    /// With --archive: how many events one segment holds, from 100 to 1000000. Fewer are moved
    /// sooner, more are packed better.
    #[arg(long, default_value_t = SEGMENT_EVENTS, requires = "location",
        value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub archive_segment_events: u64,
}

impl Options {
    fn policy(&self) -> Policy {
        Policy {
            keep_events: self.archive_keep_events,
            before: None,
            segment_events: self.archive_segment_events,
            short_segments: ShortSegments::Wait,
        }
    }
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
        .map(|archive| (archive, options.policy()));
    let (hot, tables) = (Arc::clone(&storage.store), Arc::clone(&storage.tables));
    Ok(Keeper::new(hot, tables, key, archive).remembering(last))
}

/// Keeps the log, whenever this node has the lease, until the node stops, and signs its end then.
pub async fn run(mut keeper: Keeper, clock: Arc<Clock>, lease: Lease, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep_under(&lease, &mut keeper, &clock) => {}
    }
    if lease.epoch().is_some()
        && let Err(failure) = keeper.sign(clock.now()).await
    {
        warn!(error = %failure, "The end of the log could not be signed.");
    }
}

/// Keeps the log whenever the lease is held.
async fn keep_under(lease: &Lease, keeper: &mut Keeper, clock: &Clock) {
    loop {
        lease.taken().await;
        keeper.take_over();
        tokio::select! {
            () = lease.lost() => {}
            () = keep(keeper, clock) => {}
        }
    }
}

/// Does what is due, again and again. May be ended at any instant.
async fn keep(keeper: &mut Keeper, clock: &Clock) {
    loop {
        if let Err(failure) = keeper.step(clock.now()).await {
            warn!(error = %failure, cause = ?std::error::Error::source(&failure),
                "The log could not be kept; it is tried again.");
        }
        tokio::time::sleep(PERIOD).await;
    }
}
