//! The form for people and other programs: one JSON object a line, a batch's line before those of
//! its events.
//!
//! A payload stands there as it is, to the byte, since its bytes are what is hashed; the rare one
//! that a line cannot hold as it is stands there in hexadecimal.

use std::{
    borrow::Cow,
    io::{BufRead, Write},
};

use domain::{
    log::{Position, StreamVersion},
    sealed::Digest,
    units::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Fault, Place,
    files::{HashingReader, HashingWriter},
    header::{End, Header},
    read::{Broken, Record, Records, batch_is_too_large, malformed},
    write::Sink,
};
use crate::event_store::{BatchId, BatchRow, Leaf, Row, StoredBatch, chain};

/// The longest line: the largest payload in hexadecimal, and columns of any sensible size.
const LINE_BYTES_MAX: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line<'a> {
    #[serde(rename = "diarioLog")]
    Header(Header),
    Batch(BatchLine),
    #[serde(borrow)]
    Event(Box<EventLine<'a>>),
    End(End),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BatchLine {
    first: Position,
    count: u64,
    recorded_at: Timestamp,
    id: Uuid,
    link: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EventLine<'a> {
    position: Position,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    version: StreamVersion,
    #[serde(borrow)]
    owner: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    type_name: Cow<'a, str>,
    schema_version: u16,
    recorded_at: Timestamp,
    #[serde(borrow)]
    actor_kind: Cow<'a, str>,
    #[serde(borrow)]
    actor_name: Cow<'a, str>,
    #[serde(borrow)]
    actor_via: Cow<'a, str>,
    #[serde(borrow)]
    command_id: Cow<'a, str>,
    causation: Option<Position>,
    #[serde(borrow)]
    correlation: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
    leaf: Digest,
}

/// A payload's JSON, if a line can hold it as it is.
fn as_it_is(payload: &[u8]) -> Option<&RawValue> {
    let value: &RawValue = serde_json::from_slice(payload).ok()?;
    (value.get().as_bytes() == payload && !payload.contains(&b'\n')).then_some(value)
}

fn event_line<'a>(row: &'a Row, leaf: &Leaf) -> EventLine<'a> {
    let payload = as_it_is(&row.payload);
    EventLine {
        position: row.position,
        stream: (&row.stream).into(),
        version: row.version,
        owner: (&row.owner).into(),
        type_name: (&row.type_name).into(),
        schema_version: row.schema_version,
        recorded_at: row.recorded_at,
        actor_kind: (&row.actor_kind).into(),
        actor_name: (&row.actor_name).into(),
        actor_via: (&row.actor_via).into(),
        command_id: (&row.command_id).into(),
        causation: row.causation,
        correlation: (&row.correlation).into(),
        payload_hex: payload.is_none().then(|| hex::encode(&row.payload)),
        payload,
        leaf: Digest(*leaf),
    }
}

fn row(line: EventLine<'_>) -> Result<(Row, Leaf), Fault> {
    let payload = match (line.payload, line.payload_hex) {
        (Some(json), None) => json.get().as_bytes().to_vec(),
        (None, Some(text)) => {
            hex::decode(text).map_err(|failure| malformed(format!("payloadHex: {failure}")))?
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(malformed("an event must have either payload or payloadHex"));
        }
    };
    let row = Row {
        position: line.position,
        stream: line.stream.into_owned(),
        version: line.version,
        owner: line.owner.into_owned(),
        type_name: line.type_name.into_owned(),
        schema_version: line.schema_version,
        recorded_at: line.recorded_at,
        actor_kind: line.actor_kind.into_owned(),
        actor_name: line.actor_name.into_owned(),
        actor_via: line.actor_via.into_owned(),
        command_id: line.command_id.into_owned(),
        causation: line.causation,
        correlation: line.correlation.into_owned(),
        payload,
    };
    Ok((row, line.leaf.0))
}

/// What is wrong where an event stands that says another position than the one that belongs there.
fn out_of_place(position: Position, (mut row, leaf): (Row, Leaf)) -> Fault {
    let found = row.position;
    row.position = position;
    let is_renumbered = chain::leaf(&row) == leaf;
    if found > position && !is_renumbered {
        return Fault::Hole { position };
    }
    malformed(format!("position {found} stands where {position} belongs"))
}

/// Writes lines.
#[derive(Debug)]
pub(super) struct Lines<W>(HashingWriter<W>);

impl<W: Write + Send> Lines<W> {
    pub(super) fn new(into: W) -> Self {
        Self(HashingWriter::new(into))
    }

    fn line(&mut self, line: &Line<'_>) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn header(&mut self, header: &Header) -> std::io::Result<()> {
        self.line(&Line::Header(header.clone()))
    }

