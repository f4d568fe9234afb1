//! A block: whole batches, column by column, compressed; it can be read and proven by itself.
//!
//! Texts that recur are kept once; positions, times of events, owners and leaves are not kept,
//! because they follow from the rest. What is read may be damaged: it is refused, never guessed.

use std::{collections::HashMap, ops::Range};

use domain::{
    event::{Event, Reader, UnreadableEvent},
    id::CommandId,
    log::{Actor, Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};
use uuid::Uuid;
use zstd::bulk::Decompressor;

use crate::{
    bytes::{Bytes, put, put_count, put_signed, put_text},
    event_store::{
        BatchId, BatchRow, EVENTS_PER_BATCH_MAX, Error, Leaf, Row, RowRef, actor_kind,
        actor_kind_text, chain,
    },
};

/// A block is closed when it holds as many events, or as many bytes of payload.
pub(super) const BLOCK_EVENTS: usize = 2_048;
pub(super) const BLOCK_BYTES: usize = 2 << 20;

/// Of zstd: beyond it compressing takes much longer and gains little.
const LEVEL: i32 = 9;

/// The most bytes that any part of a block decompresses to.
const PART_BYTES_MAX: usize = 64 << 20;

/// A command id is 16 bytes beside, or a text.
const AS_UUID: u8 = 0;
const AS_TEXT: u8 = 1;

/// Batches on their way into a block.
pub(super) type Batches = [(BatchRow, Vec<Row>)];

/// Texts in the order in which they first came, each with its place.
#[derive(Default)]
struct Dictionary<'a, T>(HashMap<T, usize>, Vec<T>, std::marker::PhantomData<&'a ()>);

impl<T: std::hash::Hash + Eq + Copy> Dictionary<'_, T> {
    /// The place of a text, and whether it is new.
    fn place(&mut self, text: T) -> (usize, bool) {
        let next = self.1.len();
        let place = *self.0.entry(text).or_insert(next);
        if place == next {
            self.1.push(text);
        }
        (place, place == next)
    }
}

#[derive(Default)]
struct Columns {
    types: Vec<u8>,
    actors: Vec<u8>,
    streams: Vec<u8>,
    versions: Vec<u8>,
    commands: Vec<u8>,
    correlations: Vec<u8>,
    causations: Vec<u8>,
    lengths: Vec<u8>,
}

