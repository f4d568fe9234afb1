//! By what events are found: their owner, command, type and batch, and the last versions of
//! streams. Written behind the log, many at a time; what is not written yet is remembered here.
//!
//! A tree with an entry for each event would be changed in another page for each. Here the newest
//! events are found in memory ([`segment`]); once there are many, they become one sorted run in the
//! database ([`run`], written by [`indexer`]), beside the appends and in pieces between them. All
//! of it follows from the log: what was not written when a process ended is read from the log again.

mod check;
mod filter;
mod indexer;
mod postings;
mod run;
mod segment;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::log::{Position, StreamVersion};
use rusqlite::Connection;

use super::{
    super::{BatchRow, Leaf, NewestOfType, Row, StreamRow},
    packed_batch::PackedBatch,
    reader::Failure,
    rows, statements,
};
use run::Run;
use segment::{Last, Newest, Segment};

pub(super) use check::check;
pub(super) use indexer::{BulkRuns, Indexer};
pub(super) use segment::Kind;

/// How many events a run is made of: enough that a run is written in long stretches of pages, few
/// enough to be read again at each start.
pub const RUN_EVENTS: u64 = 1 << 16;

/// How many runs may wait in memory to be written.
const RUNS_IN_MEMORY: u64 = 4;

/// A batch as it was written.
pub(super) type Written = (BatchRow, Vec<(Row, Leaf)>);

/// What is remembered of one database: a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Lookups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    run_events: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The last position that the finished runs lead to.
    indexed: Position,
    runs: Arc<Vec<Arc<Run>>>,
    /// What is being written as the next run.
    frozen: Option<Arc<Segment>>,
    /// What came later.
    recent: Segment,
}

/// Where the events with a hash are.
#[derive(Debug)]
pub(super) struct Found {
    runs: Arc<Vec<Arc<Run>>>,
    /// Behind the last run, in order.
    recent: Vec<u64>,
}

/// A stretch of the log in which positions are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stretch {
    /// A finished run with its last position.
    Run(Position),
    /// What is behind the runs.
    Recent,
}

impl Found {
    /// The stretches with positions behind `after` and up to `until`, in order.
    pub(super) fn stretches(&self, after: Position, until: Position) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut before = Position(0);
        for run in self.runs.iter() {
            if run.last > after && before < until {
                stretches.push(Stretch::Run(run.last));
            }
            before = run.last;
        }
        if before < until {
            stretches.push(Stretch::Recent);
        }
        stretches
    }

    /// The positions of hashes in a stretch, in order.
    pub(super) fn positions(
        &self,
        connection: &Connection,
        stretch: Stretch,
        kind: Kind,
        hashes: &[i64],
    ) -> Result<Vec<u64>, Failure> {
        let Stretch::Run(run) = stretch else { return Ok(self.recent.clone()) };
        let mut positions = Vec::new();
        for hash in hashes {
            positions.extend(run::positions(connection, run, kind, *hash)?);
        }
        positions.sort_unstable();
        Ok(positions)
    }
}

