//! `diario log export` and `diario log import`: the log as a file that can be carried from one
//! database to another.

use std::{
    io::{self, BufWriter},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use domain::log::Position;
use projections::{
    archive::{self, Purpose},
    backup::Endpoint,
    storage::Storage,
    transfer::{self, End, Format, Header, NewFile, Range, write::Origin},
};
use serde_json::{Value, json};

use super::{
    Error, archive::PlaceOptions, instant::parse_position, progress_bar::EventsBar,
    storage::StorageOptions, target::Answer,
};
use crate::clock::Clock;

/// Standard output, as a file's name.
const STDOUT: &str = "-";

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ExportFormat {
    /// One JSON object a line, for people and other programs.
    Ndjson,
    /// Compressed records, for machines.
    Compact,
}

/// Options of `diario log export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    place: PlaceOptions,
    /// Begin with the batch that holds this position.
    #[arg(long, value_parser = parse_position, value_name = "POSITION")]
    from: Option<Position>,
    /// End with the batch that holds this position; without it, where the log ends now.
    #[arg(long, value_parser = parse_position, value_name = "POSITION")]
    to: Option<Position>,
    /// The form of the file.
    #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
    format: ExportFormat,
    /// The file to write, which must not be there yet; - is standard output.
    #[arg(long, default_value = STDOUT, value_name = "FILE")]
    output: PathBuf,
}

/// Options of `diario log import`.
#[derive(Debug, Args)]
pub struct ImportOptions {
    #[command(flatten)]
    storage: StorageOptions,
    /// The export, in either form.
    file: PathBuf,
}

pub(super) const EXPORT_EXAMPLES: &str = "Examples:\n  \
    diario log export --output log.ndjson\n  \
    diario log export --format compact --output log.diario --from @1000\n  \
    diario log export --database-url postgres://db/diario | head\n\n\
    Works beside a running node, and changes nothing. Secrets stay sealed: the keys are not in it.";

pub(super) const IMPORT_EXAMPLES: &str = "Examples:\n  \
    diario log import log.ndjson --data-dir /var/lib/diario-new\n  \
    diario log import log.diario --database-url postgres://db/diario\n\n\
    Into an empty log, or one that the file continues; no node may run on it. Positions and hashes \
    stay the same. The file is read through before anything is written. Only the log is taken: \
    keys and evidence come with `diario backup` and `diario restore`.";

/// Where an export comes from, as its header tells.
pub(super) async fn origin(endpoint: &Endpoint) -> Result<Origin, Error> {
    let log_id = endpoint.store.log_id().await.map_err(transfer::Error::Store)?;
    let floor = match &endpoint.archive {
        Some(archive) => archive.manifest().begin(),
        None => {
            let floor = endpoint.hot.floor().await.map_err(transfer::Error::Store)?;
            (floor.position, floor.link)
        }
    };
    let program_version = env!("CARGO_PKG_VERSION").to_owned();
    let created_at = Clock::default().now();
    Ok(Origin { log_id, program_version, created_at, floor })
}

/// An open log to read from, with the archive that holds its older part where it has one.
pub(super) async fn source(storage: &Storage, place: &PlaceOptions) -> Result<Endpoint, Error> {
    let mut endpoint = Endpoint::of(storage);
    let (hot, tables) = (Arc::clone(&endpoint.store), Arc::clone(&endpoint.hot));
    let joined = archive::join(hot, tables, place.named(), Purpose::Read).await?;
    (endpoint.store, endpoint.archive) = joined;
    Ok(endpoint)
}

pub(super) async fn export(options: ExportOptions, answer: &Answer) -> Result<(), Error> {
    let open = options.storage.open_to_read().await?;
    let endpoint = source(&open.storage, &options.place).await?;
    let origin = origin(&endpoint).await?;
    let head = endpoint.store.head().await.map_err(transfer::Error::Store)?.position;
    let range = Range { from: options.from, to: options.to };
    let format = match options.format {
        ExportFormat::Ndjson => Format::Ndjson,
        ExportFormat::Compact => Format::Compact,
    };
    let last = range.to.unwrap_or(head).0.min(head.0);
    let bar = EventsBar::new("export", last.saturating_sub(range.from.map_or(0, |from| from.0)));
    let progress = |events| bar.at(events);
    let path = options.output.as_path();
    let store = endpoint.store.as_ref();
    if path == Path::new(STDOUT) {
        let into = BufWriter::with_capacity(1 << 16, io::stdout());
        let written = transfer::export(store, origin, range, format, (path, into), &progress).await;
        open.storage.close().await;
        // Who reads may have seen enough.
        return match written {
            Err(transfer::Error::Write { source, .. }) => Err(Error::Output(source)),
            written => Ok(written.map(drop)?),
        };
    }
    let failed = |source| transfer::Error::Write { path: path.to_owned(), source };
    let mut file = NewFile::create(path).map_err(failed)?;
    let (header, end) =
        transfer::export(store, origin, range, format, (path, &mut file), &progress).await?;
    file.commit().map_err(failed)?;
    open.storage.close().await;
    drop(bar);
    let shown = path.display();
    let told = json!({ "file": shown.to_string(), "export": export_told(&header, &end) });
    answer.show(&told, || {
        let Header { first, last, .. } = header;
        let End { events, batches, .. } = end;
        vec![
            format!("{shown} holds @{first} to @{last}: {events} events in {batches} batches"),
            format!("link   {}", end.link),
            format!("log    {}", header.log_id),
            format!("Take it in elsewhere with: diario log import {shown} --data-dir FOLDER"),
        ]
    })
}

pub(super) fn export_told(header: &Header, end: &End) -> Value {
    json!({
        "logId": header.log_id.to_string(),
        "incarnation": header.incarnation.0.to_string(),
        "first": header.first,
        "last": header.last,
        "events": end.events,
        "batches": end.batches,
        "link": end.link.to_string(),
    })
}

pub(super) async fn import(options: ImportOptions, answer: &Answer) -> Result<(), Error> {
    // Before a database is made for it.
    let events = transfer::Export::open(&options.file)?.header().events();
    let open = options.storage.open_or_make().await?;
    let endpoint = Endpoint::of(&open.storage);
    let bar = EventsBar::new("import", events);
    let progress = |events| bar.at(events);
    let (log, store) = (endpoint.log.as_ref(), endpoint.store.as_ref());
    let done = transfer::import(&options.file, log, store, &progress).await;
    open.storage.close().await;
    drop(bar);
    let done = done?;
    let told = json!({
        "file": options.file.display().to_string(),
        "export": export_told(&done.header, &done.end),
        "written": done.written,
        "head": done.head.position,
        "link": hex::encode(done.head.link),
        "incarnation": done.head.incarnation.0.to_string(),
    });
    answer.show(&told, || {
        let there = done.end.events.saturating_sub(done.written);
        vec![
            format!("took in {} events ({there} were there)", done.written),
            format!("the log ends at @{} now, with the file's link", done.head.position),
            format!("link   {}", hex::encode(done.head.link)),
            format!("log    {}", done.header.log_id),
            "Secrets need the keys of where it came from: `diario backup` has them.".to_owned(),
        ]
    })
}
