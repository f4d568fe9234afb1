//! The archived part of a log: its bytes, its replay into all views, and its proof, on one core.
//!
//! The large log's events are moved as `diario archive run` moves them; the database keeps its
//! last batch only, so the rows that need it whole come first.

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::log::Position;
use projections::{
    archive::{self, Archive, ArchiveSource, ArchivedStore, Place as ArchivePlace, Policy},
    event_store::EventStore,
    history,
    snapshot::MemorySnapshotStore,
    storage::Location,
    verify,
};

use super::{
    Effort, Error,
    measure::{self, Goal, Report, Round, Row},
    place::{self, OpenLog, Place},
    replay::on_one_core,
};
use crate::{clock::Stopwatch, output};

/// A run that took longer than this is not repeated.
const REPEAT_BELOW: Duration = Duration::from_secs(20);

/// The log and the folder of its archive.
#[derive(Debug, Clone)]
struct Archived {
    location: Location,
    folder: PathBuf,
    /// The last event that lies in the archive.
    until: Position,
}

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    let names = ["bytes/archive", "replay/archive", "verify/archive"];
    if !names.iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let location = place.large_log(report, effort).await?.clone();
    report.progress("the large log moves to an archive");
    let folder = place.path().join(place.new_name());
    let storage = place::open(&location).await?;
    let moved = move_all(&storage, &folder).await?;
    storage.close().await;
    let row = Row {
        name: "bytes/archive",
        size: format!("events={}", moved.events),
        unit: "bytes/event",
        goal: Goal::AtMost(120.0),
    };
    report.add(row, &[Round { ours: each(moved.bytes, moved.events), peer: None }]);
    let archived = Archived { location, folder, until: moved.floor };
    for name in ["replay/archive", "verify/archive"] {
        if report.wants(name) {
            rate(report, name, &archived, effort).await?;
        }
    }
    Ok(())
}

async fn move_all(storage: &OpenLog, folder: &std::path::Path) -> Result<archive::Moved, Error> {
    let tables = storage.tables.as_ref();
    let place = ArchivePlace::create(&folder.display().to_string(), None)?;
    let archive = Archive::of_log(place, tables.identity().await?).await?;
    let policy = Policy {
        keep_events: 1,
        before: None,
        segment_events: archive::SEGMENT_EVENTS,
        short_segments: archive::ShortSegments::Write,
    };
    Ok(archive::run(Arc::clone(&storage.store), tables, &archive, policy).await?)
}

fn open_place(folder: &std::path::Path) -> Result<ArchivePlace, Error> {
    Ok(ArchivePlace::open(&folder.display().to_string(), None)?)
}

async fn rate(
    report: &mut Report,
    name: &'static str,
    archived: &Archived,
    effort: Effort,
) -> Result<(), Error> {
    let is_replay = name == "replay/archive";
    let sizes: Vec<u64> =
        effort.events.iter().map(|events| (*events).min(archived.until.0)).collect();
    for events in sizes {
        report.progress(format!("{name}: {events} events"));
        let mut figures = Vec::new();
        for _ in 0..effort.rounds {
            let (archived, to) = (archived.clone(), Position(events));
            let (done, elapsed) = on_one_core(move || async move {
                if is_replay { replay(&archived, to).await } else { prove(&archived, to).await }
            })
            .await?;
            figures.push(Round { ours: measure::per_second(done, elapsed), peer: None });
            if elapsed > REPEAT_BELOW {
                output::progress("    it takes long, and runs once");
                break;
            }
        }
        let goal = Goal::AtLeast(if is_replay { 400_000.0 } else { 500_000.0 });
        report
            .add(Row { name, size: format!("events={events}"), unit: "events/s", goal }, &figures);
    }
    Ok(())
}

async fn replay(archived: &Archived, to: Position) -> Result<(u64, Duration), Error> {
    let storage = place::open(&archived.location).await?;
    let archive = Archive::open(open_place(&archived.folder)?).await?;
    let store: Arc<dyn EventStore> = Arc::new(ArchivedStore::new(
        Arc::clone(&storage.store),
        Arc::clone(&storage.tables),
        Arc::new(archive),
    ));
    let started = Stopwatch::start();
    let loaded = history::load(store.as_ref(), &MemorySnapshotStore::default(), to).await?;
    let elapsed = started.elapsed();
    storage.close().await;
    Ok((loaded.world.position().0, elapsed))
}

async fn prove(archived: &Archived, to: Position) -> Result<(u64, Duration), Error> {
    let archive = Arc::new(Archive::open(open_place(&archived.folder)?).await?);
    let started = Stopwatch::start();
    let mut source = ArchiveSource::new(archive, Position(1), to);
    let (position, link) = source.begin();
    let trust = verify::Trust { position, link, ..verify::Trust::default() };
    let report = verify::run(&mut source, trust, &|_| {}).await?;
    let elapsed = started.elapsed();
    match report.fault {
        None => Ok((report.events(), elapsed)),
        Some(fault) => Err(Error::Unexpected(format!("the archive does not verify: {fault}"))),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure of a bench")]
fn each(bytes: u64, events: u64) -> f64 {
    bytes as f64 / events.max(1) as f64
}