impl Lookups {
    pub(super) fn new(run_events: u64) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), run_events: run_events.max(1) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered, brought to where the log ends in this look at the database.
    fn agreed(&self, connection: &Connection) -> Result<MutexGuard<'_, State>, Failure> {
        let end = statements::head(connection)?.position;
        let newest = run::newest(connection)?;
        let mut state = self.state();
        if state.indexed > newest {
            return Err(Failure::Outdated);
        }
        if state.indexed < newest {
            let runs = run::behind(connection, state.indexed)?;
            state.take(runs, newest);
        }
        if state.recent.last < end {
            read_into(&mut state.recent, connection, end, u64::MAX)?;
            state.recent.last = end;
        }
        Ok(state)
    }

    /// As [`Lookups::agreed`], for what comes next.
    pub(super) fn catch_up(&self, connection: &Connection) -> Result<(), Failure> {
        self.agreed(connection).map(drop)
    }

    /// Where the events with any of some hashes are.
    pub(super) fn find(
        &self,
        connection: &Connection,
        kind: Kind,
        hashes: &[i64],
    ) -> Result<Found, Failure> {
        let state = self.agreed(connection)?;
        Ok(Found { runs: Arc::clone(&state.runs), recent: state.recent_positions(kind, hashes) })
    }

    /// The positions of each of some commands' events.
    pub(super) fn find_commands(
        &self,
        connection: &Connection,
        hashes: &[i64],
    ) -> Result<Vec<Vec<u64>>, Failure> {
        let (runs, mut found) = {
            let state = self.agreed(connection)?;
            let recent = |hash: &i64| state.recent_positions(Kind::Command, &[*hash]);
            (Arc::clone(&state.runs), hashes.iter().map(recent).collect::<Vec<_>>())
        };
        for (hash, positions) in hashes.iter().zip(&mut found) {
            for run in runs.iter().filter(|run| run.filter.may_hold(*hash)) {
                positions.extend(run::positions(connection, run.last, Kind::Command, *hash)?);
            }
            positions.sort_unstable();
        }
        Ok(found)
    }

    /// The last versions of streams; a new one is left out.
    pub(super) fn versions<'a>(
        &self,
        connection: &Connection,
        streams: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<&'a str, StreamVersion>, Failure> {
        let state = self.agreed(connection)?;
        let mut versions = BTreeMap::new();
        for stream in streams {
            if versions.contains_key(stream) {
                continue;
            }
            let version = match state.last_of(stream) {
                Some(last) => Some(last.version),
                None => statements::version(connection, stream)?,
            };
            versions.extend(version.map(|version| (stream, version)));
        }
        Ok(versions)
    }

    /// The streams behind a text, in its order.
    pub(super) fn streams(
        &self,
        connection: &Connection,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StreamRow>, Failure> {
        let state = self.agreed(connection)?;
        let kept = statements::streams(connection, after, limit)?;
        // Behind the last one of a full page others follow in the database.
        let end = kept.last().filter(|_| kept.len() >= limit).map(|row| row.stream.clone());
        let mut rows: BTreeMap<String, StreamRow> =
            kept.into_iter().map(|row| (row.stream.clone(), row)).collect();
        let is_within =
            |stream: &str| stream > after && end.as_deref().is_none_or(|it| stream <= it);
        for segment in state.segments() {
            for (stream, last) in segment.streams.iter().filter(|(it, _)| is_within(it.as_str())) {
                let (version, last_position) = (last.version, last.position);
                let row = StreamRow { stream: stream.clone(), version, last_position };
                // What is being written may be in the database before its run is finished.
                if rows.get(stream).is_none_or(|kept| kept.version <= version) {
                    rows.insert(stream.clone(), row);
                }
            }
        }
        Ok(rows.into_values().take(limit).collect())
    }

    /// The newest event of each type.
    pub(super) fn newest_types(
        &self,
        connection: &Connection,
    ) -> Result<Vec<NewestOfType>, Failure> {
        let state = self.agreed(connection)?;
        let mut types = newest_types_of_runs(connection)?;
        for segment in state.segments() {
            types.extend(segment.types.iter().map(|(name, newest)| (name.clone(), *newest)));
        }
        let floor = statements::floor(connection)?;
        let mut newest: Vec<NewestOfType> = types
            .into_iter()
            .filter(|(_, newest)| newest.position > floor)
            .map(|(type_name, newest)| NewestOfType {
                type_name,
                schema_version: u16::try_from(newest.schema_version).unwrap_or(u16::MAX),
                position: newest.position,
            })
            .collect();
        newest.sort_by_key(|newest| newest.position);
        Ok(newest)
    }

    /// Notes what was committed. Says whether there is enough for a run.
    pub(super) fn committed(&self, committed: &[Written]) -> bool {
        let mut state = self.state();
        for (batch, rows) in committed {
            // What others wrote between, or somebody has asked for already, is read from the log.
            if state.recent.last.next() == batch.first {
                state.recent.add(batch, rows.iter().map(|(row, _)| row));
            }
        }
        state.recent.count() >= self.0.run_events
    }

    /// What is to be the next run; `None` when there is nothing.
    fn freeze(&self) -> Option<Arc<Segment>> {
        let mut state = self.state();
        if state.frozen.is_none() && !state.recent.is_empty() {
            let later = Segment::behind(state.recent.last);
            state.frozen = Some(Arc::new(std::mem::replace(&mut state.recent, later)));
        }
        state.frozen.clone()
    }

    /// When more is in the log behind the runs than belongs into memory, takes the first of it as
    /// the next run. Says how many events they are. For a log that nobody else uses yet.
    fn freeze_stored(&self, connection: &Connection) -> Result<Option<u64>, Failure> {
        let end = statements::head(connection)?.position;
        let newest = run::newest(connection)?;
        let behind = end.0.saturating_sub(newest.0);
        if behind <= self.0.run_events.saturating_mul(2) {
            return Ok(None);
        }
        let mut segment = Segment::behind(newest);
        read_into(&mut segment, connection, end, self.0.run_events)?;
        let runs = run::behind(connection, Position(0))?;
        let mut state = self.state();
        *state = State::default();
        state.take(runs, newest);
        state.recent = segment;
        Ok(Some(behind))
    }

    /// Notes that a run is in the database.
    fn finished(&self, segment: &Arc<Segment>, run: &Arc<Run>) {
        let mut state = self.state();
        if state.frozen.as_ref().is_some_and(|frozen| Arc::ptr_eq(frozen, segment)) {
            state.frozen = None;
            state.indexed = segment.last;
            Arc::make_mut(&mut state.runs).push(Arc::clone(run));
        }
    }

    /// Forgets runs of what has moved to an archive.
    pub(super) fn trimmed(&self, floor: Position) {
        Arc::make_mut(&mut self.state().runs).retain(|run| run.last > floor);
    }

    fn indexed(&self) -> Position {
        self.state().indexed
    }

    /// Whether so much is remembered that appends must wait.
    pub(super) fn is_full(&self) -> bool {
        self.state().recent.count() > self.0.run_events.saturating_mul(RUNS_IN_MEMORY)
    }

    /// Whether so much has come since the last run that the next one must not wait.
    fn is_behind(&self) -> bool {
        self.state().recent.count() > self.0.run_events / 4
    }
}

