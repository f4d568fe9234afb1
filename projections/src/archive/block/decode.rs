//! Reads a block. What is read may be damaged: it is refused, never guessed.

use std::ops::Range;

use domain::{
    event::Reader,
    id::CommandId,
    log::{Actor, Position, StreamId},
    units::Timestamp,
};
use uuid::Uuid;
use zstd::bulk::Decompressor;

use super::{AS_TEXT, AS_UUID, Block, Entry, EventType, Stream, TextRange};
use crate::{
    bytes::Bytes,
    event_store::{BatchId, BatchRow, EVENTS_PER_BATCH_MAX, actor_kind, chain},
};

/// The most bytes that any part of a block decompresses to.
const PART_BYTES_MAX: usize = 64 << 20;

/// Reads a block whose first event is at a position. `None` when it is not what [`encode`](super::encode)
/// writes.
pub(in crate::archive) fn decode(first: Position, bytes: &[u8]) -> Option<Block> {
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

/// The places that codes of [`encode`](super::encode)'s stream column stand for.
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
fn part(bytes: &mut Bytes<'_>, unpacker: &mut Decompressor<'_>) -> Option<Vec<u8>> {
    let length = bytes.count().filter(|length| *length <= PART_BYTES_MAX)?;
    let packed = bytes.count()?;
    let part = unpacker.decompress(bytes.take(packed)?, length).ok()?;
    (part.len() == length).then_some(part)
}
fn unsigned(number: i64) -> u64 {
    u64::from_ne_bytes(number.to_ne_bytes())
}
fn cause(coded: i64) -> Option<u64> {
    match coded {
        0 => None,
        coded if coded > 0 => Some(unsigned(coded - 1)),
        coded => Some(unsigned(coded)),
    }
}
