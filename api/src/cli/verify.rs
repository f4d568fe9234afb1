//! `diario verify`: proves a log in its database and archive, an export, a backup or a segment,
//! without writing anything and without the control plane.

use std::{
    collections::BTreeSet,
    fs,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use domain::log::Position;
use indicatif::{ProgressBar, ProgressStyle};
use projections::{
    archive::{self, Archive, Place, SEGMENT_MAGIC, SegmentSource},
    backup::{self, Manifest},
    checkpoint::{self, Checkpoint, CheckpointKey, KEY_FILE, PublicKey, last::LastFile},
    data_dir::keys_folder,
    event_store,
    transfer::{self, Fault},
    verify::{self, Live, LogOptions, Report, Trust},
};
use serde_json::json;

use super::{
    Error, Outcome, Print,
    instant::parse_position,
    storage::{self, StorageOptions},
};

pub(super) const EXAMPLES: &str = "Examples:\n  \
    diario verify --data-dir /var/lib/diario\n  \
    diario verify --database-url postgres://diario@db/diario --archive s3://logs/diario\n  \
    diario verify log.ndjson --from @1000 --to @2000\n  \
    diario verify /backups/monday --public-key 7d1c...\n\n\
    Reads only, also while nodes run. Exits with 1 when something is wrong, and says where.\n\
    An export holds no signature: whoever can write it can also write it anew. A backup holds the \
    log's checkpoints; compare their key, or name it with --public-key.";

/// What is checked.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    archive: super::archive::PlaceOptions,
    /// Begin with the batch that holds this position.
    #[arg(long, value_parser = parse_position)]
    from: Option<Position>,
    /// End with the batch that holds this position.
    #[arg(long, value_parser = parse_position)]
    to: Option<Position>,
    /// A key that may have signed the checkpoints; more by repeating it. By default the one of the
    /// data folder, and without that, or for a file or folder, whatever keys they name.
    #[arg(long)]
    public_key: Vec<PublicKey>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// What to check instead of the log: an export in either form, a backup's folder, or an
    /// archive's or one of its segments.
    #[arg(value_name = "FILE|FOLDER")]
    path: Option<PathBuf>,
}

pub(super) async fn run(options: Options, print: &Print) -> Result<Outcome, Error> {
    let checked = match &options.path {
        Some(folder) if folder.join(archive::MANIFEST).exists() => {
            of_archive(folder, &options).await
        }
        Some(folder) if folder.is_dir() => of_backup(folder, &options),
        Some(file) if is_segment(file)? => of_segment(file).await,
        Some(file) => of_export(file, &options),
        None => of_log(&options).await,
    };
    let (told, is_whole) = match checked {
        Ok(report) => (tell(&report, options.json), report.fault.is_none()),
        // What cannot even be read because it was damaged is as wrong as what differs.
        Err(failure) => match damage(&failure) {
            Some(problem) => (tell_damage(&problem, options.json), false),
            None => return Err(failure),
        },
    };
    print(&told).map_err(Error::Output)?;
    Ok(if is_whole { Outcome::Done } else { Outcome::Failed })
}

async fn of_log(options: &Options) -> Result<Report, Error> {
    // Read first: a node that signs meanwhile keeps its checkpoint before it remembers it.
    let last_file = LastFile::in_folder(&keys_folder(&options.storage.data_dir));
    let last = last_file.read().map_err(checkpoint::Error::from)?;
    let open = options.storage.open_to_read().await?;
    let storage = &open.storage;
    let log = storage.tables.identity().await?;
    if let Some(last) = &last {
        last_file.check_log_id(last, log).map_err(checkpoint::Error::from)?;
    }
    let (store, archive) = archive::join(
        Arc::clone(&storage.store),
        Arc::clone(&storage.tables),
        options.archive.named(),
        archive::Purpose::Read,
    )
    .await?;
    let live = Live { store, tables: Arc::clone(&storage.tables), archive };
    let what = what(options, trusted(options), last.map(|last| last.checkpoint));
    let head = storage.store.head().await?.position;
    let bar = progress_bar(options.to.map_or(head, |to| to.min(head)));
    let report = verify::log(&live, &what, &|position| bar.set_position(position.0)).await;
    bar.finish_and_clear();
    storage.close().await;
    Ok(report?)
}

fn what(options: &Options, keys: BTreeSet<PublicKey>, last: Option<Checkpoint>) -> LogOptions {
    LogOptions { from: options.from, to: options.to, keys, last }
}

/// The keys that may have signed; a data folder without a key names none.
fn trusted(options: &Options) -> BTreeSet<PublicKey> {
    let own = || {
        let path = keys_folder(&options.storage.data_dir).join(KEY_FILE);
        CheckpointKey::open(&path).ok().map(|key| key.public_key())
    };
    if options.public_key.is_empty() { own().into_iter().collect() } else { named(options) }
}

fn named(options: &Options) -> BTreeSet<PublicKey> {
    options.public_key.iter().copied().collect()
}

fn of_export(file: &Path, options: &Options) -> Result<Report, Error> {
    let what = what(options, named(options), None);
    let end = transfer::Export::open(file)?.header().last;
    let bar = progress_bar(options.to.map_or(end, |to| to.min(end)));
    let checked = verify::export(file, &what, Trust::default(), &|at| bar.set_position(at.0));
    bar.finish_and_clear();
    Ok(checked?.1)
}