impl State {
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.frozen.as_deref().into_iter().chain([&self.recent])
    }

    fn last_of(&self, stream: &str) -> Option<Last> {
        let frozen = || self.frozen.as_ref().and_then(|segment| segment.streams.get(stream));
        self.recent.streams.get(stream).or_else(frozen).copied()
    }

    /// What the finished runs lead to is left out: a run of another process may end within what is
    /// remembered here.
    fn recent_positions(&self, kind: Kind, hashes: &[i64]) -> Vec<u64> {
        let of = |segment| hashes.iter().map(move |hash| (segment, *hash));
        let mut positions: Vec<u64> = self
            .segments()
            .flat_map(of)
            .flat_map(|(segment, hash)| segment.positions(kind, hash, self.indexed))
            .collect();
        positions.sort_unstable();
        positions
    }

    /// Runs that were found in the database.
    fn take(&mut self, runs: Vec<Run>, newest: Position) {
        Arc::make_mut(&mut self.runs).extend(runs.into_iter().map(Arc::new));
        self.indexed = newest;
        let is_frozen = self.frozen.take().is_some_and(|segment| segment.last == newest);
        if !is_frozen {
            self.recent = Segment::behind(newest);
        }
    }
}

fn newest_types_of_runs(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Newest>> {
    let mut select =
        connection.prepare_cached("SELECT type, schema_version, position FROM newest_types")?;
    let found = select.query_map((), |row| {
        let (schema_version, position) = (row.get(1)?, Position(rows::number(row.get(2)?)));
        Ok((row.get(0)?, Newest { schema_version, position }))
    })?;
    found.collect()
}

/// Adds the batches behind a segment's end, up to a position and until it covers enough.
fn read_into(
    segment: &mut Segment,
    connection: &Connection,
    until: Position,
    enough: u64,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT first_position, event_count, recorded_at, batch_id, events FROM batches \
         WHERE first_position > ?1 AND first_position <= ?2 ORDER BY first_position",
    )?;
    let mut found = select.query((rows::column(segment.last.0), rows::column(until.0)))?;
    while segment.count() < enough
        && let Some(row) = found.next()?
    {
        let first = Position(rows::number(row.get(0)?));
        let events = row.get_ref(4)?.as_blob()?;
        let packed = PackedBatch::of(first, row.get(2)?, row.get(1)?, events);
        segment.add_packed(row.get_ref(3)?.as_blob()?, &packed);
    }
    Ok(())
}
