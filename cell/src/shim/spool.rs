//! The bounded spool of a container's output: framed records in a few segment files.
//!
//! The shim writes, the agent reads; this file is the only one that knows the format. A segment
//! is named by the position of its first byte in the endless stream, so a position says what
//! was dropped. A frame: payload length (u32), stream (u8), length of the process id (u8), time
//! (u64 ns), process id, payload; little-endian. The oldest segment goes when room is needed:
//! an app never blocks for want of a reader.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::garden::{OutputChunk, OutputCursor, OutputRecord, OutputStream, ProcessId};

/// A segment is closed when it reaches this.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// The most segments kept.
const SEGMENTS_MAX: usize = 4;
const HEADER_BYTES: usize = 14;
/// The most bytes of one frame's payload; the shim reads no more at a time.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// The most bytes of one frame: header, process id and payload.
const FRAME_BYTES_MAX: usize = HEADER_BYTES + 255 + PAYLOAD_BYTES_MAX;

/// The writing end, held by the shim.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    folder: PathBuf,
    segments: Vec<u64>,
    current: File,
    end: u64,
    /// The current segment may end in half a frame: nothing may follow it.
    is_torn: bool,
}

impl SpoolWriter {
    /// Begins an empty spool.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let current = File::create_new(segment_path(folder, 0))?;
        Ok(Self { folder: folder.to_owned(), segments: vec![0], current, end: 0, is_torn: false })
    }

    /// Appends what a process wrote, at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub(crate) fn append(&mut self, record: &OutputRecord) -> io::Result<()> {
        if self.is_torn || self.end - self.segments.last().copied().unwrap_or(0) >= SEGMENT_BYTES {
            self.begin_segment()?;
        }
        let frame = encode(record)?;
        self.end += frame.len() as u64;
        // A full disk may take half a frame; a reader leaves that out.
        let written = self.current.write_all(&frame);
        self.is_torn = written.is_err();
        written
    }

    /// Where the spool ends now.
    pub(crate) fn end(&self) -> OutputCursor {
        OutputCursor(self.end)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        self.current = File::create(segment_path(&self.folder, self.end))?;
        self.segments.push(self.end);
        self.is_torn = false;
        while self.segments.len() > SEGMENTS_MAX {
            fs::remove_file(segment_path(&self.folder, self.segments.remove(0)))?;
        }
        Ok(())
    }
}

/// Reads records after a cursor: at least one if there is one, else up to `max_bytes` of payload.
pub(crate) fn read(
    folder: &Path,
    after: OutputCursor,
    max_bytes: usize,
) -> io::Result<OutputChunk> {
    let mut chunk = OutputChunk { records: Vec::new(), next: after, dropped_bytes: 0 };
    let mut payload_bytes = 0;
    // The writer may drop a segment between the listing and the opening: then list again.
    loop {
        let segments = list_segments(folder)?;
        let Some(index) = segment_of(&segments, chunk.next.0) else { break };
        let Some(base) = segments.get(index).copied() else { break };
        if base > chunk.next.0 {
            chunk.dropped_bytes += base - chunk.next.0;
            chunk.next = OutputCursor(base);
        }
        let read = match read_segment(folder, base, &mut chunk, max_bytes - payload_bytes) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        payload_bytes += read.payload_bytes;
        match (read.stopped, segments.get(index + 1)) {
            (Stopped::Full, _) | (Stopped::AtEnd, None) => break,
            (Stopped::Midway, _) => {}
            // Whatever is left of a closed segment is half a frame.
            (Stopped::AtEnd, Some(&following)) => {
                chunk.dropped_bytes += following.saturating_sub(chunk.next.0);
                chunk.next = OutputCursor(following);
            }
        }
    }
    Ok(chunk)
}

/// The segment that holds a position, or the oldest one if that is gone.
fn segment_of(segments: &[u64], position: u64) -> Option<usize> {
    let after = segments.partition_point(|base| *base <= position);
    if segments.is_empty() { None } else { Some(after.saturating_sub(1)) }
}

/// What was read from one segment.
struct SegmentRead {
    payload_bytes: usize,
    stopped: Stopped,
}

/// Why no more was read from a segment.
#[derive(Debug, PartialEq, Eq)]
enum Stopped {
    /// As much as was asked for is read.
    Full,
    /// There is more in it.
    Midway,
    /// There is no further whole frame in it.
    AtEnd,
}

/// Reads whole frames from a segment into the chunk.
fn read_segment(
    folder: &Path,
    base: u64,
    chunk: &mut OutputChunk,
    max_bytes: usize,
) -> io::Result<SegmentRead> {
    let mut file = File::open(segment_path(folder, base))?;
    file.seek(SeekFrom::Start(chunk.next.0 - base))?;
    // At least one whole frame; never more than a segment at a time.
    let room = max_bytes.min(FRAME_BYTES_MAX) + FRAME_BYTES_MAX;
    let mut bytes = Vec::new();
    file.take(room as u64).read_to_end(&mut bytes)?;
    let (mut rest, mut payload_bytes) = (bytes.as_slice(), 0);
    while let Some((record, frame_bytes)) = decode(rest) {
        let is_first = chunk.records.is_empty();
        if !is_first && payload_bytes + record.bytes.len() > max_bytes {
            return Ok(SegmentRead { payload_bytes, stopped: Stopped::Full });
        }
        payload_bytes += record.bytes.len();
        chunk.next.0 += frame_bytes as u64;
        chunk.records.push(record);
        rest = rest.get(frame_bytes..).unwrap_or(&[]);
    }
    // Without progress there is no whole frame here, however much follows.
    let is_at_end = bytes.len() < room || rest.len() == bytes.len();
    let stopped = match (payload_bytes >= max_bytes, is_at_end) {
        (true, _) => Stopped::Full,
        (false, true) => Stopped::AtEnd,
        (false, false) => Stopped::Midway,
    };
    Ok(SegmentRead { payload_bytes, stopped })
}

