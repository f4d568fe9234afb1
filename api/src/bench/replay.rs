//! Replay into all views, on one core: a fold of the log from its first event, without snapshots,
//! until every view is filled.

use std::time::Duration;

use domain::log::Position;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use projections::{
    event_store::EventStore, history, snapshot::MemorySnapshotStore, storage::Location,
};

use super::{
    Effort, Error, large,
    measure::{self, Goal, Report, Round, Row},
    place::{self, Place},
};
use crate::clock::Stopwatch;

/// How much smaller the log on Postgres is: a larger one takes longer to make than it tells.
const POSTGRES_ONE_IN: u64 = 10;
/// A replay that took longer than this is not repeated.
const REPEAT_BELOW: Duration = Duration::from_secs(10);

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    if report.wants("replay/sqlite") {
        let large = place.large_log(report, effort).await?.clone();
        replay(report, "replay/sqlite", &large, &effort.events, 200_000.0, effort).await?;
    }
    if report.wants("replay/postgres") {
        let events = effort.events.map(|events| events / POSTGRES_ONE_IN);
        let (location, _) = place.new_postgres()?;
        let last = events.last().copied().unwrap_or_default();
        report.progress(format!("a log of {last} events on Postgres"));
        let storage = place::open(&location).await?;
        fill(storage.store.as_ref(), last, effort).await?;
        storage.close().await;
        replay(report, "replay/postgres", &location, &events, 120_000.0, effort).await?;
    }
    Ok(())
}

/// Appends the first events of a workload to an empty log.
pub(super) async fn fill(store: &dyn EventStore, events: u64, effort: Effort) -> Result<(), Error> {
    for batch in large::batches(store.head().await?, events, effort) {
        store.append(batch).await?;
    }
    Ok(())
}

async fn replay(
    report: &mut Report,
    name: &'static str,
    location: &Location,
    sizes: &[u64],
    goal: f64,
    effort: Effort,
) -> Result<(), Error> {
    for events in sizes {
        report.progress(format!("{name}: {events} events"));
        let mut figures = Vec::new();
        for _ in 0..effort.rounds {
            let (location, to) = (location.clone(), Position(*events));
            let elapsed = on_one_core(move || async move { fold(&location, to).await }).await?;
            let ours = measure::per_second(*events, elapsed);
            figures.push(Round { ours, peer: None });
            if elapsed > REPEAT_BELOW {
                report.progress("which takes long, so it runs once");
                break;
            }
        }
        let size = format!("events={events}");
        let row = Row { name, size, unit: "events/s", goal: Goal::AtLeast(goal) };
        report.add(row, &figures);
    }
    Ok(())
}

/// Folds a log up to a position into a world with all its views.
async fn fold(location: &Location, to: Position) -> Result<Duration, Error> {
    let storage = place::open(location).await?;
    let started = Stopwatch::start();
    let snapshots = MemorySnapshotStore::default();
    let loaded = history::load(storage.store.as_ref(), &snapshots, to).await?;
    let world = loaded.world;
    world.fill_views();
    let elapsed = started.elapsed();
    if world.position() != to {
        return Err(Error::Unexpected(format!("the fold ended before position {to}")));
    }
    storage.close().await;
    Ok(elapsed)
}

/// Runs something on a thread of its own, which stays on one core with all that it starts.
pub(super) async fn on_one_core<T, W, F>(work: W) -> Result<T, Error>
where
    T: Send + 'static,
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T, Error>>,
{
    let (done, result) = tokio::sync::oneshot::channel();
    let run = move || -> Result<T, Error> {
        pin_to_one_core()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Io { what: "start a runtime", source })?;
        runtime.block_on(work())
    };
    let thread = std::thread::Builder::new().name("bench on one core".to_owned());
    thread
        .spawn(move || {
            // Whoever asked may have been interrupted.
            done.send(run()).ok();
        })
        .map_err(|source| Error::Io { what: "start a thread", source })?;
    result.await.map_err(|_| Error::Unexpected("a thread of the bench has panicked".to_owned()))?
}

/// Threads that are started from here on inherit it.
fn pin_to_one_core() -> Result<(), Error> {
    let failed = |errno: nix::Error| Error::Io { what: "choose a core", source: errno.into() };
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread).map_err(failed)?;
    // The last one: interrupts mostly go to the first.
    let last = (0..CpuSet::count()).rev().find(|core| allowed.is_set(*core).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.unwrap_or_default()).map_err(failed)?;
    sched_setaffinity(this_thread, &one).map_err(failed)
}