    fn batch(&mut self, stored: &StoredBatch) -> std::io::Result<()> {
        let BatchRow { first, count, recorded_at, id, link } = stored.batch.clone();
        let link = Digest(link);
        self.line(&Line::Batch(BatchLine { first, count, recorded_at, id: id.0, link }))?;
        for (row, leaf) in &stored.rows {
            self.line(&Line::Event(Box::new(event_line(row, leaf))))?;
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        self.0.digest()
    }

    fn end(&mut self, end: &End) -> std::io::Result<()> {
        self.line(&Line::End(end.clone()))?;
        self.0.flush()
    }
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    reader: HashingReader<R>,
    number: u64,
    /// The event of a batch that is read now.
    looked_for: Option<Position>,
}

impl<R: BufRead + Send> LineReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: HashingReader::new(reader), number: 0, looked_for: None }
    }

    /// The next line as it is; nothing behind the last one.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        self.number = self.number.saturating_add(1);
        let line = self.reader.line(LINE_BYTES_MAX).map_err(Broken::Io)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            let is_long = u64::try_from(line.len()).is_ok_and(|bytes| bytes >= LINE_BYTES_MAX);
            let too_long = || malformed(format!("it has more than {LINE_BYTES_MAX} bytes"));
            return Err(self.broken(if is_long { too_long() } else { Fault::CutOff }));
        }
        Ok(Some(line))
    }

    fn parse<'a>(&self, line: &'a [u8]) -> Result<Line<'a>, Broken> {
        serde_json::from_slice(line).map_err(|failure| match self.number {
            1 => self.broken(Fault::NotAnExport),
            _ => self.broken(malformed(format!("{failure}"))),
        })
    }

    fn broken(&self, fault: Fault) -> Broken {
        Broken::Fault(self.place(), Box::new(fault))
    }

    fn batch(&mut self, line: BatchLine) -> Result<StoredBatch, Broken> {
        let BatchLine { first, count, recorded_at, id, link } = line;
        let batch = BatchRow { first, count, recorded_at, id: BatchId(id), link: link.0 };
        let mut rows = Vec::new();
        let mut bytes = 0;
        for position in (first.0..=batch.last().0).map(Position) {
            self.looked_for = Some(position);
            let (row, leaf) = self.event(position)?;
            bytes += row.payload.len();
            if let Some(fault) = batch_is_too_large(&batch, bytes) {
                return Err(self.broken(fault));
            }
            rows.push((row, leaf));
        }
        self.looked_for = None;
        Ok(StoredBatch { batch, rows })
    }

    fn event(&mut self, position: Position) -> Result<(Row, Leaf), Broken> {
        let Some(line) = self.line()? else { return Err(self.broken(Fault::CutOff)) };
        let found = match self.parse(&line)? {
            Line::Event(found) => row(*found).map_err(|fault| self.broken(fault))?,
            Line::Batch(next) if next.first == position => {
                return Err(self.broken(malformed("the batch before it says that it is longer")));
            }
            Line::Batch(_) | Line::End(_) | Line::Header(_) => {
                return Err(self.broken(Fault::Hole { position }));
            }
        };
        if found.0.position != position {
            return Err(self.broken(out_of_place(position, found)));
        }
        self.reader.count(&line);
        Ok(found)
    }
}

impl<R: BufRead + Send> Records for LineReader<R> {
    fn next(&mut self) -> Result<Option<(Place, Record)>, Broken> {
        let Some(line) = self.line()? else { return Ok(None) };
        let place = self.place();
        let record = match self.parse(&line)? {
            Line::Header(header) => Record::Header(header),
            Line::End(end) => return Ok(Some((place, Record::End(end)))),
            Line::Event(_) => {
                return Err(self.broken(malformed("an event stands outside of any batch")));
            }
            Line::Batch(batch) => {
                self.reader.count(&line);
                return Ok(Some((place, Record::Batch(self.batch(batch)?))));
            }
        };
        self.reader.count(&line);
        Ok(Some((place, record)))
    }

    fn digest(&self) -> Digest {
        self.reader.digest()
    }

    fn place(&self) -> Place {
        Place::Line(self.number)
    }

    fn place_of(&self, batch: Place, ordinal: u64) -> Place {
        match batch {
            Place::Line(line) => Place::Line(line.saturating_add(1).saturating_add(ordinal)),
            Place::Record(_) => batch,
        }
    }

    fn looked_for(&self) -> Option<Position> {
        self.looked_for
    }

    fn rest_holds(&mut self, position: Position) -> bool {
        while let Ok(Some(line)) = self.line() {
            if let Ok(Line::Event(event)) = self.parse(&line)
                && event.position == position
            {
                return true;
            }
        }
        false
    }
}
