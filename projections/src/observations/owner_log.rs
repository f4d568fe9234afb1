//! The records of one owner: which segments there are, what each cell has pushed, where the next
//! record goes. Holds no file open: there may be more owners than descriptors.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use domain::{id::CellId, log::Owner};
use tokio::sync::watch;

use super::{
    Error, RecordNumber,
    frame::{self, Acknowledged, Header, Record},
    segment::{self, Segment, Segments},
};

#[derive(Debug)]
pub(super) struct OwnerLog {
    folder: PathBuf,
    owner: String,
    /// Oldest first; the last one is appended to.
    pub(super) segments: Vec<Segment>,
    last: u64,
    acknowledged: BTreeMap<CellId, Acknowledged>,
    appended: watch::Sender<RecordNumber>,
}

impl OwnerLog {
    /// An owner's records from its folder, of which `segments` are the files, oldest first.
    /// A newest segment that cannot be read at all is removed.
    pub(super) fn open(
        folder: &Path,
        owner: &Owner,
        mut segments: Vec<Segment>,
    ) -> Result<Self, Error> {
        let mut log = Self {
            folder: folder.to_owned(),
            owner: owner.to_string(),
            segments: Vec::new(),
            last: 0,
            acknowledged: BTreeMap::new(),
            appended: watch::Sender::new(RecordNumber(0)),
        };
        while let Some(mut newest) = segments.pop() {
            let Some(content) = segment::load(&newest)? else {
                tracing::warn!(path = %newest.path.display(), "An unreadable segment is dropped.");
                segment::remove(&newest)?;
                continue;
            };
            log.take_over(&content.header, &content.records);
            newest.bytes = content.whole_bytes;
            segment::cut(&newest)?;
            segments.push(newest);
            break;
        }
        log.segments = segments;
        log.appended.send_replace(RecordNumber(log.last));
        Ok(log)
    }

    fn take_over(&mut self, header: &Header, records: &[Record]) {
        self.acknowledged = header.acknowledged.iter().cloned().collect();
        for record in records {
            self.acknowledged.insert(record.cell_id.clone(), record.acknowledged);
        }
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.last = header.before.saturating_add(count);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn watch(&self) -> watch::Receiver<RecordNumber> {
        self.appended.subscribe()
    }

    pub(super) fn is_followed(&self) -> bool {
        self.appended.receiver_count() > 0
    }

    /// Whether nothing is kept of the owner and nobody waits for it.
    pub(super) fn is_idle(&self) -> bool {
        self.segments.is_empty() && !self.is_followed()
    }

    pub(super) fn snapshot(&self) -> Segments {
        // The records before the oldest segment are those that were dropped.
        let dropped = self.segments.first().map_or(0, |oldest| oldest.before);
        Segments { segments: self.segments.clone(), last: self.last, dropped }
    }

    /// Appends the records that are new, in one write.
    pub(super) fn append(
        &mut self,
        records: Vec<Record>,
        segment_bytes_max: u64,
    ) -> Result<(), Error> {
        let mut buffer = Vec::new();
        let mut acknowledged = self.acknowledged.clone();
        let mut added = 0;
        for record in records {
            let is_known = acknowledged
                .get(&record.cell_id)
                .is_some_and(|highest| *highest >= record.acknowledged);
            if !is_known {
                frame::write(&mut buffer, &record)?;
                acknowledged.insert(record.cell_id, record.acknowledged);
                added += 1;
            }
        }
        if added == 0 {
            return Ok(());
        }
        self.write(&buffer, segment_bytes_max)?;
        self.acknowledged = acknowledged;
        self.last += added;
        self.appended.send_replace(RecordNumber(self.last));
        Ok(())
    }

    fn write(&mut self, buffer: &[u8], segment_bytes_max: u64) -> Result<(), Error> {
        let is_full = self.segments.last().is_none_or(|segment| segment.bytes >= segment_bytes_max);
        if is_full {
            self.begin_segment()?;
        }
        let Some(segment) = self.segments.last_mut() else { return Err(Error::Stopped) };
        segment::append(segment, buffer)
    }

    fn begin_segment(&mut self) -> Result<(), Error> {
        let header = Header {
            owner: self.owner.clone(),
            before: self.last,
            acknowledged: self.acknowledged.clone().into_iter().collect(),
        };
        // Made with the first record only: whoever merely asks for an owner leaves no folder.
        std::fs::create_dir_all(&self.folder)
            .map_err(|source| Error::Folder { path: self.folder.clone(), source })?;
        let segment = segment::create(&self.folder, &header)?;
        // One of the same name held no record and was written over.
        self.segments.retain(|older| older.before != segment.before);
        self.segments.push(segment);
        Ok(())
    }

    /// Drops the oldest segment, unless it is the one that is appended to. Answers with the
    /// bytes that are free now.
    pub(super) fn drop_oldest(&mut self) -> Result<Option<u64>, Error> {
        let [oldest, _, ..] = self.segments.as_slice() else { return Ok(None) };
        segment::remove(oldest)?;
        Ok(Some(self.segments.remove(0).bytes))
    }

    /// Removes everything, the folder too.
    pub(super) fn remove(&mut self) -> Result<(), Error> {
        for segment in self.segments.drain(..) {
            segment::remove(&segment)?;
        }
        remove_folder(&self.folder)
    }
}

/// Removes an owner's folder; one that was never made is no error.
pub(super) fn remove_folder(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Folder { path: folder.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