/// Writes a block.
pub(super) fn encode(batches: &Batches) -> std::io::Result<Vec<u8>> {
    let rows = || batches.iter().flat_map(|(_, rows)| rows);
    let mut types = Dictionary::default();
    let mut actors = Dictionary::default();
    let mut streams = Dictionary::default();
    let mut commands = Dictionary::default();
    let mut columns = Columns::default();
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    let mut first_versions = Vec::new();
    let mut versions: Vec<u64> = Vec::new();
    let mut last_command = usize::MAX;
    let mut last_correlation = usize::MAX;
    for row in rows() {
        let (type_place, is_new) = types.place((row.type_name.as_str(), row.schema_version));
        if is_new {
            payloads.push(Vec::new());
        }
        put_count(&mut columns.types, type_place);
        let actor = (&*row.actor_kind, &*row.actor_name, &*row.actor_via);
        put_count(&mut columns.actors, actors.place(actor).0);
        let (stream, is_new) = streams.place(row.stream.as_str());
        // The distance from the newest one: what was used lately is used again.
        put_count(&mut columns.streams, if is_new { 0 } else { streams.1.len() - stream });
        if is_new {
            first_versions.push(row.version.0);
            versions.push(row.version.0);
        } else if let Some(version) = versions.get_mut(stream) {
            let expected = version.wrapping_add(1);
            put_signed(&mut columns.versions, signed(row.version.0.wrapping_sub(expected)));
            *version = row.version.0;
        }
        let (command, is_new) = commands.place(row.command_id.as_str());
        put_count(&mut columns.commands, code(command, is_new, last_command, commands.1.len()));
        last_command = command;
        let (correlation, is_new) = commands.place(row.correlation.as_str());
        let coded = if correlation == command {
            0
        } else {
            1 + code(correlation, is_new, last_correlation, commands.1.len())
        };
        put_count(&mut columns.correlations, coded);
        last_correlation = correlation;
        let behind = row.causation.map(|causation| row.position.0.wrapping_sub(causation.0));
        put_signed(&mut columns.causations, behind.map_or(0, cause_code));
        put_count(&mut columns.lengths, row.payload.len());
        if let Some(of_type) = payloads.get_mut(type_place) {
            of_type.extend_from_slice(&row.payload);
        }
    }
    let mut plain = Vec::new();
    let mut table = Vec::new();
    put_count(&mut table, batches.len());
    let mut time = 0;
    for (batch, _) in batches {
        put(&mut table, batch.count);
        put_signed(&mut table, batch.recorded_at.0.wrapping_sub(time));
        time = batch.recorded_at.0;
        plain.extend_from_slice(batch.id.0.as_bytes());
        plain.extend_from_slice(&batch.link);
    }
    put_count(&mut table, types.1.len());
    for (name, schema_version) in &types.1 {
        put_text(&mut table, name);
        put(&mut table, u64::from(*schema_version));
    }
    put_count(&mut table, actors.1.len());
    for (kind, name, via) in &actors.1 {
        [kind, name, via].into_iter().for_each(|text| put_text(&mut table, text));
    }
    put_count(&mut table, streams.1.len());
    streams.1.iter().for_each(|stream| put_text(&mut table, stream));
    first_versions.iter().for_each(|version| put(&mut table, *version));
    put_count(&mut table, commands.1.len());
    for command in &commands.1 {
        match canonical_uuid(command) {
            Some(uuid) => {
                table.push(AS_UUID);
                plain.extend_from_slice(uuid.as_bytes());
            }
            None => {
                table.push(AS_TEXT);
                put_text(&mut table, command);
            }
        }
    }
    for column in [
        columns.types,
        columns.actors,
        columns.streams,
        columns.versions,
        columns.commands,
        columns.correlations,
        columns.causations,
        columns.lengths,
    ] {
        table.extend_from_slice(&column);
    }
    let mut block = Vec::new();
    put_part(&mut block, &table)?;
    // Ids and hashes are random: nothing to gain.
    put_count(&mut block, plain.len());
    block.extend_from_slice(&plain);
    put_part(&mut block, &payloads.concat())?;
    Ok(block)
}

/// The same as the last one, a new one, or how far back.
fn code(place: usize, is_new: bool, last: usize, count: usize) -> usize {
    match () {
        () if place == last => 0,
        () if is_new => 1,
        () => 1 + count - place,
    }
}

fn signed(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

fn unsigned(number: i64) -> u64 {
    u64::from_ne_bytes(number.to_ne_bytes())
}

/// 0 says none, so that all others move up by one, whatever their sign.
fn cause_code(behind: u64) -> i64 {
    let behind = signed(behind);
    if behind >= 0 { behind.saturating_add(1) } else { behind }
}

fn cause(coded: i64) -> Option<u64> {
    match coded {
        0 => None,
        coded if coded > 0 => Some(unsigned(coded - 1)),
        coded => Some(unsigned(coded)),
    }
}

/// The uuid of a text that is exactly how the uuid is printed.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    let uuid = Uuid::try_parse(text).ok()?;
    let mut printed = [0; 36];
    (uuid.hyphenated().encode_lower(&mut printed) == text).then_some(uuid)
}

fn put_part(block: &mut Vec<u8>, part: &[u8]) -> std::io::Result<()> {
    let packed = zstd::bulk::compress(part, LEVEL)?;
    put_count(block, part.len());
    put_count(block, packed.len());
    block.extend_from_slice(&packed);
    Ok(())
}

fn part(bytes: &mut Bytes<'_>, unpacker: &mut Decompressor<'_>) -> Option<Vec<u8>> {
    let length = bytes.count().filter(|length| *length <= PART_BYTES_MAX)?;
    let packed = bytes.count()?;
    let part = unpacker.decompress(bytes.take(packed)?, length).ok()?;
    (part.len() == length).then_some(part)
}

/// Where a text is among those of a block.
type TextRange = Range<usize>;

#[derive(Debug)]
struct Stream {
    text: TextRange,
    id: StreamId,
    owner: TextRange,
}

#[derive(Debug)]
struct EventType {
    name: String,
    schema_version: u16,
    /// `None` for a type that is unknown here.
    reader: Option<Reader>,
}

/// One event's place in the dictionaries.
#[derive(Debug, Clone)]
struct Entry {
    type_place: usize,
    actor: usize,
    stream: usize,
    version: u64,
    command: usize,
    correlation: usize,
    causation: Option<Position>,
    recorded_at: Timestamp,
    payload: Range<usize>,
}

