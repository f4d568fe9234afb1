//! `diario archive`: moves the older part of a log out of the database, shows the archive, and
//! drops its oldest part when told so twice.

use std::sync::Arc;

use clap::{Args, Subcommand};
use domain::{log::Position, units::Timestamp};
use projections::{
    archive::{self, Archive, ArchivedStore, Policy, Purpose, SEGMENT_EVENTS, ShortSegments},
    checkpoint::{CheckpointKey, KEY_FILE},
    data_dir::keys_folder,
    event_store::keys::OsEntropy,
};
use serde_json::json;

use super::{
    Error, Outcome, Print,
    instant::Instant,
    storage::{OpenStorage, StorageOptions},
};

/// Where an archive is.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceOptions {
    /// The archive: a folder, or s3://BUCKET/PREFIX with the usual AWS_* variables. By default the
    /// one that events of this log were moved to.
    #[arg(long = "archive", value_name = "DIR|URL")]
    location: Option<String>,
    /// An S3 store other than Amazon's, such as http://127.0.0.1:9000.
    #[arg(long)]
    s3_endpoint: Option<String>,
}

impl PlaceOptions {
    /// The archive and the S3 store that were named.
    #[must_use]
    pub fn named(&self) -> (Option<&str>, Option<&str>) {
        (self.location(), self.s3_endpoint.as_deref())
    }

    /// The archive that was named.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }
}

/// The log and how the answer is printed.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    storage: StorageOptions,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What can be done with an archive.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Moves the older part of a log into an archive. A SQLite log must not be in use by a node;
    /// a running node does it by itself with --archive.
    #[command(after_help = "Examples:\n  \
        diario archive run --to /var/lib/diario-archive --keep-events 1000000\n  \
        diario archive run --to s3://logs/diario --older-than 30d")]
    Run {
        /// Where the log is, and how to answer.
        #[command(flatten)]
        common: Common,
        /// The archive: a folder, or s3://BUCKET/PREFIX with the usual AWS_* variables.
        #[arg(long)]
        to: String,
        /// An S3 store other than Amazon's, such as http://127.0.0.1:9000.
        #[arg(long)]
        s3_endpoint: Option<String>,
        /// How many of the newest events stay in the database.
        #[arg(long, default_value_t = 0, conflicts_with = "older_than")]
        keep_events: u64,
        /// Move what is older than this: 90s, 10m, 12h, 30d.
        #[arg(long, value_parser = parse_age)]
        older_than: Option<Instant>,
    },
    /// Shows what an archive holds.
    #[command(after_help = "Example: diario archive status --archive /var/lib/diario-archive")]
    Status {
        /// Where the log is, and how to answer.
        #[command(flatten)]
        common: Common,
        /// Which archive.
        #[command(flatten)]
        place: PlaceOptions,
    },
    /// Drops the oldest segments for ever; the state that they led to is written and signed first.
    #[command(after_help = "Example: diario archive prune --before @1000000 --yes\n\
        Questions about what was dropped are answered with PRUNED from then on.")]
    Prune {
        /// Where the log is, and how to answer.
        #[command(flatten)]
        common: Common,
        /// Which archive.
        #[command(flatten)]
        place: PlaceOptions,
        /// Drop what lies wholly before this: @42, -90d or an RFC 3339 time.
        #[arg(long, allow_hyphen_values = true)]
        before: Instant,
        /// Really drop it.
        #[arg(long)]
        yes: bool,
    },
}

fn parse_age(text: &str) -> Result<Instant, String> {
    format!("-{text}").parse().map_err(|_| "must be an age such as 12h or 30d".to_owned())
}

pub(super) async fn run(command: Command, print: &Print) -> Result<Outcome, Error> {
    let line = match command {
        Command::Run { common, to, s3_endpoint, keep_events, older_than } => {
            let before = older_than.and_then(Instant::time);
            let place = PlaceOptions { location: Some(to), s3_endpoint };
            let policy = Policy {
                keep_events,
                before,
                segment_events: SEGMENT_EVENTS,
                short_segments: ShortSegments::Write,
            };
            move_events(&common, &place, policy).await?
        }
        Command::Status { common, place } => status(&common, &place).await?,
        Command::Prune { yes: false, .. } => {
            let reason = "prune drops events for ever; repeat it with --yes to do so";
            return Err(Error::Usage(reason.to_owned()));
        }
        Command::Prune { common, place, before, yes: true } => {
            prune(&common, &place, before).await?
        }
    };
    print(&line).map_err(Error::Output)?;
    Ok(Outcome::Done)
}

