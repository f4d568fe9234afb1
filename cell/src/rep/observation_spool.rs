//! The observation spool: lines and samples that wait for the control plane, bounded on disk.
//!
//! Lines of JSON in segment files. What is pushed survives the agent, not always the machine.
//! When there is no more room the oldest is dropped and counted, but never what may be under way:
//! sequences have no gaps, and a batch that is sent again is the same batch.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::log::CellEpoch;
use domain::observation::Observation;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::StorageError;
use crate::clock;
use crate::durable_file::{self, Survives};

/// One segment file holds about this much.
const SEGMENT_BYTES: u64 = 1 << 20;
/// The most observations of one request, as the wire has it.
const BATCH_MAX: usize = 1000;
/// The most bytes read for one request; a little less than the wire allows.
const BATCH_BYTES_MAX: u64 = 1000 * 1024;

/// The spool of one cell.
#[derive(Debug)]
pub(crate) struct ObservationSpool {
    folder: PathBuf,
    segments_max: usize,
    state: Mutex<State>,
    /// Told when something was pushed.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the last is written to.
    segments: VecDeque<Segment>,
    current: File,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    number: u64,
    bytes: u64,
}

/// Where in the oldest segment the next batch begins; kept on disk.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Place {
    epoch: CellEpoch,
    acknowledged: u64,
    segment: u64,
    offset: u64,
    /// Nothing was known of the numbers given before, so they went on from far above.
    #[serde(default)]
    is_fresh: bool,
}

/// Observations to send, with where each of them ends.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) first_sequence: u64,
    pub(super) observations: Vec<Observation>,
    ends: Vec<u64>,
    segment: u64,
}

