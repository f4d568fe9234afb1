//! The large log that several rows look at: made once, on SQLite, with the snapshots that the
//! product takes while such a log grows.

use std::sync::Arc;

use domain::{
    log::Position,
    workload::{Shape, Workload},
};
use projections::{
    event_store::{Batch, BatchId, Head, NewEvent, sqlite},
    history,
    storage::Location,
};

use super::{
    Effort, Error,
    measure::Report,
    place::{self, Place},
};
use crate::{
    clock::{self, Stopwatch},
    output,
};

/// How many events are written together when a large log is made.
pub(super) const WRITE_EVENTS: u64 = 4000;

impl Place {
    /// A SQLite log of the largest size, with the snapshots of its growth; made once.
    pub(super) async fn large_log(
        &self,
        report: &Report,
        effort: Effort,
    ) -> Result<&Location, Error> {
        if let Some(location) = self.large.get() {
            return Ok(location);
        }
        let [_, _, events] = effort.events;
        report.progress(format!("a log of {events} events on SQLite, made once"));
        let location = self.new_sqlite()?;
        let started = Stopwatch::start();
        fill_sqlite(&location, events, effort).await?;
        output::progress(format!("    made in {} s", started.elapsed().as_secs()));
        let storage = place::open(&location).await?;
        let snapshots = Arc::clone(&storage.snapshots);
        history::take_as_it_grew(storage.store.as_ref(), snapshots, Position(events)).await?;
        storage.close().await;
        output::progress(format!("    with its snapshots in {} s", started.elapsed().as_secs()));
        Ok(self.large.get_or_init(|| location))
    }
}

/// Writes the first events of a workload to a new SQLite log, not one append after the other.
pub(super) async fn fill_sqlite(
    location: &Location,
    events: u64,
    effort: Effort,
) -> Result<(), Error> {
    let Location::Sqlite { file } = location else {
        return Err(Error::Unexpected("only SQLite is filled at once".to_owned()));
    };
    let storage = place::open(location).await?;
    let head = storage.store.head().await?;
    storage.close().await;
    let batches = batches(head, events, effort);
    tokio::task::block_in_place(|| sqlite::fill(file, head, batches))?;
    Ok(())
}

/// The first events of a workload as batches behind a head.
pub(super) fn batches(head: Head, events: u64, effort: Effort) -> impl Iterator<Item = Batch> {
    let lrps = u32::try_from(events / effort.events_per_lrp).unwrap_or(u32::MAX);
    let [count, together] =
        [events, WRITE_EVENTS].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    let mut workload = Workload::new(Shape { seed: 1, lrps }).take(count);
    let mut decided_on = head.position;
    std::iter::from_fn(move || {
        let recorded: Vec<_> = workload.by_ref().take(together).collect();
        let recorded_at = recorded.last()?.recorded_at;
        let events = recorded.into_iter().map(|recorded| NewEvent {
            stream: recorded.stream,
            event: recorded.event.into(),
            actor: recorded.actor,
            command_id: recorded.command_id,
            causation: recorded.causation,
            correlation: recorded.correlation,
        });
        let events: Vec<NewEvent> = events.collect();
        let end = Position(decided_on.0 + u64::try_from(events.len()).unwrap_or(u64::MAX));
        let id = BatchId(clock::new_uuid());
        let decided_on = std::mem::replace(&mut decided_on, end);
        Some(Batch { id, decided_on, recorded_at, lease: None, events })
    })
}
