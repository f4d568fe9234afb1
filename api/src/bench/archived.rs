//! The archived part of a log: its bytes, its replay into all views, and its proof, on one core.
//!
//! A log of a tenth of the large one's size is archived as `diario archive run` does it, but stays
//! in the database, which is told to have given it up: to delete it takes longer than it tells.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use domain::log::Position;
use projections::{
    archive::{self, Archive, ArchiveSource, ArchivedStore, Place as ArchivePlace, Policy},
    checkpoint::Checkpoint,
    event_store::{
        self, EventStore, Floor, Head, HotLog, LogId, LogIdentity, StreamRow, chain::Fault,
    },
    history,
    snapshot::MemorySnapshotStore,
    storage::Location,
    verify,
};

use super::{
    Effort, Error, large,
    measure::{self, Goal, Report, Round, Row},
    place::{self, OpenLog, Place},
    replay::on_one_core,
};
use crate::{clock::Stopwatch, output};

/// How much smaller the archive is than the large log.
const ONE_IN: u64 = 10;
/// A run that took longer than this is not repeated.
const REPEAT_BELOW: Duration = Duration::from_secs(20);

/// The log and the folder of its archive.
#[derive(Debug, Clone)]
struct Archived {
    location: Location,
    folder: PathBuf,
    /// Behind the last event that lies in the archive.
    floor: Floor,
}

/// The tables of a log whose floor rises though nothing is deleted.
#[derive(Debug)]
struct Kept {
    tables: Arc<dyn HotLog>,
    floor: Mutex<Floor>,
}

impl Kept {
    fn new(tables: &Arc<dyn HotLog>, floor: Floor) -> Self {
        Self { tables: Arc::clone(tables), floor: Mutex::new(floor) }
    }
}

#[async_trait]
impl HotLog for Kept {
    async fn identity(&self) -> Result<LogIdentity, event_store::Error> {
        self.tables.identity().await
    }

    async fn floor(&self) -> Result<Floor, event_store::Error> {
        Ok(self.floor.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn trim(&self, floor: Floor) -> Result<(), event_store::Error> {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner) = floor;
        Ok(())
    }

    async fn checkpoints(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, event_store::Error> {
        self.tables.checkpoints(after, limit).await
    }

    async fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), event_store::Error> {
        self.tables.save_checkpoint(checkpoint).await
    }

    async fn streams(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StreamRow>, event_store::Error> {
        self.tables.streams(after, limit).await
    }

    async fn begin_behind(&self, log_id: LogId, floor: Floor) -> Result<Head, event_store::Error> {
        self.tables.begin_behind(log_id, floor).await
    }

    async fn add_streams(&self, streams: Vec<StreamRow>) -> Result<(), event_store::Error> {
        self.tables.add_streams(streams).await
    }

    async fn misfit(&self) -> Result<Option<Fault>, event_store::Error> {
        self.tables.misfit().await
    }
}

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    let names = ["bytes/archive", "replay/archive", "verify/archive"];
    if !names.iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    // The last batch stays.
    let events = effort.events[1].max(2 * large::WRITE_EVENTS);
    report.progress(format!("a log of {events} events on SQLite is made and archived"));
    let location = place.new_sqlite()?;
    large::fill_sqlite(&location, events, effort).await?;
    let folder = place.path().join(place.new_name());
    let storage = place::open(&location).await?;
    let tables = Kept::new(&storage.tables, Floor::none());
    let moved = archive_all(&storage, &tables, &folder).await?;
    let floor = tables.floor().await?;
    storage.close().await;
    let row = Row {
        name: "bytes/archive",
        size: format!("events={}", moved.events),
        unit: "bytes/event",
        goal: Goal::AtMost(120.0),
    };
    report.add(row, &[Round { ours: each(moved.bytes, moved.events), peer: None }]);
    let archived = Archived { location, folder, floor };
    for name in ["replay/archive", "verify/archive"] {
        if report.wants(name) {
            rate(report, name, &archived, effort).await?;
        }
    }
    Ok(())
}

/// All whole batches but the last, which always stays.
async fn archive_all(
    storage: &OpenLog,
    tables: &Kept,
    folder: &std::path::Path,
) -> Result<archive::Moved, Error> {
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
    let sizes = effort.events.map(|events| (events / ONE_IN).min(archived.floor.position.0));
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
        Arc::new(Kept::new(&storage.tables, archived.floor.clone())),
        Arc::new(archive),
    ));
    let started = Stopwatch::start();
    let loaded = history::load(store.as_ref(), &MemorySnapshotStore::default(), to).await?;
    let world = loaded.world;
    world.fill_views();
    let elapsed = started.elapsed();
    storage.close().await;
    Ok((world.position().0, elapsed))
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