impl ObservationSpool {
    /// Takes up the spool of an earlier agent, or begins one, with room for so many bytes.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn open(folder: PathBuf, bytes_max: u64) -> Result<Self, StorageError> {
        let failed = StorageError::new("open the observation spool", &folder);
        let segments_max = usize::try_from(bytes_max / SEGMENT_BYTES).unwrap_or(usize::MAX).max(3);
        let state = State::open(&folder).map_err(failed)?;
        Ok(Self { folder, segments_max, state: Mutex::new(state), changed: Notify::new() })
    }

    /// Goes on in a registration: another one numbers anew what still waits.
    pub(super) fn enter(&self, epoch: CellEpoch) {
        let mut state = self.lock();
        if state.place.epoch != epoch {
            state.place.epoch = epoch;
            // The registration may be the one that was forgotten.
            if !std::mem::take(&mut state.place.is_fresh) {
                state.place.acknowledged = 0;
            }
            self.keep_place(&state.place);
        }
    }

    /// Takes an observation. A disk that fails loses it, and says so; the app goes on.
    ///
    /// Gives how many observations had to be dropped to make room.
    pub(super) fn push(&self, observation: &Observation) -> u64 {
        let dropped = self.try_push(observation).unwrap_or_else(|error| {
            tracing::warn!(%error, "An observation is lost.");
            0
        });
        self.changed.notify_one();
        dropped
    }

    fn try_push(&self, observation: &Observation) -> io::Result<u64> {
        let mut line = serde_json::to_vec(observation).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut state = self.lock();
        state.current.write_all(&line)?;
        let added = u64::try_from(line.len()).map_err(io::Error::other)?;
        let is_full = state.segments.back_mut().is_some_and(|segment| {
            segment.bytes += added;
            segment.bytes >= SEGMENT_BYTES
        });
        if !is_full {
            return Ok(0);
        }
        state.begin_segment(&self.folder)?;
        let mut dropped = 0;
        while state.segments.len() > self.segments_max {
            // The oldest may be under way: the one after it goes.
            let Some(segment) = state.segments.remove(1) else { break };
            let path = segment_path(&self.folder, segment.number);
            dropped += count_lines(&path)?;
            durable_file::remove(&path)?;
        }
        Ok(dropped)
    }

    /// The next observations to send; empty when there are none.
    pub(super) fn batch(&self) -> Batch {
        loop {
            let state = self.lock();
            let batch = state.read(&self.folder).unwrap_or_else(|error| {
                tracing::warn!(%error, "Cannot read observations back.");
                None
            });
            drop(state);
            match batch {
                Some(batch) => return batch,
                None => {
                    if !self.leave_oldest() {
                        return Batch::default();
                    }
                }
            }
        }
    }

    /// Drops what was acknowledged of a batch.
    pub(super) fn acknowledge(&self, batch: &Batch, acknowledged: u64) {
        let mut state = self.lock();
        let before = batch.first_sequence.saturating_sub(1);
        if state.place.segment != batch.segment {
            return;
        }
        if acknowledged < before {
            // The control plane forgot: it is told anew from where it is.
            tracing::warn!(acknowledged, before, "The control plane lost observations it had.");
            state.place.acknowledged = acknowledged;
        }
        let count = usize::try_from(acknowledged.saturating_sub(before)).unwrap_or(usize::MAX);
        let count = count.min(batch.ends.len());
        if let Some(end) = count.checked_sub(1).and_then(|last| batch.ends.get(last)) {
            state.place.offset = *end;
            state.place.acknowledged = before + u64::try_from(count).unwrap_or(u64::MAX);
        }
        self.keep_place(&state.place);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch().observations.is_empty()
    }

    /// Leaves an oldest segment that is read to its end; `false` if it is the one written to.
    fn leave_oldest(&self) -> bool {
        let mut state = self.lock();
        if state.segments.len() < 2 {
            return false;
        }
        if let Some(oldest) = state.segments.pop_front()
            && let Err(error) = durable_file::remove(&segment_path(&self.folder, oldest.number))
        {
            tracing::warn!(%error, "Cannot remove a segment of observations.");
        }
        let next = state.segments.front().map_or(0, |segment| segment.number);
        state.place = Place { segment: next, offset: 0, ..state.place };
        self.keep_place(&state.place);
        true
    }

    fn keep_place(&self, place: &Place) {
        let path = self.folder.join("place.json");
        if let Err(error) = durable_file::write_json(&path, place, Survives::Agent) {
            tracing::warn!(%error, "Cannot note which observations were stored.");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(folder: &Path) -> io::Result<Self> {
        durable_file::create_folder(folder)?;
        let mut segments = Vec::new();
        for file in fs::read_dir(folder)? {
            let file = file?;
            let name = file.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".segment"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                segments.push(Segment { number, bytes: file.metadata()?.len() });
            }
        }
        segments.sort_by_key(|segment| segment.number);
        let mut place = known_place(folder);
        let next = segments.last().map_or(1, |segment| segment.number + 1);
        // A new segment: the last one may end in half a line.
        let current = new_segment(folder, next)?;
        segments.push(Segment { number: next, bytes: 0 });
        let oldest = segments.first().map_or(next, |segment| segment.number);
        if place.segment != oldest {
            place = Place { segment: oldest, offset: 0, ..place };
        }
        Ok(Self { segments: segments.into(), current, place })
    }

    fn begin_segment(&mut self, folder: &Path) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |segment| segment.number + 1);
        self.current = new_segment(folder, number)?;
        self.segments.push_back(Segment { number, bytes: 0 });
        Ok(())
    }

    /// A batch of the oldest segment; `None` when it is read to its end.
    fn read(&self, folder: &Path) -> io::Result<Option<Batch>> {
        let mut file = File::open(segment_path(folder, self.place.segment))?;
        file.seek(SeekFrom::Start(self.place.offset))?;
        let mut bytes = Vec::new();
        file.take(BATCH_BYTES_MAX).read_to_end(&mut bytes)?;
        let mut batch = Batch {
            first_sequence: self.place.acknowledged + 1,
            segment: self.place.segment,
            ..Batch::default()
        };
        let mut end = self.place.offset;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") || batch.observations.len() == BATCH_MAX {
                break;
            }
            end += u64::try_from(line.len()).map_err(io::Error::other)?;
            match serde_json::from_slice(line) {
                Ok(observation) => {
                    batch.observations.push(observation);
                    batch.ends.push(end);
                }
                Err(error) => tracing::warn!(%error, "A broken observation is left out."),
            }
        }
        Ok((!batch.observations.is_empty()).then_some(batch))
    }
}

/// Where an earlier agent left off. What is torn is begun anew: observations may then be stored
/// twice, but none is mistaken for one that was stored.
fn known_place(folder: &Path) -> Place {
    match durable_file::read_json(&folder.join("place.json")) {
        Ok(known) => known.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "Where the observations stood is not known any more.");
            // Above all numbers that were given in any registration.
            Place { acknowledged: fresh_start(), is_fresh: true, ..Place::default() }
        }
    }
}

/// The wall clock's milliseconds: no cell observes more than one thing in each for long.
fn fresh_start() -> u64 {
    clock::wall_ns() / 1_000_000
}

fn new_segment(folder: &Path, number: u64) -> io::Result<File> {
    durable_file::private().create_new(true).open(segment_path(folder, number))
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.segment"))
}

fn count_lines(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let count = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    u64::try_from(count).map_err(io::Error::other)
}