fn of_backup(folder: &Path, options: &Options) -> Result<Report, Error> {
    let what = what(options, named(options), None);
    let end = Manifest::read(folder)?.position;
    let bar = progress_bar(options.to.map_or(end, |to| to.min(end)));
    let checked = verify::backup(folder, &what, &|at| bar.set_position(at.0));
    bar.finish_and_clear();
    Ok(checked?.1)
}

async fn of_archive(folder: &Path, options: &Options) -> Result<Report, Error> {
    let what = what(options, named(options), None);
    let place = Place::open(&folder.display().to_string(), None)?;
    let archive = Arc::new(Archive::open(place).await?);
    let end = archive.manifest().end().0;
    let bar = progress_bar(options.to.map_or(end, |to| to.min(end)));
    let checked = verify::archive(archive, &what, &|at| bar.set_position(at.0)).await;
    bar.finish_and_clear();
    Ok(checked?)
}

/// Whether a file begins as a segment does.
fn is_segment(file: &Path) -> Result<bool, Error> {
    let failed = |source| Error::ReadFile { path: file.to_owned(), source };
    let mut start = Vec::new();
    let opened = fs::File::open(file).map_err(failed)?;
    opened
        .take(u64::try_from(SEGMENT_MAGIC.len()).unwrap_or(u64::MAX))
        .read_to_end(&mut start)
        .map_err(failed)?;
    Ok(start == SEGMENT_MAGIC)
}

async fn of_segment(file: &Path) -> Result<Report, Error> {
    let bytes =
        fs::read(file).map_err(|source| Error::ReadFile { path: file.to_owned(), source })?;
    let mut source = SegmentSource::open(&file.display().to_string(), bytes)?;
    let (position, link) = source.begin();
    let bar = progress_bar(verify::Source::end(&source));
    let trust = Trust { position, link, ..Trust::default() };
    let report = verify::run(&mut source, trust, &|at| bar.set_position(at.0)).await;
    bar.finish_and_clear();
    Ok(report?)
}

fn progress_bar(end: Position) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left");
    let bar = ProgressBar::new(end.0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn tell(report: &Report, is_json: bool) -> String {
    let keys: Vec<String> = report.keys.iter().map(ToString::to_string).collect();
    if is_json {
        let place = report.place.map(|place| place.to_string());
        let wrong = report.fault.as_ref().map(
            |it| json!({ "position": it.position.0, "place": place, "problem": it.to_string() }),
        );
        return json!({
            "ok": report.fault.is_none(),
            "first": report.after.next().0,
            "last": report.last.0,
            "events": report.events(),
            "batches": report.batches,
            "link": hex::encode(report.link),
            "checkpoints": report.checkpoints,
            "signed": report.signed.0,
            "publicKeys": keys,
            "fault": wrong,
        })
        .to_string();
    }
    let place = report.place.map(|place| format!(" ({place})")).unwrap_or_default();
    match &report.fault {
        Some(fault) => format!(
            "WRONG at position {}{place}: {fault}; what is before it holds (from position {} on)",
            fault.position,
            report.after.next()
        ),
        None => format!(
            "ok: {} events in {} batches, positions {} to {}; {} checkpoints agree{}",
            report.events(),
            report.batches,
            report.after.next(),
            report.last,
            report.checkpoints,
            if keys.is_empty() {
                String::new()
            } else {
                format!(", signed up to {} by {}", report.signed, keys.join(", "))
            }
        ),
    }
}

/// Damage is a result; anything else, such as a place that cannot be reached, is an error.
fn damage(failure: &Error) -> Option<String> {
    if let Error::Transfer(problem) | Error::Backup(backup::Error::Transfer(problem)) = failure {
        return file_damage(problem);
    }
    if let Error::Backup(problem) = failure {
        return problem.is_damage().then(|| problem.to_string());
    }
    if let Error::Archive(problem) = failure {
        return problem.is_damage().then(|| problem.to_string());
    }
    let problem = if let Error::Log(problem) = failure {
        problem
    } else if let Error::Storage(storage::Error::Store(problem)) = failure {
        problem
    } else {
        return None;
    };
    if let event_store::Error::Archive(problem) = problem {
        return problem.is_damage().then(|| problem.to_string());
    }
    let is_damage = matches!(
        problem,
        event_store::Error::Damaged { .. } | event_store::Error::TailDamaged { .. }
    );
    is_damage.then(|| problem.to_string())
}

/// An export of which not even the header can be read; something else than an export is no damage.
fn file_damage(problem: &transfer::Error) -> Option<String> {
    let transfer::Error::File { fault, .. } = problem else { return None };
    let is_damage = matches!(**fault, Fault::CutOff | Fault::Malformed { .. });
    is_damage.then(|| format!("{problem}: {fault}"))
}

fn tell_damage(problem: &str, is_json: bool) -> String {
    if is_json {
        let fault = json!({ "position": null, "problem": problem });
        return json!({ "ok": false, "fault": fault }).to_string();
    }
    format!("WRONG: {problem}")
}
