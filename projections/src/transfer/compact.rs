//! The form for machines: length-prefixed postcard records, one for each batch, in one zstd frame.

use std::io::{self, BufRead, BufReader, Write};

use domain::{
    log::{Position, StreamVersion},
    sealed::Digest,
    units::Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zstd::stream::{Decoder, Encoder};

use super::{
    Fault, Place,
    files::{HashingReader, HashingWriter},
    header::{End, Header},
    read::{Broken, Record, Records, batch_is_too_large, malformed},
    write::Sink,
};
use crate::event_store::{BatchId, BatchRow, Leaf, Row, StoredBatch};

/// What every zstd frame begins with.
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What stands first in the frame.
const MAGIC: &[u8; 8] = b"DIARLOG1";

/// The most bytes of one record: a full batch of payloads, and its columns.
const RECORD_BYTES_MAX: usize = 48 << 20;

/// As zstd's own default: a good middle.
const LEVEL: i32 = 3;

#[derive(Serialize, Deserialize)]
enum CompactRecord {
    Header(CompactHeader),
    Batch(Boundary, Vec<StoredRow>),
    End(End),
}

/// JSON, so that a newer header can still be read far enough to say that it is newer.
#[derive(Serialize, Deserialize)]
struct CompactHeader(String);

#[derive(Serialize, Deserialize)]
struct Boundary {
    first: Position,
    count: u64,
    recorded_at: Timestamp,
    id: Uuid,
    link: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct StoredRow {
    #[serde(with = "RowFields")]
    row: Row,
    leaf: Leaf,
}

/// How a [`Row`] is written; the compiler holds the two together.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Row")]
struct RowFields {
    position: Position,
    stream: String,
    version: StreamVersion,
    owner: String,
    type_name: String,
    schema_version: u16,
    recorded_at: Timestamp,
    actor_kind: String,
    actor_name: String,
    actor_via: String,
    command_id: String,
    causation: Option<Position>,
    correlation: String,
    payload: Vec<u8>,
}

/// Writes records.
pub(super) struct Frames<W: Write>(Option<HashingWriter<Encoder<'static, W>>>);

impl<W: Write + Send> Frames<W> {
    pub(super) fn new(into: W) -> io::Result<Self> {
        let mut encoder = Encoder::new(into, LEVEL)?;
        encoder.include_checksum(true)?;
        let mut writer = HashingWriter::new(encoder);
        writer.write_all(MAGIC)?;
        Ok(Self(Some(writer)))
    }

    fn record(&mut self, record: &CompactRecord) -> io::Result<()> {
        let bytes = postcard::to_stdvec(record).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let writer = self.0.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writer.write_all(&length.to_le_bytes())?;
        writer.write_all(&bytes)
    }
}

impl<W: Write + Send> Sink for Frames<W> {
    fn header(&mut self, header: &Header) -> io::Result<()> {
        let text = serde_json::to_string(header)?;
        self.record(&CompactRecord::Header(CompactHeader(text)))
    }

    fn batch(&mut self, stored: &StoredBatch) -> io::Result<()> {
        let BatchRow { first, count, recorded_at, id, link } = stored.batch.clone();
        let boundary = Boundary { first, count, recorded_at, id: id.0, link };
        let rows =
            stored.rows.iter().map(|(row, leaf)| StoredRow { row: row.clone(), leaf: *leaf });
        self.record(&CompactRecord::Batch(boundary, rows.collect()))
    }

    fn digest(&self) -> Digest {
        self.0.as_ref().map_or(Digest([0; 32]), HashingWriter::digest)
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.record(&CompactRecord::End(end.clone()))?;
        match self.0.take() {
            Some(writer) => writer.into_inner().finish()?.flush(),
            None => Ok(()),
        }
    }
}

/// Reads records.
pub(super) struct FrameReader<R: BufRead> {
    reader: HashingReader<BufReader<Decoder<'static, R>>>,
    number: u64,
}

impl<R: BufRead + Send> FrameReader<R> {
    pub(super) fn new(reader: R) -> io::Result<Self> {
        let decoder = Decoder::with_buffer(reader)?;
        Ok(Self { reader: HashingReader::new(BufReader::new(decoder)), number: 0 })
    }

    fn broken(&self, fault: Fault) -> Broken {
        Broken::Fault(self.place(), Box::new(fault))
    }

    /// Fills a buffer as far as there is something.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        self.reader.fill(buffer).map_err(|failure| {
            // The frame ends before its end, or is not what its checksum says.
            if failure.kind() == io::ErrorKind::UnexpectedEof {
                return self.broken(Fault::CutOff);
            }
            self.broken(malformed(format!("{failure}")))
        })
    }

    fn begin(&mut self) -> Result<(), Broken> {
        let mut magic = [0; MAGIC.len()];
        let filled = self.fill(&mut magic)?;
        if filled < magic.len() || magic != *MAGIC {
            return Err(self.broken(Fault::NotAnExport));
        }
        self.reader.count(&magic);
        Ok(())
    }

    /// The next record's bytes, with its length before them.
    fn bytes(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let mut length = [0; 4];
        match self.fill(&mut length)? {
            0 => return Ok(None),
            4 => {}
            _ => return Err(self.broken(Fault::CutOff)),
        }
        let size = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if size > RECORD_BYTES_MAX {
            let reason = format!("it says {size} bytes of itself, more than {RECORD_BYTES_MAX}");
            return Err(self.broken(malformed(reason)));
        }
        let mut bytes = length.to_vec();
        bytes.resize(size + length.len(), 0);
        let filled = self.fill(bytes.get_mut(length.len()..).unwrap_or_default())?;
        if filled < size { Err(self.broken(Fault::CutOff)) } else { Ok(Some(bytes)) }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Record, Fault> {
        let bytes = bytes.get(4..).unwrap_or_default();
        let record: CompactRecord =
            postcard::from_bytes(bytes).map_err(|failure| malformed(format!("{failure}")))?;
        match record {
            CompactRecord::Header(CompactHeader(text)) => serde_json::from_str(&text)
                .map(Record::Header)
                .map_err(|failure| malformed(format!("{failure}"))),
            CompactRecord::End(end) => Ok(Record::End(end)),
            CompactRecord::Batch(boundary, rows) => batch(boundary, rows).map(Record::Batch),
        }
    }
}

fn batch(boundary: Boundary, rows: Vec<StoredRow>) -> Result<StoredBatch, Fault> {
    let Boundary { first, count, recorded_at, id, link } = boundary;
    let batch = BatchRow { first, count, recorded_at, id: BatchId(id), link };
    let rows: Vec<(Row, Leaf)> = rows.into_iter().map(|stored| (stored.row, stored.leaf)).collect();
    let bytes = rows.iter().map(|(row, _)| row.payload.len()).sum();
    if let Some(fault) = batch_is_too_large(&batch, bytes) {
        return Err(fault);
    }
    let expected = first.0..=batch.last().0;
    let mut found = rows.iter().map(|(row, _)| row.position.0);
    for position in expected {
        if found.next() != Some(position) {
            return Err(Fault::Hole { position: Position(position) });
        }
    }
    match found.next() {
        Some(_) => Err(malformed("a batch holds more events than it says")),
        None => Ok(StoredBatch { batch, rows }),
    }
}

impl<R: BufRead + Send> Records for FrameReader<R> {
    fn next(&mut self) -> Result<Option<(Place, Record)>, Broken> {
        if self.number == 0 {
            self.begin()?;
        }
        self.number = self.number.saturating_add(1);
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        let record = self.parse(&bytes).map_err(|fault| self.broken(fault))?;
        match &record {
            Record::End(_) => {}
            Record::Header(_) | Record::Batch(_) => self.reader.count(&bytes),
        }
        Ok(Some((self.place(), record)))
    }

    fn digest(&self) -> Digest {
        self.reader.digest()
    }

    fn place(&self) -> Place {
        Place::Record(self.number.max(1))
    }

    fn place_of(&self, batch: Place, _ordinal: u64) -> Place {
        batch
    }

    fn rest_holds(&mut self, position: Position) -> bool {
        while let Ok(Some(bytes)) = self.bytes() {
            let record = postcard::from_bytes(bytes.get(4..).unwrap_or_default());
            if let Ok(CompactRecord::Batch(_, rows)) = record
                && rows.iter().any(|stored| stored.row.position == position)
            {
                return true;
            }
        }
        false
    }
}

/// An export of any batches, however wrong, with a digest that fits: as one who knows this program
/// would write it.
#[cfg(test)]
pub(crate) fn compact_of(header: &Header, batches: &[StoredBatch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frames = Frames::new(&mut bytes).unwrap();
    frames.header(header).unwrap();
    for stored in batches {
        frames.batch(stored).unwrap();
    }
    let link = batches.last().map_or(header.link_before, |stored| Digest(stored.batch.link));
    let count = u64::try_from(batches.len()).unwrap();
    let end = End { events: header.events(), batches: count, link, sha256: frames.digest() };
    frames.end(&end).unwrap();
    drop(frames);
    bytes
}