/// A block that was read.
#[derive(Debug)]
pub(super) struct Block {
    first: Position,
    batches: Vec<BatchRow>,
    types: Vec<EventType>,
    actors: Vec<Actor>,
    streams: Vec<Stream>,
    commands: Vec<CommandId>,
    entries: Vec<Entry>,
    payloads: Vec<u8>,
    /// The texts of streams and owners, one behind the other: a block has thousands.
    texts: String,
}

/// Reads a block whose first event is at a position. `None` when it is not what [`encode`]
/// writes.
pub(super) fn decode(first: Position, bytes: &[u8]) -> Option<Block> {
    let mut bytes = Bytes(bytes);
    let mut unpacker = Decompressor::new().ok()?;
    let table = part(&mut bytes, &mut unpacker)?;
    let plain_length = bytes.count()?;
    let mut plain = Bytes(bytes.take(plain_length)?);
    let payloads = part(&mut bytes, &mut unpacker)?;
    let mut table = Bytes(&table);
    let batches = batches(first, &mut table, &mut plain)?;
    let types = list(&mut table, |table| {
        let name = table.text()?.to_owned();
        let schema_version = u16::try_from(table.number()?).ok()?;
        let reader = Reader::of(&name, schema_version).ok();
        Some(EventType { name, schema_version, reader })
    })?;
    let actors = list(&mut table, |table| {
        let kind = actor_kind(table.text()?)?;
        Some(Actor { kind, name: table.text()?.into(), via: table.text()?.into() })
    })?;
    let mut texts = String::with_capacity(table.0.len());
    let mut add = |parts: &[&str]| -> TextRange {
        let start = texts.len();
        parts.iter().for_each(|part| texts.push_str(part));
        start..texts.len()
    };
    let streams = list(&mut table, |table| {
        let text = table.text()?;
        let id: StreamId = text.parse().ok()?;
        let owner = id.owner();
        let (kind, name) = owner.parts();
        Some(Stream { text: add(&[text]), owner: add(&[kind, "/", name]), id })
    })?;
    let mut versions = Vec::with_capacity(streams.len());
    for _ in &streams {
        versions.push(table.number()?);
    }
    let commands = list(&mut table, |table| match table.array::<1>()? {
        [AS_UUID] => Some(CommandId::from_uuid(Uuid::from_bytes(plain.array()?))),
        [AS_TEXT] => CommandId::new(table.text()?).ok(),
        [_] => None,
    })?;
    let mut block = Block {
        first,
        batches,
        types,
        actors,
        streams,
        commands,
        entries: Vec::new(),
        payloads,
        texts,
    };
    block.entries = entries(&block, versions, &mut table)?;
    (bytes.is_empty() && table.is_empty() && plain.is_empty()).then_some(block)
}