async fn joined(
    open: &OpenStorage,
    place: &PlaceOptions,
    purpose: Purpose,
) -> Result<Arc<Archive>, Error> {
    let (hot, tables) = (Arc::clone(&open.storage.store), Arc::clone(&open.storage.tables));
    let (_, archive) = archive::join(hot, tables, place.named(), purpose).await?;
    let none = "this log has no archive yet: name one with --archive";
    archive.ok_or_else(|| Error::Usage(none.to_owned()))
}

async fn move_events(
    common: &Common,
    place: &PlaceOptions,
    policy: Policy,
) -> Result<String, Error> {
    let open = common.storage.open().await?;
    let archive = joined(&open, place, Purpose::Write).await?;
    let store = Arc::clone(&open.storage.store);
    let moved = archive::run(store, open.storage.tables.as_ref(), &archive, policy).await?;
    open.storage.close().await;
    if common.json {
        let told = json!({
            "segments": moved.segments, "events": moved.events, "bytes": moved.bytes,
            "floor": moved.floor.0, "archive": archive.place().to_string(),
        });
        return Ok(told.to_string());
    }
    Ok(format!(
        "moved {} events in {} segments of {} bytes to {}; the database begins behind position {}",
        moved.events,
        moved.segments,
        moved.bytes,
        archive.place(),
        moved.floor
    ))
}

async fn status(common: &Common, place: &PlaceOptions) -> Result<String, Error> {
    let open = common.storage.open_to_read().await?;
    let archive = joined(&open, place, Purpose::Read).await?;
    let manifest = archive.manifest();
    let (head, floor) =
        (open.storage.store.head().await?.position, open.storage.tables.floor().await?.position);
    open.storage.close().await;
    let (begin, end) = (manifest.begin().0, manifest.end().0);
    let key_path = keys_folder(&common.storage.data_dir).join(KEY_FILE);
    let key = CheckpointKey::open(&key_path).ok().map(|key| key.public_key().to_string());
    if common.json {
        let told = json!({
            "archive": archive.place().to_string(), "logId": manifest.log_id.to_string(),
            "prunedUpTo": begin.0, "archivedUpTo": end.0, "databaseFloor": floor.0,
            "head": head.0, "segments": manifest.segments.len(), "bytes": manifest.bytes(),
            "checkpoints": manifest.checkpoints().len(), "publicKey": key,
        });
        return Ok(told.to_string());
    }
    let lines = [
        format!("archive     {}", archive.place()),
        format!("log         {}", manifest.log_id),
        format!("pruned      up to position {begin}"),
        format!("archived    up to position {end}, {} segments", manifest.segments.len()),
        format!("bytes       {}", manifest.bytes()),
        format!("database    begins behind position {floor}, head {head}"),
        format!("public key  {}", key.as_deref().unwrap_or("-")),
    ];
    Ok(lines.join("\n"))
}

async fn prune(common: &Common, place: &PlaceOptions, before: Instant) -> Result<String, Error> {
    let open = common.storage.open().await?;
    let archive = joined(&open, place, Purpose::Read).await?;
    let (hot, tables) = (Arc::clone(&open.storage.store), Arc::clone(&open.storage.tables));
    let store = ArchivedStore::new(hot, Arc::clone(&tables), archive);
    let before = match (before, before.time()) {
        (Instant::Position(position), _) => position,
        (_, Some(time)) => position_before(&store, time).await?.next(),
        (_, None) => return Err(Error::Usage("--before now would drop the present".to_owned())),
    };
    let key_path = keys_folder(&common.storage.data_dir).join(KEY_FILE);
    let key = CheckpointKey::create_or_open(&key_path, &OsEntropy)?;
    let snapshots = open.storage.snapshots.as_ref();
    let pruned = archive::prune(&store, tables.as_ref(), snapshots, &key, before).await?;
    open.storage.close().await;
    if common.json {
        let told = json!({
            "segments": pruned.segments, "prunedUpTo": pruned.floor.0, "bytes": pruned.bytes,
        });
        return Ok(told.to_string());
    }
    Ok(format!(
        "dropped {} segments of {} bytes; the log begins behind position {}, with a signed state",
        pruned.segments, pruned.bytes, pruned.floor
    ))
}

async fn position_before(store: &ArchivedStore, time: Timestamp) -> Result<Position, Error> {
    use projections::event_store::EventStore as _;
    Ok(store.position_at(Timestamp(time.0.saturating_sub(1))).await?)
}