fn list_segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".spool"));
        segments.extend(base.and_then(|base| base.parse::<u64>().ok()));
    }
    segments.sort_unstable();
    Ok(segments)
}

fn segment_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.spool"))
}

fn encode(record: &OutputRecord) -> io::Result<Vec<u8>> {
    let process = record.process.as_str().as_bytes();
    let payload_length = u32::try_from(record.bytes.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + process.len() + record.bytes.len());
    frame.extend_from_slice(&payload_length.to_le_bytes());
    frame.push(match record.stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
    });
    frame.push(u8::try_from(process.len()).map_err(io::Error::other)?);
    frame.extend_from_slice(&record.time_ns.to_le_bytes());
    frame.extend_from_slice(process);
    frame.extend_from_slice(&record.bytes);
    Ok(frame)
}

/// Takes one whole frame from the front; `None` if it is not whole.
fn decode(bytes: &[u8]) -> Option<(OutputRecord, usize)> {
    let payload_bytes = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let payload_bytes = usize::try_from(payload_bytes).ok()?;
    let stream = match bytes.get(4)? {
        1 => OutputStream::Stdout,
        2 => OutputStream::Stderr,
        _ => return None,
    };
    let process_end = HEADER_BYTES + usize::from(*bytes.get(5)?);
    let time_ns = u64::from_le_bytes(bytes.get(6..HEADER_BYTES)?.try_into().ok()?);
    let process = std::str::from_utf8(bytes.get(HEADER_BYTES..process_end)?).ok()?;
    let frame_bytes = process_end.checked_add(payload_bytes)?;
    let payload = bytes.get(process_end..frame_bytes)?.to_vec();
    let process = ProcessId::parse(process).ok()?;
    Some((OutputRecord { time_ns, process, stream, bytes: payload }, frame_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, size: usize) -> OutputRecord {
        OutputRecord {
            time_ns: number,
            process: ProcessId::parse("app").unwrap(),
            stream: if number.is_multiple_of(2) {
                OutputStream::Stdout
            } else {
                OutputStream::Stderr
            },
            bytes: vec![b'x'; size],
        }
    }

    fn read_all(folder: &Path, max_bytes: usize) -> (Vec<OutputRecord>, u64, OutputCursor) {
        let (mut records, mut dropped, mut cursor) = (Vec::new(), 0, OutputCursor::default());
        loop {
            let chunk = read(folder, cursor, max_bytes).unwrap();
            dropped += chunk.dropped_bytes;
            cursor = chunk.next;
            if chunk.records.is_empty() {
                return (records, dropped, cursor);
            }
            records.extend(chunk.records);
        }
    }

    #[test]
    fn what_is_written_is_read_back_in_pieces_of_any_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = SpoolWriter::create(folder.path()).unwrap();
        let written: Vec<_> = (0..50).map(|number| record(number, 40_000)).collect();

        for one in &written {
            spool.append(one).unwrap();
        }

        for max_bytes in [1, 50_000, 10_000_000] {
            let (records, dropped, cursor) = read_all(folder.path(), max_bytes);
            assert!(records == written, "in pieces of {max_bytes}");
            assert_eq!((dropped, cursor), (0, spool.end()));
        }
    }

    #[test]
    fn small_records_are_all_read_across_segments() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = SpoolWriter::create(folder.path()).unwrap();
        let written: Vec<_> = (0..150_000).map(|number| record(number, 1)).collect();

        for one in &written {
            spool.append(one).unwrap();
        }

        for max_bytes in [1000, 100_000, 10_000_000] {
            let (records, dropped, _) = read_all(folder.path(), max_bytes);
            assert!(records == written, "in pieces of {max_bytes}");
            assert_eq!(dropped, 0);
        }
    }

    #[test]
    fn the_oldest_is_dropped_and_counted_when_there_is_no_reader() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = SpoolWriter::create(folder.path()).unwrap();

        for number in 0..200 {
            spool.append(&record(number, PAYLOAD_BYTES_MAX)).unwrap();
        }

        let (records, dropped, cursor) = read_all(folder.path(), 1_000_000);
        let frame = (PAYLOAD_BYTES_MAX + HEADER_BYTES + 3) as u64;
        assert_eq!(records.last().unwrap().time_ns, 199);
        assert_eq!(dropped + records.len() as u64 * frame, cursor.0);
        assert_eq!(cursor, spool.end());
        let kept: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(kept <= SEGMENTS_MAX as u64 * (SEGMENT_BYTES + frame));
    }

    #[test]
    fn half_a_frame_at_the_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = SpoolWriter::create(folder.path()).unwrap();
        spool.append(&record(0, 10)).unwrap();
        let whole = spool.end();
        let frame = encode(&record(1, 10)).unwrap();
        let half = frame.len() as u64;
        spool.current.write_all(&frame[..frame.len() - 1]).unwrap();

        let (records, dropped, cursor) = read_all(folder.path(), 1000);
        assert_eq!((records.len(), dropped, cursor), (1, 0, whole));

        // As after a full disk: the next record is found behind it.
        spool.end += half;
        spool.is_torn = true;
        spool.append(&record(2, 10)).unwrap();
        let (records, dropped, cursor) = read_all(folder.path(), 1000);
        assert_eq!((records.len(), dropped, cursor), (2, half, spool.end()));
    }
}