fn list<T>(
    table: &mut Bytes<'_>,
    mut read: impl FnMut(&mut Bytes<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = table.count_of_rest()?;
    let mut things = Vec::with_capacity(count);
    for _ in 0..count {
        things.push(read(table)?);
    }
    Some(things)
}

fn batches(first: Position, table: &mut Bytes<'_>, plain: &mut Bytes<'_>) -> Option<Vec<BatchRow>> {
    let (mut first, mut time) = (first, 0_i64);
    list(table, |table| {
        let count = table.number().filter(|count| chain::is_a_count(*count))?;
        time = time.wrapping_add(table.signed()?);
        let id = BatchId(Uuid::from_bytes(plain.array()?));
        let link = plain.array()?;
        let batch = BatchRow { first, count, recorded_at: Timestamp(time), id, link };
        first = batch.last().next();
        Some(batch)
    })
}

fn entries(block: &Block, mut versions: Vec<u64>, table: &mut Bytes<'_>) -> Option<Vec<Entry>> {
    let longest = block.batches.len().checked_mul(EVENTS_PER_BATCH_MAX)?;
    let count = block.batches.iter().map(|batch| batch.count).sum::<u64>();
    let count = usize::try_from(count).ok().filter(|count| *count <= longest)?;
    let column = |table: &mut Bytes<'_>| -> Option<Vec<u64>> {
        (count <= table.0.len()).then_some(())?;
        (0..count).map(|_| table.number()).collect()
    };
    let below =
        |number: u64, bound: usize| usize::try_from(number).ok().filter(|number| *number < bound);
    let types = column(table)?;
    let actors = column(table)?;
    let streams = places_back(&column(table)?, block.streams.len())?;
    let mut of_event = Vec::with_capacity(count);
    let mut seen = vec![false; versions.len()];
    for stream in &streams {
        let (version, seen) = (versions.get_mut(*stream)?, seen.get_mut(*stream)?);
        if std::mem::replace(seen, true) {
            *version = version.wrapping_add(1).wrapping_add(unsigned(table.signed()?));
        }
        of_event.push(*version);
    }
    let (command_codes, correlation_codes) = (column(table)?, column(table)?);
    let (commands, correlations) =
        command_places(&command_codes, &correlation_codes, block.commands.len())?;
    let mut causations = Vec::with_capacity(count);
    for _ in 0..count {
        causations.push(cause(table.signed()?));
    }
    let lengths = column(table)?;
    let type_places: Vec<usize> =
        types.iter().map(|place| below(*place, block.types.len())).collect::<Option<_>>()?;
    let payloads = payload_ranges(&type_places, &lengths, block)?;
    let times = block.batches.iter().flat_map(|batch| {
        let count = usize::try_from(batch.count).unwrap_or(0);
        std::iter::repeat_n(batch.recorded_at, count)
    });
    let mut entries = Vec::with_capacity(count);
    let mut position = block.first;
    for (index, recorded_at) in times.enumerate() {
        entries.push(Entry {
            type_place: *type_places.get(index)?,
            actor: below(*actors.get(index)?, block.actors.len())?,
            stream: *streams.get(index)?,
            version: *of_event.get(index)?,
            command: *commands.get(index)?,
            correlation: *correlations.get(index)?,
            causation: causations
                .get(index)?
                .map(|behind| Position(position.0.wrapping_sub(behind))),
            recorded_at,
            payload: payloads.get(index)?.clone(),
        });
        position = position.next();
    }
    Some(entries)
}

/// The places that codes of [`encode`]'s stream column stand for.
fn places_back(codes: &[u64], count: usize) -> Option<Vec<usize>> {
    let mut known = 0_usize;
    codes
        .iter()
        .map(|code| {
            let place = match usize::try_from(*code).ok()? {
                0 => {
                    known += 1;
                    known - 1
                }
                back => known.checked_sub(back)?,
            };
            (place < count).then_some(place)
        })
        .collect()
}

fn command_places(
    commands: &[u64],
    correlations: &[u64],
    count: usize,
) -> Option<(Vec<usize>, Vec<usize>)> {
    let (mut known, mut last, mut last_correlation) = (0_usize, None, None);
    let mut place = |code: u64, last: Option<usize>| -> Option<usize> {
        let place = match usize::try_from(code).ok()? {
            0 => last?,
            1 => {
                known += 1;
                known - 1
            }
            back => known.checked_sub(back - 1)?,
        };
        (place < count).then_some(place)
    };
    let mut both = (Vec::with_capacity(commands.len()), Vec::with_capacity(commands.len()));
    for (command, correlation) in commands.iter().zip(correlations) {
        let command = place(*command, last)?;
        last = Some(command);
        let correlation = match correlation {
            0 => command,
            code => place(code - 1, last_correlation)?,
        };
        last_correlation = Some(correlation);
        both.0.push(command);
        both.1.push(correlation);
    }
    Some(both)
}

/// Payloads stand type by type, each type's in the order of the log.
fn payload_ranges(types: &[usize], lengths: &[u64], block: &Block) -> Option<Vec<Range<usize>>> {
    let mut starts = vec![0_usize; block.types.len()];
    for (place, length) in types.iter().zip(lengths) {
        let start = starts.get_mut(*place)?;
        *start = start.checked_add(usize::try_from(*length).ok()?)?;
    }
    let mut next = 0_usize;
    for start in &mut starts {
        next = next.checked_add(std::mem::replace(start, next))?;
    }
    if next != block.payloads.len() {
        return None;
    }
    let mut ranges = Vec::with_capacity(types.len());
    for (place, length) in types.iter().zip(lengths) {
        let start = starts.get_mut(*place)?;
        let end = start.checked_add(usize::try_from(*length).ok()?)?;
        ranges.push(*start..end);
        *start = end;
    }
    Some(ranges)
}

