//! `diario backup`: a folder with the log as it is now and all that it cannot be read without, but
//! for the master key.

use std::path::PathBuf;

use clap::Args;
use projections::backup::{self, KEYS_FILE, manifest::folder_bytes};
use serde_json::json;

use super::{
    Error,
    archive::PlaceOptions,
    progress_bar::EventsBar,
    storage::StorageOptions,
    target::Answer,
    transfer::{origin, source},
};

pub(super) const EXAMPLES: &str = "Examples:\n  \
    diario backup --to /backups/monday\n  \
    diario backup --to /backups/monday --database-url postgres://db/diario\n\n\
    Works beside a running node; events in an archive are copied too. The wrapped data keys are in keys.ndjson, which can be kept \
    elsewhere; the master key (keys/master.key in the data folder) is NOT in a backup: without it \
    no secret can ever be read. Keep it, and the list of forgotten keys, apart from backups.";

/// Options of `diario backup`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    place: PlaceOptions,
    /// The folder to make; its parent must be there.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

pub(super) async fn run(options: Options, answer: &Answer) -> Result<(), Error> {
    let open = options.storage.open_to_read().await?;
    let endpoint = source(&open.storage, &options.place).await?;
    let origin = origin(&endpoint).await?;
    let head = endpoint.store.head().await.map_err(backup::Error::Store)?;
    let bar = EventsBar::new("backup", head.position.0);
    let progress = |events| bar.at(events);
    let taken = backup::take(endpoint.as_source(), origin, &options.to, &progress).await;
    open.storage.close().await;
    drop(bar);
    let manifest = taken?;
    let bytes = folder_bytes(&options.to)?;
    let folder = options.to.display();
    let told = json!({
        "folder": folder.to_string(),
        "bytes": bytes,
        "position": manifest.position,
        "link": manifest.link.to_string(),
        "logId": manifest.log_id.to_string(),
        "incarnation": manifest.incarnation.0.to_string(),
        "events": manifest.events,
        "blobs": manifest.blobs,
        "dataKeys": manifest.data_keys,
    });
    answer.show(&told, || {
        vec![
            format!(
                "{folder} holds the log up to @{}: {} events, {} pieces of evidence, {bytes} bytes",
                manifest.position, manifest.events, manifest.blobs
            ),
            format!("link   {}", manifest.link),
            format!("log    {}", manifest.log_id),
            format!("keys   {} wrapped ones in {folder}/{KEYS_FILE}", manifest.data_keys),
            "Keep the master key apart; without it no secret can be read.".to_owned(),
            format!("Put it back with: diario restore --from {folder} --data-dir NEW-FOLDER"),
        ]
    })
}
