//! The report spool: what the cell said and the control plane has not yet acknowledged, on disk.
//!
//! Lines of JSON, appended and synced before a report is sent. Sequences run from 1 without gaps
//! in one registration. Never forgets a report that was not acknowledged, except when the
//! registration is another one: then they are nobody's.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use domain::log::CellEpoch;
use domain::rep::{NumberedReport, Report};
use serde::{Deserialize, Serialize};

use super::StorageError;
use crate::durable_file::{self, Survives};

/// The file is written anew when all in it is acknowledged and it is larger than this.
const COMPACT_AT_BYTES: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Epoch(CellEpoch),
    /// Also says from where sequences go on when the reports before are gone from the file.
    Acknowledged(u64),
    Report(NumberedReport),
}

/// The spool of one cell.
#[derive(Debug)]
pub(crate) struct ReportSpool {
    path: PathBuf,
    file: File,
    /// Up to here the file is whole.
    length: u64,
    epoch: Option<CellEpoch>,
    last_sequence: u64,
    acknowledged: u64,
    waiting: VecDeque<NumberedReport>,
}

impl ReportSpool {
    /// Reads the spool of an earlier agent, or begins one. Half a line at the end is dropped: its
    /// report was never sent.
    ///
    /// # Errors
    /// The file cannot be read, or is broken before its end.
    pub(crate) fn open(path: PathBuf) -> Result<Self, StorageError> {
        let failed = StorageError::new("read the report spool", &path);
        Self::read(&path).map_err(failed)
    }

    fn read(path: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        let mut spool = Self {
            path: path.to_owned(),
            file: durable_file::private().create(true).truncate(false).open(path)?,
            length: u64::try_from(whole).map_err(io::Error::other)?,
            epoch: None,
            last_sequence: 0,
            acknowledged: 0,
            waiting: VecDeque::new(),
        };
        spool.file.set_len(spool.length)?;
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line).map_err(io::Error::other)? {
                Line::Epoch(epoch) => spool.epoch = Some(epoch),
                Line::Acknowledged(sequence) => spool.note_acknowledged(sequence),
                Line::Report(report) => {
                    spool.last_sequence = report.sequence;
                    spool.waiting.push_back(report);
                }
            }
        }
        Ok(spool)
    }

    /// The registration that the reports in it belong to.
    pub(crate) fn epoch(&self) -> Option<CellEpoch> {
        self.epoch
    }

    /// Goes on in a registration of which the control plane has taken reports up to `seen`.
    /// Reports of another registration are dropped.
    ///
    /// # Errors
    /// The file could not be written.
    pub(crate) fn enter(&mut self, epoch: CellEpoch, seen: u64) -> Result<(), StorageError> {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.waiting.clear();
            (self.last_sequence, self.acknowledged) = (seen, seen);
            return self.rewrite();
        }
        if seen > self.acknowledged {
            // What waits up to there was taken, and its answer lost: what follows begins after.
            let (_taken, written) = self.acknowledge(seen);
            self.note_acknowledged(seen);
            return written;
        }
        Ok(())
    }

    /// Numbers reports and keeps them; once this returns, they survive the machine's death.
    ///
    /// # Errors
    /// None of them was kept: the same may be tried again.
    pub(super) fn append(&mut self, reports: Vec<Report>) -> Result<Vec<u64>, StorageError> {
        let numbered: Vec<NumberedReport> = (self.last_sequence + 1..)
            .zip(reports)
            .map(|(sequence, report)| NumberedReport { sequence, report })
            .collect();
        let mut bytes = Vec::new();
        for report in &numbered {
            self.encode(&Line::Report(report.clone()), &mut bytes)?;
        }
        self.write(&bytes)?;
        self.file.sync_data().map_err(self.failed("sync"))?;
        self.keep_length(&bytes)?;
        let sequences = numbered.iter().map(|report| report.sequence).collect();
        self.last_sequence = numbered.last().map_or(self.last_sequence, |last| last.sequence);
        self.waiting.extend(numbered);
        Ok(sequences)
    }

    /// The first reports that wait, at most `count` and about `bytes_max`.
    pub(super) fn first(&self, count: usize, bytes_max: usize) -> Vec<NumberedReport> {
        let mut bytes = 0;
        let fits = |report: &&NumberedReport| {
            let is_first = bytes == 0;
            bytes += serde_json::to_vec(report).map_or(0, |text| text.len());
            is_first || bytes <= bytes_max
        };
        self.waiting.iter().take(count).take_while(fits).cloned().collect()
    }

    /// Drops what was acknowledged, and tells what that was. The disk learns of it lazily:
    /// what is sent again is judged again, to the same answer.
    ///
    /// # Errors
    /// The file could not be written; what was acknowledged is dropped all the same.
    pub(super) fn acknowledge(
        &mut self,
        sequence: u64,
    ) -> (Vec<NumberedReport>, Result<(), StorageError>) {
        let before = std::mem::take(&mut self.waiting);
        let (done, waiting): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|report| report.sequence <= sequence);
        self.waiting = waiting.into();
        if done.is_empty() {
            return (done, Ok(()));
        }
        self.note_acknowledged(sequence);
        let written = if self.waiting.is_empty() && self.length > COMPACT_AT_BYTES {
            self.rewrite()
        } else {
            self.append_acknowledged()
        };
        (done, written)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn note_acknowledged(&mut self, sequence: u64) {
        self.acknowledged = self.acknowledged.max(sequence);
        self.last_sequence = self.last_sequence.max(sequence);
        let acknowledged = self.acknowledged;
        self.waiting.retain(|report| report.sequence > acknowledged);
    }

    fn append_acknowledged(&mut self) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        self.encode(&Line::Acknowledged(self.acknowledged), &mut bytes)?;
        self.write(&bytes)?;
        self.keep_length(&bytes)
    }

    fn rewrite(&mut self) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        if let Some(epoch) = self.epoch {
            self.encode(&Line::Epoch(epoch), &mut bytes)?;
        }
        // With no report in the file, the last sequence must be told another way.
        let told = if self.waiting.is_empty() { self.last_sequence } else { self.acknowledged };
        self.encode(&Line::Acknowledged(told), &mut bytes)?;
        for report in &self.waiting {
            self.encode(&Line::Report(report.clone()), &mut bytes)?;
        }
        durable_file::write(&self.path, &bytes, Survives::Machine)
            .map_err(self.failed("rewrite"))?;
        self.file = durable_file::private().open(&self.path).map_err(self.failed("open again"))?;
        self.length = 0;
        self.keep_length(&bytes)
    }

    fn encode(&self, line: &Line, bytes: &mut Vec<u8>) -> Result<(), StorageError> {
        serde_json::to_writer(&mut *bytes, line)
            .map_err(io::Error::other)
            .and_then(|()| bytes.write_all(b"\n"))
            .map_err(self.failed("encode a line of"))
    }

    /// Writes behind what is whole, over what an earlier failure may have left.
    fn write(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.file.write_all_at(bytes, self.length);
        if written.is_err() {
            // Best effort: the next write begins at the same place anyway.
            drop(self.file.set_len(self.length));
        }
        written.map_err(self.failed("append to"))
    }

    fn keep_length(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let added = u64::try_from(bytes.len()).map_err(io::Error::other);
        self.length += added.map_err(self.failed("measure"))?;
        Ok(())
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> StorageError + use<> {
        StorageError::new(operation, &self.path)
    }
}