/// The leaf of a row; `metadata` is room that is used again and again.
pub(super) fn leaf(row: &RowRef<'_>, metadata: &mut Vec<u8>) -> Leaf {
    metadata.clear();
    row.metadata_into(metadata);
    chain::leaf_of(metadata, row.payload)
}

impl Block {
    pub(super) fn batches(&self) -> &[BatchRow] {
        &self.batches
    }

    pub(super) fn first(&self) -> Position {
        self.first
    }

    pub(super) fn last(&self) -> Position {
        let count = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        Position(self.first.0.saturating_add(count).saturating_sub(1))
    }

    fn position(&self, index: usize) -> Position {
        Position(self.first.0.saturating_add(u64::try_from(index).unwrap_or(u64::MAX)))
    }

    /// The events behind a position, by their index.
    pub(super) fn behind(&self, after: Position) -> Range<usize> {
        let skipped = after.next().0.saturating_sub(self.first.0);
        usize::try_from(skipped).unwrap_or(usize::MAX).min(self.entries.len())..self.entries.len()
    }

    /// A row with its texts borrowed.
    pub(super) fn row(&self, index: usize) -> Option<RowRef<'_>> {
        let entry = self.entries.get(index)?;
        let event_type = self.types.get(entry.type_place)?;
        let actor = self.actors.get(entry.actor)?;
        let stream = self.streams.get(entry.stream)?;
        Some(RowRef {
            position: self.position(index),
            stream: self.texts.get(stream.text.clone())?,
            version: StreamVersion(entry.version),
            owner: self.texts.get(stream.owner.clone())?,
            type_name: &event_type.name,
            schema_version: event_type.schema_version,
            recorded_at: entry.recorded_at,
            actor_kind: actor_kind_text(actor.kind),
            actor_name: &actor.name,
            actor_via: &actor.via,
            command_id: self.commands.get(entry.command)?.as_str(),
            causation: entry.causation,
            correlation: self.commands.get(entry.correlation)?.as_str(),
            payload: self.payloads.get(entry.payload.clone())?,
        })
    }

    /// An event of this block, typed.
    pub(super) fn event(&self, index: usize) -> Result<Recorded<Event>, Error> {
        let position = self.position(index);
        let malformed = |column| Error::Malformed { position, column };
        let entry = self.entries.get(index).ok_or_else(|| malformed("position"))?;
        let event_type = self.types.get(entry.type_place).ok_or_else(|| malformed("type"))?;
        let payload =
            self.payloads.get(entry.payload.clone()).ok_or_else(|| malformed("payload"))?;
        let read = match event_type.reader {
            Some(reader) => reader.event(payload),
            None => Err(UnreadableEvent::UnknownType { type_name: event_type.name.clone() }),
        };
        let event = read.map_err(|source| Error::Unreadable { position, source })?;
        let command = |place: usize, column| {
            self.commands.get(place).cloned().ok_or_else(|| malformed(column))
        };
        Ok(Recorded {
            position,
            stream: self.stream(index).ok_or_else(|| malformed("stream"))?.clone(),
            version: StreamVersion(entry.version),
            recorded_at: entry.recorded_at,
            actor: self.actor(index).ok_or_else(|| malformed("actor_kind"))?.clone(),
            command_id: command(entry.command, "command_id")?,
            causation: entry.causation,
            correlation: command(entry.correlation, "correlation")?,
            event,
        })
    }

    pub(super) fn stream(&self, index: usize) -> Option<&StreamId> {
        self.streams.get(self.entries.get(index)?.stream).map(|stream| &stream.id)
    }

    pub(super) fn owner(&self, index: usize) -> Option<&str> {
        let stream = self.streams.get(self.entries.get(index)?.stream)?;
        self.texts.get(stream.owner.clone())
    }

    pub(super) fn version(&self, index: usize) -> Option<StreamVersion> {
        self.entries.get(index).map(|entry| StreamVersion(entry.version))
    }

    pub(super) fn type_name(&self, index: usize) -> Option<&str> {
        self.types.get(self.entries.get(index)?.type_place).map(|it| it.name.as_str())
    }

    pub(super) fn actor(&self, index: usize) -> Option<&Actor> {
        self.actors.get(self.entries.get(index)?.actor)
    }

    pub(super) fn command(&self, index: usize) -> Option<&CommandId> {
        self.commands.get(self.entries.get(index)?.command)
    }
}
